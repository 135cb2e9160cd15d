"""What members of a voting model say of dropped packets: in each one's event, and counted."""

import itertools

from ids_appliance.classify.bundle import make_bundle
from ids_appliance.gateway.inline_log import VOTE, DropLog, Dropped
from ids_appliance.gateway.inline_model import PacketModel
from tests.bundles import random_members
from tests.gateway.test_inline import packet

SECOND = 10**9


def test_each_members_vote_is_in_the_event_and_counted() -> None:
    bundle = make_bundle(random_members(3), 0.5, card={"created_by": "tests", "about": "votes"})
    model = PacketModel(bundle)
    told: list[dict] = []
    log = DropLog(
        lambda kind, **fields: told.append(fields), per_second=20, clock_ns=lambda: SECOND
    )
    packets = [packet(flags, (1000, port)) for flags, port in itertools.product((2, 16), (1, 9999))]
    for one in packets:
        log.put(Dropped(one, "judged malicious", b"", "lan0", 0.9, model.votes(one)))
    assert [set(event["votes"]) for event in told] == [set(model.members)] * len(packets)
    assert len(model.members) == 4
    for event, one in zip(told, packets, strict=True):
        assert event["votes"] == {k: round(v, 6) for k, v in model.votes(one).items()}
    expected = {
        f"votes_{name}": sum(event["votes"][name] > VOTE for event in told)
        for name in model.members
    }
    counters = log.counters()
    assert {name: n for name, n in counters.items() if name.startswith("votes_")} == expected
    assert any(expected.values())


def test_past_the_cap_nobody_is_asked_and_nothing_counted() -> None:
    log = DropLog(lambda kind, **fields: None, per_second=0, clock_ns=lambda: SECOND)
    log.put(Dropped(packet(), "judged malicious", b"", "lan0"))
    assert log.counters() == {"inline_drops_told": 0, "inline_drops_summed": 1}

"""Evidence: against its slow twin, whatever the order and the cut into batches; bounds and caps."""

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ids_appliance._evidence import EvidenceTable, canonical_senders, quantise
from ids_appliance.types import FRAME, SENDER, Outcome, Standing
from tests.examples import examples
from tests.reference import evidence as twin

NO_FLOODS = np.zeros(16, SENDER)
END_MS = (2**63 - 1) // 1_000_000
DEFAULTS: dict[str, Any] = {
    "cells_per_sender": 64,
    "clip": 3.0,
    "cell_weight": 3.0,
    "upper": 20.0,
    "lower": -8.0,
    "half_life_s": 30.0,
    "prior_logit": 0.0,
}


def lan(n: int) -> Any:
    record = np.zeros(1, SENDER)
    record["ifindex"] = 2
    record["mac"] = [2, 0, 0, 0, n >> 8, n & 255]
    record["family"] = 4
    record["address"][0, :4] = [192, 0, 2, n & 255]
    return record[0]


def flood(port: int) -> Any:
    record = np.zeros(1, SENDER)
    record["side"], record["family"], record["ifindex"] = 2, 4, port
    record["address"][0, :4] = [192, 0, 2, 80]
    return record[0]


def batch(packets: list[tuple[int, int, float, int]], *, first: int = 1, **columns: Any) -> Any:
    """(sender, cell, probability, millisecond) each -> frames, senders, outcomes, p, cells."""
    frames = np.zeros(len(packets), FRAME)
    frames["number"] = range(first, first + len(packets))
    frames["timestamp_ns"] = [1_000_000 * ms for _, _, _, ms in packets]
    for name, values in columns.items():
        frames[name] = values
    senders = np.array([lan(s) for s, _, _, _ in packets], SENDER)
    return (
        frames,
        senders,
        np.zeros(len(packets), np.uint8),
        np.array([p for _, _, p, _ in packets]),
        np.array([c for _, c, _, _ in packets], np.uint64),
    )


def key(n: int) -> bytes:
    return canonical_senders(np.array([lan(n)], SENDER))[0].tobytes()


def table(**changed: Any) -> EvidenceTable:
    return EvidenceTable(**(DEFAULTS | {"max_senders": 4096} | changed))


def state(t: EvidenceTable) -> dict[bytes, dict[str, Any]]:
    found = {}
    for record in t.peaks()[0]:
        known = t.score(record.tobytes())
        assert known is not None
        known.pop("address")
        known["cells"] = {h: (one, n, value) for h, one, n, value in known["cells"]}
        found[record.tobytes()] = known
    return found


packets = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 12),
        st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 0.9, 0.97, 1.0, math.nan])),
        st.one_of(
            st.integers(-3000, 90_000),
            st.sampled_from([0, 999, 1000, 10**9, -(10**9), END_MS, -END_MS]),
        ),
    ),
    max_size=60,
)
parameters = st.fixed_dictionaries(
    {
        "cells_per_sender": st.integers(1, 9),
        "clip": st.sampled_from([1.0, 3.0, 8.0]),
        "cell_weight": st.sampled_from([1.0, 2.5, 100.0]),
        "upper": st.sampled_from([0.5, 6.0, 20.0]),
        "lower": st.sampled_from([0.0, -0.5, -8.0]),
        "half_life_s": st.sampled_from([0.1, 1.0, 7.3, 30.0]),
        "prior_logit": st.sampled_from([-1.0, 0.0, 0.4]),
    }
)


@examples(150)
@given(packets, parameters, st.lists(st.integers(0, 60), max_size=3), st.randoms(), st.data())
def test_equal_to_the_twin_in_any_order_and_any_cut(
    drawn: list[tuple[int, int, float, int]],
    chosen: dict[str, Any],
    cuts: list[int],
    rng: random.Random,
    data: st.DataObject,
) -> None:
    n = len(drawn)
    columns = batch(drawn)
    standings = st.sampled_from([0, 0, 0, int(Standing.ANSWER), int(Standing.PROVEN), 0x10, 0x20])
    columns[0]["standing"] = [data.draw(standings) for _ in range(n)]
    columns[2][:] = [rng.choice([0, 0, 0, int(Outcome.CONTAINED)]) for _ in range(n)]
    floods = NO_FLOODS.copy()
    floods[1] = flood(80)
    oracle = twin.Evidence(**chosen)
    expected = oracle.add(*columns, floods)

    tables = [table(**chosen), table(**chosen)]
    # The whole batch shuffled; and cut into pieces, each shuffled.
    edges = sorted({0, n, *(c for c in cuts if c <= n)})
    for t, borders in zip(tables, ([0, n], edges), strict=True):
        crossed = []
        for a, b in zip(borders, borders[1:], strict=False):
            order = list(range(a, b))
            rng.shuffle(order)
            crossed += t.add(*(column[order] for column in columns), floods)
        assert [c[:4] for c in crossed] == expected
        assert state(t) == oracle.state()
        totals = t.counters()
        assert totals["evidence_answers"] == oracle.answers
        assert totals["evidence_nameless"] == oracle.nameless
        assert totals["evidence_weighed"] == sum(s.packets for s in oracle.senders.values())


@examples(60)
@given(packets, parameters, st.floats(0, 30), st.integers(0, 60))
def test_triggers_and_windows_as_the_twin(
    drawn: list[tuple[int, int, float, int]], chosen: dict[str, Any], logodds: float, at: int
) -> None:
    t, oracle = table(**chosen), twin.Evidence(**chosen)
    parts = (batch(drawn[:at]), batch(drawn[at:], first=at + 1))
    crossed, expected = t.add(*parts[0], NO_FLOODS), oracle.add(*parts[0], NO_FLOODS)
    t.new_window()
    oracle.new_window()
    for rule in range(3):
        found = t.notice(key(1), 1_000_000_000 * rule, logodds)
        crossed += [] if found is None else [found]
        expected += oracle.notice(key(1), 1_000_000_000 * rule, logodds)
    crossed += t.add(*parts[1], NO_FLOODS)
    expected += oracle.add(*parts[1], NO_FLOODS)
    assert [c[:4] for c in crossed] == expected
    assert state(t) == oracle.state()


@given(st.floats(), st.floats(-5, 5), st.floats(0.1, 60))
def test_a_probability_weighs_what_its_log_odds_say(p: float, prior: float, clip: float) -> None:
    oracle = twin.Evidence(**(DEFAULTS | {"prior_logit": prior, "clip": clip}))
    assert quantise(p, prior_logit=prior, clip=clip) == oracle.quantise(p)


def test_equal_packets_are_few_witnesses_and_different_ones_are_many() -> None:
    t = table()
    assert t.add(*batch([(1, 7, 1.0, 0)] * 1000), NO_FLOODS) == []
    known = t.score(key(1))
    assert known is not None and known["score"] == 9.0 and known["packets"] == 1000
    crossed = t.add(*batch([(2, cell, 1.0, 0) for cell in range(7)]), NO_FLOODS)
    assert [(c[0], c[2], c[3], c[4]) for c in crossed] == [(key(2), True, 21.0, 7)]


def test_it_is_told_again_only_when_as_much_evidence_again_has_come() -> None:
    t = table()
    crossed = t.add(*batch([(1, cell, 1.0, 0) for cell in range(60)]), NO_FLOODS)
    assert [c[3] for c in crossed] == [21.0, 42.0, 63.0, 84.0, 105.0, 126.0, 147.0, 168.0]


def test_no_number_of_ordinary_packets_hides_an_attacker() -> None:
    t = table()
    mixed = [(1, 1000 + k, 0.0, 0) for k in range(500)]
    for cell in range(11):
        mixed += [(1, cell, 1.0, 0)] + [(1, 2000 + k, 0.0, 0) for k in range(100)]
    crossed = t.add(*batch(mixed), NO_FLOODS)
    assert [c[2] for c in crossed] == [False, True]


def test_a_trigger_and_one_packet_never_decide() -> None:
    t = table()
    for _ in range(5):
        assert t.notice(key(1), 0, 1000.0) is None
    assert t.add(*batch([(1, 7, 1.0, 0)]), NO_FLOODS) == []
    assert len(t.add(*batch([(1, 7, 1.0, 0)]), NO_FLOODS)) == 1


def test_ordinary_work_does_not_buy_back_what_a_trigger_saw() -> None:
    """A bot floods while it goes on with its work, before the trigger and between its packets."""
    t = table(upper=14.0, lower=-8.0, clip=2.0)
    work = [(1, 5000 + k, 0.0, 0) for k in range(50)]
    assert t.add(*batch(work), NO_FLOODS)[0][2] is False  # cleared; the credit is full
    assert t.notice(key(1), 0, 11.9) is None
    known = t.score(key(1))
    assert known is not None and known["credit"] == 2.0
    assert t.add(*batch([*work, (1, 1, 0.7, 0)] * 3), NO_FLOODS) == []
    crossed = t.add(*batch([*work, (1, 2, 0.7, 0)] * 3), NO_FLOODS)
    assert [c[2] for c in crossed] == [True]
    # As the prior fades, ordinary packets speak for it again.
    t.add(*batch([(1, 5000, 0.0, 300_000)] * 50), NO_FLOODS)
    later = t.score(key(1))
    assert later is not None and later["credit"] > 9.0 and later["prior"] < 0.1


def test_answers_do_not_accuse_and_a_flood_is_accused_in_its_senders_place() -> None:
    t = table()
    floods = NO_FLOODS.copy()
    floods[3] = flood(80)
    answers = batch([(1, cell, 1.0, 0) for cell in range(20)], standing=int(Standing.ANSWER))
    assert t.add(*answers, floods) == []
    forged = batch([(cell, cell, 1.0, 0) for cell in range(20)], standing=3 << 4)
    assert {c[0] for c in t.add(*forged, floods)} == {floods[3].tobytes()}
    unknown = batch([(cell, cell, 1.0, 0) for cell in range(20)], standing=4 << 4)
    assert t.add(*unknown, floods) == []
    totals = t.counters()
    assert (totals["evidence_answers"], totals["evidence_flood"]) == (20, 20)
    assert (totals["evidence_nameless"], totals["evidence_senders"]) == (20, 1)


def test_a_full_table_lets_the_weakest_go_and_counts() -> None:
    t = table(max_senders=64)
    t.add(*batch([(1, 7, 1.0, 0)] * 3), NO_FLOODS)
    for n in range(2, 3000):
        # Each sender is seen, then the suspect again rarely: without evidence nobody displaces it.
        t.add(*batch([(n, 7, 0.2, n)], first=n), NO_FLOODS)
    totals = t.counters()
    assert totals["evidence_senders"] == 64
    assert totals["evidence_evictions"] == 2999 - 64
    suspect = t.score(key(1))
    assert suspect is not None and suspect["score"] == 9.0


def test_forgotten_is_as_if_never_seen() -> None:
    t = table()
    t.add(*batch([(1, cell, 1.0, 0) for cell in range(5)]), NO_FLOODS)
    assert t.forget(key(1)) and not t.forget(key(1))
    assert t.score(key(1)) is None
    t.add(*batch([(1, 9, 1.0, 0)]), NO_FLOODS)
    known = t.score(key(1))
    assert known is not None and known["score"] == 3.0 and len(known["cells"]) == 1


def test_churn_keeps_every_sum_with_its_sender() -> None:
    rng = random.Random(5)
    t, oracle = table(max_senders=4096), twin.Evidence(**DEFAULTS)
    number = 1
    for second in range(40):
        drawn = [
            (rng.randrange(600), rng.randrange(40), rng.random(), second * 1000) for _ in range(300)
        ]
        part = batch(drawn, first=number)
        number += len(drawn)
        assert [c[:4] for c in t.add(*part, NO_FLOODS)] == oracle.add(*part, NO_FLOODS)
        for gone in rng.sample(range(600), 40):
            assert t.forget(key(gone)) == (oracle.senders.pop(key(gone), None) is not None)
    assert state(t) == oracle.state()


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_senders": 0},
        {"cells_per_sender": 5000},
        {"clip": 0.0},
        {"clip": math.nan},
        {"cell_weight": 0.5},
        {"upper": 0.0},
        {"lower": 0.1},
        {"half_life_s": 0.01},
        {"prior_logit": math.inf},
    ],
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        table(**wrong)


def test_arrays_that_do_not_fit_are_refused() -> None:
    columns = batch([(1, 7, 1.0, 0)] * 3)
    with pytest.raises(ValueError, match="one length"):
        table().add(columns[0][:2], *columns[1:], NO_FLOODS)
    with pytest.raises(ValueError, match="16"):
        table().add(*columns, NO_FLOODS[:3])
    with pytest.raises(ValueError, match="SENDER"):
        table().notice(b"short", 0, 1.0)
    with pytest.raises(ValueError, match="log-odds"):
        table().notice(key(1), 0, -1.0)


def piece(columns: Any) -> bytes:
    """A batch as ext/judged.pxd lays it out."""
    frames, senders, outcomes, probabilities, cells = columns
    parts = (frames, probabilities, cells, senders, outcomes, outcomes, outcomes)
    return len(frames).to_bytes(8, "little") + b"".join(part.tobytes() for part in parts)


def test_a_batch_in_one_piece_weighs_as_its_columns_do() -> None:
    rng = random.Random(11)
    floods = NO_FLOODS.copy()
    floods[3] = flood(80)
    whole, columns = table(upper=6.0), table(upper=6.0)
    whole.set_floods(floods)
    for start in range(1, 2000, 100):
        drawn = [(rng.randrange(9), rng.randrange(20), rng.random(), start) for _ in range(100)]
        part = batch(drawn, first=start, standing=rng.choice([0, Standing.ANSWER, 3 << 4]))
        rng.shuffle(part[0]["number"])
        part[2][rng.sample(range(100), 10)] = Outcome.UNANSWERED
        assert whole.add_judged(piece(part)) == columns.add(*part, floods)
    assert state(whole) == state(columns) and whole.counters() == columns.counters()
    assert whole.counters()["evidence_crossed"] and whole.counters()["evidence_flood"]
    assert whole.add_judged(piece(batch([]))) == []


def test_a_piece_of_another_length_is_refused() -> None:
    right = piece(batch([(1, 7, 1.0, 0)] * 3))
    huge = (2**61).to_bytes(8, "little") + right[8:]
    for wrong in (b"", b"1234", right[:-1], right + b"\0", huge, b"\xff" * 8 + right[8:]):
        with pytest.raises(ValueError, match="no judged batch"):
            table().add_judged(wrong)


def test_who_takes_anothers_place_has_none_of_its_cells() -> None:
    t = table(max_senders=1, cells_per_sender=8)
    for n in range(1, 200):
        own = [(n, n + cell, 1.0, 0) for cell in range(n % 8 + 1)]
        t.add(*batch(own, first=10 * n), NO_FLOODS)
        known = t.score(key(n))
        assert known is not None
        assert sorted(cell for cell, *_ in known["cells"]) == [cell for _, cell, *_ in own]
        assert known["score"] == 3.0 * len(own)
    assert t.counters()["evidence_evictions"] == 198

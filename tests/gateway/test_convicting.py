"""Scans, sweeps and their ordinary twins through the whole appliance: whom a rule alone limits."""

from contextlib import closing
from pathlib import Path

import pytest

from ids_appliance import assemble, config
from ids_appliance.gateway.offline import offline_parts
from ids_appliance.gateway.replay import INTERFACE, Replay, Replayed
from ids_appliance.types import Response
from tests.ext.test_screen import ACK, ADDRESS, MAC, RST, SYN, segment
from tests.ext.test_screen_further import hosts, ports
from tests.ext.traffic import Sent
from tests.gateway.test_replay import MODEL
from tests.reference import screen as twin
from tests.trigger.zeek_cases import pcap

SETTINGS = config.Config(
    interfaces=(INTERFACE,),
    enforce=config.Enforce(enabled=True),
    # These SYNs are crafted, and the forest knows such: here it is out of the question.
    policy=config.Policy(upper=1000.0),
)
WHO = twin.record((0, 0, 0, MAC, b""))


def replayed(frames: list[Sent], folder: Path) -> Replayed:
    """What becomes of frames, and of a second and a half of silence after them."""
    last = segment((ADDRESS, ADDRESS), (1, 1), RST, frames[-1].time_ns / 1e9 + 1.5)
    path = folder / "frames.pcap"
    path.write_bytes(pcap((*frames, last)))
    with closing(assemble.local_classifier(MODEL)) as classifier:
        return Replay(SETTINGS, offline_parts, classifier).run(path)


def convicted(seen: Replayed) -> list[tuple[str, bytes | None]]:
    """Whom which rule convicts."""
    return [(event.rule, event.sender) for event in seen.events if event.decisive]


def answered(frames: list[Sent], host: bytes, i: int, at_s: float) -> None:
    """A device asks another one, is answered, and closes."""
    ends = (4000 + i, 80)
    for way, flags, numbers in (
        ((ADDRESS, host), SYN, {"seq": 5}),
        ((host, ADDRESS), SYN | ACK, {"seq": 1, "ack": 6}),
        ((ADDRESS, host), RST | ACK, {"seq": 6, "ack": 2}),
    ):
        there = ends if way[0] == ADDRESS else ends[::-1]
        frames.append(segment(way, there, flags, at_s, **numbers))


def test_a_telephone_that_looks_what_a_new_device_can_do_is_left_alone(tmp_path: Path) -> None:
    seen = replayed([*ports(61, 100, every_s=0.05), *ports(61, 104, every_s=0.05)], tmp_path)
    assert len(seen.windows) == 1 and WHO in seen.named
    assert convicted(seen) == [] and seen.acted() == set()


def test_a_hub_that_polls_twenty_devices_is_left_alone(tmp_path: Path) -> None:
    frames: list[Sent] = []
    for i in range(200):
        answered(frames, bytes([198, 51, 100, 1 + i % 20]), i, 100 + i * 0.05)
    seen = replayed(frames, tmp_path)
    assert len(seen.windows) == 1 and WHO in seen.named
    assert convicted(seen) == [] and seen.acted() == set()


@pytest.mark.parametrize(
    ("frames", "rule"),
    [
        (ports(200, 100, every_s=0.01), "port_scan"),
        (ports(200, 120, every_s=0.25), "slow_scan"),
        (hosts(60, 100, every_s=0.01), "mirai"),
        (hosts(100, 120, every_s=0.4, answer=RST | ACK), "slow_scan"),
    ],
    ids=["scan", "slow scan", "sweep", "slow sweep"],
)
def test_who_fails_far_more_often_than_anybody_ordinary_is_limited(
    frames: list[Sent], rule: str, tmp_path: Path
) -> None:
    seen = replayed(frames, tmp_path)
    assert seen.acted() == {WHO}
    assert (rule, WHO) in convicted(seen)
    # Slowed down, never cut off.
    assert {m.decision.response for m in seen.made} == {Response.RATE_LIMIT}

"""The compiled prescreener and its slow twin side by side: same frames in, no difference out."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from ids_appliance._features import HostIdentity
from ids_appliance._screen import Screen
from ids_appliance.config import Mirai, PortScan, Trigger
from ids_appliance.config.further import (
    ArpInsistence,
    ArpSweep,
    Convicting,
    Rate,
    Repeated,
    Slow,
)
from ids_appliance.trigger import embedded
from ids_appliance.types import FRAME, SENDER
from tests.ext import traffic as t
from tests.ext.traffic import BEYOND, DEVICES, GATEWAY4, GATEWAY6, GATEWAY_MAC, Sent
from tests.reference import packet
from tests.reference import screen as twin

S = 1_000_000_000
IDENTITY = HostIdentity([GATEWAY_MAC], [GATEWAY4, GATEWAY6]).packed()
HOST = packet.Host(frozenset([GATEWAY_MAC]), frozenset([GATEWAY4, GATEWAY6]))
OFF = Convicting(enabled=False)
DEFAULTS = embedded.settings(
    Trigger(
        port_scan=PortScan(alone=0),
        mirai=Mirai(alone=0),
        slow_scan=Slow(enabled=False),
        icmp_rate=OFF,
        unsolicited_answers=OFF,
        failed_connections=OFF,
        udp_exchanges=OFF,
        repeated_connections=Repeated(enabled=False),
        arp_sweep=ArpSweep(enabled=False),
        arp_insistence=ArpInsistence(enabled=False),
        impossible_flags=OFF,
    )
)
"""The four published rules alone, as they were published: of these only ARP convicts."""
RATE = Rate(enabled=True, count=5)
EVERYTHING = embedded.settings(
    Trigger(
        slow_scan=Slow(enabled=True, ports=5, hosts=4),
        connection_rate=RATE,
        udp_rate=RATE,
        icmp_rate=Convicting(enabled=True, count=5, alone=7),
        idle_connections=Rate(enabled=True, count=1),
        unsolicited_answers=Convicting(enabled=True, count=5, alone=5),
        failed_connections=Convicting(enabled=True, count=2, alone=3),
        udp_exchanges=Convicting(enabled=True, count=4, alone=6),
        repeated_connections=Repeated(count=3, slow_count=5, alone=7),
        arp_sweep=ArpSweep(targets=4),
        arp_insistence=ArpInsistence(replies=3),
        impossible_flags=Convicting(enabled=True, count=5, alone=7),
    )
)
SMALL = EVERYTHING | {
    "dos_syns": 3,
    "scan_ports": 3,
    "scan_failed_ratio": 0.6,
    "mirai_hosts": 2,
    "mirai_top_ports": 2,
    "mirai_top_ports_ratio": 0.7,
    "mirai_failed_or_brief_ratio": 0.6,
    "mirai_brief_packets": 3,
    "mirai_echo_hosts": 2,
    "mirai_arp_targets": 3,
    "arp_unsolicited": 3,
    "arp_mac_changes": 3,
    "connection_rate": 3,
    "unsolicited_answers": 2,
    "unsolicited_alone": 3,
    "repeated_connections": 1,
    "repeated_alone": 1,
    "slow_repeated": 1,
    "failed_connections": 1,
    "failed_alone": 1,
    "slow_repeated_alone": 0,
    "udp_exchanges": 2,
    "udp_exchanges_alone": 3,
    "icmp_rate": 2,
    "icmp_alone": 3,
    "arp_sweep": 2,
    "arp_insistence": 2,
    "impossible_flags": 2,
    "flags_alone": 3,
    "slow_ports": 2,
    "slow_hosts": 3,
    "scan_alone": 1,
    "mirai_alone": 1,
    "slow_ports_alone": 2,
    "slow_hosts_alone": 1,
}
Event = tuple[Any, ...]


class Frames(Protocol):
    """Where a comparison's frames come from."""

    now_ns: int

    def frames(self, count: int) -> Iterator[Sent]:
        """Yield at most so many."""


def batch(frames: Sequence[Sent]) -> tuple[np.ndarray, np.ndarray]:
    table = np.zeros(len(frames), FRAME)
    table["caplen"] = table["wirelen"] = [len(f.data) for f in frames]
    table["offset"] = np.cumsum(table["caplen"]) - table["caplen"]
    table["timestamp_ns"] = [f.time_ns for f in frames]
    table["direction"] = [f.direction for f in frames]
    table["linktype"] = [f.linktype for f in frames]
    table["ifindex"] = [f.ifindex for f in frames]
    return np.frombuffer(b"".join(f.data for f in frames), np.uint8).copy(), table


def run(screen: Screen, frames: Sequence[Sent]) -> tuple[list[Event], list[int], list[int]]:
    """Return events, marks and standings of one batch."""
    data, table = batch(frames)
    marks = np.zeros(len(frames), np.uint8)
    events = screen.screen(data, table, IDENTITY, marks)
    return events, marks.tolist(), table["standing"].tolist()


def check(
    choose: t.Choose, configured: dict[str, float], count: int, *, story: Frames | None = None
) -> list[Event]:
    """Play a story to both, in batches of any size and with orders in between; they must agree."""
    bindings = [(DEVICES[2][1], DEVICES[2][0])] if choose(2) else []
    screen, slow = Screen(configured, bindings=bindings), twin.Screen(configured, bindings)
    story = story or t.Story(choose)
    told: list[Event] = []
    while count > 0:
        size = min(count, (1, 2, 5, 40)[choose(4)])
        count -= size
        frames = list(story.frames(size))
        events, marks, standings = run(screen, frames)
        expected = []
        for i, f in enumerate(frames):
            slow.index = i
            expected.append(slow.frame(f.data, f.linktype, f.direction, f.time_ns, f.ifindex, HOST))
        assert list(zip(marks, standings, strict=True)) == expected
        assert events == slow.events
        told += events
        slow.events = []
        order(choose, screen, slow, story)
    assert len(told) < 5 or screen.counters()["events_lost"] == 0
    peers = {who: slow.standing(who) for who in slow.peers}
    assert {who: screen.peers(twin.record(who)) for who in peers} == peers
    seen = {twin.record(who): shown for who, shown in slow.devices.items()}
    assert {who: (last, shown) for who, last, shown in screen.devices()} == seen
    held = {a: b for a, b in slow.bound.items() if slow.holds_still(b)}
    assert {a: (m, i, s) for a, m, i, _, s in screen.bindings()} == {
        a: (b.mac, b.ifindex, b.source) for a, b in held.items()
    }
    return told


def order(choose: t.Choose, screen: Screen, slow: twin.Screen, story: Frames) -> None:
    """Sometimes do what a gateway does between batches."""
    what = choose(12)
    if what == 0:
        now = story.now_ns + choose(4) * S
        assert screen.expire(now) == _expired(slow, now)
    elif what == 1:
        screen.close_window()
        slow.suspects.clear()
        slow.slots.clear()
    elif what == 2 and choose(4) == 0:
        screen.doubt()
        slow.doubt()
    elif what == 2:
        on = bool(choose(2))
        screen.set_sampling(on)
        slow.sampling, slow.sampled = on, slow.sampled or on
    elif what == 3:
        whom = [
            (0, 0, 3, DEVICES[choose(6)][0], b""),
            (1, 4, 0, b"", BEYOND[choose(4)][0]),
            (2, 4, t.PORTS[choose(10)], b"", DEVICES[choose(6)][1]),
        ][: choose(4)]
        slow.contained = set(whom)
        screen.contain(np.frombuffer(b"".join(map(twin.record, whom)), SENDER))
    elif what == 4:
        who = (1, 6, 0, b"", BEYOND[choose(4)][1][:8] + bytes(8))
        screen.name(twin.record(who))
        slow.suspects.add(who)
    elif what == 5:
        expected = [(i + 1, a, p) for i, (a, p) in enumerate(slow.slots)]
        found = [
            (
                i,
                record[12 : 12 + (4 if record[5] == 4 else 16)],
                int.from_bytes(record[:4], "little"),
            )
            for i, record in screen.floods()
        ]
        assert found == expected


def _expired(slow: twin.Screen, now: int) -> list[Event]:
    slow.expire(now)
    events, slow.events = slow.events, []
    return events

"""What a sender may choose, chosen for harm: no look-up is longer for it, and nothing is hidden."""

from dataclasses import replace

import pytest

from tests.ext import traffic as t
from tests.ext.screening import S, run
from tests.ext.test_screen import (
    ADDRESS,
    ADDRESS6,
    MAC,
    OTHER,
    SYN,
    THIRD,
    fired,
    name,
    screen_of,
    segment,
    sent,
)
from tests.ext.traffic import DEVICES, Sent


@pytest.mark.parametrize("varied", ["source port", "target port"])
def test_no_prefix_makes_up_for_a_port(varied: str) -> None:
    # Mixed into one number with the ports, as one that equals their change: whatever the secret,
    # all these exchanges would be looked for in one place.
    screen = screen_of()
    frames = []
    for i in range(3000):
        if varied == "source port":
            ports = (1024 + i, 80)
            prefix = (0xFFFF ^ ports[0]).to_bytes(2, "little") + b"\x00\xff"
        else:
            ports = (4000, 1024 + i)
            prefix = bytes(2) + (0xFF00 ^ ports[1]).to_bytes(2, "little")
        source = bytes.fromhex("20010db8") + prefix + bytes(7) + b"\x01"
        packet = t.ip(source, DEVICES[1][2], 6, t.tcp(ports, SYN))
        frames.append(sent(MAC, packet, 10 + i * 0.0001, 0x86DD))
    run(screen, frames)
    assert screen.counters()["flows"] == 3000
    assert screen.longest_chain() < 16


def test_what_a_rule_said_of_a_mac_hides_nothing_at_another_interface() -> None:
    screen = screen_of(mirai_echo_hosts=2, impossible_flags=2)
    here = [sent(MAC, t.ip(ADDRESS, to, 1, t.echo(8, 1)), 10.0) for to in (OTHER, THIRD)]
    # As far from the first interface's index as the numbers of the two rules from each other.
    index = here[0].ifindex ^ 3 ^ 17
    there = [
        replace(segment((ADDRESS, OTHER), (4000, port), 0, 10.1), ifindex=index) for port in (1, 2)
    ]
    assert [event[0] for event in fired(screen, here + there)] == ["mirai", "impossible_flags"]


@pytest.mark.parametrize("many", [1, 9, 150])
def test_no_number_of_extension_headers_hides_a_scan(many: int) -> None:
    screen = screen_of()
    nothing = b"\0\1\4\0\0\0\0"  # destination options: padding
    headers = (b"\x3c" + nothing) * (many - 1) + b"\x06" + nothing
    frames = []
    for i in range(20):
        packet = t.ip(ADDRESS6, DEVICES[1][2], 60, headers + t.tcp((4000, 1 + i), SYN))
        frames.append(sent(MAC, packet, 10 + i * 0.01, 0x86DD))
    assert fired(screen, frames) == []
    assert [event[0] for event in screen.expire(12 * S)] == ["port_scan"]


def fragments(count: int, *, six: bool) -> list[Sent]:
    """First fragments of SYNs that end before the flags."""
    frames = []
    for i in range(count):
        start = t.tcp((4000, 1 + i), SYN)[:8]
        if six:
            packet = t.ip(ADDRESS6, DEVICES[1][2], 44, b"\x06\0\0\1\0\0\0\7" + start)
        else:
            packet = t.ip(ADDRESS, OTHER, 6, start)
            packet = packet[:6] + b"\x20" + packet[7:]
        frames.append(sent(MAC, packet + bytes(6), 10, 0x86DD if six else 0x0800))  # padded
    return frames


@pytest.mark.parametrize("six", [False, True])
def test_a_header_cut_before_its_flags_is_as_odd_as_impossible_flags(six: bool) -> None:
    (event,) = fired(screen_of(impossible_flags=3, flags_alone=6), fragments(3, six=six))
    assert (event[0], event[3], event[4], event[6]) == ("impossible_flags", 2, name(MAC), False)
    events = fired(screen_of(impossible_flags=3, flags_alone=6), fragments(6, six=six))
    assert [(e[3], e[6]) for e in events] == [(2, False), (5, True)]


def test_what_only_the_capture_has_cut_is_not() -> None:
    whole = [t.ip(ADDRESS, OTHER, 6, t.tcp((4000, 1 + i), SYN)) for i in range(9)]
    whole += [t.ip(ADDRESS6, DEVICES[1][2], 6, t.tcp((4000, 1), SYN)) for _ in range(9)]
    frames = [
        sent(MAC, p[: (28 if len(p) == 40 else 48)], 10, 0x0800 if len(p) == 40 else 0x86DD)
        for p in whole
    ]
    assert fired(screen_of(impossible_flags=1), frames) == []

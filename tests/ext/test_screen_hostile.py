"""What a sender may choose, chosen for harm: no look-up is longer for it, and nothing is hidden."""

from dataclasses import replace

import pytest

from tests.ext import traffic as t
from tests.ext.screening import run
from tests.ext.test_screen import (
    ADDRESS,
    MAC,
    OTHER,
    SYN,
    THIRD,
    fired,
    screen_of,
    segment,
    sent,
)
from tests.ext.traffic import DEVICES


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

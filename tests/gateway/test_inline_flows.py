"""Which connections may pass beside the queue, and when they come back."""

import socket
import struct

import numpy as np
import pytest

from ids_appliance.config import Inline
from ids_appliance.gateway.inline_flows import CleanFlows, flow_of, tcp_parts
from ids_appliance.types import SENDER, Side, Standing

LAN, WAN = socket.inet_aton("192.0.2.2"), socket.inet_aton("198.51.100.9")
MAC = bytes.fromhex("020000000022")
PROVEN = int(Standing.PROVEN)
ACK, PSH, SYN, FIN, RST = 0x10, 0x18, 0x02, 0x11, 0x04


def packet(*, out: bool, flags: int = PSH, payload: bytes = b"x", port: int = 1000) -> bytes:
    ends, ports = (LAN + WAN, (port, 443)) if out else (WAN + LAN, (443, port))
    head = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(payload), 1, 0, 63, 6, 0) + ends
    return head + struct.pack("!HHIIBBHHH", *ports, 1, 2, 0x50, flags, 512, 0, 0) + payload


def sender(*, out: bool) -> np.ndarray:
    record = np.zeros(1, SENDER)
    record["family"] = 4
    record["address"][0, :4] = np.frombuffer(LAN if out else WAN, np.uint8)
    if out:
        record["ifindex"], record["mac"] = 3, np.frombuffer(MAC, np.uint8)
    else:
        record["side"] = Side.WAN
    return record


def key(*, out: bool) -> bytes:
    record = sender(out=out)
    if out:
        record["family"] = 0
        record["address"] = 0
    return record.tobytes()


def exchange(flows: CleanFlows, n: int, *, port: int = 1000, standing: int = PROVEN) -> None:
    for i in range(n):
        out = i % 2 == 0
        flows.saw(packet(out=out, port=port), sender(out=out)[0], standing=standing, clean=True)


@pytest.fixture
def flows() -> CleanFlows:
    return CleanFlows(Inline(bypass_packets=8, bypass_s=60.0, bypass_flows=16))


def test_clean_after_enough_judged_packets_both_ways(flows: CleanFlows) -> None:
    exchange(flows, 7)
    assert flows.due(0) == []
    exchange(flows, 1)
    ((source, sport, target, dport),) = flows.due(0)
    assert {(source, sport), (target, dport)} == {(LAN, 1000), (WAN, 443)}
    assert flows.due(1) == [] and flows.counters()["bypass_flows"] == 1


@pytest.mark.parametrize(
    "spoil",
    [
        {"clean": False},
        {"flags": FIN},
        {"flags": RST},
    ],
)
def test_one_packet_of_another_kind_begins_the_count_anew(flows: CleanFlows, spoil: dict) -> None:
    exchange(flows, 7)
    clean = spoil.pop("clean", True)
    flows.saw(packet(out=True, **spoil), sender(out=True)[0], standing=PROVEN, clean=clean)
    exchange(flows, 7)
    assert flows.due(0) == []


def test_never_without_handshake_nor_with_payload_one_way_only(flows: CleanFlows) -> None:
    exchange(flows, 100, standing=0)
    assert flows.due(0) == [] and flows.counters()["bypass_followed"] == 0
    for _ in range(50):
        flows.saw(packet(out=True), sender(out=True)[0], standing=PROVEN, clean=True)
        bare = packet(out=False, flags=ACK, payload=b"")
        flows.saw(bare, sender(out=False)[0], standing=PROVEN, clean=True)
    assert flows.due(0) == []


def test_judged_anew_after_its_time(flows: CleanFlows) -> None:
    exchange(flows, 8)
    assert len(flows.due(0)) == 1
    exchange(flows, 8)
    assert len(flows.due(61)) == 1 and flows.passed == 2


@pytest.mark.parametrize("out", [True, False])
def test_doubt_takes_back_all_of_a_senders_connections_and_no_others(out: bool) -> None:
    flows = CleanFlows(Inline(bypass_flows=16))
    exchange(flows, 8, port=1000)
    exchange(flows, 8, port=1001)
    first = flows.due(0)
    assert len(first) == 2
    exchange(flows, 7, port=1002)
    assert flows.doubt([bytes(SENDER.itemsize)]) == []
    assert sorted(flows.doubt([key(out=out)])) == sorted(first)
    exchange(flows, 7, port=1002)
    assert flows.due(1) == [], "what was counted before the doubt does not count"
    assert flows.counters()["bypass_taken_back"] == 2


def test_both_tables_are_bounded(flows: CleanFlows) -> None:
    for port in range(2000, 2100):
        exchange(flows, 2, port=port)
    assert flows.counters()["bypass_followed"] == 16
    for port in range(3000, 3100):
        exchange(flows, 8, port=port)
        flows.due(0)
    assert flows.counters()["bypass_flows"] == 16


def test_parts_of_ipv6_and_of_what_is_no_tcp_segment() -> None:
    one, other = (socket.inet_pton(socket.AF_INET6, a) for a in ("2001:db8::1", "2001:db8::2"))
    tcp = struct.pack("!HHIIBBHHH", 7, 9, 1, 2, 0x50, PSH, 512, 0, 0) + b"hello"
    head = struct.pack("!IHBB", 0x60000000, len(tcp), 6, 64)
    there = tcp_parts(head + one + other + tcp)
    assert there is not None and there[2:] == (False, True)
    assert flow_of(there[0]) == (one, 7, other, 9)
    whole = packet(out=True)
    assert tcp_parts(whole[:6] + b"\0\3" + whole[8:]) is None, "a later fragment"
    assert tcp_parts(whole[:9] + b"\x11" + whole[10:]) is None
    for cut in range(34):
        assert tcp_parts(whole[:cut]) is None
        assert tcp_parts((head + one + other + tcp)[:cut]) is None

"""Packets by protocol, counted from whole batches."""

import numpy as np
import pytest

from ids_appliance.telemetry.traffic import PROTOCOLS, Traffic
from ids_appliance.types import FRAME, FrameBatch

MACS = bytes(12)
IP4 = bytes([0x45, 0, 0, 40, 0, 0, 0, 0, 64])
IP6 = bytes([0x60, 0, 0, 0, 0, 20])


def ip4(protocol):
    return IP4 + bytes([protocol]) + bytes(30)


def ip6(following):
    return IP6 + bytes([following]) + bytes(40)


def ethernet(ethertype, payload, *, tag=b""):
    return MACS + tag + ethertype.to_bytes(2) + payload


VLAN = bytes([0x81, 0, 0, 7])
CASES = {
    "tcp": (1, ethernet(0x0800, ip4(6))),
    "udp": (1, ethernet(0x0800, ip4(17))),
    "icmp": (1, ethernet(0x0800, ip4(1))),
    "other_ip": (1, ethernet(0x0800, ip4(47))),
    "arp": (1, ethernet(0x0806, bytes(28))),
    "other": (1, ethernet(0x88CC, bytes(40))),
}
MORE = [
    ("tcp", 1, ethernet(0x86DD, ip6(6))),
    ("icmp", 1, ethernet(0x86DD, ip6(58))),
    ("udp", 1, ethernet(0x0800, ip4(17), tag=VLAN)),
    ("arp", 1, ethernet(0x0806, bytes(28), tag=VLAN)),
    ("tcp", 101, ip4(6)),
    ("udp", 101, ip6(17)),
    ("other", 101, bytes(40)),
    ("other", 1, ethernet(0x0800, ip6(6))),  # a version that contradicts the EtherType
    ("other", 1, ethernet(0x0800, IP4)),  # cut before the protocol
    ("other", 1, b"\x01"),
    ("other", 1, b""),
]


def batch(frames):
    data = np.frombuffer(b"".join(frame for _, frame in frames) or b"\0", np.uint8)
    records = np.zeros(len(frames), FRAME)
    sizes = [len(frame) for _, frame in frames]
    records["offset"] = np.cumsum([0, *sizes[:-1]])
    records["caplen"] = sizes
    records["wirelen"] = [size + 100 for size in sizes]
    records["linktype"] = [linktype for linktype, _ in frames]
    return FrameBatch(data, records)


@pytest.mark.parametrize(
    ("name", "linktype", "frame"), [(n, *case) for n, case in CASES.items()] + MORE
)
def test_a_frame_is_counted_as_what_it_is(name, linktype, frame):
    traffic = Traffic()
    traffic.count(batch([(linktype, frame)]))
    counted = {k: v for k, v in traffic.counters().items() if v}
    assert counted == {f"traffic_packets_{name}": 1, f"traffic_bytes_{name}": len(frame) + 100}


def test_a_batch_counts_as_its_frames_do_one_by_one():
    frames = [*CASES.values(), *[(linktype, frame) for _, linktype, frame in MORE]]
    at_once, singly = Traffic(), Traffic()
    at_once.count(batch(frames))
    for frame in frames:
        singly.count(batch([frame]))
    assert at_once.counters() == singly.counters()
    packets = [at_once.counters()[f"traffic_packets_{name}"] for name in PROTOCOLS]
    assert sum(packets) == len(frames) and all(packets)


def test_nothing_is_nothing():
    traffic = Traffic()
    traffic.count(FrameBatch(np.zeros(0, np.uint8), np.zeros(0, FRAME)))
    assert not any(traffic.counters().values())


def test_a_frame_outside_its_buffer_is_refused():
    wrong = batch([CASES["tcp"]])
    with pytest.raises(ValueError, match="frame 0 lies outside"):
        Traffic().count(FrameBatch(wrong.data[:-1], wrong.frames))
    with pytest.raises(ValueError, match="FRAME"):
        Traffic().count(FrameBatch(wrong.data, wrong.frames["number"].copy()))

"""The closed window's filter on a live ring: what passes, and what a swap in mid-traffic loses."""

import threading
import time
from collections.abc import Iterator

import pytest

from ids_appliance.capture.ring import RingOptions, RingSource
from ids_appliance.trigger.filter import CLOSED, OPEN
from ids_appliance.types import FrameBatch
from tests.ext import traffic as t
from tests.net.namespaces import Network
from tests.net.packets import identity_holds, read_until

pytestmark = pytest.mark.net

MAC = bytes.fromhex("02fe00000001")
"""Whose frames count; whatever else happens on the link does not."""
ROOMY = RingOptions(block_bytes=1 << 16, blocks=256, retire_ms=1000)
"""Not filled up by blocks that are handed over with a frame or two in them, as when a sender is
scheduled now and then."""
A, B = t.DEVICES[0][1], t.DEVICES[1][1]


class Reader:
    """What a source on the gateway's lan0 delivers of the frames that the lan host sends."""

    def __init__(self, net: Network, source: RingSource) -> None:
        self.net, self.source = net, source
        self.batches = source.batches()
        self.seen: list[bytes] = []

    def take(self, batch: FrameBatch) -> None:
        for frame in batch.frames:
            start = int(frame["offset"])
            data = bytes(batch.data[start : start + int(frame["caplen"])])
            if data[6:12] == MAC:
                self.seen.append(data)

    def send(self, frames: list[bytes]) -> None:
        with self.net.packet_socket("lan", "eth0") as raw:
            raw.setblocking(True)
            for frame in frames:
                raw.send(frame)

    def until(self, last: bytes) -> list[bytes]:
        read_until(self.batches, self.take, lambda: last in self.seen)
        seen, self.seen = self.seen, []
        return seen


@pytest.fixture
def options() -> RingOptions:
    return RingOptions()


@pytest.fixture
def reader(routed: Network, options: RingOptions) -> Iterator[Reader]:
    with routed.inside("gw"):
        source = RingSource("lan0", options, timeout_s=0.02)
        yield Reader(routed, source)
        source.close()
        identity_holds(source)


def segment(flags: int, number: int, *, tags: int = 0, ports: tuple[int, int] = (1, 2)) -> bytes:
    packet = t.ip(A, B, 6, t.tcp(ports, flags, seq=number))
    types = (b"\x08\x00", b"\x81\x00\0\5\x08\0", b"\x88\xa8\0\6\x81\0\0\5\x08\0")
    return b"\x02" * 6 + MAC + types[tags] + packet.ljust(46, b"\0")


def test_closed_passes_what_the_rules_need(reader: Reader) -> None:
    reader.source.set_filter(CLOSED)
    frames = []
    for tags in (0, 1, 2):
        frames += [segment(2, 1, tags=tags), segment(16, 2, tags=tags)]  # SYN; ACK, not sampled
        frames += [segment(16, 3, tags=tags, ports=(30, 2))]  # ACK, sampled
    frames += [t.ethernet(MAC, t.ip(A, B, 17, t.udp((5, 6))).ljust(46, b"\0"), 0x0800)]
    last = segment(4, 99)
    reader.send([*frames, last])
    seen = reader.until(last)
    # One tag was taken off by the kernel; the sequence numbers tell which frames these are.
    assert [frame[frame.index(b"\x45") + 27] for frame in seen] == [1, 3, 1, 3, 1, 3, 99]
    reader.source.set_filter(OPEN)
    reader.send([*frames, last])
    assert len(reader.until(last)) == len(frames) + 1


@pytest.mark.parametrize("options", [ROOMY])
def test_a_swap_in_mid_traffic_loses_nothing(reader: Reader) -> None:
    # The sender goes on until there were swaps enough, however the two are scheduled, and is never
    # so far ahead that a queue of the kernel's could overflow (netdev_max_backlog).
    sent: list[bytes] = []
    ahead = threading.Semaphore(800)
    enough = threading.Event()

    def send() -> None:
        with reader.net.packet_socket("lan", "eth0") as raw:
            raw.setblocking(True)
            while not enough.is_set():
                if not ahead.acquire(timeout=0.05):
                    continue
                frame = segment(2, len(sent) + 1)
                raw.send(frame)
                sent.append(frame)

    sender = threading.Thread(target=send)
    sender.start()
    swaps, end = 0, time.monotonic() + 120
    while (sender.is_alive() or len(reader.seen) < len(sent)) and time.monotonic() < end:
        batch = next(reader.batches)
        if batch is not None:
            before = len(reader.seen)
            reader.take(batch)
            if len(reader.seen) > before:
                ahead.release(len(reader.seen) - before)
        reader.source.set_filter(OPEN if swaps % 2 else CLOSED)
        swaps += 1
        if swaps >= 20:
            enough.set()
    enough.set()
    sender.join()
    assert reader.seen == sent and swaps >= 20
    assert reader.source.counters()["kernel_drops"] == 0


def test_an_interface_that_comes_back_has_the_filter(reader: Reader) -> None:
    reader.source.set_filter(CLOSED)
    net = reader.net
    net.ip("gw", "link del lan0")
    read_until(reader.batches, reader.take, lambda: reader.source.down == ("lan0",))
    net.veth(("lan", "eth0"), ("gw", "lan0"))
    read_until(reader.batches, reader.take, lambda: reader.source.down == ())
    last = segment(2, 2)
    reader.send([segment(16, 1), last])
    assert reader.until(last) == [last]

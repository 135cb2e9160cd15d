"""AF_PACKET rings under trouble: lost interfaces, overflow, closing under traffic, no rights."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from ids_appliance._ring import Ring
from ids_appliance.capture.interfaces import (
    capture_points,
    identity,
    offload_warning,
    offloads_on,
)
from ids_appliance.capture.netlink import links
from ids_appliance.capture.ring import RingOptions, RingSource
from ids_appliance.errors import InterfaceError
from ids_appliance.types import FRAME, FrameBatch, Source
from tests.net.namespaces import Network, run, wait_for
from tests.net.packets import conversation, ethernet, identity_holds, key_of, read_until

pytestmark = pytest.mark.net

SMALL = RingOptions(block_bytes=1 << 16, blocks=2)


class Reader:
    """A source on the gateway's lan0, and a sender on the other end of the cable."""

    def __init__(self, net: Network, source: RingSource, lines: list[str]) -> None:
        self.net, self.source, self.lines = net, source, lines
        self.batches = source.batches()
        self.numbers: list[int] = []
        self.seen: set[bytes] = set()
        self._next = 0

    def take(self, batch: FrameBatch) -> None:
        self.numbers += batch.frames["number"].tolist()
        for frame in batch.frames:
            start = int(frame["offset"])
            self.seen.add(bytes(batch.data[start + 42 : start + int(frame["caplen"])]))

    def send(self, count: int = 1) -> set[bytes]:
        """Send frames that nobody else sends; return their payloads."""
        payloads = [f"test frame {self._next + i}".encode().ljust(60) for i in range(count)]
        self._next += count
        with self.net.packet_socket("lan", "eth0") as raw:
            raw.setblocking(True)
            head = ethernet(conversation(to_wan=True)[6][:28], b"\x02" * 6, b"\x04" * 6)
            for payload in payloads:
                raw.send(head + payload)
        return set(payloads)

    def expect(self, payloads: set[bytes]) -> None:
        read_until(self.batches, self.take, lambda: payloads <= self.seen)

    def until(self, line: str) -> None:
        """Read until the source has reported it."""
        read_until(self.batches, self.take, lambda: any(line in said for said in self.lines))
        self.lines.clear()


@pytest.fixture
def reader(routed: Network) -> Iterator[Reader]:
    lines: list[str] = []
    with routed.inside("gw"):
        source = RingSource("lan0", on_event=lines.append, timeout_s=0.02)
        yield Reader(routed, source, lines)
        source.close()
        identity_holds(source)


def test_it_is_a_source(reader: Reader) -> None:
    assert isinstance(reader.source, Source)
    reader.expect(reader.send(300))
    assert reader.numbers == list(range(1, len(reader.numbers) + 1))
    read_until(reader.batches, reader.take, lambda: next(reader.batches) is None)


def test_down_and_up(reader: Reader) -> None:
    reader.expect(reader.send())
    reader.net.ip("gw", "link set lan0 down")
    reader.until("lan0 is down")
    assert reader.source.down == ("lan0",)
    reader.net.ip("gw", "link set lan0 up")
    reader.until("lan0 is up")
    reader.expect(reader.send())
    assert reader.source.down == () and reader.source.changes > 0
    counters = reader.source.counters()
    assert (counters["interface_down"], counters["interface_up"]) == (1, 1)


def test_a_changed_address_is_noticed(reader: Reader) -> None:
    before = reader.source.changes
    reader.net.ip("gw", "addr add 192.0.2.200/24 dev lan0")
    read_until(reader.batches, reader.take, lambda: reader.source.changes > before)
    assert socket.inet_aton("192.0.2.200") in identity(["lan0"]).addresses


def test_started_while_down(routed: Network) -> None:
    routed.ip("gw", "link set lan0 down")
    lines: list[str] = []
    with routed.inside("gw"):
        source = RingSource("lan0", on_event=lines.append)
        assert source.down == ("lan0",)
        reader = Reader(routed, source, lines)
        routed.ip("gw", "link set lan0 up")
        reader.until("lan0 is up")
        reader.expect(reader.send())
        source.close()


@pytest.mark.parametrize("same_index", [False, True])
def test_deleted_and_created_again(reader: Reader, same_index: bool) -> None:
    before = links_by_name()["lan0"].index
    arrived = reader.source.counters()["kernel_packets"]
    sent = reader.send(50)
    wait_for(lambda: reader.source.counters()["kernel_packets"] >= arrived + 50)
    reader.net.ip("gw", "link del lan0")
    reader.until("lan0 is down or gone")
    assert sent <= reader.seen, "what had arrived before is delivered"
    extra = f"index {before}" if same_index else ""
    reader.net.veth(("gw", "lan0"), ("lan", "eth0"), extra=extra)
    reader.until("lan0 is up")
    assert (links_by_name()["lan0"].index == before) == same_index
    reader.expect(reader.send(50))
    assert reader.numbers == list(range(1, len(reader.numbers) + 1)), "numbers go on"


def links_by_name() -> dict:
    return {link.name: link for link in links().values()}


def test_one_of_two_interfaces_is_lost(routed: Network) -> None:
    with routed.inside("gw"):
        lines: list[str] = []
        source = RingSource(["lan0", "wan0"], on_event=lines.append)
        reader = Reader(routed, source, lines)
        routed.ip("gw", "link del wan0")
        reader.until("wan0 is down or gone")
        reader.expect(reader.send(20))
        assert source.down == ("wan0",)
        source.close()
        identity_holds(source)


def test_overflow_is_counted(routed: Network) -> None:
    with routed.inside("gw"):
        source = RingSource("lan0", SMALL)
        reader = Reader(routed, source, [])
        reader.send(5000)
        # What is sent may wait in the kernel's backlog for a moment.
        wait_for(lambda: source.counters()["kernel_packets"] >= 5000)
        assert source.counters()["kernel_drops"] > 0
        identity_holds(source)
        source.stop()
        for batch in reader.batches:
            if batch is not None:
                reader.take(batch)
    counters = source.counters()
    assert counters["in_ring"] == 0 and counters["freezes"] > 0
    assert len(reader.numbers) == counters["delivered"]
    assert counters["delivered"] + counters["kernel_drops"] == counters["kernel_packets"]
    identity_holds(source)


def test_the_ring_works_again_after_an_overflow(routed: Network) -> None:
    with routed.inside("gw"):
        source = RingSource("lan0", SMALL)
        reader = Reader(routed, source, [])

        def all_of_a_few_arrive() -> bool:
            # Frames of the flood may still wait in the kernel's backlog, so a few may be lost too.
            few = reader.send(5)
            for batch in reader.batches:
                if batch is None:
                    return few <= reader.seen
                reader.take(batch)
            return False

        for _ in range(3):
            dropped = source.counters()["kernel_drops"]
            reader.send(4000)
            wait_for(lambda before=dropped: source.counters()["kernel_drops"] > before)
            wait_for(all_of_a_few_arrive)
        source.close()
        identity_holds(source)


def test_what_is_left_at_close_is_counted_in_the_blocks(routed: Network) -> None:
    with routed.inside("gw"):
        source = RingSource("lan0", RingOptions(block_bytes=1 << 14, blocks=16, retire_ms=1000))
        reader = Reader(routed, source, [])
        reader.send(1000)  # more than half of the ring, which is taken at once at most
        reader.take(next(batch for batch in reader.batches if batch is not None))
        source.close()
    counters = source.counters()
    assert counters["in_ring"] > 0 and counters["kernel_drops"] == 0
    identity_holds(source)


def test_a_batch_takes_every_block_that_is_there(routed: Network) -> None:
    with routed.inside("gw"):
        source = RingSource("lan0", RingOptions(block_bytes=1 << 14, blocks=32, retire_ms=1000))
        reader = Reader(routed, source, [])
        sent = reader.send(500)
        wait_for(lambda: source.counters()["kernel_packets"] >= 500)
        first = next(batch for batch in reader.batches if batch is not None)
        assert len(first.frames) > 3 * (1 << 14) // 200, "frames of several blocks"
        reader.take(first)
        reader.expect(sent)
        assert reader.numbers == list(range(1, len(reader.numbers) + 1))
        source.close()
    identity_holds(source)


def test_close_from_another_thread_under_traffic(routed: Network) -> None:
    over = threading.Event()

    def flood() -> None:
        raw = routed.packet_socket("lan", "eth0")
        raw.setblocking(True)
        frame = ethernet(conversation(to_wan=True)[0], b"\x02" * 6, b"\x04" * 6)
        for _ in range(200_000):
            if over.is_set():
                break
            raw.send(frame)
        raw.close()

    with routed.inside("gw"):
        source = RingSource("lan0", RingOptions(block_bytes=1 << 16, blocks=8))
        thread = threading.Thread(target=flood)
        thread.start()
        closer = None
        held = None
        for batch in source.batches():
            held = batch or held
            if closer is None and source.counters()["delivered"] > 1000:
                closer = threading.Timer(0.05, source.close)
                closer.start()
        over.set()
        thread.join()
        closer.join()
    identity_holds(source)
    source.close()
    assert int(held.data.sum()) > 0, "memory that somebody holds stays"
    with pytest.raises(ValueError, match="read-only"):
        held.data[0] = 1


def test_a_wake_up_ends_the_waiting(routed: Network) -> None:
    with routed.inside("gw"):
        begin = time.monotonic()
        source = RingSource("lan0", timeout_s=600)
        batches = source.batches()
        # Something else may wake it, too: a link event that comes late.
        woken = threading.Event()

        def wake() -> None:
            woken.set()
            source.wake()

        threading.Timer(0.1, wake).start()
        while next(batches) is not None or not woken.is_set():
            pass
        threading.Timer(0.1, source.close).start()
        for _ in batches:
            pass
        assert time.monotonic() - begin < 300


def test_loopback_shows_each_frame_once(routed: Network) -> None:
    with routed.inside("gw"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        source = RingSource("lo")
        end.bind(("127.0.0.1", 0))
        for _ in range(20):
            end.sendto(b"to myself", end.getsockname())
        count: list[int] = []
        read_until(
            source.batches(),
            lambda b: count.extend(b.frames["caplen"].tolist()),
            lambda: len(count) >= 20,
        )
        source.close()
    assert len(count) == source.counters()["kernel_packets"] == 20


def test_socket_filter(routed: Network) -> None:
    # ldh [12]; jeq #0x0800 -> pass, else refuse
    only_ipv4 = ((0x28, 0, 0, 12), (0x15, 0, 1, 0x0800), (0x06, 0, 0, 65535), (0x06, 0, 0, 0))
    packets = conversation(to_wan=True)
    raw = routed.packet_socket("lan", "eth0")
    found = []

    def take(batch: FrameBatch) -> None:
        for frame in batch.frames:
            found.append(batch.data[int(frame["offset"]) + 14 :][: int(frame["caplen"]) - 14])

    with routed.inside("gw"):
        source = RingSource("lan0", RingOptions(socket_filter=only_ipv4))
        for packet in packets:
            raw.send(ethernet(packet, b"\x02" * 6, b"\x04" * 6))
        wanted = {key_of(p) for p in packets if p[0] >> 4 == 4}
        read_until(source.batches(), take, lambda: {key_of(f.tobytes()) for f in found} >= wanted)
        source.close()
        assert {int(f[0]) >> 4 for f in found} == {4}
        identity_holds(source)
        with pytest.raises(InterfaceError, match="cannot be read"):
            RingSource("lan0", RingOptions(socket_filter=((0xFFFF, 0, 0, 0),)))
    raw.close()


def test_promiscuous_membership(routed: Network) -> None:
    def promiscuous() -> str:
        return run("ip", "-n", routed.full("gw"), "-d", "link", "show", "lan0")

    with routed.inside("gw"):
        source = RingSource("lan0", RingOptions(promiscuous=True))
        assert "promiscuity 1" in promiscuous()
        source.close()
        assert "promiscuity 0" in promiscuous()


def test_who_we_are(bridged: Network) -> None:
    with bridged.inside("gw"):
        assert capture_points(["br0"]) == ("port1", "port2")
        assert capture_points(["br0", "port2", "lo"]) == ("port1", "port2", "lo")
        macs = {name: bridged.mac("gw", name) for name in ("port1", "port2", "br0")}
        own = identity(["port1", "port2"])
        assert own.all_ports and set(own.macs) == set(macs.values())
        assert {socket.inet_aton(a) for a in ("192.0.2.1", "127.0.0.1")} <= set(own.addresses)
        part = identity(["port1"])
        assert not part.all_ports and set(part.macs) == {macs["port1"], macs["br0"]}
        bridged.ip("gw", "link add br9 type bridge")
        with pytest.raises(InterfaceError, match="no ports"):
            capture_points(["br9"])
        with pytest.raises(InterfaceError, match="did you mean port1"):
            identity(["port11"])
        with pytest.raises(InterfaceError, match="did you mean"):
            RingSource("prot1")


def test_offloads_are_noticed(routed: Network) -> None:
    with routed.inside("gw"):
        assert offloads_on("lan0") == () and offload_warning("lan0") is None
        run("ethtool", "-K", "lan0", "gro", "on")
        assert offloads_on("lan0") == ("gro",)
        assert "ethtool -K lan0 gro off" in offload_warning("lan0")
        with pytest.raises(InterfaceError, match="no interface"):
            offloads_on("lan9")


def test_no_permission_names_the_capability(routed: Network) -> None:
    code = (
        "import os, ids_appliance.capture.ring as r, ids_appliance.errors as e\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: r.RingSource('lo')\n"
        "except e.PermissionMissing as error: print(error)\n"
    )
    words = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(routed.command("gw", *words), capture_output=True, text=True)
    assert "CAP_NET_RAW" in done.stdout and done.stderr == ""


def test_a_ring_of_nonsense_size(routed: Network) -> None:
    with routed.inside("gw"):
        for options in (
            RingOptions(block_bytes=1000),
            RingOptions(block_bytes=1 << 30),
            RingOptions(blocks=1),
            RingOptions(blocks=100_000),
            RingOptions(retire_ms=0),
        ):
            with pytest.raises(InterfaceError, match="ring for lan0"):
                RingSource("lan0", options)
        with pytest.raises(InterfaceError, match="no interface named"):
            RingSource([])


def test_misuse_of_a_ring(privileged: None) -> None:
    ring = Ring(blocks=2)
    with pytest.raises(ValueError, match="place"):
        ring.take(np.zeros(0, FRAME))
    with pytest.raises(OSError, match="interface"):
        ring.bind(2**31 - 1)
    with pytest.raises(ValueError, match="at most"):
        ring.attach_filter([(6, 0, 0, 0)] * 4097)
    view = memoryview(ring)
    assert view.readonly and len(view) == 2 << 18
    ring.close()
    ring.close()
    assert ring.fileno() == -1 and view[0] is not None
    del view
    for call in (lambda: memoryview(ring), lambda: ring.take(np.zeros(1, FRAME)), ring.stop):
        with pytest.raises((ValueError, BufferError)):
            call()


def test_descriptors_are_given_back(routed: Network) -> None:
    with routed.inside("gw"):
        before = sorted(os.listdir("/proc/self/fd"))
        for _ in range(3):
            source = RingSource(["lan0", "wan0"])
            next(source.batches())
            source.close()
            with pytest.raises(InterfaceError):
                RingSource(["lan0", "nothing"])
        assert sorted(os.listdir("/proc/self/fd")) == before

"""Several ports, one ring: frames in the order in which the kernel met them, and of these only."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ids_appliance._ring import Ring
from ids_appliance.capture.netlink import links
from ids_appliance.capture.port_filter import of_ports
from ids_appliance.capture.ring import MAX_PORTS, RingOptions, RingSource
from ids_appliance.errors import InterfaceError
from ids_appliance.trigger.filter import CLOSED
from ids_appliance.types import Direction, FrameBatch
from tests.net.namespaces import Network, run, wait_for
from tests.net.packets import ethernet, identity_holds, read_until

pytestmark = pytest.mark.net

EXCHANGES = 400
HOSTS = {"lan": "192.0.2.2", "wan": "198.51.100.2"}


def index_of(name: str) -> int:
    return next(link.index for link in links().values() if link.name == name)


class Seen:
    """What a source has shown: interface, direction and payload of each frame, in its order."""

    def __init__(self, source: RingSource) -> None:
        self.source = source
        self.frames: list[tuple[int, int, bytes]] = []

    def take(self, batch: FrameBatch) -> None:
        for frame in batch.frames:
            start, end = int(frame["offset"]), int(frame["offset"] + frame["caplen"])
            payload = bytes(batch.data[start:end])
            self.frames.append((int(frame["ifindex"]), int(frame["direction"]), payload))

    def all(self) -> None:
        """Read what has come until now, then end."""
        self.source.stop()
        for batch in self.source.batches():
            if batch is not None:
                self.take(batch)

    def payloads(self) -> list[bytes]:
        return [data[42:].rstrip(b"\0") for _, _, data in self.frames]


def socket_in(net: Network, name: str) -> socket.socket:
    with net.inside(name):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(60)
    made.bind((HOSTS[name], 0))
    return made


def echo(served: socket.socket) -> None:
    for _ in range(EXCHANGES):
        question, who = served.recvfrom(100)
        served.sendto(b"A" + question[1:], who)


def ask(asking: socket.socket, where: tuple[str, int]) -> None:
    me = asking.getsockname()[0].encode()
    for number in range(EXCHANGES):
        asking.sendto(b"Q %s %d" % (me, number), where)
        asking.recv(100)


def test_no_answer_stands_before_its_question(routed: Network) -> None:
    """Both ways at once, and read only afterwards, when whole rings would be read in turn."""
    with ExitStack() as stack:
        sockets = {
            name: [stack.enter_context(socket_in(routed, name)) for _ in range(2)] for name in HOSTS
        }
        with routed.inside("gw"):
            lan, wan = index_of("lan0"), index_of("wan0")
            source = RingSource(["lan0", "wan0"])
        threads = []
        for asking, served in (("lan", "wan"), ("wan", "lan")):
            server = sockets[served][1]
            threads.append(threading.Thread(target=echo, args=(server,)))
            where = server.getsockname()
            threads.append(threading.Thread(target=ask, args=(sockets[asking][0], where)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen = Seen(source)
        seen.all()
    identity_holds(source)
    assert source.counters()["kernel_drops"] == 0
    place: dict[tuple[int, bytes], int] = {}
    for at, ((index, _, _), payload) in enumerate(zip(seen.frames, seen.payloads(), strict=True)):
        place.setdefault((index, payload), at)
    for host, near, far in (("lan", lan, wan), ("wan", wan, lan)):
        for number in range(EXCHANGES):
            said = b" %s %d" % (HOSTS[host].encode(), number)
            way = [(near, b"Q"), (far, b"Q"), (far, b"A"), (near, b"A")]
            places = [place[index, what + said] for index, what in way]
            assert places == sorted(places)


Both = tuple[Network, RingSource, list[str]]
"""The network, a source on both sides of its gateway, and what it has told."""


@pytest.fixture
def both(routed: Network) -> Iterator[Both]:
    lines: list[str] = []
    with routed.inside("gw"):
        options = RingOptions(promiscuous=True, block_bytes=1 << 16, blocks=8)
        source = RingSource(["lan0", "wan0"], options, on_event=lines.append, timeout_s=0.02)
        yield routed, source, lines
        source.close()
        identity_holds(source)


def send(net: Network, host: str, *payloads: bytes) -> None:
    head = ethernet(bytes([0x45]) + bytes(27), b"\x02" * 6, b"\x04" * 6)
    with net.packet_socket(host, "eth0") as raw:
        raw.setblocking(True)
        for payload in payloads:
            raw.send((head + payload).ljust(60, b"\0"))


@pytest.mark.parametrize("same_index", [False, True])
def test_a_port_that_is_deleted_and_created_again(both: Both, same_index: bool) -> None:
    net, source, lines = both
    seen, batches = Seen(source), source.batches()
    before = index_of("wan0")
    held = source.counters()["kernel_packets"]
    send(net, "wan", *(b"early %d" % i for i in range(20)))
    wait_for(lambda: source.counters()["kernel_packets"] >= held + 20)
    net.ip("gw", "link del wan0")
    read_until(batches, seen.take, lambda: any("wan0 is down" in line for line in lines))
    assert source.down == ("wan0",)
    send(net, "lan", b"alone")
    net.veth(("gw", "wan0"), ("wan", "eth0"), extra=f"index {before}" if same_index else "")
    read_until(batches, seen.take, lambda: any("wan0 is up" in line for line in lines))
    now = index_of("wan0")
    assert (now == before) == same_index and not source.down
    send(net, "wan", b"late")
    read_until(batches, seen.take, lambda: b"late" in seen.payloads())
    told = dict(zip(seen.payloads(), seen.frames, strict=True))
    assert all(told[b"early %d" % i][0] == before for i in range(20)), "what had come is delivered"
    assert told[b"alone"][0] == index_of("lan0") and told[b"late"][0] == now
    details = run("ip", "-n", net.full("gw"), "-d", "link", "show", "wan0")
    assert "promiscuity 1" in details
    ports = source.ports()
    assert sum(port["delivered"] for port in ports.values()) == len(seen.frames)
    assert ports["wan0"]["delivered"] >= 21


def test_other_interfaces_are_neither_delivered_nor_counted(both: Both) -> None:
    net, source, _ = both
    arrived = source.counters()["kernel_packets"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind(("127.0.0.1", 0))
        for _ in range(1000):
            end.sendto(b"to myself", end.getsockname())
    send(net, "lan", b"end")
    seen = Seen(source)
    read_until(source.batches(), seen.take, lambda: b"end" in seen.payloads())
    assert {index for index, _, _ in seen.frames} <= {index_of("lan0"), index_of("wan0")}
    assert source.counters()["kernel_packets"] - arrived < 1000


def test_loopback_and_a_port_with_copies_beside_others(routed: Network) -> None:
    with routed.inside("gw"):
        options = RingOptions(block_bytes=1 << 16, blocks=8, taps=("wan0",))
        source = RingSource(["lan0", "lo", "wan0"], options)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.bind(("127.0.0.1", 0))
            for _ in range(20):
                end.sendto(b"to myself", end.getsockname())
        send(routed, "lan", b"from lan")
        send(routed, "wan", b"from wan")
        seen = Seen(source)
        wanted = {b"to myself", b"from lan", b"from wan"}
        read_until(source.batches(), seen.take, lambda: wanted <= set(seen.payloads()))
        source.close()
        names = {link.index: link.name for link in links().values()}
    identity_holds(source)
    found = [
        (names[index], direction, payload)
        for (index, direction, _), payload in zip(seen.frames, seen.payloads(), strict=True)
    ]
    assert sum(payload == b"to myself" for _, _, payload in found) == 20
    assert ("lan0", Direction.OTHERHOST, b"from lan") in found
    assert ("wan0", Direction.UNKNOWN, b"from wan") in found


def test_the_kernel_takes_the_filter_of_as_many_ports_as_there_may_be(privileged: None) -> None:
    ring = Ring(blocks=2)
    for loopback in ((), range(1, MAX_PORTS + 1)):
        ring.attach_filter(of_ports(range(1, MAX_PORTS + 1), CLOSED, loopback=loopback))
    with pytest.raises(ValueError, match="knows at most"):
        ring.know([(index, index, 1, False) for index in range(513)])
    ring.close()
    with pytest.raises(InterfaceError, match="at most 256"):
        RingSource([f"port{number}" for number in range(257)])

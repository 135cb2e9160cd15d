"""Zeek's bounded mirror in the real kernel: what arrives at its far end, with NAT and without."""

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from ids_appliance.capture.netlink import links
from ids_appliance.config import Config, Zeek
from ids_appliance.enforce.nft import Nft
from ids_appliance.gateway import mirror
from ids_appliance.gateway.mirror import Names
from ids_appliance.trigger.zeek_mirror import LIMITED_MAC, ZEEK_MAC
from tests.net.namespaces import Network, run, wait_for
from tests.net.packets import checksum

pytestmark = pytest.mark.net

DEVICE, GATEWAY, SERVER = "192.0.2.2", "192.0.2.1", "198.51.100.2"
DEVICE6, SERVER6 = "2001:db8:1::2", "2001:db8:2::2"
SYN, ACK, RST, FIN = 2, 16, 4, 1
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
NAMES = Names("idszeek0", f"idszeektest{os.getpid()}")
NAT = """table ip nat {
  chain post { type nat hook postrouting priority 100; oifname "wan0" masquerade; }
}
"""


class Copies:
    """The far end's frames, as (source, target, protocol, flags or ICMP type)."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind((NAMES.near, 0))
        self.socket.settimeout(0.2)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
        self.seen: list[tuple[str, str, str, int]] = []
        self.limited = 0
        self.answered = 0

    def read(self) -> None:
        with suppress(TimeoutError):
            while True:
                data, (_, _, kind, _, _) = self.socket.recvfrom(65536)
                self.answered += kind == socket.PACKET_OUTGOING
                self.take(data)

    def take(self, data: bytes) -> None:
        mac, ethertype = data[:6].hex(":"), struct.unpack_from("!H", data, 12)[0]
        self.limited += mac == LIMITED_MAC
        if ethertype == 0x0806:
            ends = data[28:32], data[38:42]
            self.seen.append((*map(socket.inet_ntoa, ends), "arp", data[21]))
            return
        assert mac in (ZEEK_MAC, LIMITED_MAC)
        four = ethertype == 0x0800
        at, proto, body = (26, 23, 34) if four else (22, 20, 54)
        size, family = (4, socket.AF_INET) if four else (16, socket.AF_INET6)
        ends = data[at : at + size], data[at + size : at + 2 * size]
        name = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}[data[proto]]
        what = data[body + 13] & 0x3F if name == "tcp" else data[body] if name == "icmp" else 0
        self.seen.append((*(socket.inet_ntop(family, end) for end in ends), name, what))

    def count(self, source: str, target: str, name: str, what: int = 0) -> int:
        return self.seen.count((source, target, name, what))

    def wait(self, wanted: int, *what: object) -> None:
        def there() -> bool:
            self.read()
            return self.count(*what) >= wanted  # type: ignore[arg-type]

        wait_for(there)


def settings(**zeek: int) -> Config:
    return Config(interfaces=("lan0",), zeek=Zeek(**zeek))


@pytest.fixture
def zeek(routed: Network) -> Iterator[Copies]:
    """The mirror of the network's gateway, up, and its far end."""
    with ExitStack() as stack:
        stack.enter_context(routed.inside("gw"))
        stack.callback(mirror.down, NAMES)
        mirror.up(settings(), NAMES)
        yield stack.enter_context(far_end())


class far_end:  # noqa: N801
    """A socket in Zeek's namespace, read from anywhere."""

    def __enter__(self) -> Copies:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{NAMES.namespace}", os.O_RDONLY)
        try:
            setns(there)
            self.copies = Copies()
        finally:
            setns(home)
            os.close(home)
            os.close(there)
        return self.copies

    def __exit__(self, *_: object) -> None:
        self.copies.socket.close()


def setns(fd: int) -> None:
    assert ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000) == 0


def listening(network: Network, host: str, address: str, port: int) -> socket.socket:
    with network.inside(host):
        server = socket.create_server((address, port), family=family(address), backlog=64)
    server.settimeout(60)
    return server


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def connected(network: Network, host: str, address: str, port: int) -> socket.socket:
    with network.inside(host):
        client = socket.socket(family(address), socket.SOCK_STREAM)
    client.settimeout(60)
    try:
        client.connect((address, port))
    except OSError:
        client.close()
        raise
    return client


def talk(network: Network, server: socket.socket, address: str, port: int) -> None:
    """One connection with a lot to acknowledge, closed in order."""
    with connected(network, "lan", address, port) as client:
        accepted, _ = server.accept()
        with accepted:
            for _ in range(20):
                accepted.sendall(bytes(20_000))
                left = 20_000
                while left:
                    left -= len(client.recv(left))
            client.sendall(b"done")
            assert accepted.recv(10) == b"done"


@pytest.mark.parametrize("nat", [False, True], ids=["routed", "nat"])
def test_the_handshakes_ack_and_no_other(routed: Network, zeek: Copies, nat: bool) -> None:
    if nat:
        Nft().run(NAT)
    with listening(routed, "wan", SERVER, 8080) as server:
        for _ in range(5):
            talk(routed, server, SERVER, 8080)
    for _ in range(5):
        with pytest.raises(ConnectionRefusedError):
            connected(routed, "lan", SERVER, 8081)
    zeek.wait(5, SERVER, DEVICE, "tcp", RST | ACK)
    assert zeek.count(DEVICE, SERVER, "tcp", SYN) == 10
    assert zeek.count(SERVER, DEVICE, "tcp", SYN | ACK) == 5
    assert zeek.count(DEVICE, SERVER, "tcp", ACK) == 5
    assert zeek.count(SERVER, DEVICE, "tcp", ACK) == 0
    assert {seen[:2] for seen in zeek.seen if seen[2] == "tcp"} == {
        (DEVICE, SERVER), (SERVER, DEVICE),
    }  # fmt: skip
    assert zeek.limited == 0


def test_ipv6(routed: Network, zeek: Copies) -> None:
    routed.ip("lan", "route add default via 2001:db8:1::1")
    routed.ip("wan", "route add default via 2001:db8:2::1")
    with listening(routed, "wan", SERVER6, 8080) as server:
        talk(routed, server, SERVER6, 8080)
    zeek.wait(1, DEVICE6, SERVER6, "tcp", SYN)
    assert zeek.count(DEVICE6, SERVER6, "tcp", ACK) == 1


def test_what_began_before_the_mirror_is_no_handshake(routed: Network, zeek: Copies) -> None:
    mirror.down(NAMES)
    with listening(routed, "wan", SERVER, 8080) as server:
        with connected(routed, "lan", SERVER, 8080) as client, server.accept()[0] as accepted:
            mirror.up(settings(), NAMES)
            with far_end() as copies:
                for _ in range(5):
                    client.sendall(b"x")
                    accepted.recv(1)
                    accepted.sendall(b"y")
                    client.recv(1)
                client.close()
                copies.wait(1, DEVICE, SERVER, "tcp", FIN | ACK)
                assert copies.count(DEVICE, SERVER, "tcp", ACK) == 0


def test_udp_is_copied_once_each_way(routed: Network, zeek: Copies) -> None:
    with routed.inside("wan"):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((SERVER, 53))
    with routed.inside("lan"):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server, client:
        server.settimeout(60)
        client.settimeout(60)
        for _ in range(3):
            client.sendto(b"question", (SERVER, 53))
            _, back = server.recvfrom(100)
            server.sendto(b"answer", back)
            client.recv(100)
        client.sendto(b"nobody", (SERVER, 54))
    zeek.wait(1, SERVER, DEVICE, "icmp", 3)
    assert zeek.count(DEVICE, SERVER, "udp") == 2 and zeek.count(SERVER, DEVICE, "udp") == 1


def test_arp_and_echo_in_both_directions(routed: Network, zeek: Copies) -> None:
    routed.ip("lan", "neigh flush dev eth0")
    routed.ip("gw", "neigh flush dev lan0")
    run(*routed.command("lan", "ping", "-n", "-c", "2", "-i", "0.2", "-W", "30", SERVER))
    run(*routed.command("gw", "ping", "-n", "-c", "1", "-W", "30", "192.0.2.2"))
    routed.ip("gw", "neigh flush dev lan0")
    run(*routed.command("gw", "ping", "-n", "-c", "1", "-W", "30", "192.0.2.2"))
    zeek.wait(1, GATEWAY, DEVICE, "arp", 1)
    zeek.wait(1, DEVICE, GATEWAY, "arp", 2)
    assert zeek.count(DEVICE, GATEWAY, "arp", 1) and zeek.count(GATEWAY, DEVICE, "arp", 2)
    assert zeek.count(DEVICE, SERVER, "icmp", 8) == 2
    assert zeek.count(GATEWAY, DEVICE, "icmp", 8) == 0
    # Nobody lives at the far end who would answer for the device.
    assert zeek.answered == 0


def test_the_gateways_answers_are_seen_and_its_own_business_is_not(
    routed: Network, zeek: Copies
) -> None:
    with listening(routed, "gw", GATEWAY, 8080) as server:
        connected(routed, "lan", GATEWAY, 8080).close()
        server.accept()[0].close()
    with pytest.raises(ConnectionRefusedError):
        connected(routed, "lan", GATEWAY, 8081)
    with listening(routed, "wan", SERVER, 8082) as server:
        connected(routed, "gw", SERVER, 8082).close()
        server.accept()[0].close()
    zeek.wait(1, GATEWAY, DEVICE, "tcp", RST | ACK)
    assert zeek.count(GATEWAY, DEVICE, "tcp", SYN | ACK) == 1
    assert zeek.count(DEVICE, GATEWAY, "tcp", ACK) >= 1
    assert {end for seen in zeek.seen for end in seen[:2]} <= {DEVICE, GATEWAY}


def forged(source: str, target: str, port: int, flags: int) -> bytes:
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    tcp = struct.pack("!HHIIBBHHH", port, 80, 1, 0, 0x50, flags, 512, 0, 0)
    total = checksum(ends + struct.pack("!HH", 6, len(tcp)) + tcp)
    tcp = tcp[:16] + struct.pack("!H", total) + tcp[18:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 40, 7, 0, 64, 6, 0) + ends
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + tcp


def send(network: Network, host: str, packets: list[bytes], target: str) -> None:
    with network.inside(host):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        for packet in packets:
            raw.sendto(packet, (target, 0))


def test_a_protected_address_from_outside_is_forged(routed: Network, zeek: Copies) -> None:
    inside, outside = forged("192.0.2.99", DEVICE, 7, SYN), forged("203.0.113.9", DEVICE, 8, SYN)
    send(routed, "wan", [inside, outside], DEVICE)
    zeek.wait(1, "203.0.113.9", DEVICE, "tcp", SYN)
    assert zeek.count("192.0.2.99", DEVICE, "tcp", SYN) == 0


def test_odd_flags_are_copied(routed: Network, zeek: Copies) -> None:
    kinds = [0, FIN, FIN | 8 | 32, ACK]
    send(routed, "lan", [forged(DEVICE, SERVER, 100 + n, f) for n, f in enumerate(kinds)], SERVER)
    for flags in kinds:
        zeek.wait(1, DEVICE, SERVER, "tcp", flags)


def test_past_the_limit_it_is_said_and_the_traffic_goes_on(routed: Network, zeek: Copies) -> None:
    mirror.up(settings(mirror_pps=100, mirror_burst=10), NAMES)
    with routed.inside("wan"):
        arrived = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        arrived.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
    arrived.settimeout(60)
    flood = [forged(f"192.0.2.{5 + n % 200}", SERVER, 1000 + n, SYN) for n in range(2000)]
    with arrived:
        send(routed, "lan", flood, SERVER)
        for _ in flood:
            arrived.recv(100)
    zeek.read()
    assert zeek.limited >= 1
    counters = Nft().run("list counters table ip ids_zeek")
    copied, limited = (int(part.split()[0]) for part in counters.split("packets ")[1:3])
    assert copied < 1000 and copied + limited >= 2000
    assert sum(seen[3] == SYN for seen in zeek.seen) <= copied + zeek.limited


def test_up_again_leaves_zeek_alone_and_down_leaves_nothing(routed: Network, zeek: Copies) -> None:
    before = {link.name: index for index, link in links().items()}
    routed.ip("gw", f"link set {NAMES.near} down")
    mirror.up(settings(mirror_pps=100), NAMES)
    send(routed, "wan", [forged("203.0.113.9", DEVICE, 8, SYN)], DEVICE)
    zeek.wait(1, "203.0.113.9", DEVICE, "tcp", SYN)
    assert {link.name: index for index, link in links().items()} == before
    assert "rate 100/second" in Nft().run("list table ip ids_zeek")
    mirror.down(NAMES)
    mirror.down(NAMES)
    assert "ids_zeek" not in Nft().run("list tables") and NAMES.near not in {
        link.name for link in links().values()
    }
    assert not Path("/run/netns", NAMES.namespace).exists()

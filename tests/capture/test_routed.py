"""The filter of the ring beside a queue: the kernel itself says what passes."""

import ipaddress
import socket
import struct
from collections.abc import Iterator

import pytest

from ids_appliance.capture.interfaces import GatewayIdentity
from ids_appliance.capture.ring import RingOptions, RingSource
from ids_appliance.capture.routed import MAX_OWN, not_routed
from tests.net.namespaces import Network, require

pytestmark = pytest.mark.net

OTHER = bytes.fromhex("020000000099")


def ether(target: bytes, source: bytes, kind: int, body: bytes) -> bytes:
    return (target + source + struct.pack("!H", kind) + body).ljust(60, b"\0")


def four(source: str, target: str) -> bytes:
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    return struct.pack("!BBHHHBBH", 0x45, 0, 20, 1, 0, 64, 17, 0) + ends


def six(source: str, target: str) -> bytes:
    ends = b"".join(ipaddress.IPv6Address(a).packed for a in (source, target))
    return struct.pack("!IHBB", 0x60000000, 0, 59, 64) + ends


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    require()
    with Network("f", "a", "b") as made:
        made.veth(("a", "eth0"), ("b", "eth0"))
        for name in "ab":
            made.write(name, "net/ipv6/conf/all/disable_ipv6", "1")
        yield made


def passes(net: Network, who: GatewayIdentity, frames: list[bytes]) -> list[bool]:
    """Send frames to a ring with the filter; return which it shows. The last one, ARP, always."""
    end = ether(b"\xff" * 6, OTHER, 0x0806, bytes(46))
    with net.inside("b"):
        options = RingOptions(block_bytes=1 << 16, blocks=2, promiscuous=True)
        source = RingSource("eth0", options, timeout_s=0.01)
        source.set_filter(not_routed(who))
    seen: list[bytes] = []
    with net.packet_socket("a", "eth0") as raw:
        for frame in [*frames, end]:
            raw.send(frame)
        for batch in source.batches():
            for one in batch.frames if batch is not None else ():
                at = int(one["offset"])
                seen.append(batch.data[at : at + int(one["caplen"])].tobytes())
            if end in seen:
                break
    source.close()
    return [frame in seen for frame in frames]


def test_what_is_routed_is_left_away_and_nothing_else(net: Network) -> None:
    own = net.mac("b", "eth0")
    addresses = ("192.0.2.1", "2001:db8::1", "fe80::1")
    many = [ipaddress.ip_address(f"203.0.113.{i}").packed for i in range(1, 90)]
    who = GatewayIdentity(
        macs=(bytes(6), own),
        addresses=(*many, *(ipaddress.ip_address(a).packed for a in addresses)),
        all_ports=False,
        networks=((3, socket.inet_aton("192.0.2.1"), 24),),
    )
    table = [
        (ether(own, OTHER, 0x0800, four("192.0.2.2", "198.51.100.9")), False),
        (ether(own, OTHER, 0x86DD, six("2001:db8::2", "2001:db8:9::9")), False),
        (ether(OTHER, own, 0x0800, four("198.51.100.9", "192.0.2.2")), False),
        (ether(own, OTHER, 0x0800, four("192.0.2.2", "192.0.2.1")), True),
        (ether(own, OTHER, 0x0800, four("192.0.2.2", "203.0.113.89")), True),
        (ether(OTHER, own, 0x0800, four("192.0.2.1", "192.0.2.2")), True),
        (ether(own, OTHER, 0x86DD, six("2001:db8::2", "2001:db8::1")), True),
        (ether(OTHER, own, 0x86DD, six("fe80::1", "fe80::2")), True),
        (ether(OTHER, own, 0x86DD, six("fe80::2", "fe80::3")), False),
        (ether(b"\xff" * 6, OTHER, 0x0800, four("192.0.2.2", "192.0.2.255")), True),
        (ether(b"\xff" * 6, OTHER, 0x0800, four("0.0.0.0", "255.255.255.255")), True),
        (ether(own, OTHER, 0x0800, four("192.0.2.2", "224.0.0.251")), True),
        (ether(own, OTHER, 0x86DD, six("fe80::2", "ff02::1")), True),
        (ether(OTHER, OTHER, 0x0800, four("192.0.2.2", "198.51.100.9")), True),  # bridged
        (ether(own, OTHER, 0x0806, bytes(28)), True),
        (ether(own, OTHER, 0x88CC, bytes(28)), True),
    ]
    assert passes(net, who, [frame for frame, _ in table]) == [wanted for _, wanted in table]


def test_the_largest_program_is_one_that_the_kernel_takes(net: Network) -> None:
    who = GatewayIdentity(
        macs=tuple(i.to_bytes(6, "big") for i in range(1, 65)),
        addresses=tuple(
            [i.to_bytes(4, "big") for i in range(1, 2 * MAX_OWN)]
            + [i.to_bytes(16, "big") for i in range(1, 2 * MAX_OWN)]
        ),
        all_ports=False,
    )
    assert len(not_routed(who)) <= 4096
    assert passes(net, who, [ether(OTHER, OTHER, 0x0800, four("10.0.0.1", "10.0.0.2"))]) == [True]

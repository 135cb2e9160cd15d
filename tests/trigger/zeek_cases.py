"""What both prescreeners are expected to say about the same small captures: one table.

The compiled screen is held to it by test_zeek_agreement.py, Zeek by the same file where there is
one, and by the package's own btests, whose traces and baselines are written from here:

    python -m tests.trigger.zeek_cases
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ids_appliance.types import Direction
from tests.ext import traffic as t
from tests.ext.traffic import DEVICES, GATEWAY4, GATEWAY6, GATEWAY_MAC, Sent

PACKAGE = Path(__file__).parents[2] / "ansible/roles/zeek/files/ids-appliance-zeek"
TESTING = PACKAGE / "testing"
S = 1_000_000_000
START_S = 1_700_000_000
"""A border of the rule windows."""
SYN, ACK, RST, FIN, PSH = 2, 16, 4, 1, 8

MAC, HOST, HOST6 = DEVICES[0]
OTHER_MAC, OTHER, OTHER6 = DEVICES[1]
THIRD_MAC, THIRD, _ = DEVICES[2]
WAN = bytes([198, 51, 100, 7])
NAME = MAC.hex(":")
Way = tuple[bytes, bytes]
Ports = tuple[int, int]


@dataclass(frozen=True)
class Case:
    """A capture and what it is: (rule, key, seconds after START_S), in the order of its frames."""

    name: str
    frames: tuple[Sent, ...]
    expected: tuple[tuple[str, str, float], ...] = ()
    bindings: dict[str, str] = field(default_factory=dict)


def frame(mac: bytes, packet: bytes, at_s: float, *, ethertype: int = 0x0800) -> Sent:
    target = b"\xff" * 6 if ethertype == 0x0806 else bytes([2, 0, 0, 0, 0, 99])
    data = t.ethernet(mac, packet, ethertype, target)
    return Sent(data, round((START_S + at_s) * 1e6) * 1000, Direction.UNKNOWN, ifindex=0)


def ip(way: Way, proto: int, body: bytes, at_s: float) -> Sent:
    """A packet from the device that has the address, else forwarded by the gateway."""
    macs = {address: mac for mac, *both in DEVICES for address in both}
    kind = 0x0800 if len(way[0]) == 4 else 0x86DD
    return frame(macs.get(way[0], GATEWAY_MAC), t.ip(*way, proto, body), at_s, ethertype=kind)


def tcp(way: Way, ports: Ports, flags: int, at_s: float, numbers: Ports = (1, 0)) -> Sent:
    return ip(way, 6, t.tcp(ports, flags, *numbers), at_s)


def udp(way: Way, ports: Ports, at_s: float) -> Sent:
    return ip(way, 17, t.udp(ports, b"x"), at_s)


def back(way: Way) -> Way:
    return way[1], way[0]


def refused(way: Way, ports: Ports, at_s: float) -> Iterator[Sent]:
    yield tcp(way, ports, SYN, at_s)
    yield tcp(back(way), ports[::-1], RST | ACK, at_s + 0.002, (0, 2))


def opened(way: Way, ports: Ports, at_s: float) -> Iterator[Sent]:
    yield tcp(way, ports, SYN, at_s)
    yield tcp(back(way), ports[::-1], SYN | ACK, at_s + 0.002, (100, 2))
    yield tcp(way, ports, ACK, at_s + 0.004, (2, 101))


def closed(way: Way, ports: Ports, at_s: float) -> Iterator[Sent]:
    yield tcp(way, ports, FIN | ACK, at_s, (2, 101))
    yield tcp(back(way), ports[::-1], FIN | ACK, at_s + 0.002, (101, 3))


def unreachable(way: Way, ports: Ports, at_s: float) -> Iterator[Sent]:
    yield udp(way, ports, at_s)
    quoted = t.ip(*way, 17, t.udp(ports, b"x"))
    proto, kind, code = (1, 3, 3) if len(way[0]) == 4 else (58, 1, 4)
    body = struct.pack("!BBHI", kind, code, 0, 0) + quoted[:48]
    yield ip(back(way), proto, body, at_s + 0.002)


def arp(op: int, mac: bytes, claim: Way, target: bytes, at_s: float) -> Sent:
    """`claim`: the MAC and the address that it says."""
    return frame(mac, t.arp(op, *claim, target), at_s, ethertype=0x0806)


def server(n: int) -> bytes:
    return bytes([203, 0, 113, n])


def source(n: int) -> bytes:
    return bytes([198, 18, n >> 8, n & 255])


def spread(*groups: Iterator[Sent]) -> tuple[Sent, ...]:
    return tuple(sorted((one for group in groups for one in group), key=lambda one: one.time_ns))


def quiet(at_s: float) -> Iterator[Sent]:
    """A packet that lets time pass."""
    yield udp((OTHER, bytes([224, 0, 0, 251])), (5353, 5353), at_s)


def ping(target: bytes, at_s: float, who: bytes = HOST) -> Sent:
    return ip((who, target), 1, t.echo(8, 7), at_s)


def scan(target: bytes, n: int, at_s: float, answered: int = 0) -> Iterator[Sent]:
    way = HOST, target
    for i in range(n):
        sort = opened if i < answered else refused
        yield from sort(way, (40_000 + i, 1000 + i), at_s + i * 0.02)


OWNER = MAC, HOST
FORGED = OTHER_MAC, HOST
SCANNED = f"{NAME} -> 203.0.113.9"


def floods() -> Iterator[Case]:
    spoofed = [tcp((source(n), HOST), (1000 + n, 80), SYN, n * 0.002) for n in range(520)]
    yield Case("dos-spoofed", tuple(spoofed), (("dos", "192.0.2.1:80", 0.998),))
    # What a flood's sources seem to do besides is no scan and no sweep of theirs.
    one = [tcp((HOST, WAN), (1000 + n, 443), SYN, n * 0.002) for n in range(520)]
    yield Case("dos-one-source", tuple(one), (("dos", "198.51.100.7:443", 0.998),))
    served = [
        packet
        for n in range(520)
        for packet in (opened if n % 4 == 0 else refused)(
            (source(n), HOST), (1000 + n, 80), n * 0.005
        )
    ]
    yield Case("dos-served", spread(iter(served)))
    halves = [tcp((source(n), HOST), (1000 + n, 80), SYN, 4.0 + n * 0.002) for n in range(990)]
    yield Case("dos-across-a-border", tuple(halves[10:]))
    # The clock is set back: counts and hold-downs begin anew, at the packets' own time.
    turned = [
        tcp((source(n), HOST), (1000 + n, 80), SYN, (12.5 if n < 520 else 1) + n % 520 * 0.002)
        for n in range(1040)
    ]
    victim = "192.0.2.1:80"
    yield Case("dos-set-back", tuple(turned), (("dos", victim, 13.498), ("dos", victim, 1.998)))
    some = [tcp((source(n), HOST), (1000 + n, 80), SYN, 12.5 + n * 0.002) for n in range(300)]
    yield Case("dos-set-back-between", (*some, *turned[520:820]))


def scans() -> Iterator[Case]:
    nine = server(9)
    yield Case("scan-refused", spread(scan(nine, 25, 0)), (("port_scan", SCANNED, 0.382),))
    silent = [tcp((HOST, nine), (40_000 + i, 1000 + i), SYN, i * 0.02) for i in range(22)]
    yield Case(
        "scan-silent",
        spread(iter(silent), quiet(1.2), quiet(1.4), quiet(1.6)),
        (("port_scan", SCANNED, 1.38),),
    )
    yield Case("scan-answered", spread(scan(nine, 25, 0, answered=8), quiet(3)))
    yield Case("scan-too-few", spread(scan(nine, 19, 0), quiet(3)))
    yield Case("scan-across-a-border", spread(scan(nine, 15, 4.7), scan(server(8), 3, 5.2)))
    yield Case(
        "scan-held-down",
        spread(scan(nine, 60, 0), scan(nine, 25, 5.5)),
        (("port_scan", SCANNED, 0.382), ("port_scan", SCANNED, 5.882)),
    )
    datagrams = [
        packet for i in range(22) for packet in unreachable((HOST, nine), (5000, 70 + i), i * 0.02)
    ]
    yield Case("scan-udp", spread(iter(datagrams)), (("port_scan", SCANNED, 0.382),))
    for name, flags in (("fin", FIN), ("null", 0), ("xmas", FIN | PSH | 32), ("ack", ACK)):
        bare = [tcp((HOST, nine), (40_000, 1000 + i), flags, i * 0.02) for i in range(22)]
        yield Case(
            f"scan-{name}",
            spread(iter(bare), quiet(1.2), quiet(1.4), quiet(1.6)),
            (("port_scan", SCANNED, 1.38),),
        )
    six = [
        packet
        for i in range(22)
        for packet in refused((HOST6, OTHER6), (40_000 + i, 1000 + i), i * 0.02)
    ]
    key = f"{NAME} -> 2001:db8::102"
    yield Case("scan-ipv6", spread(iter(six)), (("port_scan", key, 0.382),))
    outside = [
        packet
        for i in range(22)
        for packet in refused((WAN, HOST), (40_000 + i, 1000 + i), i * 0.02)
    ]
    key = "198.51.100.7 -> 192.0.2.1"
    yield Case("scan-from-outside", spread(iter(outside)), (("port_scan", key, 0.382),))


def sweeps() -> Iterator[Case]:
    def each(n: int) -> Way:
        return HOST, server(n + 1)

    silent = [tcp(each(n), (40_000 + n, 23), SYN, n * 0.02) for n in range(22)]
    yield Case(
        "mirai-silent",
        spread(iter(silent), quiet(1.2), quiet(1.4), quiet(1.6)),
        (("mirai", NAME, 1.38),),
    )
    hasty = [
        packet
        for n in range(22)
        for part in (opened, closed)
        for packet in part(each(n), (40_000 + n, 80), n * 0.02 + (part is closed) * 0.1)
    ]
    yield Case("mirai-brief", spread(iter(hasty), quiet(3)), (("mirai", NAME, 0.48),))
    lasting = [
        packet
        for n in range(22)
        for packet in (
            *opened(each(n), (40_000 + n, 443), n * 0.02),
            *(
                tcp(each(n), (40_000 + n, 443), ACK, 0.5 + n * 0.02 + k / 4, (2, 101))
                for k in range(6)
            ),
        )
    ]
    yield Case("mirai-ordinary", spread(iter(lasting), quiet(4.5)))
    ports = [tcp(each(n), (40_000 + n, 100 + n), SYN, n * 0.02) for n in range(22)]
    yield Case("mirai-many-ports", spread(iter(ports), quiet(1.2), quiet(1.6)))
    echoes = [ping(server(n + 1), n * 0.02) for n in range(22)]
    yield Case("mirai-echo", tuple(echoes), (("mirai", NAME, 0.38),))
    asks = [arp(1, MAC, OWNER, bytes([192, 0, 2, 100 + n]), n * 0.02) for n in range(32)]
    yield Case("mirai-arp", tuple(asks), (("mirai", NAME, 0.58),))
    other = OTHER_MAC, OTHER
    hidden = [arp(1, MAC, other, bytes([192, 0, 2, 100 + n]), n * 0.02) for n in range(32)]
    yield Case("mirai-arp-for-another", tuple(hidden), (("mirai", NAME, 0.58),))
    ours = [
        arp(1, GATEWAY_MAC, (GATEWAY_MAC, GATEWAY4), bytes([192, 0, 2, 100 + n]), n * 0.02)
        for n in range(60)
    ]
    yield Case("own-sweep", tuple(ours))
    devices = [
        udp((HOST, bytes([224, 0, 0, 251])), (5353, 5353), 0),
        *(udp((server(n + 1), HOST), (5353, 5353), 0.1 + n * 0.01) for n in range(30)),
    ]
    yield Case("answers-to-a-group", spread(iter(devices), quiet(1.5), quiet(2)))


def spoofs() -> Iterator[Case]:
    router = bytes([192, 0, 2, 254])
    greeting = arp(1, MAC, OWNER, router, 0)
    flood = [arp(2, OTHER_MAC, (OTHER_MAC, OTHER), HOST, 0.1 + n * 0.1) for n in range(12)]
    spoof = "arp_spoof"
    yield Case("arp-unasked", tuple(flood), ((spoof, OTHER_MAC.hex(":"), 1.0),))
    # What an ARP frame claims is not always its own sender's.
    theirs = [arp(2, THIRD_MAC, (OTHER_MAC, OTHER), HOST, 0.1 + n * 0.1) for n in range(12)]
    yield Case("arp-unasked-for-another", tuple(theirs), ((spoof, THIRD_MAC.hex(":"), 1.0),))
    asked = [
        packet
        for n in range(12)
        for packet in (
            arp(1, OTHER_MAC, (OTHER_MAC, OTHER), HOST, n * 0.1),
            arp(2, MAC, OWNER, OTHER, n * 0.1 + 0.01),
        )
    ]
    yield Case("arp-asked", tuple(asked))
    claim = arp(2, OTHER_MAC, FORGED, THIRD, 0.5)
    yield Case("arp-claim", (greeting, claim), (("arp_spoof", "192.0.2.1", 0.5),))
    third = arp(2, THIRD_MAC, FORGED, OTHER, 0.5)
    yield Case("arp-third-mac", (greeting, third), (("arp_spoof", "192.0.2.1", 0.5),))
    # Without a MAC of its own a frame accuses nobody, and rests on what it claims.
    nobody = arp(2, bytes(6), FORGED, THIRD, 0)
    late = arp(1, MAC, OWNER, router, 0.5)
    yield Case("arp-without-a-mac", (nobody, late), (("arp_spoof", "192.0.2.1", 0.5),))
    bound = {"192.0.2.1": NAME}
    yield Case("arp-configured", (claim,), (("arp_spoof", "192.0.2.1", 0.5),), bound)
    yield Case("arp-renewed", (greeting, arp(2, MAC, OWNER, THIRD, 0.5)))
    own = arp(2, OTHER_MAC, (OTHER_MAC, GATEWAY4), HOST, 0.5)
    yield Case("arp-gateways-own", (own,), (("arp_spoof", "192.0.2.254", 0.5),))
    lease = t.dhcp_ack(HOST, OTHER_MAC, 60)
    handed = ip((GATEWAY4, HOST), 17, t.udp((67, 68), lease), 0.3)
    handed = Sent(
        t.ethernet(GATEWAY_MAC, handed.data[14:], 0x0800),
        handed.time_ns,
        Direction.UNKNOWN,
        ifindex=0,
    )
    taken = arp(1, OTHER_MAC, FORGED, router, 0.5)
    yield Case("arp-lease-handed-over", (greeting, handed, taken))


def of_ipv6() -> Iterator[Case]:
    """The rules on IPv6, where its headers are others."""

    def beyond(n: int) -> bytes:
        return bytes.fromhex("20010db800ff") + struct.pack("!H", n) + bytes(7) + b"\1"

    spoofed = [tcp((beyond(n), HOST6), (1000 + n, 80), SYN, n * 0.002) for n in range(520)]
    yield Case("dos-ipv6", tuple(spoofed), (("dos", "[2001:db8::101]:80", 0.998),))
    datagrams = [
        packet
        for i in range(22)
        for packet in unreachable((HOST6, beyond(9)), (5000, 70 + i), i * 0.02)
    ]
    key = f"{NAME} -> 2001:db8:ff:9::1"
    yield Case("scan-udp-ipv6", tuple(datagrams), (("port_scan", key, 0.382),))
    echoes = [ip((HOST6, beyond(n)), 58, t.echo(128, 7), n * 0.02) for n in range(22)]
    yield Case("mirai-echo-ipv6", tuple(echoes), (("mirai", NAME, 0.38),))
    silent = [tcp((HOST6, beyond(n)), (40_000 + n, 23), SYN, n * 0.02) for n in range(22)]
    yield Case(
        "mirai-silent-ipv6",
        (*silent, *quiet(1.2), *quiet(1.4), *quiet(1.6)),
        (("mirai", NAME, 1.38),),
    )


def tunnels() -> Iterator[Case]:
    """What somebody says in a tunnel is nobody's doing: neither a scan nor an ARP reply in it."""
    away = HOST, WAN
    claim = t.ethernet(
        OTHER_MAC, arp(2, OTHER_MAC, (OTHER_MAC, GATEWAY4), HOST, 0).data[14:], 0x0806
    )

    def told(number: int, packet: bytes) -> Iterator[Sent]:
        """An innocent's packet, and a frame with it, in everything that Zeek could unwrap."""
        framed = t.ethernet(OTHER_MAC, packet, 0x0800)
        at_s = number * 0.02
        for port, head in ((4789, b"\x08" + bytes(7)), (6081, b"\0\0\x65\x58" + bytes(4))):
            for inner in (framed, claim):
                body = t.udp((1000 + number, port), head + inner)
                yield ip(away, 17, body, at_s)
        yield ip(away, 4, packet, at_s)
        yield ip(away, 47, b"\0\0\x08\0" + packet, at_s)
        yield ip(away, 47, b"\0\0\x65\x58" + claim, at_s)

    frames = [
        sent
        for n in range(25)
        for sent in told(n, t.ip(OTHER, server(9), 6, t.tcp((40_000, 1000 + n), SYN, 1, 0)))
    ]
    yield Case("nothing-is-unwrapped", (*frames, *quiet(1.2), *quiet(1.4), *quiet(1.6)))


def cases() -> tuple[Case, ...]:
    """Return the table."""
    return (*floods(), *scans(), *sweeps(), *spoofs(), *of_ipv6(), *tunnels())


def pcap(frames: tuple[Sent, ...]) -> bytes:
    """Return a capture file (pcap, microseconds, Ethernet)."""
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)
    rows = [
        struct.pack("<IIII", *divmod(f.time_ns // 1000, 10**6), len(f.data), len(f.data)) + f.data
        for f in frames
    ]
    return head + b"".join(rows)


def said(case: Case) -> str:
    """Return what is expected as the btests' baselines have it."""
    return "".join(f"{rule}\t{key}\n" for rule, key, _ in case.expected)


def btest(case: Case) -> str:
    """Return a btest: the capture in, rule and key of each line out."""
    own = f'redef IdsAppliance::own_macs += {{ "{GATEWAY_MAC.hex(":")}" }};'
    addresses = f"redef IdsAppliance::own_addresses += {{ 192.0.2.254, [{v6(GATEWAY6)}] }};"
    bound = "".join(
        f'redef IdsAppliance::configured_bindings += {{ [{address}] = "{mac}" }};\n'
        for address, mac in case.bindings.items()
    )
    return f"""\
# @TEST-EXEC: zeek -b -C -r $TRACES/{case.name}.pcap $PACKAGE %INPUT
# @TEST-EXEC: rules-and-keys trigger.log > said
# @TEST-EXEC: btest-diff said

redef IdsAppliance::own_headers = T;
redef IdsAppliance::whole = T;
redef use_conn_size_analyzer = T;
{own}
{addresses}
{bound}"""


def v6(address: bytes) -> str:
    groups = struct.unpack("!8H", address)
    return ":".join(f"{group:x}" for group in groups)


def files() -> dict[Path, bytes]:
    """Return path below `testing` -> content, for all cases."""
    found: dict[Path, bytes] = {}
    for case in cases():
        found[Path("Traces", f"{case.name}.pcap")] = pcap(case.frames)
        found[Path("tests", f"{case.name}.zeek")] = btest(case).encode()
        found[Path("Baseline", f"tests.{case.name}", "said")] = said(case).encode()
    return found


if __name__ == "__main__":
    for path, content in files().items():
        (TESTING / path).parent.mkdir(parents=True, exist_ok=True)
        (TESTING / path).write_bytes(content)

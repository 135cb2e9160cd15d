"""What ordinary devices do in, their frames on the wire: one function per habit.

Every number that homes differ in is drawn anew for each device, over wide ranges: how often, how
large, how patient. Nothing is drawn with the appliance's thresholds in mind; what real devices are
known to do badly (retry without back-off, fetch firmware in a hundred small connections, look for
peers on many ports) is here because it is what false alarms come from.
"""

import math
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.campaigns.home_life.wire import BROADCAST, MSS, Host, Tcp, Wire, multicast

MDNS: Final = multicast(bytes([224, 0, 0, 251]))
SSDP: Final = multicast(bytes([239, 255, 255, 250]))
NOBODY: Final = Host(BROADCAST, b"\xff" * 4)


@dataclass(slots=True)
class Home:
    """Who is there."""

    wire: Wire
    router: Host
    begin: float
    end: float
    resolver: Host
    devices: list["Device"] = field(default_factory=list)
    dead: list[Host] = field(default_factory=list)
    """Addresses inside that nobody has any more."""


@dataclass(slots=True)
class Device:
    """One device, its dice and how it is called in the report."""

    host: Host
    kind: str
    rng: random.Random
    port: int = 0

    def source_port(self) -> int:
        """Return the next ephemeral port."""
        self.port = (
            self.port + 1 if 32768 <= self.port < 60999 else self.rng.randrange(32768, 60999)
        )
        return self.port

    def between(self, low: float, high: float) -> float:
        """Return a number whose logarithm is uniform: most habits differ by factors."""
        return math.exp(self.rng.uniform(math.log(low), math.log(high)))


Habit = Callable[[Home, Device], None]


def cloud(home: Home, d: Device) -> Host:
    """Return somebody beyond the router."""
    first = d.rng.choice((3, 13, 18, 34, 35, 52, 54, 104, 142, 151, 185))
    ip = bytes([first, *(d.rng.randrange(1, 255) for _ in range(3))])
    return Host(home.router.mac, ip, d.rng.choice((64, 128, 255)) - d.rng.randrange(7, 22))


def times(home: Home, d: Device, every: float, *, jitter: float = 0.1) -> Iterator[float]:
    """Yield when something that comes every so many seconds happens, from some phase on."""
    t = home.begin + d.rng.random() * every
    while t < home.end:
        yield t
        t += every * d.rng.uniform(1 - jitter, 1 + jitter)


def ask(home: Home, d: Device, t: float, name: int = 28) -> float:
    """Ask the resolver for a name of about so many bytes; return when the answer is used."""
    port, query = d.source_port(), d.rng.randbytes(2) + b"\1\0\0\1" + bytes(6)
    query += d.rng.randbytes(name) + b"\0\0\1\0\1"
    wait = d.rng.choice((1.0, 2.0, 5.0))
    for _ in range(3):
        home.wire.udp(t, (d.host, home.resolver), (port, 53), query)
        far = home.resolver.mac == home.router.mac and home.resolver is not home.router
        up = home.wire.answers(t, home.resolver, home.router.mac) or not far
        if up and d.rng.random() > 0.01:
            delay = d.between(0.002, 0.12)
            back = query[:2] + b"\x81\x80" + query[4:] + d.rng.randbytes(16 * d.rng.randrange(1, 5))
            home.wire.udp(t + delay, (home.resolver, d.host), (53, port), back)
            return t + delay
        t += wait
    return t


def state(home: Home, server: Host, t: float, *, off: str = "no") -> str:
    """Tell how a host takes a SYN at a time."""
    return "yes" if home.wire.answers(t, server, home.router.mac) else off


def neighbours(home: Home, d: Device) -> None:
    """ARP and DHCP: everybody's."""
    t, lease = home.begin + d.rng.random(), d.rng.choice((600, 3600, 43200, 86400))
    said = struct.pack("!4B", 1, 1, 6, 0) + d.rng.randbytes(4) + bytes(20) + d.host.mac
    said = said.ljust(236, b"\0") + bytes.fromhex("63825363350101") + d.rng.randbytes(30)
    for kind in (1, 3):
        discover = said[:242] + bytes([kind]) + said[243:]
        home.wire.udp(t, (Host(d.host.mac, bytes(4)), NOBODY), (68, 67), discover)
        reply = b"\2" + discover[1:16] + d.host.ip + discover[20:]
        home.wire.udp(t + 0.02, (home.router, d.host), (67, 68), reply)
        t += 0.1
    for _ in range(3):
        home.wire.arp(t, d.host, 1, (BROADCAST, bytes(4), d.host.ip))
        t += d.rng.uniform(0.5, 1.5)
    for _ in range(2):
        home.wire.arp(t, d.host, 1, (BROADCAST, d.host.ip, d.host.ip))
        t += 2
    for t in times(home, d, d.between(30, 1200), jitter=0.5):
        home.wire.resolve(t, d.host, home.router)
    for t in times(home, d, d.between(60, 1800), jitter=0.7):
        home.wire.resolve(t, home.router, d.host)
    for t in times(home, d, lease / 2):
        home.wire.udp(t, (d.host, home.router), (68, 67), said)
        home.wire.udp(t + 0.01, (home.router, d.host), (67, 68), b"\2" + said[1:])


def clock(home: Home, d: Device) -> None:
    """NTP, of one to four servers."""
    servers = [cloud(home, d) for _ in range(d.rng.choice((1, 1, 2, 4)))]
    for t in times(home, d, d.rng.choice((64, 256, 1024, 3600)), jitter=0.05):
        for server in servers:
            port = d.source_port()
            home.wire.udp(t, (d.host, server), (port, 123), b"\x23" + d.rng.randbytes(47))
            if state(home, server, t) == "yes" and d.rng.random() > 0.03:
                reply = b"\x24" + d.rng.randbytes(47)
                home.wire.udp(t + d.between(0.005, 0.2), (server, d.host), (123, port), reply)


def broker(home: Home, d: Device) -> None:
    """MQTT over one long connection; what ends it is tried again, patiently or not."""
    server, port = cloud(home, d), d.rng.choice((1883, 8883, 8883, 443))
    every, ping = d.between(2, 300), d.rng.choice((15, 30, 60, 120))
    size, retry = round(d.between(20, 700)), d.between(0.5, 60)
    backs_off = d.rng.random() < 0.6
    off = d.rng.choice(("no", "refused"))
    t = ask(home, d, home.begin + d.rng.random() * 60)
    pause = retry
    while t < home.end:
        tcp = Tcp(home.wire, (d.host, server), (d.source_port(), port))
        up = tcp.open(t, reached=state(home, server, t, off=off))
        if up is None:
            t += pause + (7.0 if off == "no" else 0.1)
            pause = min(pause * 2, 300) if backs_off else retry
            continue
        pause, t = retry, tcp.exchange(up, d.rng.randbytes(60), b"\x20\x02\0\0")
        until = t + d.rng.expovariate(1 / d.between(600, 40_000))
        last = t
        while t < min(until, home.end):
            t += min(every, ping) * d.rng.uniform(0.8, 1.2)
            if state(home, server, t) == "no":
                break
            if t - last >= every * 0.8:
                last = tcp.exchange(t, b"\x32" + d.rng.randbytes(size), b"\x40\x02\0\1")
            else:
                tcp.exchange(t, b"\xc0\0", b"\xd0\0")
        t = tcp.close(t) + d.rng.random()


def poll(home: Home, d: Device) -> None:
    """A new connection for each look: to a service out there, or to another device."""
    inside = home.devices and d.rng.random() < 0.4
    server = d.rng.choice(home.devices).host if inside else cloud(home, d)
    port = d.rng.choice((80, 443, 8080, 8009, 49152) if inside else (80, 443, 443))
    every, down = d.between(0.5, 600), round(d.between(60, 20_000))
    names = d.rng.random() < 0.5
    for t in times(home, d, every, jitter=d.rng.choice((0.01, 0.2))):
        if names and not inside and d.rng.random() < 0.2:
            t = ask(home, d, t)
        one_visit(home, d, (server, port), t, down)


def one_visit(
    home: Home, d: Device, to: tuple[Host, int], t: float, down: int, *, off: str = "no"
) -> float:
    """Connect, ask, get so many bytes, close; return when it was over."""
    server, port = to
    tcp = Tcp(home.wire, (d.host, server), (d.source_port(), port))
    up = tcp.open(t, reached=state(home, server, t, off=off), tries=3)
    if up is None:
        return t + 3
    t = up
    if port in (443, 8443):
        t = tcp.exchange(t, b"\x16\3\1" + d.rng.randbytes(514), d.rng.randbytes(2900))
    head = b"\x17\3\3" if port == 443 else b"GET /"
    t = tcp.exchange(t, head + d.rng.randbytes(round(d.between(80, 600))), d.rng.randbytes(down))
    return tcp.close(t + d.rng.random() * 0.05)


def lost_service(home: Home, d: Device) -> None:
    """Something that is gone: asked for again and again, at times for hours."""
    inside = d.rng.random() < 0.5
    server = d.rng.choice(home.dead) if inside else cloud(home, d)
    port, every = d.rng.choice((80, 443, 445, 554, 1883, 8080, 9100, 32400)), d.between(0.4, 120)
    refused = not inside and d.rng.random() < 0.6
    for _ in range(d.rng.randrange(1, 4)):
        t = d.rng.uniform(home.begin, home.end)
        until = min(home.end, t + d.between(60, 7200))
        while t < until:
            if inside:  # nobody answers for the address: the kernel asks thrice and gives up
                for second in range(3):
                    home.wire.arp(t + second, d.host, 1, (BROADCAST, d.host.ip, server.ip))
                t += 3
            else:
                tcp = Tcp(home.wire, (d.host, server), (d.source_port(), port))
                tcp.open(t, reached="refused" if refused else "no", tries=d.rng.choice((1, 3, 5)))
            t += every * d.rng.uniform(0.9, 1.1) + (0 if refused else 1)


def log_sink(home: Home, d: Device) -> None:
    """Syslog or statistics by UDP, to a collector that may not be there."""
    other = d.rng.choice(home.devices).host
    target = d.rng.choice((cloud(home, d), other, home.router))
    port, refuses = d.rng.choice((514, 8125, 5140)), d.rng.random() < 0.4
    for t in times(home, d, d.between(1, 120), jitter=0.9):
        data = b"<134>" + d.rng.randbytes(round(d.between(20, 500)))
        source = 40_000 + port
        home.wire.udp(t, (d.host, target), (source, port), data)
        if refuses and target.mac != home.router.mac:
            quoted = b"\x45\0\0\x40" + bytes(8) + d.host.ip + target.ip
            quoted += struct.pack("!HHHH", source, port, 8 + len(data), 0)
            home.wire.icmp(t + 0.002, (target, d.host), (3, 3), bytes(4) + quoted)


def alive(home: Home, d: Device) -> None:
    """Pings, of the router, of somebody out there, or of whoever is switched off at night."""
    target = d.rng.choice((home.router, cloud(home, d), d.rng.choice(home.devices).host))
    answers = d.rng.random() < 0.8
    for number, t in enumerate(times(home, d, d.between(1, 300))):
        data = struct.pack("!HH", 77, number & 0xFFFF) + bytes(range(56))
        home.wire.icmp(t, (d.host, target), (8, 0), data)
        if answers and state(home, target, t) == "yes":
            home.wire.icmp(t + d.between(0.001, 0.1), (target, d.host), (0, 0), data)


def announce(home: Home, d: Device) -> None:
    """mDNS and SSDP: questions, announcements by the dozen, and answers by unicast."""
    for t in times(home, d, d.between(20, 3600), jitter=0.6):
        for again in range(d.rng.randrange(1, 5)):
            data = bytes(4) + d.rng.randbytes(round(d.between(30, 400)))
            home.wire.udp(t + again, (d.host, MDNS), (5353, 5353), data)
    for t in times(home, d, d.between(60, 3600), jitter=0.6):
        for again in range(d.rng.randrange(1, 25)):
            data = b"NOTIFY * HTTP/1.1\r\n" + d.rng.randbytes(round(d.between(200, 400)))
            home.wire.udp(t + again * d.between(0.005, 0.2), (d.host, SSDP), (1900, 1900), data)
    for t in times(home, d, d.between(120, 7200), jitter=0.6):
        port = d.source_port()
        home.wire.udp(t, (d.host, SSDP), (port, 1900), b"M-SEARCH * HTTP/1.1\r\n" + bytes(90))
        for other in d.rng.sample(home.devices, k=min(4, len(home.devices))):
            data = b"HTTP/1.1 200 OK\r\n" + d.rng.randbytes(250)
            home.wire.udp(t + d.rng.random() * 3, (other.host, d.host), (1900, port), data)


def camera(home: Home, d: Device) -> None:
    """Clips when something moves; before each, holes are punched towards a relay and a viewer."""
    relays = [cloud(home, d) for _ in range(d.rng.randrange(2, 9))]
    port, pps = d.source_port(), d.between(20, 150)
    for t in times(home, d, d.between(5, 60), jitter=0.05):
        for relay in relays[:2]:
            home.wire.udp(t, (d.host, relay), (port, 32100), b"\xf1\xe0" + bytes(2))
            if state(home, relay, t) == "yes":
                home.wire.udp(t + 0.04, (relay, d.host), (32100, port), b"\xf1\xe1" + bytes(2))
    for t in times(home, d, d.between(3000, 20_000), jitter=0.9):
        viewer, first = cloud(home, d), d.rng.randrange(10_000, 60_000)
        tried = d.rng.choice((1, 4, 16, 40))
        for i in range(tried):  # its router's ports are guessed, one after the other
            hole = (d.host, viewer), (port, first + i)
            home.wire.udp(t + i * 0.01, *hole, b"\xf1\x41" + bytes(20))
        if state(home, viewer, t) != "yes":
            continue
        at, until = t + 0.5, t + d.between(3, 40)
        to = ((d.host, viewer), (port, first + tried - 1))
        while at < until:
            home.wire.udp(at, *to, b"\xf1\xd0" + d.rng.randbytes(d.rng.randrange(300, 1030)))
            at += 1 / pps
            if d.rng.random() < 0.1:
                back = ((viewer, d.host), (to[1][1], port))
                home.wire.udp(at, *back, b"\xf1\xd1" + bytes(10))


def screen(home: Home, d: Device) -> None:
    """Somebody browses or watches: bursts of names and connections, segments of a film."""
    for t in times(home, d, d.between(600, 5000), jitter=0.9):
        for _ in range(d.rng.randrange(1, 12)):  # pages
            sites = [cloud(home, d) for _ in range(d.rng.randrange(2, 25))]
            for site in sites:
                at = ask(home, d, t + d.rng.random() * 0.4)
                for _ in range(d.rng.choice((1, 1, 2, 6))):
                    size = round(d.between(300, 40_000))
                    one_visit(home, d, (site, 443), at + d.rng.random() * 0.1, size)
            t += d.between(2, 90)
        if d.rng.random() < 0.3:
            film(home, d, t)


def film(home: Home, d: Device, t: float) -> None:
    """Segments every few seconds over one connection, as many as a trailer has."""
    tcp = Tcp(home.wire, (d.host, cloud(home, d)), (d.source_port(), 443))
    up = tcp.open(t)
    if up is None:
        return
    for number in range(d.rng.randrange(5, 40)):
        size = round(d.between(40, 250)) * MSS
        tcp.exchange(up + 5 * number, d.rng.randbytes(300), d.rng.randbytes(size))
    tcp.close(up + 5 * 40)


def play(home: Home, d: Device) -> None:
    """A game or a call: UDP with many peers on ports of their own."""
    for t in times(home, d, d.between(4000, 30_000), jitter=0.9):
        port = d.source_port()
        peers = [
            (cloud(home, d), d.rng.randrange(1024, 65535)) for _ in range(d.rng.choice((3, 12, 45)))
        ]
        for at in (t + i * 0.05 for i in range(round(d.between(100, 3000)))):
            peer, theirs = d.rng.choice(peers)
            data = d.rng.randbytes(round(d.between(30, 300)))
            home.wire.udp(at, (d.host, peer), (port, theirs), data)
            if d.rng.random() < 0.7 and state(home, peer, at) == "yes":
                home.wire.udp(at + 0.03, (peer, d.host), (theirs, port), data)


def upload(home: Home, d: Device) -> None:
    """A backup or photographs: large requests, small answers."""
    server = cloud(home, d)
    for t in times(home, d, d.between(10_000, 60_000), jitter=0.9):
        tcp = Tcp(home.wire, (d.host, server), (d.source_port(), 443))
        up = tcp.open(t, reached=state(home, server, t))
        for _ in range(d.rng.randrange(1, 5) if up else 0):
            size = round(d.between(50, 800)) * MSS
            up = tcp.exchange(up, d.rng.randbytes(size), d.rng.randbytes(200))
        if up:
            tcp.close(up)


def firmware(home: Home, d: Device) -> None:
    """An update in pieces, each over a connection of its own, one after the other."""
    server, piece = cloud(home, d), round(d.between(1024, 32_768))
    t = d.rng.uniform(home.begin, home.end)
    for _ in range(min(600, round(d.between(200_000, 4_000_000)) // piece)):
        t = one_visit(home, d, (server, 80), t, piece) + d.between(0.005, 0.5)


def look_around(home: Home, d: Device) -> None:
    """An app that shows who is at home: ARP for every address, then a few ports of who is there."""
    for t in times(home, d, d.between(20_000, 80_000), jitter=0.9):
        for last in range(1, 255):
            ip = home.router.ip[:3] + bytes([last])
            home.wire.arp(t + last * d.between(0.005, 0.05), d.host, 1, (BROADCAST, d.host.ip, ip))
        at = t + 15
        for other in home.devices:
            for port in d.rng.sample((22, 80, 139, 443, 445, 554, 1883, 5000, 8080, 9100), k=5):
                open_ = d.rng.random() < 0.2
                tcp = Tcp(home.wire, (d.host, other.host), (d.source_port(), port))
                up = tcp.open(at, reached="yes" if open_ else "refused", tries=1)
                if up:
                    tcp.close(up)
                at += d.between(0.01, 0.2)


KINDS: Final[dict[str, tuple[tuple[Habit, float], ...]]] = {
    "sensor": ((broker, 0.9), (clock, 0.5), (alive, 0.2), (lost_service, 0.1)),
    "plug": ((broker, 0.8), (poll, 0.4), (announce, 0.5), (clock, 0.6), (firmware, 0.05)),
    "hub": ((poll, 1.0), (poll, 0.7), (broker, 0.7), (alive, 0.6), (announce, 0.7), (clock, 0.8)),
    "camera": ((camera, 1.0), (clock, 0.9), (poll, 0.3), (log_sink, 0.2), (firmware, 0.05)),
    "speaker": ((announce, 1.0), (broker, 0.7), (poll, 0.6), (clock, 0.8)),
    "television": ((screen, 0.9), (announce, 1.0), (poll, 0.7), (lost_service, 0.15)),
    "telephone": ((screen, 1.0), (announce, 0.6), (upload, 0.6), (play, 0.3), (look_around, 0.05)),
    "laptop": ((screen, 1.0), (upload, 0.5), (lost_service, 0.3), (play, 0.2), (look_around, 0.1)),
    "console": ((play, 1.0), (screen, 0.4), (announce, 0.5), (upload, 0.2)),
    "printer": ((announce, 1.0), (log_sink, 0.4), (lost_service, 0.3), (clock, 0.5)),
    "store": ((upload, 0.8), (poll, 0.6), (log_sink, 0.4), (announce, 0.7), (alive, 0.4)),
}
"""What kinds of device do, and how likely each of them does it; ARP and DHCP everybody."""

"""What devices do by themselves: a host in, traffic of its kernel's own stack out.

Everything here is an ordinary socket made inside the host's namespace; only announcements (RFC
5227) are frames written by hand, because no daemon here sends them.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Final

from ids_appliance.lab.network import Lab
from ids_appliance.lab.running import Thread
from ids_appliance.lab.tools import Interval, Parameters, Port, Telemetry, address, mosquitto_pub

REQUEST: Final = b"GET /status HTTP/1.1\r\nHost: device.home.test\r\nAccept: */*\r\n\r\n"
MDNS: Final = ("224.0.0.251", 5353)  # RFC 6762
SSDP: Final = ("239.255.255.250", 1900)  # UPnP Device Architecture 2.0, 1.3.2
SEARCH: Final = (
    b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\n'
    b"MX: 1\r\nST: upnp:rootdevice\r\n\r\n"
)
Work = Callable[[threading.Event], None]
_MAGIC: Final = 0x63825363  # RFC 2131, 3


class Connect(Parameters, frozen=True):
    """New connections to one port, one after the other, each with a request if it comes about."""

    target: str
    port: Port = 80
    every_s: Interval = 0.5
    patience_s: Interval = 0.5


class Poll(Parameters, frozen=True):
    """A brief connection to each of the devices in turn."""

    port: Port = 80
    every_s: Interval = 0.05


class Probe(Parameters, frozen=True):
    """A look at many ports of one host, with connect()."""

    target: str
    first: Port = 1
    last: Port = 60
    every_s: Interval = 0.05


class Names(Parameters, frozen=True):
    """Questions to the name server of the home."""

    every_s: Interval = 1.0
    names: tuple[str, ...] = ("broker.home.test", "time.home.test", "cloud.home.test")


class Discover(Parameters, frozen=True):
    """mDNS questions and SSDP searches."""

    every_s: Interval = 2.0


class Lease(Parameters, frozen=True):
    """DHCP: discover, request, and once more each `every_s`."""

    every_s: Interval = 10.0


class NewCard(Parameters, frozen=True):
    """Another MAC from now on, announced `times` times; the old one is silent."""

    mac: str = "02:1d:5e:00:01:d0"
    times: int = 12
    every_s: Interval = 0.2


class Reconnect(Parameters, frozen=True):
    """Try the broker until it is there, then publish."""

    broker: str = "server"
    port: Port = 1883
    every_s: Interval = 0.15
    telemetry_s: Interval = 1.0


def connect(lab: Lab, host: str, what: Connect, seconds: float) -> Thread:
    """Connect again and again, as a device does whose firmware knows no back-off."""
    target = (address(lab, what.target), what.port)

    def work(over: threading.Event) -> None:
        while not over.is_set():
            exchange(lab, host, target, patience_s=what.patience_s)
            over.wait(what.every_s)

    return _bounded(work, seconds)


def poll(lab: Lab, host: str, what: Poll, seconds: float) -> Thread:
    """Ask every device in turn how it is."""

    def work(over: threading.Event) -> None:
        while not over.is_set():
            for device in lab.devices:
                exchange(lab, host, (lab.address(device), what.port), patience_s=0.5)
                if over.wait(what.every_s):
                    return

    return _bounded(work, seconds)


def probe(lab: Lab, host: str, what: Probe, seconds: float) -> Thread:
    """Look once which ports of a host answer."""
    target = address(lab, what.target)

    def work(over: threading.Event) -> None:
        for port in range(what.first, what.last + 1):
            exchange(lab, host, (target, port), patience_s=0.5)
            if over.wait(what.every_s):
                return

    return _bounded(work, seconds)


def names(lab: Lab, host: str, what: Names, seconds: float) -> Thread:
    """Ask for A records (RFC 1035, 4.1)."""
    server = (lab.next_hop(lab.segment(host)), 53)

    def work(over: threading.Event) -> None:
        number = 0
        with lab.ip_socket(host, socket.SOCK_DGRAM) as udp:
            udp.settimeout(0.5)
            while not over.is_set():
                for name in what.names:
                    number += 1
                    with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                        udp.sendto(question(name, number), server)
                        udp.recv(1500)
                over.wait(what.every_s)

    return _bounded(work, seconds)


def discover(lab: Lab, host: str, what: Discover, seconds: float) -> Thread:
    """Look for printers and players."""

    def work(over: threading.Event) -> None:
        kind = socket.SOCK_DGRAM
        with lab.ip_socket(host, kind) as mdns, lab.ip_socket(host, kind) as ssdp:
            mdns.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
            mdns.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            mdns.bind(("", MDNS[1]))
            ssdp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 2)
            while not over.is_set():
                for service in ("_googlecast._tcp.local", "_hap._tcp.local", "_ipp._tcp.local"):
                    mdns.sendto(question(service, 0, kind=12, flags=0), MDNS)
                ssdp.sendto(SEARCH, SSDP)
                over.wait(what.every_s)

    return _bounded(work, seconds)


def lease(lab: Lab, host: str, what: Lease, seconds: float) -> Thread:
    """Ask for an address (RFC 2131, 3.1) and keep the one that is there already."""

    def work(over: threading.Event) -> None:
        mac = lab.mac(host)
        with lab.ip_socket(host, socket.SOCK_DGRAM) as udp:
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
            udp.bind(("0.0.0.0", 68))
            udp.settimeout(4.0)  # RFC 2131, 4.1: the first repetition comes after four
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    udp.sendto(_dhcp(mac, 1), ("255.255.255.255", 67))
                    offer = udp.recv(1500)
                    server = offer[offer.index(b"\x36\x04", 240) + 2 :][:4]
                    options = b"\x32\x04" + offer[16:20] + b"\x36\x04" + server
                    udp.sendto(_dhcp(mac, 3, options), ("255.255.255.255", 67))
                    udp.recv(1500)
                over.wait(what.every_s)

    return _bounded(work, seconds)


def new_card(lab: Lab, host: str, what: NewCard, seconds: float) -> Thread:
    """Change the MAC and say so, as a repaired device does: nobody attacks, the binding changes."""
    lab.change_card(host, what.mac)
    own = socket.inet_aton(lab.address(host))
    mac = bytes.fromhex(what.mac.replace(":", ""))
    claim = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + mac + own + b"\xff" * 6 + own

    def work(over: threading.Event) -> None:
        with lab.packet_socket(host) as raw:
            for _ in range(what.times):
                raw.send(b"\xff" * 6 + mac + b"\x08\x06" + claim)
                if over.wait(what.every_s):
                    return
        while not over.wait(0.5):  # back to work, so that the new card is seen and the old is not
            exchange(lab, host, (lab.address("server"), 80), patience_s=0.5)

    return _bounded(work, seconds)


def reconnect(lab: Lab, host: str, what: Reconnect, seconds: float) -> Thread:
    """Come back after a power cut: try until the broker is there, then publish as before."""
    target = (address(lab, what.broker), what.port)

    def work(over: threading.Event) -> None:
        while not over.is_set() and not exchange(lab, host, target, patience_s=0.5, request=b""):
            over.wait(what.every_s)
        if over.is_set():
            return
        telemetry = Telemetry(broker=what.broker, every_s=what.telemetry_s)
        publisher = mosquitto_pub(lab, host, telemetry, seconds)
        over.wait()
        publisher.stop()

    return _bounded(work, seconds)


def exchange(
    lab: Lab,
    host: str,
    target: tuple[str, int],
    *,
    patience_s: float,
    request: bytes = REQUEST,
) -> bool:
    """Open one connection, ask, read the answer, close; return whether all of it worked."""
    with lab.ip_socket(host) as tcp:
        tcp.settimeout(patience_s)
        try:
            tcp.connect(target)
            if request:
                tcp.sendall(request)
                return bool(tcp.recv(4096))
        except OSError:  # refused, unreachable, too late: life under attack
            return False
        return True


def question(name: str, number: int, *, kind: int = 1, flags: int = 0x0100) -> bytes:
    """Return a DNS question (RFC 1035, 4.1)."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    head = struct.pack("!HHHHHH", number & 0xFFFF, flags, 1, 0, 0, 0)
    return head + labels + b"\0" + struct.pack("!HH", kind, 1)


def _dhcp(mac: bytes, kind: int, options: bytes = b"") -> bytes:
    """Return a DHCP message (RFC 2131, 2) that asks for an answer by broadcast."""
    head = struct.pack("!BBBBIHH", 1, 1, 6, 0, int.from_bytes(mac[2:]), 0, 0x8000)
    head += bytes(16) + mac.ljust(16, b"\0") + bytes(192) + struct.pack("!I", _MAGIC)
    return head + bytes([53, 1, kind]) + options + b"\x37\x03\x01\x03\x06\xff"


def _bounded(work: Work, seconds: float) -> Thread:
    """Run a thread that is told to stop when its time is over."""

    def run(over: threading.Event) -> None:
        timer = threading.Timer(seconds, over.set)
        timer.daemon = True
        timer.start()
        try:
            work(over)
        finally:
            timer.cancel()

    return Thread(run)

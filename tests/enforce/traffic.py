"""Real traffic for the tests: who reaches whom, and how many packets arrive."""

import contextlib
import os
import re
import select
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from tests.net.namespaces import Network, wait_for

ETH_ARP = 0x0806
SO_RCVBUFFORCE, SO_TIMESTAMPNS = 33, 35


def pings(net: Network, name: str, target: str, *, source: str = "", count: int = 2) -> int:
    """Return how many of `count` echoes are answered, each within half a second."""
    words = ["ping", "-n", "-q", "-c", str(count), "-i", "0.05", "-W", "0.5", target]
    if source:
        words[1:1] = ["-I", source]
    done = subprocess.run(net.command(name, *words), capture_output=True, text=True, check=False)
    found = re.search(r"(\d+) received", done.stdout)
    assert found, done.stdout + done.stderr
    return int(found[1])


def answered(net: Network, name: str, target: str, *, source: str = "", count: int = 2) -> bool:
    """Return whether `count` echoes, one after the other, are all answered, in 20 s each."""
    words = ["ping", "-n", "-q", "-c", "1", "-W", "20", target]
    if source:
        words[1:1] = ["-I", source]
    command = net.command(name, *words)
    return all(subprocess.run(command, capture_output=True).returncode == 0 for _ in range(count))


def connects(
    net: Network, name: str, target: tuple[str, int], *, source: str = "", within_s: float = 15.0
) -> bool:
    """Return whether a TCP connection opens in time and carries an answer to a byte."""
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    with net.inside(name):
        plug = socket.socket(family, socket.SOCK_STREAM)
    with plug:
        plug.settimeout(within_s)
        try:
            if source:
                plug.bind((source, 0))
            plug.connect(target)
            plug.sendall(b"x")
            return plug.recv(1) == b"x"
        except OSError:
            return False


@contextlib.contextmanager
def echo_server(net: Network, name: str, port: int) -> Iterator[None]:
    """Answer every byte on a TCP port, IPv4 and IPv6, in a process of its own."""
    code = (
        "import socket,selectors as s\n"
        f"a=socket.create_server(('::',{port}),family=socket.AF_INET6,backlog=128,dualstack_ipv6=True)\n"
        "a.setblocking(False);k=s.DefaultSelector();k.register(a,1);print('up',flush=True)\n"
        "while 1:\n"
        " for e,_ in k.select():\n"
        "  try:\n"
        "   if e.fileobj is a: c,_x=a.accept();c.setblocking(False);k.register(c,1);continue\n"
        "   d=e.fileobj.recv(65536)\n"
        "   if d: e.fileobj.send(d);continue\n"
        "  except BlockingIOError: continue\n"
        "  except OSError: pass\n"
        "  if e.fileobj is not a: k.unregister(e.fileobj);e.fileobj.close()\n"
    )
    words = net.command(name, "/usr/bin/env", "python3", "-c", code)
    with subprocess.Popen(words, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None and server.stdout.readline() == b"up\n"
            yield
        finally:
            server.kill()


@contextlib.contextmanager
def flood(net: Network, name: str, *words: str) -> Iterator[None]:
    """Let hping3 send until the block is left."""
    command = net.command(name, "hping3", "-q", "-n", *words)
    before = sent(net, name)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sending:
        try:
            # hping3 says nothing when it has begun.
            wait_for(lambda: sent(net, name) > before + 100 or sending.poll() is not None)
            assert sending.poll() is None
            yield
        finally:
            sending.kill()


@contextlib.contextmanager
def spoofed_syns(
    net: Network, name: str, *, via: bytes, target: tuple[str, int], pps: int
) -> Iterator[None]:
    """Let trafgen send SYNs from random addresses; via: MAC of the next hop."""
    text = (
        f"{{ eth(da={via.hex(':')}, sa={net.mac(name, 'eth0').hex(':')}, type=0x0800), "
        f"ipv4(id=drnd(), ttl=64, saddr=drnd(), daddr={target[0]}), "
        f"tcp(sport=drnd(), dport={target[1]}, seq=drnd(), syn, win=512) }}"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as config:
        config.write(text)
        config.flush()
        words = ["trafgen", "--dev", "eth0", "--conf", config.name, "--rate", f"{pps}pps"]
        words += ["--cpus", "1", "--no-sock-mem", "-q"]
        with subprocess.Popen(
            net.command(name, *words),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as sending:
            try:
                # trafgen says nothing when it has begun.
                before = sent(net, name)
                wait_for(lambda: sent(net, name) > before + 1000 or sending.poll() is not None)
                assert sending.poll() is None
                yield
            finally:
                os.killpg(sending.pid, signal.SIGKILL)


class Tap:
    """Counts frames that arrive at an interface and satisfy a test."""

    def __init__(self, net: Network, name: str, interface: str = "eth0") -> None:
        self._raw = net.packet_socket(name, interface)
        self._raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 25)

    def __enter__(self) -> "Tap":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def syns(self) -> list[bytes]:
        """Return the SYNs over IPv4, without options of IP, among what has arrived."""
        return [
            frame
            for frame in self.frames()
            if frame[12:15] == b"\x08\0E" and frame[23] == socket.IPPROTO_TCP
            if frame[47] & 0x3F == 2
        ]

    def frames(self, *, quiet_s: float = 0.1) -> list[bytes]:
        """Return what has arrived, until nothing comes for so long."""
        found = []
        while select.select([self._raw], [], [], quiet_s)[0]:
            data, where = self._raw.recvfrom(2048)
            if where[2] != socket.PACKET_OUTGOING:
                found.append(data)
        return found

    def close(self) -> None:
        self._raw.close()


def received(net: Network, name: str, interface: str = "eth0") -> int:
    """Return the packets that an interface has received (kernel's own count)."""
    return _count(net, name, interface, "RX:")


def sent(net: Network, name: str, interface: str = "eth0") -> int:
    """Return the packets that an interface has sent (kernel's own count)."""
    return _count(net, name, interface, "TX:")


def _count(net: Network, name: str, interface: str, which: str) -> int:
    text = subprocess.run(
        ["ip", "-n", net.full(name), "-s", "link", "show", interface],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return int(text.partition(which)[2].splitlines()[1].split()[1])


@dataclass(frozen=True)
class Limit:
    """What a rule of nftables lets through."""

    pps: float
    burst: int = 5
    """As where none is named."""


@dataclass
class Passed:
    """What of an unbroken stream of datagrams has arrived."""

    packets: int
    """After the first one."""
    seconds: float
    """From the first to the last, by the kernel's stamps."""
    starved_s: float
    """Time in which the sender, not scheduled, offered so little that less had to arrive."""

    def keeps_to(self, limit: Limit) -> bool:
        """Return whether it is what a limit lets through, no more and no less."""
        most = limit.pps * self.seconds + limit.burst + 1
        least = limit.pps * (self.seconds - self.starved_s) * 0.95 - 2
        return least <= self.packets <= most


@dataclass
class Stream:
    """Datagrams from a host's address and port to another's, and how their frames are told."""

    sender: str
    source: tuple[str, int]
    target: tuple[str, int]
    receiver: str
    source_mac: bytes
    """Of the frames as they arrive at the receiver's eth0."""

    def press(self, net: Network, limit: Limit, *, enough: int) -> Passed:
        """Send faster than the limit until `enough` have arrived."""
        with net.inside(self.sender):
            plug = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tap = net.packet_socket(self.receiver, "eth0")
        tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        stamps: list[float] = []
        offered: list[float] = []
        with plug, tap:
            plug.bind(self.source)

            def look() -> bool:
                for _ in range(limit.burst + 1):
                    plug.sendto(b"x" * 16, self.target)
                offered.append(time.monotonic())
                while select.select([tap], [], [], 0.002)[0]:
                    data, more, _, _ = tap.recvmsg(2048, 64)
                    if (
                        data[6:12] == self.source_mac
                        and data[12:14] == b"\x08\0"
                        and data[23] == 17
                    ):
                        seconds, ns = struct.unpack("qq", more[0][2][:16])
                        stamps.append(seconds + ns / 1e9)
                return len(stamps) >= enough

            wait_for(look, seconds=120)
        gaps = [b - a - limit.burst / limit.pps for a, b in pairwise(offered)]
        return Passed(len(stamps) - 1, stamps[-1] - stamps[0], sum(max(0.0, gap) for gap in gaps))


def arp_frame(
    kind: int,
    sender: tuple[bytes, str],
    target: tuple[bytes, str],
    *,
    ethernet: tuple[bytes, bytes],
) -> bytes:
    """Return an ARP frame; ethernet: destination and source."""
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, kind)
    body += sender[0] + socket.inet_aton(sender[1]) + target[0] + socket.inet_aton(target[1])
    return ethernet[0] + ethernet[1] + struct.pack("!H", ETH_ARP) + body


def neighbour(net: Network, name: str, address: str) -> str:
    """Return the MAC that a host has for an address; empty for none."""
    text = subprocess.run(
        ["ip", "-n", net.full(name), "neigh", "show", address],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.search(r"lladdr (\S+)", text)
    return found[1] if found else ""

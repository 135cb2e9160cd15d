"""Hosts in, what reached them out: counted by their own kernels, sampled while it happens.

`reach` counts an attacker's packets at both ends, `NewConnections` what newcomers experience,
`Datagrams` what ordinary flows lose, `Download` their goodput.
"""

import contextlib
import ctypes
import selectors
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ids_appliance.errors import LabError
from ids_appliance.lab.layouts import GATEWAY, HOSTS, SWITCH
from ids_appliance.lab.life import REQUEST
from ids_appliance.lab.namespaces import run
from ids_appliance.lab.network import Lab
from ids_appliance.lab.running import Thread
from ids_appliance.lab.services import MAX_REQUEST_BYTES

SAMPLE_S: Final = 0.1
Clock = Callable[[], int]
"""Nanoseconds; the caller's choice of monotonic or wall clock."""

_SO_ATTACH_FILTER: Final = 26
_SOL_PACKET, _PACKET_STATISTICS = 263, 6  # packet(7)
_ETH_P_ALL: Final = 3


class PacketCounter:
    """Counts frames of an interface that match a tcpdump expression, without reading any.

    The kernel counts what passes the filter of a packet socket, kept or not (PACKET_STATISTICS);
    that is before netfilter, so a host's own firewall does not hide what has reached it.
    """

    def __init__(self, lab: Lab, host: str, expression: str, *, interface: str = "eth0") -> None:
        words = run("tcpdump", "-y", "EN10MB", "-ddd", expression).split()[1:]
        numbers = list(map(int, words))
        code = b"".join(struct.pack("HBBI", *numbers[i : i + 4]) for i in range(0, len(numbers), 4))
        program = ctypes.create_string_buffer(code)
        with lab.inside(host):
            # Protocol 0 receives nothing until the filter is there.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        head = struct.pack("HxxxxxxQ", len(numbers) // 4, ctypes.addressof(program))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)
        self._socket.bind((interface, _ETH_P_ALL))
        self._total = 0

    def read(self) -> int:
        """Return the frames since the start."""
        raw = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        self._total += struct.unpack("II", raw)[0]
        return self._total

    def close(self) -> None:
        """Stop counting."""
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Sample:
    """Totals at one time."""

    time_ns: int
    sent: int
    """Frames that the attacker's interface has sent."""
    arrived: int
    """Of these, frames that the victim's interface has received."""


class Reach:
    """An attacker's frames at both ends, sampled every 100 ms until `stop`."""

    def __init__(
        self, sent: PacketCounter, arrived: Sequence[PacketCounter], *, clock: Clock
    ) -> None:
        self.samples: list[Sample] = []
        self._sent, self._arrived = sent, tuple(arrived)
        self._clock = clock
        self._thread = Thread(self._run)

    def _run(self, over: threading.Event) -> None:
        self._sample()
        while not over.wait(SAMPLE_S):
            self._sample()

    def _sample(self) -> None:
        # The victims first: what arrives between the two looks would count against the cut.
        arrived = sum(counter.read() for counter in self._arrived)
        self.samples.append(Sample(self._clock(), self._sent.read(), arrived))

    def between(self, start_ns: int, stop_ns: int) -> tuple[int, int]:
        """Return (sent, arrived) from the last sample before the start to the last one in time."""
        inside = [s for s in self.samples if s.time_ns <= stop_ns]
        before = [s for s in inside if s.time_ns <= start_ns]
        if not inside:
            return 0, 0
        first = before[-1] if before else Sample(0, 0, 0)
        return inside[-1].sent - first.sent, inside[-1].arrived - first.arrived

    def stop(self) -> None:
        """Take a last sample and end."""
        self._thread.stop()
        self._sample()
        for end in (self._sent, *self._arrived):
            end.close()


def reach(lab: Lab, victims: Sequence[str], attacker: str, *, clock: Clock) -> Reach:
    """Count an attacker's IP packets to victims: on its own cable, and at their interfaces."""
    mac = lab.mac(attacker).hex(":")
    own = " or ".join(f"src host {a}" for a in lab.addresses(attacker))
    to = {v: " or ".join(f"dst host {a}" for a in lab.addresses(v)) for v in victims}
    sent = _on_its_cable(lab, attacker, f"ether src {mac} and ({' or '.join(to.values())})")
    # Each counts what is for it: a bridge that has yet to learn a MAC sends to everybody.
    arrived = [PacketCounter(lab, v, f"(ether src {mac} or {own}) and ({to[v]})") for v in victims]
    return Reach(sent, arrived, clock=clock)


def reach_forged(lab: Lab, victim: str, attacker: str, *, port: int, clock: Clock) -> Reach:
    """Count SYNs to a victim's port that come from nobody of the lab.

    Resets are not the attacker's: with them a gateway ends half-open connections of forged senders.
    """
    known = " or ".join(f"src host {lab.address(h)}" for h in lab.hosts)
    syn = "tcp[tcpflags] & (tcp-syn | tcp-ack) == tcp-syn"
    flood = f"{syn} and tcp dst port {port} and dst host {lab.address(victim)} and not ({known})"
    arrived = PacketCounter(lab, victim, flood)
    return Reach(_on_its_cable(lab, attacker, flood), [arrived], clock=clock)


def _on_its_cable(lab: Lab, host: str, expression: str) -> PacketCounter:
    """Count at the far end of a host's cable: trafgen goes past the taps of its own interface."""
    at_gateway = lab.layout.bridged and lab.segment(host) in ("iot", "home")
    where = GATEWAY if at_gateway else SWITCH
    return PacketCounter(lab, where, expression, interface=f"p-{host}")


@dataclass(slots=True)
class Attempt:
    """One new connection."""

    start_ns: int
    latency_s: float | None = None
    """Until the answer to a request was there; None: it never was."""


class NewConnections:
    """New connections at a fixed pace, each with a request; a success has its answer in time."""

    def __init__(
        self, lab: Lab, host: str, target: tuple[str, int], *, pace_s: float, clock: Clock
    ) -> None:
        self.attempts: list[Attempt] = []
        self.patience_s = 3.0
        self._lab, self._host, self._target = lab, host, target
        self._pace_s = pace_s
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._thread = Thread(self._run)

    def _run(self, over: threading.Event) -> None:
        due = self._clock()
        while not over.is_set():
            if self._clock() >= due:
                self._open()
                due += round(self._pace_s * 1e9)
            self._look(max(0.0, min(0.05, (due - self._clock()) / 1e9)))
        while self._selector.get_map():
            self._look(0.05)

    def _open(self) -> None:
        tcp = self._lab.ip_socket(self._host)
        tcp.setblocking(False)
        attempt = Attempt(self._clock())
        self.attempts.append(attempt)
        tcp.connect_ex(self._target)
        self._selector.register(tcp, selectors.EVENT_WRITE, attempt)

    def _look(self, wait_s: float) -> None:
        for key, events in self._selector.select(wait_s):
            tcp, attempt = key.fileobj, key.data
            assert isinstance(tcp, socket.socket) and isinstance(attempt, Attempt)
            try:
                if events & selectors.EVENT_WRITE:
                    tcp.sendall(REQUEST)
                    self._selector.modify(tcp, selectors.EVENT_READ, attempt)
                    continue
                if tcp.recv(MAX_REQUEST_BYTES):
                    attempt.latency_s = (self._clock() - attempt.start_ns) / 1e9
            except OSError:
                attempt.latency_s = None
            self._close(tcp)
        now = self._clock()
        for key in list(self._selector.get_map().values()):
            if now - key.data.start_ns > self.patience_s * 1e9:
                assert isinstance(key.fileobj, socket.socket)
                self._close(key.fileobj)

    def _close(self, tcp: socket.socket) -> None:
        self._selector.unregister(tcp)
        tcp.close()

    def stop(self) -> None:
        """Open no more; wait for those under way."""
        self._thread.stop()
        self._selector.close()

    def succeeded(self, start_ns: int, stop_ns: int) -> tuple[int, int]:
        """Return (successes, attempts) of those begun in that time."""
        chosen = [a for a in self.attempts if start_ns <= a.start_ns <= stop_ns]
        return sum(a.latency_s is not None for a in chosen), len(chosen)


@dataclass(slots=True)
class _Flow:
    sender: socket.socket
    receiver: socket.socket
    target: tuple[str, int]
    sent_ns: list[int] = field(default_factory=list)
    arrived: set[int] = field(default_factory=set)


class Datagrams:
    """Numbered UDP datagrams between pairs of hosts; what never arrives is lost."""

    SIZE: Final = 200
    PORT: Final = 5005

    def __init__(
        self, lab: Lab, pairs: Sequence[tuple[str, str]], *, pace_s: float, clock: Clock
    ) -> None:
        self._clock = clock
        self._pace_s = pace_s
        self._flows = []
        for number, (source, target) in enumerate(pairs):
            receiver = lab.ip_socket(target, socket.SOCK_DGRAM)
            receiver.bind(("0.0.0.0", self.PORT + number))
            sender = lab.ip_socket(source, socket.SOCK_DGRAM)
            for end in (sender, receiver):
                end.setblocking(False)
            where = (lab.address(target), self.PORT + number)
            self._flows.append(_Flow(sender, receiver, where))
        self._thread = Thread(self._run)

    def _run(self, over: threading.Event) -> None:
        while not over.wait(self._pace_s):
            for flow in self._flows:
                number = struct.pack("!I", len(flow.sent_ns))
                flow.sent_ns.append(self._clock())
                with contextlib.suppress(OSError):  # unreachable: then it is lost
                    flow.sender.sendto(number.ljust(self.SIZE, b"."), flow.target)
            self._receive()
        threading.Event().wait(SAMPLE_S)  # the last ones are on their way
        self._receive()

    def _receive(self) -> None:
        for flow in self._flows:
            with contextlib.suppress(BlockingIOError):
                while True:
                    flow.arrived.add(struct.unpack_from("!I", flow.receiver.recv(2048))[0])

    def stop(self) -> None:
        """Send no more, count the last ones."""
        self._thread.stop()
        for flow in self._flows:
            flow.sender.close()
            flow.receiver.close()

    def lost(self, start_ns: int, stop_ns: int) -> tuple[int, int]:
        """Return (lost, sent) of those sent in that time; exact only after `stop`."""
        lost = sent = 0
        for flow in self._flows:
            for number, time_ns in enumerate(flow.sent_ns):
                if start_ns <= time_ns <= stop_ns:
                    sent += 1
                    lost += number not in flow.arrived
        return lost, sent


class Download:
    """One file of the server's web server, no faster than told."""

    def __init__(self, lab: Lab, host: str, *, mib: int = 50, mbit: int = 80) -> None:
        url = f"http://{lab.address('server')}/{mib}MiB.bin"
        words = ["curl", "--silent", "--fail", "--output", "/dev/null", "--max-time", "60"]
        words += ["--limit-rate", f"{mbit * 125_000}", "--write-out", "%{speed_download}", url]
        self._process = lab.popen(host, words, limit_s=65, stdout=subprocess.PIPE, text=True)

    def bytes_per_s(self) -> float:
        """Wait for the end; return the goodput. Raises LabError if it did not come whole."""
        said, _ = self._process.communicate()
        if self._process.returncode != 0:
            raise LabError(f"the download ended with {self._process.returncode} (curl)")
        return float(said)


def neighbour(lab: Lab, host: str, address: str) -> bytes | None:
    """Return the MAC that a host has for an address at present; None if it has none."""
    for line in lab.run(host, "ip", "neigh", "show", address).splitlines():
        words = line.split()
        if "lladdr" in words:
            return bytes.fromhex(words[words.index("lladdr") + 1].replace(":", ""))
    return None


def everybody_is_there(lab: Lab) -> list[str]:
    """Return the hosts that the gateway cannot reach (empty: all well), by one ping each."""
    names = [host.name for host in HOSTS if host.name != "isp"]
    words = ["ping", "-c", "1", "-W", "2"]
    asked = {name: lab.popen(GATEWAY, [*words, lab.address(name)]) for name in names}
    return [name for name, process in asked.items() if process.wait() != 0]

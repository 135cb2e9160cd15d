"""What is measured while an act is played: hosts in, figures from their own kernels out."""

import ctypes
import socket
import struct
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final

from ids_appliance.errors import LabError
from ids_appliance.gateway.surroundings import neighbours
from ids_appliance.lab.demo.acts import Act
from ids_appliance.lab.layouts import GATEWAY, SWITCH
from ids_appliance.lab.measure import (
    Clock,
    Datagrams,
    Download,
    NewConnections,
    PacketCounter,
    Reach,
    Sample,
    reach,
    reach_forged,
)
from ids_appliance.lab.namespaces import run
from ids_appliance.lab.network import Lab
from ids_appliance.lab.running import Thread

STREAMS: Final = (("dev03", "server"), ("server", "dev07"), ("phone", "dev08"), ("dev09", "hub"))
"""Ordinary flows whose losses are counted: out, in, across and back."""
STREAM_PACE_S: Final = 0.01
NEWCOMER_PACE_S: Final = 0.1
DOWNLOAD_MBIT: Final = 50
LOOK_S: Final = 0.1
_SO_ATTACH_FILTER: Final = 26
_SO_TIMESTAMPNS: Final = 35
_ETH_P_ALL: Final = 3


class FirstPacket:
    """The kernel's time of the first frame at an interface that matches a tcpdump expression."""

    def __init__(self, lab: Lab, host: str, interface: str, expression: str) -> None:
        numbers = list(map(int, run("tcpdump", "-y", "EN10MB", "-ddd", expression).split()[1:]))
        code = b"".join(struct.pack("HBBI", *numbers[i : i + 4]) for i in range(0, len(numbers), 4))
        program = ctypes.create_string_buffer(code)
        with lab.inside(host):
            # Protocol 0 receives nothing until the filter is there.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        head = struct.pack("HxxxxxxQ", len(numbers) // 4, ctypes.addressof(program))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)
        self._socket.bind((interface, _ETH_P_ALL))
        self._socket.setblocking(False)

    def time_ns(self) -> int | None:
        """Return it, in nanoseconds since the epoch, and stop; None if there was none."""
        try:
            _, said, _, _ = self._socket.recvmsg(1, 64)
        except BlockingIOError:
            return None
        finally:
            self._socket.close()
        for level, kind, data in said:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, nanos = struct.unpack("qq", data)
                return int(seconds) * 10**9 + int(nanos)
        return None


class Cache:
    """One address in a host's ARP cache, looked at every 100 ms until `stop`."""

    def __init__(self, lab: Lab, host: str, address: str, *, clock: Clock) -> None:
        self.seen: list[tuple[int, bytes]] = []
        """(time ns, MAC), whenever it changes; b"" while there is none."""
        self._lab, self._host = lab, host
        self._address = socket.inet_aton(address)
        self._clock = clock
        self._thread = Thread(self._run)

    def _run(self, over: threading.Event) -> None:
        with self._lab.inside(self._host):
            while not over.wait(LOOK_S):
                found = neighbours()
                mac = next((m for (_, a), m in found.items() if a == self._address), b"")
                if not self.seen or self.seen[-1][1] != mac:
                    self.seen.append((self._clock(), mac))

    def stop(self) -> None:
        """Look no more."""
        self._thread.stop()


class ArpReach:
    """An ARP spoofer's replies: sent on its cable, and taken by the one whom it lies to.

    A gateway that drops them before its own ARP hears them has not taken them; so they are
    counted there by a rule of its own firewall's table for ARP.
    """

    def __init__(self, lab: Lab, attacker: str, target: str, *, clock: Clock) -> None:
        self.samples: list[Sample] = []
        self._lab, self._target = lab, target
        self._clock = clock
        self._mac = lab.mac(attacker).hex(":")
        where = (GATEWAY if lab.layout.bridged else SWITCH, f"p-{attacker}")
        self._sent = PacketCounter(
            lab, where[0], f"ether src {self._mac} and arp and arp[6:2] == 2", interface=where[1]
        )
        rule = f"arp operation reply ether saddr {self._mac} counter"
        for words in (
            f"add table arp {_TABLE}",
            f"add chain arp {_TABLE} seen {{ type filter hook input priority 0; }}",
            f"add rule arp {_TABLE} seen {rule}",
        ):
            lab.run(target, "nft", words)
        self._thread = Thread(self._run)

    def _run(self, over: threading.Event) -> None:
        self._sample()
        while not over.wait(4 * LOOK_S):
            self._sample()

    def _sample(self) -> None:
        text = self._lab.run(self._target, "nft", f"list chain arp {_TABLE} seen")
        taken = int(text.partition("packets ")[2].split()[0])
        self.samples.append(Sample(self._clock(), self._sent.read(), taken))

    def stop(self) -> None:
        """Count no more."""
        self._thread.stop()
        self._sample()
        self._sent.close()
        self._lab.run(self._target, "nft", f"delete table arp {_TABLE}")


_TABLE: Final = "demo_seen"


@dataclass(frozen=True, slots=True)
class Figures:
    """What an act's gauges showed."""

    first_ns: int | None
    """The attack's first packet."""
    samples: tuple[Sample, ...]
    newcomers: tuple[int, int] | None
    """(successes, attempts) of new connections to the flooded port."""
    lost: tuple[int, int]
    """(lost, sent) of the ordinary streams."""
    goodput: float | None
    """Bytes a second of the download; None: it did not come whole."""
    cache: tuple[tuple[int, bytes], ...]


class Gauges:
    """Everything measured in one act; a context manager, `figures` afterwards."""

    def __init__(self, lab: Lab, act: Act, *, clock: Clock) -> None:
        self._lab, self._act, self._clock = lab, act, clock
        self._first: FirstPacket | None = None
        self._reach: Reach | ArpReach | None = None
        self._newcomers: list[NewConnections] = []
        self._cache: Cache | None = None
        self._download: Download | None = None
        self._on_exit = ExitStack()

    def __enter__(self) -> "Gauges":
        lab, act, clock = self._lab, self._act, self._clock
        with ExitStack() as stack:
            self._datagrams = Datagrams(lab, STREAMS, pace_s=STREAM_PACE_S, clock=clock)
            stack.callback(self._datagrams.stop)
            if act.kind == "attack":
                self._watch_attack(stack)
            if act.port:
                target = (lab.address(act.victims[0]), act.port)
                for host in ("server", "phone"):
                    probe = NewConnections(lab, host, target, pace_s=NEWCOMER_PACE_S, clock=clock)
                    self._newcomers.append(probe)
                    stack.callback(probe.stop)
            self._on_exit = stack.pop_all()
        return self

    def _watch_attack(self, stack: ExitStack) -> None:
        lab, act, clock = self._lab, self._act, self._clock
        inside = lab.layout.bridged and lab.segment(act.attacker) in ("iot", "home")
        where = GATEWAY if inside else SWITCH
        what = f"ether src {lab.mac(act.attacker).hex(':')} and {_what(lab, act)}"
        self._first = FirstPacket(lab, where, f"p-{act.attacker}", what)
        if act.poisons is not None:
            host, claimed = act.poisons
            self._reach = ArpReach(lab, act.attacker, host, clock=clock)
            self._cache = Cache(lab, host, lab.address(claimed), clock=clock)
            stack.callback(self._cache.stop)
        elif act.forged:
            victim = act.victims[0]
            self._reach = reach_forged(lab, victim, act.attacker, port=act.port, clock=clock)
        else:
            self._reach = reach(lab, act.victims, act.attacker, clock=clock)
        stack.callback(self._reach.stop)

    def download(self) -> None:
        """Begin the download; it is waited for at the end."""
        self._download = Download(self._lab, "dev05", mbit=DOWNLOAD_MBIT)

    def __exit__(self, *_: object) -> None:
        self._on_exit.close()

    def figures(self, start_ns: int, stop_ns: int) -> Figures:
        """Return what was measured between two times; after the gauges have stopped."""
        first_ns = self._first.time_ns() if self._first is not None else None
        both = [probe.succeeded(first_ns or start_ns, stop_ns) for probe in self._newcomers]
        goodput = None
        if self._download is not None:
            with suppress(LabError):  # cut off: that is what is to be found out
                goodput = self._download.bytes_per_s()
        return Figures(
            first_ns=first_ns,
            samples=tuple(self._reach.samples) if self._reach is not None else (),
            newcomers=(sum(s for s, _ in both), sum(n for _, n in both)) if both else None,
            lost=self._datagrams.lost(start_ns, stop_ns),
            goodput=goodput,
            cache=tuple(self._cache.seen) if self._cache is not None else (),
        )


def _what(lab: Lab, act: Act) -> str:
    """Return what the attack's own packets look like, as tcpdump says it."""
    if act.poisons is not None:
        return "arp and arp[6:2] == 2"
    if act.port:
        return f"tcp dst port {act.port} and dst host {lab.address(act.victims[0])}"
    return "tcp and (" + " or ".join(f"dst host {lab.address(v)}" for v in act.victims) + ")"

"""What is measured while an act is played: hosts in, figures from their own kernels out."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from ids_appliance.lab.demo.acts import Act
from ids_appliance.lab.demo.probes import ArpReach, Cache, Download, FirstPacket
from ids_appliance.lab.layouts import GATEWAY, SWITCH
from ids_appliance.lab.measure import (
    Clock,
    Datagrams,
    NewConnections,
    Reach,
    Sample,
    reach,
    reach_forged,
)
from ids_appliance.lab.network import Lab

STREAMS: Final = (("dev03", "server"), ("server", "dev07"), ("phone", "dev08"), ("dev09", "hub"))
"""Ordinary flows whose losses are counted: out, in, across and back."""
STREAM_PACE_S: Final = 0.01
NEWCOMER_PACE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Figures:
    """What an act's gauges showed."""

    first_ns: int | None
    """The attack's first packet."""
    samples: tuple[Sample, ...]
    newcomers: tuple[int, int] | None
    """(successes, attempts) of new connections to the flooded port."""
    turned_away: tuple[tuple[str, int], ...]
    """(host, start ns) of those that had no answer."""
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
        self._newcomers: dict[str, NewConnections] = {}
        self._cache: Cache | None = None
        self._download: Download | None = None
        self._on_exit = ExitStack()

    def __enter__(self) -> "Gauges":
        lab, act, clock = self._lab, self._act, self._clock
        with ExitStack() as stack:
            self._datagrams = Datagrams(lab, STREAMS, pace_s=STREAM_PACE_S, clock=clock)
            stack.callback(self._datagrams.stop)
            if act.attacker:
                self._watch_attack(stack)
            if act.port:
                target = (lab.address(act.victims[0]), act.port)
                for host in ("server", "phone"):
                    probe = NewConnections(lab, host, target, pace_s=NEWCOMER_PACE_S, clock=clock)
                    self._newcomers[host] = probe
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

    def download(self, mib: int) -> None:
        """Begin the download; it is waited for at the end."""
        self._download = Download(self._lab, "dev05", clock=self._clock, mib=mib)

    def __exit__(self, *_: object) -> None:
        self._on_exit.close()

    def figures(self, start_ns: int, stop_ns: int) -> Figures:
        """Return what was measured between two times; after the gauges have stopped."""
        first_ns = self._first.time_ns() if self._first is not None else None
        begin_ns = first_ns or start_ns
        both = [probe.succeeded(begin_ns, stop_ns) for probe in self._newcomers.values()]
        away = [
            (host, attempt.start_ns)
            for host, probe in self._newcomers.items()
            for attempt in probe.attempts
            if attempt.latency_s is None and begin_ns <= attempt.start_ns <= stop_ns
        ]
        goodput = self._download.bytes_per_s() if self._download is not None else None
        return Figures(
            first_ns=first_ns,
            samples=tuple(self._reach.samples) if self._reach is not None else (),
            newcomers=(sum(s for s, _ in both), sum(n for _, n in both)) if both else None,
            turned_away=tuple(away),
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

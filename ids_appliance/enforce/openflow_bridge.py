"""Our entries on one bridge, those of decisions apart: set up, compared, counted, taken away."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from ids_appliance.config import Enforce
from ids_appliance.enforce.elements import Place
from ids_appliance.enforce.openflow_entries import (
    DECISION,
    FIXED,
    MAX_S,
    PROVEN,
    adding,
    cookie,
    fixed,
    meters_of,
    ours,
    proven,
    removing,
)
from ids_appliance.enforce.openflow_meters import Meters
from ids_appliance.enforce.openflow_switch import Flow, Switch
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.enforce.reconcile import CHUNK, Difference

PROVEN_S: Final = 3600.0
MAX_PROVEN: Final = 4096


class Bridge:
    """A bridge with all of ours on it. Every method may raise SwitchError."""

    def __init__(self, enforce: Enforce, *, clock: Callable[[], float]) -> None:
        self._settings = enforce.openflow
        self._mark = enforce.openflow.mark
        self._clock = clock
        self._switch = Switch(enforce.openflow)
        self.name: Final = self._switch.name
        self.meters: Final = Meters(enforce, self._switch)
        self.fixed: tuple[Place, ...] = ()
        self.opens = False
        """While its controller is away, the bridge forwards everything (fail mode standalone)."""
        self._proven: OrderedDict[bytes, float] = OrderedDict()
        self._packets: dict[Place, tuple[int, int]] = {}
        self.dropped: Final[Counter[str]] = Counter()

    def open(self, protected: ProtectedSets) -> dict[Place, float]:
        """Let stand what stands beside decisions; return a predecessor's entries about those."""
        self.meters.look()
        self.bypassed()
        self._switch.change(f"delete cookie={self._exactly(PROVEN)}\n")
        self.stand_beside(protected)
        return {flow.place: flow.left_s for flow in self._listed(DECISION)}

    def bypassed(self) -> bool:
        """Return whether the bridge forwards everything now, whatever entries say: without its
        controller, it obeys a hidden entry above all others."""
        self.opens, now = self._switch.opens()
        return now

    def stand_beside(self, protected: ProtectedSets, *, again: bool = False) -> None:
        """Let protected senders pass, and what we leave to those cut off."""
        discovery, leases = (self.meters.shared(kind) for kind in ("discovery", "leases"))
        wanted = fixed(protected, discovery=discovery, leases=leases)
        if wanted == self.fixed and not again:
            return
        self.meters.ready([discovery, leases])
        before = {flow.place for flow in self._listed(FIXED)}
        self._switch.change(
            removing(before.difference(wanted), self._mark)
            + adding(dict.fromkeys(wanted, MAX_S), cookie(self._mark, FIXED))
        )
        self.fixed = wanted

    def swap(self, gone: Iterable[Place], add: Mapping[Place, float], *, spare: bool) -> None:
        """Replace entries of decisions, all at once. spare: a flood is among them."""
        self.meters.ready(meters_of(add))
        lines = removing([place for place in gone if place not in add], self._mark)
        lines += adding(add, cookie(self._mark, DECISION))
        self._switch.change(lines + (self._sparing(self._proven) if spare else ""))

    def remove(self, places: Sequence[Place]) -> None:
        """Take entries away, whether they are there."""
        for start in range(0, len(places), CHUNK):
            self._switch.change(removing(places[start : start + CHUNK], self._mark))

    def clear(self) -> None:
        """Leave nothing of ours on the bridge."""
        self._packets.clear()
        self.fixed = ()
        self._switch.change(f"delete cookie={ours(self._mark)}\n")
        self.meters.remove()

    def prove(self, addresses: Iterable[bytes], *, flooded: bool) -> None:
        """Remember senders with a handshake of their own; spare them where a flood stands."""
        now = self._clock()
        new = []
        for address in addresses:
            if self._proven.get(address, 0.0) < now + PROVEN_S / 2:
                new.append(address)
                self._proven[address] = now + PROVEN_S
                self._proven.move_to_end(address)
        old = []
        while self._proven and (
            len(self._proven) > MAX_PROVEN or next(iter(self._proven.values())) <= now
        ):
            old.append(proven(self._proven.popitem(last=False)[0]))
        if flooded:
            self._switch.change(removing(old, self._mark) + self._sparing(new))

    def port_of(self, mac: bytes, protected: ProtectedSets) -> tuple[str, str]:
        """Return the number of the one port that may be cut for a MAC, "" for none, and a note."""
        at = self._switch.where(mac)
        names = {str(number): name for name, number in self._switch.ports().items()}
        if len(at) != 1 or not at <= names.keys():
            return "", "its MAC alone: the switch has not learned it at one port"
        (port,) = at
        others = (self._switch.where(other) for _, other in protected.macs())
        if names[port] in self._settings.uplinks or any(port in places for places in others):
            return "", f"its MAC alone: behind port {names[port]} there are others"
        return port, f"with port {names[port]}"

    def complete(self, decisions: int) -> bool:
        """Return whether there are as many entries as there should be."""
        of_decisions = self._switch.count(self._exactly(DECISION))
        return (of_decisions, self._switch.count(self._exactly(FIXED))) == (
            decisions,
            len(self.fixed),
        )

    def intact(self, protected: ProtectedSets, *, flooded: bool) -> bool:
        """Return whether what stands beside decisions stood; afterwards it does."""
        left = {flow.place: flow.left_s for flow in self._listed(FIXED)}
        there = all(place in left for place in self.fixed) and len(left) == len(self.fixed)
        if not there or min(left.values(), default=MAX_S) < MAX_S / 2:
            self.meters.look()
            self.stand_beside(protected, again=True)
            if flooded:
                self._switch.change(self._sparing(self._proven))
        return there

    def decisions(self) -> dict[Place, float]:
        """Return the entries of decisions -> seconds left; counts what they have met."""
        listed = self._listed(DECISION)
        self._count(listed)
        return {flow.place: flow.left_s for flow in listed}

    def repair(self, found: Difference) -> None:
        """Take away what is foreign, add what is missing."""
        if found.missing:
            self.meters.look()  # an entry goes with its meter
        self.remove(found.foreign)
        add = list(found.missing.items())
        for start in range(0, len(add), CHUNK):
            self.swap((), dict(add[start : start + CHUNK]), spare=False)

    def _listed(self, kind: int) -> list[Flow]:
        return self._switch.flows(self._exactly(kind))

    def _exactly(self, kind: int) -> str:
        return f"{cookie(self._mark, kind)}/-1"

    def _sparing(self, addresses: Iterable[bytes]) -> str:
        now = self._clock()
        held = {proven(a): self._proven[a] - now for a in addresses if a in self._proven}
        return adding(held, cookie(self._mark, PROVEN))

    def _count(self, listed: Sequence[Flow]) -> None:
        """Add what entries have met since the last look; of meters, what these have dropped."""
        packets: dict[Place, tuple[int, int]] = {}
        for flow in listed:
            packets[flow.place] = flow.packets, flow.octets
            if "meter:" in flow.place.set:
                continue
            before = self._packets.get(flow.place, (0, 0))
            if flow.packets < before[0]:
                before = (0, 0)  # the entry was made anew
            name = "wan_quarantine" if "priority=63000" in flow.place.key else "lan_quarantine"
            self.dropped[f"dropped_packets_{name}"] += flow.packets - before[0]
            self.dropped[f"dropped_bytes_{name}"] += flow.octets - before[1]
        self._packets = packets
        if any("meter:" in place.set for place in packets):
            for kind, dropped in self.meters.dropped().items():
                self.dropped[f"dropped_packets_metered_{kind}"] = dropped


def remove_ours(enforce: Enforce) -> None:
    """Take everything of ours from a bridge, whoever put it there. Raises SwitchError."""
    switch = Switch(enforce.openflow)
    switch.change(f"delete cookie={ours(enforce.openflow.mark)}\n")
    Meters(enforce, switch).remove()

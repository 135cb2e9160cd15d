"""Decisions in, flow entries of an Open vSwitch bridge out: the enforcer beside a mirror port.

    decision -> Intention (capacity, evictions) -> entries -> one bundle -> Applied
                     ^                                          |
                     +---- reconcile: what the switch lists <---+

A sender that was judged at a mirror's output port came in at another port of the switch, so
entries match its MAC or address at whatever port; `openflow.cut = "port"` takes the port that the
switch has learned the MAC at as well. Every entry about a decision has a hard time-out.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ids_appliance.config import Enforce
from ids_appliance.enforce.answers import evicted, no_room, nothing_asked, refusal
from ids_appliance.enforce.elements import Place, places, quoted, subject_text
from ids_appliance.enforce.installation import Note
from ids_appliance.enforce.intention import POOLS, Full, Intention, Standing
from ids_appliance.enforce.openflow_bridge import Bridge
from ids_appliance.enforce.openflow_entries import MAX_S, decided, meters_of, wanted
from ids_appliance.enforce.openflow_switch import SwitchError
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.enforce.reconcile import CHUNK, Moment, difference
from ids_appliance.errors import EnforceError
from ids_appliance.types import Applied, Decision, Kind, Reconciled, Response, Subject

FULL_S: Final = 30.0
"""Compare everything after so long, even if the number of entries is right."""
OPENS: Final = (
    "while its controller is away, whomever we have cut off: ovs-vsctl set-fail-mode BRIDGE secure"
)
FEW: Final = 512
"""So many entries are compared each time."""


@dataclass(slots=True)
class _Step:
    """What one decision asks of the switch."""

    at: int
    decision: Decision
    before: Standing | None
    evicted: list[Standing]
    inherited: list[Place]
    note: str


class OpenFlowEnforcer:
    """Hold decisions in a bridge's flow entries. Methods may be called from any thread; one at a
    time runs. Arguments as of NftEnforcer; interfaces: where senders are seen, mirror ports."""

    def __init__(
        self,
        enforce: Enforce,
        *,
        interfaces: Sequence[str],
        protected: ProtectedSets,
        clock: Callable[[], float],
        on_note: Note = lambda kind, line: None,
        above: Sequence[str] = (),
    ) -> None:
        self._by_port = enforce.openflow.cut == "port"
        self._clock = clock
        self._note = on_note
        self._lock = threading.Lock()
        self._bridge = Bridge(enforce, clock=clock)
        self._meters = self._bridge.meters
        self._intention = Intention(enforce, clock=clock, alarm=lambda line: on_note("alarm", line))
        self._protected = protected
        self._names: tuple[str, ...] = ()
        self._ranks: dict[str, int] = {}
        self.set_interfaces(interfaces, above=above)
        self._inherited: dict[Place, float] = {}
        self._settled = self._open = self._gone = self._bypassed = False
        self._full_due = 0.0
        self._counts = dict.fromkeys(
            ("batches", "retries", "failed_elements", "refused", "reconciles", "rebuilds")
            + ("repaired", "foreign", "intended", "found", "unreachable"),
            0,
        )

    def open(self) -> None:
        """See what stands there, and let what stands beside decisions stand. Raises EnforceError
        in one line: the tools are missing, nobody answers, the switch lacks something."""
        with self._lock:
            self._setup()

    def set_protected(self, protected: ProtectedSets) -> None:
        """Protect others from now on; a decision about one who is protected now is let go of."""
        with self._lock:
            self._protected = protected
            subjects = [one.decision.subject for one in self._intention.all()]
            self._let_go([s for s in subjects if protected.refuses(s)])
            if self._open:
                self._try(lambda: self._bridge.stand_beside(protected))

    def set_interfaces(self, names: Sequence[str], *, above: Sequence[str] = ()) -> None:
        """Capture at other interfaces from now on. Raises EnforceError for an unusable name."""
        for name in (*names, *above):
            quoted(name)
        self._names = tuple(names)
        for name in names:
            self._ranks.setdefault(name, len(self._ranks) % 256)

    def set_proven(self, addresses: Iterable[bytes]) -> None:
        """Exempt senders (4 or 16 bytes) from the limit of a flood for half an hour at least; the
        eldest of too many give way."""
        with self._lock:
            flooded = self._open and self._intention.held("flood") > 0
            self._try(lambda: self._bridge.prove(addresses, flooded=flooded))

    def apply(self, decisions: Sequence[Decision]) -> list[Applied]:
        """Make them hold; one answer per decision, in order. Protected ones are refused.

        Raises EnforceError only where there is no switch to put anything into.
        """
        with self._lock:
            if not self._open:
                self._setup()
            self._expire()
            answers: list[Applied | None] = [None] * len(decisions)
            for start in range(0, len(decisions), CHUNK):
                steps = []
                for at in range(start, min(start + CHUNK, len(decisions))):
                    step = self._step(at, decisions[at])
                    if isinstance(step, _Step):
                        steps.append(step)
                    else:
                        answers[at] = step
                for step, failed in self._carry_out(steps):
                    answers[step.at] = Applied(step.decision, not failed, failed or step.note)
            return [answer for answer in answers if answer is not None]

    def tidy(self) -> None:
        """Nothing is left to be done."""

    def release(self, subjects: Sequence[Subject]) -> None:
        """Let go of them; those that do not stand are passed over."""
        with self._lock:
            self._let_go(subjects)

    def settle(self) -> None:
        """Say that the ledger has been applied: a predecessor's entries it did not name may go."""
        with self._lock:
            self._settled = True
            self._full_due = 0.0

    def reconcile(self) -> Reconciled:
        """Compare the switch with what is intended, and repair it; never raises for a switch that
        does not answer: nothing is found then, and when it is back everything is restored."""
        with self._lock:
            self._counts["reconciles"] += 1
            self._expire()
            n = len(self._intention)
            if not self._open:
                return Reconciled(n, 0, 0, 0, False)
            try:
                found = self._reconcile(n)
            except SwitchError as error:
                self._counts |= {"intended": n, "found": 0}
                self._counts["unreachable"] += 1
                if not self._gone:
                    self._note("failed", f"{error}; decisions are restored when it is back")
                self._gone = True
                return Reconciled(n, 0, 0, 0, False)
            if self._gone:
                self._note("rebuilt", f"bridge {self._bridge.name} answers again")
            self._gone = False
            return found

    def clear(self) -> None:
        """Remove everything of ours and nothing else; the next `apply` sets it up again."""
        with self._lock:
            for one in self._intention.all():
                self._meters.give(meters_of(one.places))
            self._intention.clear()
            self._inherited.clear()
            self._open = False
            self._bridge.clear()

    def counters(self) -> dict[str, int]:
        """Return totals: dropped packets and bytes, elements, evictions, repairs."""
        with self._lock:
            found = {f"elements_{name}": self._intention.held(name) for name in POOLS}
            found |= {f"capacity_{name}": n for name, n in self._intention.capacity.items()}
            more = {"evictions": self._intention.evictions, "inherited": len(self._inherited)}
            return found | dict(self._bridge.dropped) | self._counts | more

    def _setup(self) -> None:
        self._inherited = self._bridge.open(self._protected)
        self._settled = False
        if self._bridge.opens:
            self._note("limited", f"bridge {self._bridge.name} forwards everything {OPENS}")
        if self._inherited:
            self._note("taken_over", f"kept {len(self._inherited)} entries of another run")
        self._open = True
        self._full_due = 0.0

    def _expire(self) -> None:
        for ended in self._intention.expire():
            self._meters.give(meters_of(ended.places))

    def _try(self, change: Callable[[], None]) -> None:
        """Change what the next comparison puts right where it fails."""
        try:
            change()
        except SwitchError:
            self._full_due = 0.0

    # Decisions ---------------------------------------------------------------------------------

    def _step(self, at: int, decision: Decision) -> "_Step | Applied":
        """Return what a decision asks of the switch, or the answer where it asks nothing."""
        subject = decision.subject
        try:
            acts = bool(places(subject, decision.response, routed_ports=False))
            why = refusal(decision, captured=self._names, protected=self._protected)
        except EnforceError as error:
            why = str(error)
        if why:
            self._counts["refused"] += 1
            return Applied(decision, False, why)
        if acts and self._bypassed:
            return Applied(decision, False, "the switch forwards everything: no controller")
        if not acts:
            self._let_go([subject])
            return nothing_asked(decision)
        before = self._intention.get(subject)
        port, note = self._port(decision)
        meters = [self._meters.take(kind) for kind in wanted(subject, decision.response)]
        rank = self._ranks.get(subject.interface, 0)
        found = decided(subject, meters=meters, rank=rank, port=port)
        try:
            gave_way = self._intention.put(decision, found)
        except Full:
            self._meters.give(meters)
            return no_room(decision, self._note)
        for one in gave_way:
            note = evicted(one, self._note, by=subject)
        inherited = [place for place in found if self._inherited.pop(place, None) is not None]
        return _Step(at, decision, before, gave_way, inherited, note)

    def _port(self, decision: Decision) -> tuple[str, str]:
        """Return the number of the port to cut with a MAC, "" for none, and a note for people."""
        wants = self._by_port and decision.response is Response.QUARANTINE
        if not wants or decision.subject.kind is not Kind.MAC:
            return "", ""
        try:
            return self._bridge.port_of(decision.subject.value, self._protected)
        except SwitchError as error:
            return "", f"its MAC alone: {error}"

    def _carry_out(self, steps: list[_Step]) -> list[tuple[_Step, str]]:
        """Run steps as one bundle, one by one where that fails; return what failed and why."""
        if not steps:
            return []
        self._counts["batches"] += 1
        if self._run(steps):
            self._counts["retries"] += 1
            return [(step, self._alone(step)) for step in steps]
        for step in steps:
            self._replaced(step)
        return [(step, "") for step in steps]

    def _run(self, steps: Sequence[_Step]) -> str:
        """Return why steps cannot be carried out together, "" where they have been."""
        now = self._clock()
        gone: list[Place] = []
        add: dict[Place, float] = {}
        flooded = False
        for step in steps:
            replaced = [*step.evicted, step.before] if step.before else step.evicted
            gone += [*step.inherited, *(place for one in replaced for place in one.places)]
            standing = self._intention.get(step.decision.subject)
            if standing is not None:
                add.update(dict.fromkeys(standing.places, standing.ends_s - now))
                flooded = flooded or standing.decision.subject.kind is Kind.FLOOD
        try:
            self._bridge.swap(dict.fromkeys(gone), add, spare=flooded)
        except SwitchError as error:
            return str(error)
        return ""

    def _replaced(self, step: _Step) -> None:
        replaced = [*step.evicted, step.before] if step.before else step.evicted
        self._meters.give(meters_of(place for one in replaced for place in one.places))

    def _alone(self, step: _Step) -> str:
        self._try(self._meters.look)  # a switch that was started anew has none
        why = self._run([step])
        if not why:
            self._replaced(step)
            return ""
        dropped = self._intention.drop(step.decision.subject)
        lost = [*step.evicted, dropped] if dropped else step.evicted
        self._meters.give(meters_of(place for one in lost for place in one.places))
        if step.before is not None:
            self._intention.restore(step.before)
        self._counts["failed_elements"] += 1
        self._note("failed", f"{subject_text(step.decision.subject)}: {why}")
        self._full_due = 0.0
        return why

    def _let_go(self, subjects: Iterable[Subject]) -> None:
        gone: list[Place] = []
        for subject in subjects:
            standing = self._intention.drop(subject)
            if standing is not None:
                self._meters.give(meters_of(standing.places))
                gone += standing.places
            elif self._inherited:
                gone += self._inherited_of(subject)
        if self._open and gone:
            self._try(lambda: self._bridge.remove(gone))

    def _inherited_of(self, subject: Subject) -> list[Place]:
        """Forget and return a predecessor's entries about a subject, whatever they do."""
        meters = [self._meters.shared("flood")] * 2
        rank = self._ranks.get(subject.interface, 0)
        keys = {place.key for place in decided(subject, meters=meters, rank=rank)}
        found = [place for place in self._inherited if place.key in keys]
        for place in found:
            del self._inherited[place]
        return found

    # Comparison --------------------------------------------------------------------------------

    def _reconcile(self, intended: int) -> Reconciled:
        now = self._clock()
        if self._settled:
            self._inherited.clear()
        intentions = self._intention.all()
        expected = sum(len(one.places) for one in intentions)
        if self._bypass(now >= self._full_due):
            self._counts |= {"intended": intended, "found": 0}
            return Reconciled(intended, 0, 0, 0, False)
        if now < self._full_due and expected > FEW and self._bridge.complete(expected):
            self._counts |= {"intended": intended, "found": intended}
            return Reconciled(intended, intended, 0, 0, False)
        flooded = self._intention.held("flood") > 0
        intact = self._bridge.intact(self._protected, flooded=flooded)
        listed = self._bridge.decisions()
        self._inherited = {p: listed[p] for p in self._inherited if p in listed}
        long_lived(intentions, listed, now_s=now)
        at = Moment(now, self._clock() - now)
        found = difference(intentions, listed, at=at, inherited=self._inherited)
        self._bridge.repair(found)
        if not intact:
            self._counts["rebuilds"] += 1
            self._note("rebuilt", f"entries were taken away: {found.intended} decisions restored")
        self._full_due = now + FULL_S
        repaired = len(found.missing) + len(found.foreign)
        self._counts["repaired"] += repaired
        self._counts["foreign"] += len(found.foreign)
        self._counts |= {"intended": found.intended, "found": found.found}
        return Reconciled(found.intended, found.found, len(found.foreign), repaired, not intact)

    def _bypass(self, full: bool) -> bool:
        """Return whether the switch does without entries now; told once. full: look at its mode."""
        if not (full or self._bridge.opens):
            return False
        before, self._bypassed = self._bypassed, self._bridge.bypassed()
        if self._bypassed and not before:
            self._note("failed", f"bridge {self._bridge.name} forwards everything now {OPENS}")
        return self._bypassed


def long_lived(standing: Iterable[Standing], left: dict[Place, float], *, now_s: float) -> None:
    """Let entries of decisions longer than a hard time-out can be count as right in `left` until
    half of it is over; after that they are renewed."""
    for one in standing:
        if one.ends_s - now_s > MAX_S / 2:
            for place in one.places:
                if left.get(place, 0.0) >= MAX_S / 2:
                    left[place] = one.ends_s - now_s

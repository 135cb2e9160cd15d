"""Decisions in, elements of nftables sets out: the enforcer that acts.

    decision -> Intention (capacity, evictions) -> commands -> one transaction -> Applied
                     ^                                             |
                     +---- reconcile: what the kernel lists  <-----+

Every element has a timeout, so whatever happens to this process, what it did ends by itself. The
next gateway finds the tables by name and owner, keeps their elements while its ledger is applied
again (no gap), and lets those go that the ledger did not name once `settle` is called.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ids_appliance.config import Enforce
from ids_appliance.enforce.answers import evicted, no_room, nothing_asked, refusal
from ids_appliance.enforce.conntrack import forget
from ids_appliance.enforce.elements import HOSTS, Place, places, pool, subject_text, timed
from ids_appliance.enforce.installation import Installation, Note
from ids_appliance.enforce.intention import POOLS, Full, Intention, Standing
from ids_appliance.enforce.nft import NftError
from ids_appliance.enforce.probe import Capabilities
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.enforce.reconcile import CHUNK, Moment, difference, removing, repairs
from ids_appliance.enforce.ruleset import FRESH_S
from ids_appliance.errors import EnforceError
from ids_appliance.types import Applied, Decision, Kind, Reconciled, Response, Subject

FULL_S: Final = 30.0
"""Compare everything after so long, even if nobody has changed the rules."""


@dataclass(slots=True)
class _Step:
    """What one decision asks of the kernel."""

    at: int
    decision: Decision
    commands: str
    before: Standing | None
    note: str
    proxied: bool
    """A SYN proxy begins with it."""


class NftEnforcer:
    """Hold decisions in nftables. Methods may be called from any thread; one at a time runs.

    interfaces: captured ports; above: bridges, bonds and VLANs on them. clock: seconds, monotonic.
    on_note: told what people should know, from the calling thread.
    """

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
        self._enforce = enforce
        self._clock = clock
        self._note = on_note
        self._lock = threading.Lock()
        self._there = Installation(
            enforce, interfaces=interfaces, above=above, protected=protected, clock=clock
        )
        self._intention = Intention(enforce, clock=clock, alarm=lambda line: on_note("alarm", line))
        self._inherited: dict[Place, float] = {}
        self._settled = False
        self._open = False
        self._full_due = 0.0
        self._begun: list[tuple[bytes, int]] = []
        self._late_s = 0.0
        self._counts = dict.fromkeys(
            ("batches", "retries", "failed_elements", "refused", "reconciles", "rebuilds")
            + ("repaired", "foreign", "intended", "found", "stale_flows"),
            0,
        )

    @property
    def capabilities(self) -> Capabilities:
        """What this kernel can, as found by `open`."""
        return self._there.capabilities

    def open(self) -> None:
        """Set the tables up, or take those of a gateway that is no more.

        Raises EnforceError in one line: the kernel lacks something, a running gateway holds the
        tables, a table of that name is somebody else's. Nothing is changed then.
        """
        with self._lock:
            self._setup()

    def set_protected(self, protected: ProtectedSets) -> None:
        """Protect others from now on; a decision about one who is protected now is let go of."""
        with self._lock:
            self._let_go([s for s in self._subjects() if protected.refuses(s)])
            if lost := protected.left_out():
                self._note("limited", f"{lost} protected MACs find no room in the kernel's set")
            before, routed = bool(self._there.protected.routers), bool(protected.routers)
            if not self._open or before != routed:
                self._there.protected = protected
            elif not self._there.protect(protected):
                self._make()
            for one in self._intention.all():
                decision = one.decision
                found = self._places(decision)
                if tuple(found) != one.places:  # beyond us, and a router has come or gone
                    self._intention.drop(decision.subject)
                    self._intention.restore(
                        Standing(decision, one.ends_s, tuple(found), one.serial)
                    )
            if self._open and before != routed:
                self._make()  # with rules for routers, or without

    def set_interfaces(self, names: Sequence[str], *, above: Sequence[str] = ()) -> None:
        """Capture other ports from now on; names may be absent for now."""
        with self._lock:
            changed = self._there.capture(names, above=above)
            if self._open and (changed or not self._there.ports_stand()):
                self._make()

    def set_classes(self, names: Sequence[str]) -> None:
        """Deprioritise whom decisions say, now that traffic classes stand on these interfaces."""
        with self._lock:
            before, self._there.classed = self._there.classed, tuple(names)
            if self._open and before != self._there.classed:
                self._make()

    def set_proven(self, addresses: Iterable[bytes]) -> None:
        """Exempt senders (4 or 16 bytes) from the limit of a flood for half an hour at least."""
        with self._lock:
            if self._open:
                self._there.prove(addresses)

    def apply(self, decisions: Sequence[Decision]) -> list[Applied]:
        """Make them hold; one answer per decision, in order. Protected ones are refused.

        Raises EnforceError only where there is no table to put anything into.
        """
        with self._lock:
            if not self._open:
                self._setup()
            answers: list[Applied | None] = [None] * len(decisions)
            for start in range(0, len(decisions), CHUNK):
                steps = []
                begin = self._clock()
                for at in range(start, min(start + CHUNK, len(decisions))):
                    step = self._step(at, decisions[at])
                    if isinstance(step, _Step):
                        steps.append(step)
                    else:
                        answers[at] = step
                for step, failed in self._carry_out(steps):
                    answers[step.at] = Applied(step.decision, not failed, failed or step.note)
                    if step.proxied and not failed:
                        subject = step.decision.subject
                        self._begun.append((subject.value, subject.port))
                self._handed_over(begin)
            return [answer for answer in answers if answer is not None]

    def tidy(self) -> None:
        """Let connection tracking forget what is in the way of a SYN proxy that has just begun."""
        with self._lock:
            begun, self._begun = self._begun, []
        gone = 0
        for victim, port in begun:  # without the lock: nobody's decision waits for it
            try:
                gone += forget(victim, port)
            except OSError as error:
                self._note("failed", f"old connections to {port} are still tracked: {error}")
        with self._lock:
            self._counts["stale_flows"] += gone

    def release(self, subjects: Sequence[Subject]) -> None:
        """Let go of them; those that do not stand are passed over."""
        with self._lock:
            self._let_go(subjects)

    def settle(self) -> None:
        """Say that the ledger has been applied: a predecessor's elements it did not name may go."""
        with self._lock:
            self._settled = True
            self._full_due = 0.0

    def reconcile(self) -> Reconciled:
        """Compare the kernel with what is intended, and repair it.

        Cheap while nobody has changed the rules: then everything is compared every 30 s only.
        """
        with self._lock:
            return self._reconcile()

    def clear(self) -> None:
        """Remove everything of ours and nothing else; the next `apply` sets it up again."""
        with self._lock:
            self._there.remove()
            self._intention.clear()
            self._inherited.clear()
            self._open = False

    def counters(self) -> dict[str, int]:
        """Return totals: dropped packets and bytes per set, elements, evictions, repairs."""
        with self._lock:
            found = self._there.dropped() if self._open else {}
            found |= {f"elements_{name}": self._intention.held(name) for name in POOLS}
            found |= {f"capacity_{name}": n for name, n in self._intention.capacity.items()}
            evictions = self._intention.evictions
            return (
                found | self._counts | {"evictions": evictions, "inherited": len(self._inherited)}
            )

    # Tables ------------------------------------------------------------------------------------

    def _setup(self) -> None:
        owner = self._there.preflight()
        if owner is not None:
            self._inherited = self._there.elements()
            self._settled = False
            self._note("taken_over", f"kept {len(self._inherited)} elements of pid {owner.pid}")
        for line in self.capabilities.limits(self._enforce):
            self._note("limited", line)
        self._make()
        self._open = True

    def _make(self) -> None:
        self._intention.expire()
        now = self._clock()
        elements = dict(self._inherited)
        for one in self._intention.all():
            elements.update(dict.fromkeys(one.places, one.ends_s - now))
        self._there.make(elements)
        self._handed_over(now)
        self._full_due = 0.0

    def _handed_over(self, begin_s: float) -> None:
        # On a busy machine the kernel may have an element seconds after its end was reckoned.
        self._late_s = max(self._late_s, self._clock() - begin_s)

    def _subjects(self) -> list[Subject]:
        return [one.decision.subject for one in self._intention.all()]

    # Decisions ---------------------------------------------------------------------------------

    def _places(self, decision: Decision) -> list[Place]:
        routed, classes = bool(self._there.protected.routers), bool(self._there.classed)
        return places(decision.subject, decision.response, routed_ports=routed, classes=classes)

    def _step(self, at: int, decision: Decision) -> "_Step | Applied":
        """Return what a decision asks of the kernel, or the answer where it asks nothing."""
        subject = decision.subject
        try:
            found = tuple(self._places(decision))
            why = refusal(decision, captured=self._there.names, protected=self._there.protected)
        except EnforceError as error:
            why = str(error)
        if why:
            self._counts["refused"] += 1
            return Applied(decision, False, why)
        before = self._intention.get(subject)
        if not found:
            self._let_go([subject])
            return nothing_asked(decision)
        try:
            gave_way = self._intention.put(decision, found)
        except Full:
            return no_room(decision, self._note)
        note = ""
        gone = list(before.places) if before else []
        for one in gave_way:
            note = evicted(one, self._note, by=subject)
            gone += one.places
        gone += [place for place in found if self._inherited.pop(place, None) is not None]
        commands = removing(dict.fromkeys(gone)) + _adding(found, decision.duration_s)
        fresh = subject.kind is Kind.FLOOD and len(subject.value) == 4 and before is None
        if fresh:
            commands += f"add element {HOSTS} fresh4 {{ {timed(found[0].key, FRESH_S)} }}\n"
        proxied = fresh and self._enforce.synproxy and self.capabilities.synproxy
        return _Step(at, decision, commands, before, note, proxied)

    def _carry_out(self, steps: list[_Step]) -> list[tuple[_Step, str]]:
        """Run steps as one transaction, one by one where that fails; return what failed and why."""
        if not steps:
            return []
        self._counts["batches"] += 1
        try:
            self._there.run("".join(step.commands for step in steps))
            return [(step, "") for step in steps]
        except NftError as error:
            self._counts["retries"] += 1
            missing = error.missing
        if missing and not self._there.intact():
            self._make()  # with what these steps intend, too
            self._counts["rebuilds"] += 1
            self._note("rebuilt", "tables were gone: made anew")
            return [(step, "") for step in steps]
        return [(step, self._alone(step)) for step in steps]

    def _alone(self, step: _Step) -> str:
        subject = step.decision.subject
        try:
            self._there.run(step.commands)
            return ""
        except NftError as error:
            if not error.full:
                return self._undo(step, str(error))
        # Fuller than our own books say: somebody else put elements in. The weakest makes room.
        weakest = self._intention.weakest(pool(subject))
        if weakest is None or weakest.decision is step.decision:
            return self._undo(step, "the kernel's set is full")
        self._intention.drop(weakest.decision.subject)
        self._intention.evictions += 1
        step.note = evicted(weakest, self._note, by=subject)
        gone = "".join(f"delete element {p.table} {p.set} {{ {p.key} }}\n" for p in weakest.places)
        try:
            self._there.run(gone + step.commands)
            return ""
        except NftError as error:
            return self._undo(step, str(error))

    def _undo(self, step: _Step, why: str) -> str:
        self._intention.drop(step.decision.subject)
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
                gone += standing.places
            elif self._inherited:
                for response in tuple(Response)[1:]:
                    for place in places(subject, response, routed_ports=True, classes=True):
                        if self._inherited.pop(place, None) is not None:
                            gone.append(place)
        for start in range(0, len(gone), CHUNK) if self._open else ():
            try:
                self._there.run(removing(gone[start : start + CHUNK]))
            except NftError:
                self._full_due = 0.0  # the next comparison takes away what is left

    # Comparison --------------------------------------------------------------------------------

    def _reconcile(self) -> Reconciled:
        self._counts["reconciles"] += 1
        self._intention.expire()
        now = self._clock()
        intended = len(self._intention)
        if not self._open:
            return Reconciled(intended, 0, 0, 0, False)
        if now < self._full_due and self._there.untouched():
            self._counts |= {"intended": intended, "found": intended}
            return Reconciled(intended, intended, 0, 0, False)
        if self._settled:
            self._inherited.clear()
        listed = self._there.elements()
        at = Moment(now, self._clock() - now, self._late_s)
        self._inherited = {p: listed[p] for p in self._inherited if p in listed}
        found = difference(self._intention.all(), listed, at=at, inherited=self._inherited)
        intact, ports = self._there.intact(), self._there.ports_stand()
        repaired = len(found.missing) + len(found.foreign)
        if intact and ports:
            failed = self._there.repair(repairs(found), found.missing)
            if found.missing:
                self._handed_over(now)
            self._counts["failed_elements"] += failed
            repaired -= failed
        else:
            self._make()
            self._counts["rebuilds"] += 1
            why = "tables were altered" if not intact else "an interface has changed"
            self._note("rebuilt", f"{why}: made anew with {intended} decisions")
        if not intact:
            found.found = 0  # elements that no rule looks at enforce nothing
        self._full_due = now + FULL_S
        self._counts["repaired"] += repaired
        self._counts["foreign"] += len(found.foreign)
        self._counts |= {"intended": found.intended, "found": found.found}
        return Reconciled(
            found.intended, found.found, len(found.foreign), repaired, not (intact and ports)
        )


def _adding(found: Iterable[Place], duration_s: float) -> str:
    return "".join(
        f"add element {p.table} {p.set} {{ {timed(p.key, duration_s)} }}\n" for p in found
    )

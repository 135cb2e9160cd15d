"""Decisions in, what would be done out: the enforcer that touches nothing."""

from collections.abc import Callable, Iterable, Sequence

from ids_appliance.config import Enforce
from ids_appliance.enforce.answers import evicted, no_room, nothing_asked, refusal
from ids_appliance.enforce.elements import places, quoted
from ids_appliance.enforce.installation import Note
from ids_appliance.enforce.intention import POOLS, Full, Intention
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.errors import EnforceError
from ids_appliance.types import Applied, Decision, Reconciled, Subject


class DryRunEnforcer:
    """Keep the books that NftEnforcer keeps, and no kernel. Arguments as there."""

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
        self._names: tuple[str, ...] = ()
        self._classes = False
        self.set_interfaces(interfaces, above=above)
        self._protected = protected
        self._note = on_note
        self._intention = Intention(enforce, clock=clock, alarm=lambda line: on_note("alarm", line))
        self._counts = dict.fromkeys(("refused", "reconciles", "intended", "found"), 0)

    def open(self) -> None:
        """Nothing to set up."""

    def set_protected(self, protected: ProtectedSets) -> None:
        """Protect others from now on; a decision about one who is protected now is let go of."""
        self._protected = protected
        subjects = [one.decision.subject for one in self._intention.all()]
        self.release([subject for subject in subjects if protected.refuses(subject)])

    def set_interfaces(self, names: Sequence[str], *, above: Sequence[str] = ()) -> None:
        """Capture other ports from now on."""
        for name in (*names, *above):
            quoted(name)
        self._names = tuple(names)

    def set_classes(self, names: Sequence[str]) -> None:
        """Let senders be deprioritised, as if classes stood on these interfaces."""
        self._classes = bool(names)

    def set_proven(self, addresses: Iterable[bytes]) -> None:
        """Exempt senders from limits that nobody enforces here."""

    def settle(self) -> None:
        """There is no predecessor here."""

    def apply(self, decisions: Sequence[Decision]) -> list[Applied]:
        """Say what would hold; one answer per decision, in order. Protected ones are refused."""
        self._intention.expire()
        return [self._one(decision) for decision in decisions]

    def tidy(self) -> None:
        """Nothing is left to be done."""

    def release(self, subjects: Sequence[Subject]) -> None:
        """Let go of them; those that do not stand are passed over."""
        for subject in subjects:
            self._intention.drop(subject)

    def reconcile(self) -> Reconciled:
        """Return that all that is intended is there."""
        self._intention.expire()
        n = len(self._intention)
        self._counts["reconciles"] += 1
        self._counts |= {"intended": n, "found": n}
        return Reconciled(n, n, 0, 0, False)

    def clear(self) -> None:
        """Forget everything."""
        self._intention.clear()

    def counters(self) -> dict[str, int]:
        """Return elements, evictions, refusals."""
        found = {f"elements_{name}": self._intention.held(name) for name in POOLS}
        found |= {f"capacity_{name}": n for name, n in self._intention.capacity.items()}
        return found | self._counts | {"evictions": self._intention.evictions}

    def _one(self, decision: Decision) -> Applied:
        subject = decision.subject
        try:
            found = tuple(
                places(subject, decision.response, routed_ports=False, classes=self._classes)
            )
            why = refusal(decision, captured=self._names, protected=self._protected)
        except EnforceError as error:
            why = str(error)
        if why:
            self._counts["refused"] += 1
            return Applied(decision, False, why)
        if not found:
            self._intention.drop(subject)
            return nothing_asked(decision)
        try:
            gave_way = self._intention.put(decision, found)
        except Full:
            return no_room(decision, self._note)
        note = "dry run"
        for one in gave_way:
            note = evicted(one, self._note, by=subject)
        return Applied(decision, True, note)

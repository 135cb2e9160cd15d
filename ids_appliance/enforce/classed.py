"""An enforcer and traffic classes in, one enforcer out: set up, compared and removed together.

Classes are no reason not to start: where they cannot be, that is told, and decisions hold all the
same.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from ids_appliance.enforce.installation import Note
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.enforce.tc import TrafficClasses
from ids_appliance.errors import EnforceError
from ids_appliance.types import Applied, Decision, Enforcer, Reconciled, Subject


class Live(Enforcer, Protocol):
    """An enforcer at work on this machine: NftEnforcer, OpenFlowEnforcer."""

    def open(self) -> None:
        """Set up what it needs."""

    def settle(self) -> None:
        """Say that the ledger has been applied."""

    def set_protected(self, protected: ProtectedSets) -> None:
        """Protect others from now on."""

    def set_interfaces(self, names: Sequence[str], *, above: Sequence[str] = ()) -> None:
        """Capture other ports from now on."""

    def set_proven(self, addresses: Iterable[bytes]) -> None:
        """Exempt senders from the limit of a flood."""


class ClassedEnforcer:
    """What `inner` does, with classes beside it.

    on_standing: hears on which interfaces classes stand, whenever that changes. held: while it
    returns true, classes are not set up (after a panic).
    """

    def __init__(
        self,
        inner: Live,
        classes: TrafficClasses,
        *,
        on_standing: Callable[[Sequence[str]], None],
        held: Callable[[], bool],
        on_note: Note = lambda kind, line: None,
    ) -> None:
        self._inner = inner
        self._classes = classes
        self._on_standing = on_standing
        self._held = held
        self._note = on_note
        self._open = False
        self._wait = False
        self._failed = ""
        self._told: tuple[str, ...] = ()
        self.settle = inner.settle
        self.set_protected = inner.set_protected
        self.set_interfaces = inner.set_interfaces
        self.set_proven = inner.set_proven
        self.tidy = inner.tidy

    def open(self) -> None:
        """Set up both. Raises EnforceError: `inner` cannot be."""
        self._inner.open()
        self._tend()

    def apply(self, decisions: Sequence[Decision]) -> Sequence[Applied]:
        """Make them hold; one answer per decision, in order."""
        return self._inner.apply(decisions)

    def release(self, subjects: Sequence[Subject]) -> None:
        """Let go of them."""
        self._inner.release(subjects)

    def reconcile(self) -> Reconciled:
        """Compare the kernel's state with the intended one, and repair it."""
        if self._wait:
            self._wait = False  # the flag of a panic may come a moment after its order
        else:
            self._tend()
        return self._inner.reconcile()

    def clear(self) -> None:
        """Remove everything of ours and nothing else."""
        self._open, self._wait = False, True
        try:
            self._inner.clear()
        finally:
            self._classes.clear()
            self._tell()

    def counters(self) -> dict[str, int]:
        """Return the totals of both."""
        return self._inner.counters() | self._classes.counters()

    def _tend(self) -> None:
        try:
            if self._open:
                self._classes.reconcile()
            elif not self._held():
                self._classes.open()
                self._open = True
            self._failed = ""
        except EnforceError as error:
            if str(error) != self._failed:  # once, not at each comparison
                self._failed = str(error)
                self._note("limited", f"no traffic classes: {error}")
        self._tell()

    def _tell(self) -> None:
        if self._classes.standing != self._told:
            self._told = self._classes.standing
            self._on_standing(self._told)

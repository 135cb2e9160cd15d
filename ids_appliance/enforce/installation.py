"""Our tables on this machine: set up or taken over, followed as ports come and go, counted."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from ids_appliance.config import Enforce
from ids_appliance.enforce.chains import Layout
from ids_appliance.enforce.elements import HOSTS, PORTS, Place, address_text, quoted, timed
from ids_appliance.enforce.generation import generation
from ids_appliance.enforce.nft import Nft, NftError
from ids_appliance.enforce.owner import Owner, this_process
from ids_appliance.enforce.probe import Capabilities, probe
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.enforce.reconcile import CHUNK
from ids_appliance.enforce.ruleset import MAX_PROVEN, PROVEN_S, SCHEMA
from ids_appliance.enforce.tables import Tables, present
from ids_appliance.errors import EnforceError

COUNTERS_S: Final = 0.5
"""Age at which the kernel's counters are read again."""

Note = Callable[[str, str], None]
"""(kind, line for people): alarm, evicted, failed, rebuilt, taken_over, limited."""


class Installation:
    """The tables with all that they are made of, the elements of decisions apart."""

    def __init__(
        self,
        enforce: Enforce,
        *,
        interfaces: Sequence[str],
        above: Sequence[str],
        protected: ProtectedSets,
        clock: Callable[[], float],
    ) -> None:
        self._enforce = enforce
        self._clock = clock
        self._nft = Nft()
        self._tables = Tables(self._nft)
        self.capabilities = Capabilities()
        self.protected = protected
        self.names: tuple[str, ...] = ()
        self.classed: tuple[str, ...] | None = None
        """Interfaces on which traffic classes stand; None: nobody can be deprioritised."""
        self._above: tuple[str, ...] = ()
        self.capture(interfaces, above=above)
        self._present: dict[str, int] = {}
        self._generation = -1
        self._proven: dict[bytes, float] = {}
        self._dropped: dict[str, list[int]] = {}
        self._dropped_before: Mapping[str, tuple[int, int]] = {}
        self._counters_due = 0.0

    def capture(self, names: Sequence[str], *, above: Sequence[str]) -> bool:
        """Take other ports from the next `make` on; return whether they are others than before.
        Raises EnforceError for an unusable name."""
        for name in (*names, *above):
            quoted(name)
        before = self.names, self._above
        self.names, self._above = tuple(names), tuple(above)
        return before != (self.names, self._above)

    def preflight(self) -> Owner | None:
        """Return whose tables are there, if anybody's. Raises EnforceError, PermissionMissing: the
        kernel lacks something, a running gateway holds them, they are somebody else's."""
        self.capabilities = probe()
        self.capabilities.demand()
        mine = this_process(SCHEMA)
        owner = self._tables.owner()
        if owner is None or not owner.alive() or (owner.pid, owner.start) == (mine.pid, mine.start):
            return owner
        shared = ", ".join(owner.interfaces) or "no interface"
        raise EnforceError(
            f"another gateway (pid {owner.pid}, on {shared}) holds the tables {PORTS} and {HOSTS}: "
            "stop it first"
        )

    def make(self, elements: Mapping[Place, float]) -> None:
        """Make the tables anew with these elements (place -> seconds left)."""
        self.count()
        self._present = present(self.names)
        layout = Layout(
            self._enforce,
            tuple(self._present),
            tuple(present(self._above)),
            self.protected,
            self._enforce.synproxy and self.capabilities.synproxy,
            self.capabilities.resets,
            this_process(SCHEMA).text(),
            self.classed,
        )
        self._tables.make(layout, elements)
        self._dropped_before = {}
        self._prove(list(self._proven))
        self._generation = generation()

    def run(self, commands: str) -> None:
        """Run a transaction of ours. Raises NftError."""
        self._nft.run(commands)
        if self._generation >= 0:
            self._generation = (self._generation + 1) & 0xFFFFFFFF

    def protect(self, protected: ProtectedSets) -> bool:
        """Let others be protected; return False where the tables are damaged: make them anew."""
        self.protected = protected
        try:
            self._tables.protect(protected)
        except NftError:
            return False
        self._generation = generation()
        return True

    def prove(self, addresses: Iterable[bytes]) -> None:
        """Exempt senders (4 or 16 bytes) from the limit of a flood for half an hour at least."""
        now = self._clock()
        self._proven = {a: t for a, t in self._proven.items() if now - t < PROVEN_S / 2}
        new = [a for a in dict.fromkeys(addresses) if a not in self._proven]
        new = new[: MAX_PROVEN - len(self._proven)]
        self._prove(new)
        self._proven.update(dict.fromkeys(new, now))

    def untouched(self) -> bool:
        """Return whether nobody has changed rules or ports since we last did."""
        changed = generation()
        return self.ports_stand() and changed == self._generation >= 0

    def ports_stand(self) -> bool:
        """Return whether the captured ports are those that the tables were made for."""
        return present(self.names) == self._present

    def intact(self) -> bool:
        """Return whether chains, rules and protected ones are as we made them."""
        return self._tables.intact()

    def elements(self) -> dict[Place, float]:
        """Return every element of every decision set -> seconds left."""
        return self._tables.elements()

    def repair(self, transactions: Iterable[str], missing: Mapping[Place, float]) -> int:
        """Run transactions, element by element where one fails; return how many failed."""
        failed = False
        for commands in transactions:
            try:
                self._nft.run(commands)
            except NftError:
                failed = True
        left = self._tables.add(missing) if failed and missing else 0
        self._generation = generation()
        return left

    def remove(self) -> list[str]:
        """Remove our tables and nothing else; return their names."""
        return self._tables.remove()

    def count(self) -> None:
        """Add up what the kernel has counted since the last time."""
        self._counters_due = self._clock() + COUNTERS_S
        try:
            now = self._tables.counters()
        except NftError:
            return  # the tables are gone, or not there yet
        for name, (packets, octets) in now.items():
            before = self._dropped_before.get(name, (0, 0))
            total = self._dropped.setdefault(name, [0, 0])
            # Smaller than before: the tables were made anew by another's hand.
            total[0] += packets - before[0] if packets >= before[0] else packets
            total[1] += octets - before[1] if octets >= before[1] else octets
        self._dropped_before = now

    def dropped(self) -> dict[str, int]:
        """Return packets and bytes that each kind of decision has cost, half a second old."""
        if self._clock() >= self._counters_due:
            self.count()
        found: dict[str, int] = {}
        for name, (packets, octets) in self._dropped.items():
            found |= {f"dropped_packets_{name}": packets, f"dropped_bytes_{name}": octets}
        return found

    def _prove(self, addresses: Sequence[bytes]) -> None:
        for family, size in ((4, 4), (6, 16)):
            texts = [timed(address_text(a), PROVEN_S) for a in addresses if len(a) == size]
            for start in range(0, len(texts), CHUNK):
                some = ", ".join(texts[start : start + CHUNK])
                both = (f"add element {t} proven{family} {{ {some} }}" for t in (PORTS, HOSTS))
                self.run("\n".join(both))

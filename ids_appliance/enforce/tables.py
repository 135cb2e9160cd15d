"""Our two tables as the kernel has them: made, listed, compared with how we made them, removed."""

import socket
from collections.abc import Mapping, Sequence
from typing import Final

from ids_appliance.enforce.chains import Layout
from ids_appliance.enforce.elements import HOSTS, PORTS, SETS, TABLES, Place, listed
from ids_appliance.enforce.nft import TERSE, Nft, NftError
from ids_appliance.enforce.owner import Owner, owner_of
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.enforce.reconcile import CHUNK, adding, by_table
from ids_appliance.enforce.ruleset import COUNTERS, replaced, table
from ids_appliance.errors import EnforceError

_EMPTY: Final = ProtectedSets()
_STATIC: Final = {name: ("owner", *_EMPTY.elements(name)) for name in TABLES}
"""Per table the sets that only we fill: compared as text."""


class Tables:
    """The kernel's side: nothing is decided here."""

    def __init__(self, nft: Nft) -> None:
        self._nft = nft
        self._made: dict[str, str] = {}

    def owner(self) -> Owner | None:
        """Return whose our tables are, a running gateway's if any; None where there are none.

        Raises EnforceError where a table has our name and is not ours.
        """
        found = None
        for name in TABLES:
            try:
                self._nft.run(f"list table {name}", flags=TERSE)
            except NftError as error:
                if error.missing:
                    continue
                raise
            one = self._owner(name)
            if one is None:
                raise EnforceError(f"table {name} is there and not ours: rename or delete it")
            found = one if found is None or one.alive() else found
        return found

    def make(self, layout: Layout, elements: Mapping[Place, float]) -> None:
        """Make both tables anew with these elements, in one transaction where the kernel takes it;
        else the elements follow, and one that is refused costs itself only."""
        filled = by_table(elements)
        start = "".join(replaced(name) for name in TABLES)
        try:
            self._nft.run(start + "".join(table(layout, name, filled[name]) for name in TABLES))
        except NftError:
            if not elements:
                raise
            self._nft.run(start + "".join(table(layout, name, {}) for name in TABLES))
            places = list(elements.items())
            for at in range(0, len(places), CHUNK):
                self.add(dict(places[at : at + CHUNK]))
        self._made = self._structure()

    def add(self, elements: Mapping[Place, float]) -> int:
        """Add elements, one by one where all at once are refused; return how many failed."""
        try:
            self._nft.run(adding(elements))
            return 0
        except NftError:
            return sum(self._failed(adding({place: left})) for place, left in elements.items())

    def protect(self, protected: ProtectedSets) -> None:
        """Let other senders be the protected ones, in one transaction."""
        commands = []
        for name in TABLES:
            for members, elements in protected.elements(name).items():
                commands.append(f"flush set {name} {members}")
                if elements:
                    commands.append(f"add element {name} {members} {{ {', '.join(elements)} }}")
        self._nft.run("\n".join(commands))
        self._made = self._structure()

    def intact(self) -> bool:
        """Return whether chains, rules, sets and the protected ones are as we made them."""
        try:
            return self._structure() == self._made
        except NftError as error:
            if error.missing:
                return False
            raise

    def elements(self) -> dict[Place, float]:
        """Return every element of every decision set that is there -> seconds left."""
        found = {}
        for name, sets in SETS.items():
            for members in sets:
                try:
                    text = self._text(name, members)
                except NftError as error:
                    if error.missing:
                        continue
                    raise
                for key, left in listed(text):
                    found[Place(name, members, key)] = left
        return found

    def counters(self) -> dict[str, tuple[int, int]]:
        """Return packets and bytes of every named counter, both tables together."""
        sums = dict.fromkeys(COUNTERS, (0, 0))
        for name in TABLES:
            words = self._nft.run(f"list counters table {name}").split()
            for at, word in enumerate(words):
                if word == "counter" and words[at + 1] in sums:
                    packets, octets = sums[words[at + 1]]
                    sums[words[at + 1]] = (
                        packets + int(words[at + 4]),
                        octets + int(words[at + 6]),
                    )
        return sums

    def remove(self) -> list[str]:
        """Remove our tables and nothing else, in one transaction; return their names."""
        names = [name for name in TABLES if self._owner(name)]
        if names:
            self._nft.run("".join(replaced(name) for name in names))
        self._made = {}
        return names

    def _owner(self, name: str) -> Owner | None:
        try:
            return owner_of(self._text(name, "owner"))
        except NftError as error:
            if error.missing:
                return None
            raise

    def _structure(self) -> dict[str, str]:
        made = {name: self._nft.run(f"list table {name}", flags=TERSE) for name in TABLES}
        for name, sets in _STATIC.items():
            for members in sets:
                made[f"{name} {members}"] = self._text(name, members)
        return made

    def _text(self, name: str, members: str) -> str:
        return self._nft.run(f"list set {name} {members}")

    def _failed(self, command: str) -> bool:
        try:
            self._nft.run(command)
        except NftError:
            return True
        return False


def present(names: Sequence[str]) -> dict[str, int]:
    """Return the interfaces of this network namespace among `names` with their indices."""
    there = {name: index for index, name in socket.if_nameindex()}
    return {name: there[name] for name in names if name in there}


__all__ = ["HOSTS", "PORTS", "Tables", "present"]

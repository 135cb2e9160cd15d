"""What should stand and what the kernel lists in, commands that bring them together out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ids_appliance.enforce.elements import TABLES, Place, timed
from ids_appliance.enforce.intention import Standing

GRACE_S: Final = 2.0
"""Kernel and intention may differ by so much about an element's end."""
CHUNK: Final = 1000
"""Elements in one transaction; a batch of 12,000 has met ENOBUFS elsewhere."""

Listed = Mapping[Place, float]
"""Every element of every decision set -> seconds left."""


@dataclass(slots=True)
class Difference:
    """How intention and kernel differ."""

    intended: int = 0
    found: int = 0
    """Decisions all of whose elements are there, with the right end."""
    missing: dict[Place, float] = field(default_factory=dict)
    """Not there, or with a wrong end: place -> seconds it should have left."""
    stale: list[Place] = field(default_factory=list)
    """There with a wrong end; also among `missing`."""
    foreign: list[Place] = field(default_factory=list)
    """There, and nobody intended it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When the kernel was asked, by the intention's clock."""

    now_s: float
    """Before it was."""
    took_s: float = 0.0
    """Until it had answered: at some time in it were the elements as it says."""
    late_s: float = 0.0
    """How long it may have taken to hand an element over; its time began at the end of that."""

    def fits(self, left_s: float, has_s: float | None) -> bool:
        """Return whether an element that should have so long left at `now_s` is as it should."""
        if has_s is None:
            return left_s <= self.took_s  # ended meanwhile
        grace = max(GRACE_S, 0.01 * left_s)
        return left_s - self.took_s - grace <= has_s <= left_s + self.late_s + grace


def difference(
    standing: Iterable[Standing], listed: Listed, *, at: Moment, inherited: Listed
) -> Difference:
    """Compare. inherited: elements of a predecessor that are kept until the ledger has spoken."""
    found = Difference()
    intended: set[Place] = set()
    for one in standing:
        left = one.ends_s - at.now_s
        if left <= 0:
            continue
        whole = True
        for place in one.places:
            intended.add(place)
            has = listed.get(place)
            if not at.fits(left, has):
                whole = False
                found.missing[place] = left
                if has is not None:
                    found.stale.append(place)
        found.intended += 1
        found.found += whole
    # What has just ended by our clock may live a moment longer by the kernel's.
    found.foreign = [
        place
        for place, left in listed.items()
        if place not in intended and place not in inherited and left > GRACE_S
    ]
    return found


def repairs(found: Difference) -> list[str]:
    """Return transactions that take away what is foreign and add what is missing."""
    commands = []
    gone = [*found.foreign, *found.stale]
    for start in range(0, len(gone), CHUNK):
        commands.append(removing(gone[start : start + CHUNK]))
    add = list(found.missing.items())
    for start in range(0, len(add), CHUNK):
        commands.append(adding(dict(add[start : start + CHUNK])))
    return commands


def adding(elements: Mapping[Place, float]) -> str:
    """Return commands that add elements, one per set. elements: place -> seconds left."""
    groups: dict[tuple[str, str], list[str]] = {}
    for place, left in elements.items():
        groups.setdefault((place.table, place.set), []).append(timed(place.key, left))
    return "".join(
        f"add element {table} {name} {{ {', '.join(keys)} }}\n"
        for (table, name), keys in groups.items()
    )


def removing(places: Iterable[Place]) -> str:
    """Return commands after which elements are gone, whether they were there.

    Deleting what has just ended would fail and void the transaction; added first it is there.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for place in places:
        groups.setdefault((place.table, place.set), []).append(place.key)
    return "".join(
        f"add element {table} {name} {{ {', '.join(f'{key} timeout 1m' for key in keys)} }}\n"
        f"delete element {table} {name} {{ {', '.join(keys)} }}\n"
        for (table, name), keys in groups.items()
    )


def by_table(elements: Mapping[Place, float]) -> dict[str, dict[str, list[str]]]:
    """Return table -> set -> elements with timeouts, for a table that is made anew."""
    tables: dict[str, dict[str, list[str]]] = {table: {} for table in TABLES}
    for place, left in elements.items():
        tables[place.table].setdefault(place.set, []).append(timed(place.key, left))
    return tables

"""Decisions in, what should stand and until when out; full sets lose their weakest decision.

Eviction, not aggregation: a /24 would punish 255 neighbours for one sender, and the weakest of
thousands is the one whose end or doubtful score makes it matter least.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ids_appliance.config import Enforce
from ids_appliance.enforce.elements import MAX_TIMEOUT_S, Place, pool
from ids_appliance.types import Decision, Kind, Subject

Who = tuple[Kind, bytes, str, int]
"""A subject, whether proven or not: the same sender never stands twice."""

POOLS: Final = ("lan", "wan", "unverified", "flood")


def who(subject: Subject) -> Who:
    """Return the key under which a subject stands."""
    return subject.kind, subject.value, subject.interface, subject.port


@dataclass(frozen=True, slots=True)
class Standing:
    """A decision that should hold."""

    decision: Decision
    ends_s: float
    """By the clock given to Intention."""
    places: tuple[Place, ...]
    serial: int

    @property
    def weight(self) -> tuple[float, float, int]:
        """Order in which a full set loses decisions: lowest score, then the one that ends first."""
        return self.decision.score, self.ends_s, self.serial


class Full(Exception):
    """A decision is weaker than all that fill its set."""


class Intention:
    """What should stand, with a capacity per pool.

    clock: seconds, monotonic. alarm: called with a line when a pool gets fuller than the share of
    `alarm_share`, once until it is below again.
    """

    def __init__(
        self, enforce: Enforce, *, clock: Callable[[], float], alarm: Callable[[str], None]
    ) -> None:
        self._clock = clock
        self._alarm = alarm
        self._share = enforce.alarm_share
        self.capacity: Final = {
            "lan": enforce.lan_set,
            "wan": enforce.wan_set,
            "unverified": enforce.unverified_set,
            "flood": enforce.flood_set,
        }
        self._standing: dict[Who, Standing] = {}
        self._held = dict.fromkeys(POOLS, 0)
        self._weakest: dict[str, list[tuple[tuple[float, float, int], Who]]] = {
            name: [] for name in POOLS
        }
        self._ends: list[tuple[float, int, Who]] = []
        self._alarmed: set[str] = set()
        self._serial = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._standing)

    def held(self, name: str) -> int:
        """Return how many decisions stand in a pool."""
        return self._held[name]

    def get(self, subject: Subject) -> Standing | None:
        """Return how a subject stands."""
        return self._standing.get(who(subject))

    def all(self) -> list[Standing]:
        """Return all that should stand."""
        return list(self._standing.values())

    def put(self, decision: Decision, places: tuple[Place, ...]) -> list[Standing]:
        """Let a decision stand, in place of one about the same subject; return who was evicted.

        Raises Full where the decision itself is the weakest of a full pool.
        """
        key = who(decision.subject)
        name = pool(decision.subject)
        ends = self._clock() + min(decision.duration_s, MAX_TIMEOUT_S)
        self._serial += 1
        made = Standing(decision, ends, places, self._serial)
        before = self._standing.get(key)
        evicted = []
        if (before is None or pool(before.decision.subject) != name) and (
            self._held[name] >= self.capacity[name]
        ):
            weakest = self.weakest(name)
            if weakest is None or made.weight < weakest.weight:
                raise Full
            self.drop(weakest.decision.subject)
            self.evictions += 1
            evicted.append(weakest)
        self.drop(decision.subject)
        self.restore(made)
        return evicted

    def restore(self, standing: Standing) -> None:
        """Let something stand again that was dropped."""
        key = who(standing.decision.subject)
        name = pool(standing.decision.subject)
        self._standing[key] = standing
        self._held[name] += 1
        heap = self._weakest[name]
        heapq.heappush(heap, (standing.weight, key))
        heapq.heappush(self._ends, (standing.ends_s, standing.serial, key))
        if len(heap) > 2 * self._held[name] + 64:  # most of it is of decisions long gone
            self._weakest[name] = [
                (s.weight, k) for k, s in self._standing.items() if pool(s.decision.subject) == name
            ]
            heapq.heapify(self._weakest[name])
        if len(self._ends) > 2 * len(self._standing) + 64:
            self._ends = [(s.ends_s, s.serial, k) for k, s in self._standing.items()]
            heapq.heapify(self._ends)
        self._watch(name)

    def drop(self, subject: Subject) -> Standing | None:
        """Let a subject no longer stand; return how it stood."""
        found = self._standing.pop(who(subject), None)
        if found is not None:
            name = pool(found.decision.subject)
            self._held[name] -= 1
            self._watch(name)
        return found

    def expire(self) -> list[Standing]:
        """Forget what has ended; the kernel's elements have by themselves."""
        now = self._clock()
        ended = []
        while self._ends and self._ends[0][0] <= now:
            _, serial, key = heapq.heappop(self._ends)
            found = self._standing.get(key)
            if found is not None and found.serial == serial:
                self.drop(found.decision.subject)
                ended.append(found)
        return ended

    def weakest(self, name: str) -> Standing | None:
        """Return the decision that a full pool would lose."""
        heap = self._weakest[name]
        while heap:
            weight, key = heap[0]
            found = self._standing.get(key)
            if found is not None and found.serial == weight[2]:
                return found
            heapq.heappop(heap)
        return None

    def clear(self) -> None:
        """Let nothing stand."""
        for standing in self.all():
            self.drop(standing.decision.subject)
        for heap in self._weakest.values():
            heap.clear()
        self._ends.clear()

    def _watch(self, name: str) -> None:
        held, most = self._held[name], self.capacity[name]
        if held < self._share * most:
            self._alarmed.discard(name)
        elif name not in self._alarmed:
            self._alarmed.add(name)
            self._alarm(f"the {name} set is {held / most:.0%} full: {held} of {most} decisions")

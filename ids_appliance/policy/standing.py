"""Decisions that stand, by whom they are about: which end next, which is the weakest."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ids_appliance.policy.subjects import identity
from ids_appliance.types import Decision, Response, Subject

_SLACK: Final = 64


@dataclass(slots=True)
class Held:
    """One decision that stands."""

    decision: Decision
    would: Response
    """What it would be if nothing held everything at observe; else the decision's response."""
    began_ns: int
    ends_ns: int
    """By the ledger's clock; every decision has an end."""
    count: int
    """Which decision about this subject it is: 1 the first."""
    alone: bool = False
    """Evidence was the only witness."""
    by_hand: bool = False
    probation: bool = False
    """A quarantine has ended, the subject is limited for a while yet."""
    note: str = ""
    """What the kernel said, or what was done instead."""

    @property
    def subject(self) -> Subject:
        """Return whom it is about."""
        return self.decision.subject

    @property
    def enforced(self) -> bool:
        """Say whether it is meant for the kernel."""
        return self.decision.response > Response.OBSERVE

    def remaining_s(self, now_ns: int) -> float:
        """Return the seconds until it ends or steps down; never below 0."""
        return max(0.0, (self.ends_ns - now_ns) / 1e9)

    @property
    def strength(self) -> tuple[bool, int, int, float, int]:
        """Order by which the weakest gives way: people's orders last, then the mildest first, and
        among equals the lowest score and the one that ends soonest."""
        response = self.decision.response
        would = 0 if self.enforced else int(self.would)  # only what never changes: heaps hold this
        return (self.by_hand, response, would, self.decision.score, self.ends_ns)


class Standing:
    """At most one decision per subject (its `identity`), `most` in all.

    Ends and strengths lie in heaps whose outdated entries are skipped by the decision's number, so
    that neither an expiry nor an eviction looks at all rows.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows: dict[Subject, Held] = {}
        self._ends: list[tuple[int, int, Subject]] = []
        self._weakest: list[tuple[tuple[bool, int, int, float, int], int, Subject]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._rows.values())

    def get(self, subject: Subject) -> Held | None:
        """Return what stands about a subject."""
        return self._rows.get(identity(subject))

    @property
    def full(self) -> bool:
        """Say whether another subject would take the place of one that stands."""
        return len(self._rows) >= self._most

    def put(self, held: Held) -> None:
        """Let a decision stand in place of what stood about its subject."""
        subject = identity(held.subject)
        self._rows[subject] = held
        number = held.decision.number
        heapq.heappush(self._ends, (held.ends_ns, number, subject))
        heapq.heappush(self._weakest, (held.strength, number, subject))
        if len(self._ends) > 2 * len(self._rows) + _SLACK:
            self._ends = [(h.ends_ns, h.decision.number, s) for s, h in self._rows.items()]
            heapq.heapify(self._ends)
        if len(self._weakest) > 2 * len(self._rows) + _SLACK:
            self._weakest = [(h.strength, h.decision.number, s) for s, h in self._rows.items()]
            heapq.heapify(self._weakest)

    def remove(self, subject: Subject) -> Held | None:
        """Let nothing stand about a subject; return what did."""
        return self._rows.pop(identity(subject), None)

    def ending(self, now_ns: int) -> Held | None:
        """Return one whose time is over, without removing it; None where there is none."""
        while self._ends:
            ends_ns, number, subject = self._ends[0]
            held = self._rows.get(subject)
            if held is not None and held.decision.number == number:
                return held if ends_ns <= now_ns else None
            heapq.heappop(self._ends)
        return None

    def weakest(self) -> Held | None:
        """Return the one that gives way next; None where nothing stands."""
        while self._weakest:
            strength, number, subject = self._weakest[0]
            held = self._rows.get(subject)
            if held is not None and held.decision.number == number and held.strength == strength:
                return held
            heapq.heappop(self._weakest)
        return None

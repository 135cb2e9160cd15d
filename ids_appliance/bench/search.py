"""Verdicts on offered rates in, the highest rate without loss out: galloping, then bisection.

It knows no time and no network, so that a test can hold it against a search that tries every rate,
and several of them can take turns on one machine.
"""

import math
from dataclasses import dataclass
from enum import Enum, auto


class Verdict(Enum):
    """What a step at a rate has shown."""

    HELD = auto()
    """No more was lost than is allowed."""
    LOST = auto()
    LIMITED = auto()
    """The generator did not achieve the rate: nothing is known about it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How to search."""

    start_pps: float = 20_000.0
    floor_pps: float = 100.0
    """Below this nobody looks: the answer is 0."""
    ceiling_pps: float = 4_000_000.0
    resolution: float = 0.05
    """The answer and the lowest rate that did not hold are at most this share apart; after two lost
    confirmations in a row twice as far, after three thrice."""
    stride: float = 2.0
    """Factor of the first step away from the start; each further one the same way squares it, up to
    2. Who knows about where the answer is begins with small ones."""
    confirmations: int = 3
    """Longer steps at the answer that have to hold as well."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A rate to be tried."""

    pps: float
    confirming: bool
    """A longer step: the rate has held once."""


class Search:
    """One search: ask `probe`, try it, `tell`; until `probe` is None."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._low = 0.0
        self._high = math.inf
        self._stride = terms.stride
        self._confirmed = self._fallen = 0
        self._confirming = self._done = False
        self.limited = False
        """The generator, not what is measured, has set the upper end: `pps` is at least so much."""
        self._next()

    @property
    def pps(self) -> float:
        """The highest rate that has held so far; 0: none."""
        return self._low

    @property
    def probe(self) -> Probe | None:
        """What to try next; None: over."""
        return None if self._done else Probe(self._rate, self._confirming)

    def tell(self, verdict: Verdict) -> None:
        """Take in what the probe has shown."""
        if self._confirming:
            if verdict is Verdict.HELD:
                self._confirmed += 1
                self._fallen = 0
            else:
                # It held once and not again: a step down, confirmed anew; two steps from there,
                # then three. What stalls now and then is far below what a short step shows.
                self._confirmed = 0
                self._fallen += 1
                self.limited = verdict is Verdict.LIMITED
                down = (1 + self._terms.resolution) ** self._fallen
                self._high, self._low = self._low, self._low / down
        elif verdict is Verdict.HELD:
            self._low = self._rate
        else:
            self._high = self._rate
            self.limited = verdict is Verdict.LIMITED
        self._next()

    def _next(self) -> None:
        terms = self._terms
        if self._confirming:
            self._rate = self._low
            if self._low < terms.floor_pps:
                self._low, self._done = 0.0, True
            self._done = self._done or self._confirmed >= terms.confirmations
        elif self._high == math.inf:
            if self._low >= terms.ceiling_pps:
                self.limited = True
                self._confirm()
            wanted = self._low * self._gallop() if self._low else terms.start_pps
            self._rate = min(wanted, terms.ceiling_pps)
        elif not self._low:
            self._rate = self._high / self._gallop()
            self._done = self._rate < terms.floor_pps
        elif self._high <= self._low * (1 + terms.resolution):
            self._confirm()
        else:
            self._rate = math.sqrt(self._low * self._high)

    def _gallop(self) -> float:
        stride = self._stride
        self._stride = min(2.0, stride * stride)
        return stride

    def _confirm(self) -> None:
        self._confirming, self._rate = True, self._low
        self._done = self._terms.confirmations == 0

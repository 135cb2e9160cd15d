"""Modes, mixes and how thorough in, every search of a run out, taking turns.

In a round each mode's search has one step before any has its second: what disturbs the machine for
a minute disturbs all alike. The first round of a mix searches from far, later ones begin a little
below what the round before has found, and each gives one pair (mode, tapped) for the ratios.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from ids_appliance.bench.modes import TIMED, Mode
from ids_appliance.bench.search import Probe, Search, Terms, Verdict
from ids_appliance.bench.steps import Step

TRIES: Final = 2
"""How often a rate of the search is offered that has not held: one stall of the machine, or one of
the generator's, else decides about a whole search. A confirmation that loses is not tried again."""
NEAR: Final = 0.93
"""Where a later round begins, as a share of what the round before has found; and 1 / `NEAR`**2 is
its first stride, so that the second step is as far above it."""


class Trials(Protocol):
    """Whoever can try a rate."""

    def run(self, mode: Mode, mix: str, pps: float, seconds: float) -> Step:
        """Offer a mix at a rate for so long, and count."""


@dataclass(frozen=True, slots=True)
class Thoroughness:
    """How much time a run takes; the defaults are those of a result to be told."""

    step_s: float = 10.0
    confirm_s: float = 60.0
    confirmations: int = 3
    confirmed_rounds: int = 10
    """Rounds, from the first on, whose answers are confirmed; those of later ones are what held in
    the search."""
    rounds: int = 10
    resolution: float = 0.05
    start_pps: float = 20_000.0
    ceiling_pps: float = 4_000_000.0
    fixed_pps: tuple[float, ...] = (15_000.0, 19_500.0)
    """Rates at which every mode's CPU and memory are measured."""
    fixed_s: float = 60.0

    def terms(self, number: int, near_pps: float = 0.0) -> Terms:
        """Return the terms of a round's search, from far or from near a rate."""
        return Terms(
            start_pps=NEAR * near_pps or self.start_pps,
            stride=NEAR**-2 if near_pps else 2.0,
            ceiling_pps=self.ceiling_pps,
            resolution=self.resolution,
            confirmations=self.confirmations if number <= self.confirmed_rounds else 0,
        )


QUICK = Thoroughness(
    step_s=2.0, confirm_s=5.0, confirmations=1, rounds=1, resolution=0.2, fixed_s=5.0
)
"""The shape of a run, in about ten minutes for two mixes."""


@dataclass(frozen=True, slots=True)
class Found:
    """One search's end."""

    mode: str
    mix: str
    round: int
    pps: float
    limited: bool
    """The generator could offer no more: `pps` is at least so much."""
    at: Step | None
    """The last step that held there."""
    beyond: Step | None = None
    """The step at the lowest rate that did not hold."""
    finished: bool = True
    """False: the run was cut off before all confirmations; the rate has held in one step at least.
    """


@dataclass(slots=True)
class Results:
    """What a run has found so far."""

    found: list[Found] = field(default_factory=list)
    fixed: list[Step] = field(default_factory=list)
    steps: int = 0
    lost_once: int = 0
    """Steps of a search that lost and were tried again."""
    held_then: int = 0
    """Of these, which held the second time."""


@dataclass(slots=True)
class _Course:
    """One search under way, with the steps that are told about."""

    search: Search
    held: Step | None = None
    beyond: Step | None = None

    def take(self, step: Step, probe: Probe) -> None:
        """Tell the search what a step has shown."""
        self.search.tell(step.verdict)
        rate = step.sent.requested_pps
        held = step.verdict is Verdict.HELD
        if held and (rate == self.search.pps or probe.confirming):
            self.held = step
        lowest = self.beyond is None or rate <= self.beyond.sent.requested_pps
        if not held and lowest:
            self.beyond = step

    def found(self, mode: str, mix: str, number: int) -> Found:
        """Return what it has found so far."""
        search = self.search
        at = self.held if search.pps else None
        return Found(
            mode,
            mix,
            number,
            search.pps,
            search.limited,
            at=at,
            beyond=self.beyond,
            finished=search.probe is None,
        )


Say = Callable[[str], None]


class Run:
    """One whole run; `results` grows while it goes on, so that Ctrl-C keeps what there is."""

    def __init__(self, trials: Trials, how: Thoroughness, *, say: Say) -> None:
        self.results = Results()
        self._trials = trials
        self._how = how
        self._say = say

    def search(self, modes: Sequence[Mode], mixes: Sequence[str]) -> None:
        """Search every mode's highest rate under every mix, in rounds."""
        near: dict[tuple[str, str], float] = {}
        for number in range(1, self._how.rounds + 1):
            for mix in mixes:
                self._round(modes, mix, number=number, near=near)

    def _round(
        self, modes: Sequence[Mode], mix: str, *, number: int, near: dict[tuple[str, str], float]
    ) -> None:
        terms = {m.name: self._how.terms(number, near.get((m.name, mix), 0.0)) for m in modes}
        courses = {name: _Course(Search(of)) for name, of in terms.items()}
        try:
            while any(course.search.probe for course in courses.values()):
                for mode in modes:
                    course = courses[mode.name]
                    probe = course.search.probe
                    if probe is not None:
                        course.take(self._try(mode, mix, probe, number=number), probe)
        finally:  # also after Ctrl-C
            for name, course in courses.items():
                near[name, mix] = course.search.pps
                found = course.found(name, mix, number)
                if found.finished or found.at is not None:
                    self.results.found.append(found)

    def _try(self, mode: Mode, mix: str, probe: Probe, *, number: int) -> Step:
        """Try a rate; again if only the generator could not, and if a step of the search lost."""
        seconds = self._how.confirm_s if probe.confirming else self._how.step_s
        lost = False
        for left in reversed(range(TRIES)):
            step = self._trials.run(mode, mix, probe.pps, seconds)
            self._say(f"{mix} {number}: {line(step, confirming=probe.confirming)}")
            self.results.steps += 1
            self.results.held_then += lost and step.verdict is Verdict.HELD
            if step.verdict is Verdict.HELD or (probe.confirming and step.verdict is Verdict.LOST):
                break
            if step.verdict is Verdict.LOST and left:
                lost = True
                self.results.lost_once += 1
        return step

    def fix(self, modes: Sequence[Mode], mixes: Sequence[str], *, timed: bool = True) -> None:
        """Measure every mode's CPU and memory at the fixed rates, and latency if `timed`."""
        twins = [TIMED[mode.name] for mode in modes if timed and mode.name in TIMED]
        for pps in self._how.fixed_pps:
            for mix in mixes:
                for mode in [*modes, *twins]:
                    step = self._trials.run(mode, mix, pps, self._how.fixed_s)
                    self.results.fixed.append(step)
                    self._say(f"{mix} fixed: {line(step, confirming=False)}")


def line(step: Step, *, confirming: bool) -> str:
    """Return a step for people."""
    lost = max(step.lost_forwarding, step.lost_judging)
    what = "confirming " if confirming else ""
    return (
        f"{step.mode:14} {what}{step.sent.requested_pps:10,.0f} pps  "
        f"{step.verdict.name.lower():8} lost {100 * lost:.4f} %"
    )


def hasten(how: Thoroughness, **given: Any) -> Thoroughness:
    """Return the thoroughness with what somebody has asked for instead."""
    return replace(how, **{key: value for key, value in given.items() if value is not None})


def steps_at_most(how: Thoroughness, modes: int, mixes: int) -> float:
    """Return about how many seconds a run takes, three steps' worth of processes included."""
    steps = 11 + 6 * (how.rounds - 1)
    confirmations = how.confirmations * min(how.rounds, how.confirmed_rounds)
    searches = steps * (how.step_s + 4) + confirmations * (how.confirm_s + 4)
    searches *= mixes * modes
    return searches + len(how.fixed_pps) * mixes * modes * (how.fixed_s + 4)

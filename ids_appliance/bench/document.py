"""A run's results in, the JSON document of it out; and the figures that a report takes from it."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ids_appliance.bench.plan import Found, Results, Thoroughness
from ids_appliance.bench.steps import Step

VERSION: Final = 1
Document = dict[str, Any]
"""What is written as JSON; a report reads nothing else."""


def document(
    results: Results,
    *,
    how: Thoroughness,
    modes: Mapping[str, str],
    mixes: Sequence[str],
    about: Mapping[str, Any],
) -> Document:
    """Return the document. modes: name -> what it is. about: date, machine, model, command."""
    return {
        "version": VERSION,
        **about,
        "thoroughness": asdict(how),
        "modes": dict(modes),
        "mixes": list(mixes),
        "steps": results.steps,
        "lost_once": results.lost_once,
        "held_then": results.held_then,
        "found": [_found(one) for one in results.found],
        "fixed": [told(step) for step in results.fixed],
    }


def _found(one: Found) -> dict[str, Any]:
    return {
        "mode": one.mode,
        "mix": one.mix,
        "round": one.round,
        "pps": round(one.pps, 1),
        "generator_limited": one.limited,
        "finished": one.finished,
        "step": told(one.at) if one.at is not None else None,
        "beyond": told(one.beyond) if one.beyond is not None else None,
    }


def told(step: Step) -> dict[str, Any]:
    """Return a step as a document has it: what was counted, and the shares that follow."""
    return asdict(step) | {
        "offered_pps": round(step.offered_pps, 1),
        "lost_forwarding": step.lost_forwarding,
        "lost_judging": step.lost_judging,
        "verdict": step.verdict.name.lower(),
    }


@dataclass(frozen=True, slots=True)
class Quartiles:
    """A median with its quartiles, and of how many."""

    low: float
    median: float
    high: float
    n: int


def quartiles(values: Sequence[float]) -> Quartiles | None:
    """Return them; None of nothing. Fewer than two values are their own quartiles."""
    if not values:
        return None
    if len(values) == 1:
        return Quartiles(values[0], values[0], values[0], 1)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Quartiles(low, median, high, len(values))


def answers(told: Document, mix: str) -> list[dict[str, Any]]:
    """Return a mix's answers. A search that was cut off knows a rate that has held and not where
    that ends: it stands only for a mode that has no other answer."""
    found = [f for f in told["found"] if f["mix"] == mix]
    whole = [f for f in found if f.get("finished", True)]
    known = {f["mode"] for f in whole}
    return whole + [f for f in found if f["mode"] not in known]


def rates(told: Document, mode: str, mix: str) -> tuple[Quartiles | None, bool]:
    """Return a mode's highest rates over all rounds, and whether the generator limited any."""
    found = [f for f in answers(told, mix) if f["mode"] == mode]
    return quartiles([f["pps"] for f in found]), any(f["generator_limited"] for f in found)


def ratios(told: Document, mode: str, to: str, mix: str) -> tuple[Quartiles | None, bool]:
    """Return a mode's highest rate over another mode's, pair by pair of the same round; and whether
    the generator limited one of any pair, so that the ratio says little."""
    of = {(f["mode"], f["round"]): f for f in answers(told, mix)}
    pairs = [
        (one, of[to, number])
        for (name, number), one in sorted(of.items(), key=lambda item: item[0][1])
        if name == mode and of.get((to, number), {}).get("pps")
    ]
    limited = any(f["generator_limited"] for pair in pairs for f in pair)
    return quartiles([one["pps"] / other["pps"] for one, other in pairs]), limited

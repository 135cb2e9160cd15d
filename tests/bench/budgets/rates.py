"""Rates: what each mode takes without loss, over tapped forwarding and over the published way.

Searches have the gateway and its forwarding on one CPU and all else on the others, or the generator
would set every limit. They are the benchmark's own (ids_appliance/bench), modes taking turns; what
is shorter here than in a whole run stands beside each figure.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from ids_appliance.bench.bed import Bed
from ids_appliance.bench.cpus import Camps
from ids_appliance.bench.document import Quartiles, document, rates, ratios
from ids_appliance.bench.modes import MODES, Stage
from ids_appliance.bench.plan import Run, Thoroughness
from ids_appliance.bench.trial import BedTrials
from tests.bench import spine
from tests.bench.budgets.rows import LIMITED, Figure

LIMITS: Final = {"offloaded": 0.9, "gateway-only": 0.8}
RANDOM: Final = 0.3
LITERAL: Final = 25.0
CPU_PERCENT, RESIDENT_MB = 3.0, 80.0
PUBLISHED_PPS: Final = 15_000.0
LONG_S: Final = 10.0
"""A step with who takes a second's packets in one call: in 1 s it held twice what it can carry, by
putting aside what the next second would not have had room for."""
MIXES: Final = ("syn-single", "syn-spoofed", "udp-flood", "scan", "random")
Say = Callable[[str], None]


@contextmanager
def trials(*, apart: bool = False) -> Any:
    """The test bed, with the shipped model."""
    camps = Camps.found() if apart else None
    before = os.sched_getaffinity(0)
    if camps is not None:
        os.sched_setaffinity(0, camps.others)
    prefix = camps.prefix if camps is not None else ()
    try:
        with Bed(camps) as bed, Stage(bed, spine.SHIPPED, prefix=prefix) as stage:
            yield BedTrials(bed, stage)
    finally:
        os.sched_setaffinity(0, before)


def searched(how: Thoroughness, modes: Sequence[str], mixes: Sequence[str], *, say: Say) -> Any:
    """Return the document of a search."""
    with trials(apart=True) as bed:
        run = Run(bed, how, say=say)
        run.search([MODES[name] for name in modes], mixes)
    names = {name: MODES[name].about for name in modes}
    return document(run.results, how=how, modes=names, mixes=mixes, about={})


def over_tapped(how: Thoroughness, mixes: Sequence[str], *, say: Say) -> list[Figure]:
    """Return each mode's highest rate over tapped forwarding, mix by mix; with the first one of all
    also what the kernel forwards where nobody looks, to which packets are alike."""
    modes = (*(("bare",) if mixes[0] == MIXES[0] else ()), "tapped", *LIMITS)
    told = searched(how, modes, mixes, say=say)
    found = []
    for mix in mixes:
        for mode, limit in LIMITS.items():
            ratio, limited = ratios(told, mode, "tapped", mix)
            if ratio is None:
                continue
            own = _kpps(*rates(told, mode, mix))
            others = [m for m in modes if m not in LIMITS]
            beside = ", ".join(f"{m} {_kpps(*rates(told, m, mix))}" for m in others)
            found.append(
                Figure(
                    "rate",
                    f"{mode} / tapped, {mix}",
                    ratio.median,
                    "",
                    None if limited else RANDOM if mix == "random" else limit,
                    ">=",
                    anchor=f"{own} kpps; {beside}",
                    ratio=ratio.median,
                    note=_how(how, ratio, limited=limited),
                )
            )
    return found


def over_literal(how: Thoroughness, *, say: Say) -> list[Figure]:
    """Return ours over what is built literally as published, each over its own twin."""
    mix = "syn-single"
    how = replace(how, step_s=max(how.step_s, LONG_S))
    twins = {"offloaded": "paper-offloaded", "gateway-only": "paper-gateway"}
    told = searched(how, [*twins.values(), *twins], [mix], say=say)
    found = []
    for mode, twin in twins.items():
        ratio, limited = ratios(told, mode, twin, mix)
        if ratio is not None:
            theirs, own = (_kpps(*rates(told, m, mix)) for m in (twin, mode))
            found.append(
                Figure(
                    "literal",
                    f"{mode} / {twin}, {mix}",
                    ratio.median,
                    "times",
                    None if limited else LITERAL,
                    ">=",
                    anchor=f"{twin} {theirs} kpps, ours {own}",
                    ratio=ratio.median,
                    note=_how(how, ratio, limited=limited),
                )
            )
    return found


def processor(*, seconds: float, say: Say) -> list[Figure]:
    """Return the gateway's CPU and memory at the published rate, the window open."""
    found = []
    with trials() as bed:
        for mix in ("syn-single", "syn-spoofed", "ordinary"):
            steps = {
                name: bed.run(MODES[name], mix, PUBLISHED_PPS, seconds)
                for name in ("tapped", *LIMITS)
            }
            tapped = steps["tapped"].used["gateway"].cpu_percent
            for mode in LIMITS:
                step, used = steps[mode], steps[mode].used["gateway"]
                say(f"{mode} {mix} {used.cpu_percent:.1f} %")
                note = f"{step.verdict.name.lower()}, whole machine {step.machine_percent:.0f} %"
                found.append(
                    Figure(
                        "cpu",
                        f"{mode}, {mix}: CPU",
                        used.cpu_percent,
                        "% of a core",
                        CPU_PERCENT,
                        anchor=f"a reader of the same ring that only counts: {tapped:.1f} %",
                        note=note,
                    )
                )
                megabytes = used.resident_mib * 1.048576
                found.append(
                    Figure("cpu", f"{mode}, {mix}: resident", megabytes, "MB", RESIDENT_MB)
                )
    return found


def _kpps(found: Quartiles | None, limited: bool) -> str:
    if found is None:
        return "-"
    return f"{'>= ' if limited else ''}{found.median / 1000:.1f}"


def _how(how: Thoroughness, ratio: Quartiles, *, limited: bool) -> str:
    pairs = f"{ratio.n} pairs" if ratio.n > 1 else "one pair"
    spread = f", {ratio.low:.2f}-{ratio.high:.2f}" if ratio.n > 1 else ""
    note = f"{pairs}{spread}, steps of {how.step_s:g} s to {how.resolution:.0%}"
    return note + (f", {LIMITED}" if limited else "")

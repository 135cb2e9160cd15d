"""Figures in, the budgets' table out: met or missed, by name, the anchor's ratio beside each.

A figure with a limit decides about its row; one without stands there for comparison. Parts are
measured one by one, because some need the machine for minutes: each says when, and of what commit.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

VERSION = 1
ROWS = {
    "known": "parse + features + cell + cache hit: <= 100 ns a packet",
    "new": "a new cell: <= 1 us at batch 1, <= 0.5 us at 256, faster than the others' forests",
    "link": "bytes on the link, mean a packet: <= 1.5 spoofed SYN flood, <= 0.1 from one source, "
    "<= 20 ordinary life",
    "rate": "highest loss-free rate / tapped: >= 0.9 offloaded, >= 0.8 gateway-only; random "
    "payloads >= 0.3",
    "literal": "the same / built literally as published: >= 25",
    "cpu": "gateway process at 15 kpps, window open: <= 3 % of one core, <= 80 MB",
    "element": "packet over the threshold -> kernel set element: <= 20 ms p99",
    "contained": "first attack packet -> contained: flood of >= 10 kpps median <= 150 ms, worst "
    "<= 1 s; scan, sweep, ARP <= 2 s",
    "inline": "NFQUEUE, judging / accepting everything: >= 0.9; added latency p50 <= 60 us, p99 "
    "<= 1.2 x accepting everything",
    "node": "node: >= 500,000 new cells a second a core, decode and reply included",
    "extraction": "features from uncompressed captures into arrays: >= 300 MB/s a core, constant "
    "memory",
}
"""Row -> the budget, in the order of the table."""
LIMITED = "the generator could offer no more"
"""In the note of a figure that is held against no limit for that."""
BUSY = (
    "**The machine was busy with other things**: delays are too long here and rates too low; "
    "processor time, bytes and counts are hardly touched."
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured."""

    row: str
    what: str
    value: float
    unit: str
    limit: float | None = None
    sense: Literal["<=", ">="] = "<="
    anchor: str = ""
    """What else was measured in the same run, with its own figure."""
    ratio: float | None = None
    """How many times better than the anchor we are; below 1: worse."""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether it keeps its limit; None: it has none."""
        if self.limit is None:
            return None
        return self.value <= self.limit if self.sense == "<=" else self.value >= self.limit


@dataclass(frozen=True, slots=True)
class Part:
    """What was measured together, by one command."""

    name: str
    command: str
    date: str
    commit: str
    seconds: float
    load: float
    """Of the machine, before it began."""
    figures: tuple[Figure, ...]
    missing: str = ""
    """Why there are none."""


def told(machine: Mapping[str, Any], parts: Iterable[Part]) -> dict[str, Any]:
    """Return the document that is written as JSON."""
    return {"version": VERSION, "machine": dict(machine)} | {
        "parts": [
            dataclasses.asdict(part)
            | {"figures": [dataclasses.asdict(f) | {"met": f.met} for f in part.figures]}
            for part in parts
        ]
    }


def read(document: Mapping[str, Any]) -> dict[str, Part]:
    """Return a document's parts by name, so that some of them can be measured anew."""
    found = {}
    for part in document["parts"]:
        figures = [{k: v for k, v in f.items() if k != "met"} for f in part["figures"]]
        found[part["name"]] = Part(**part | {"figures": tuple(Figure(**f) for f in figures)})
    return found


def page(document: Mapping[str, Any]) -> str:
    """Return the page: what is met and missed first, then every figure."""
    parts = read(document).values()
    figures = [figure for part in parts for figure in part.figures]
    machine = document["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    commits = {part.commit for part in parts}
    head = [
        "# Budgets",
        "",
        "What the design allows each part to cost, and what it was measured to cost. Written by",
        "`make budgets`; a figure holds for this machine, a ratio travels better.",
        "",
        f"* {machine['cpu']}, {machine['cores']} cores, {machine['memory_mib']:,} MiB, "
        f"{machine['kernel']}; {versions}",
        f"* {'one state' if len(commits) == 1 else 'several states'} of the code; everything runs "
        "on this machine: generator, gateway, node, attackers",
    ]
    summary = [[budget, _verdict(row, figures, parts)] for row, budget in ROWS.items()]
    lines = [*head, "", *_table(["budget", "kept?"], summary)]
    for part in parts:
        lines += ["", f"## {part.name}", "", _when(part), ""]
        if part.load > machine["cores"]:
            lines += [BUSY, ""]
        if part.missing:
            lines.append(f"Not measured: {part.missing}.")
        else:
            lines += _table(
                ["", "figure", "budget", "kept", "beside it", "times better"],
                [_cells(figure) for figure in part.figures],
            )
    return "\n".join(lines) + "\n"


def _when(part: Part) -> str:
    return (
        f"`{part.command}`, {part.date}, {part.seconds:.0f} s, commit {part.commit}, load before "
        f"{part.load:.2f}"
    )


def _verdict(row: str, figures: Sequence[Figure], parts: Iterable[Part]) -> str:
    limited = [f for f in figures if f.row == row and f.limit is not None]
    missed = [f for f in limited if not f.met]
    if not limited:
        why = [part.missing for part in parts if part.missing and row in part.name.split("-")]
        return f"not measured{': ' + why[0] if why else ''}"
    open_ = (f for f in figures if f.row == row and f.limit is None and LIMITED in f.note)
    untold = [f.what for f in open_]
    said = "kept"
    if missed:
        said = "missed: " + "; ".join(f"{f.what} {number(f.value)} {f.unit}" for f in missed)
    return f"{said}; not told, {LIMITED}: {'; '.join(untold)}" if untold else said


def _cells(figure: Figure) -> list[str]:
    limit = "" if figure.limit is None else f"{figure.sense} {number(figure.limit)}"
    kept = {None: "", True: "yes", False: "**no**"}[figure.met]
    what = figure.what + (f" ({figure.note})" if figure.note else "")
    ratio = "" if figure.ratio is None else f"{number(figure.ratio)}"
    return [what, f"{number(figure.value)} {figure.unit}", limit, kept, figure.anchor, ratio]


def number(value: float) -> str:
    """Return three digits that count, and whole numbers as they are."""
    if value != value or value in (float("inf"), float("-inf")):
        return "never" if value > 0 else "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]

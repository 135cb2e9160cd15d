"""Performances and results in, pictures (PNG) of them out; matplotlib is an extra."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from ids_appliance.lab.demo.containment import per_sample
from ids_appliance.lab.demo.play import Performance
from ids_appliance.lab.demo.probes import ARP_LOOK_S
from ids_appliance.lab.demo.results import Result
from ids_appliance.lab.measure import SAMPLE_S
from ids_appliance.telemetry.pictures import drawing, save

_SENT, _ARRIVED, _WINDOW = "#e45756", "#4c78a8", "#f2cf5b"
_WAYS: Final = (("trigger", "#8a817c"), ("forest", "#4c78a8"), ("both", "#54a24b"))


def draw(performances: Sequence[Performance], results: Sequence[Result], folder: Path) -> list[str]:
    """Draw everything into a folder; return the files' names, none without matplotlib."""
    pyplot = drawing()
    if pyplot is None:
        return []
    made = []
    both = list(zip(performances, results, strict=True))
    for one, result in both:
        if one.act.attacker and result.containment is not None:
            made.append(f"{result.name}.png")
            _attack(pyplot, one, result, folder / made[-1])
    made.append("windows.png")
    _windows(pyplot, both, folder / made[-1])
    told = [r for r in results if r.alone and r.kind != "observed"]
    if told:
        made.append("alone.png")
        _alone(pyplot, told, folder / made[-1])
    return made


def _attack(pyplot: Any, one: Performance, result: Result, path: Path) -> None:
    """Packets per 100 ms: sent by the attacker, arrived at its victim; what happened when."""
    zero = one.figures.first_ns
    zero = one.start_ns if zero is None else zero
    rows = [((t - zero) / 1e9, s, a) for t, s, a in per_sample(one.figures.samples)]
    times = [t for t, _, _ in rows]
    figure, ax = pyplot.subplots(figsize=(9, 3.6), layout="constrained")
    for window in one.story.windows:
        opened = ((window["opened_ns"] or zero) - zero) / 1e9
        closed = (window["closed_ns"] - zero) / 1e9
        ax.axvspan(opened, closed, color=_WINDOW, alpha=0.25, label="window open")
    ax.step(times, [s for _, s, _ in rows], where="pre", color=_SENT, label="attacker sent")
    ax.fill_between(
        times,
        [a for _, _, a in rows],
        step="pre",
        color=_ARRIVED,
        alpha=0.7,
        label="reached the victim",
    )
    marks = (
        ("trigger", result.trigger_s, ":"),
        ("in the kernel", result.kernel_s, "--"),
    )
    for name, at, style in marks:
        if at is not None:
            ax.axvline(
                at, color="black", linestyle=style, linewidth=1.2, label=f"{name} {at:.2f} s"
            )
    ax.set_ylim(0, 1.25 * max((s for _, s, _ in rows), default=1))
    ax.set_xlim(-0.7, max(times, default=1.0))
    ax.set_xlabel("seconds since the attack's first packet")
    pace_s = ARP_LOOK_S if one.act.poisons else SAMPLE_S
    ax.set_ylabel(f"packets per {pace_s * 1000:.0f} ms")
    ax.set_title(f"{result.title}: {one.act.story}", loc="left", fontsize=10)
    handles, labels = ax.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    ax.legend(unique.values(), unique.keys(), fontsize=8, frameon=False, ncols=5, loc="upper right")
    save(pyplot, figure, path)


def _windows(pyplot: Any, both: Sequence[tuple[Performance, Result]], path: Path) -> None:
    """When windows were open, and when decisions held, over the whole demo."""
    zero = both[0][0].start_ns
    figure, ax = pyplot.subplots(figsize=(10, 0.34 * len(both) + 1.4), layout="constrained")
    for row, (one, result) in enumerate(both):
        colour = {"attack": _SENT, "observed": _SENT, "twin": _ARRIVED}.get(result.kind, "#8a817c")
        start, stop = ((t - zero) / 1e9 for t in (one.start_ns, one.stop_ns))
        ax.broken_barh([(start, stop - start)], (row - 0.38, 0.76), color=colour, alpha=0.3)
        for window in one.story.windows:
            opened = ((window["opened_ns"] or one.start_ns) - zero) / 1e9
            ax.broken_barh(
                [(opened, window["duration_s"])], (row - 0.2, 0.4), color=_WINDOW, edgecolor="black"
            )
        for told in one.story.applied:
            ax.plot((told.time_ns - zero) / 1e9, row, "v", color="black", markersize=6)
    ax.set_yticks(range(len(both)), [r.title.strip() for _, r in both], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel("seconds since the demo began")
    ax.set_title(
        "attacks (red) and ordinary life (blue, grey); the window (yellow); decisions (v)",
        loc="left",
        fontsize=10,
    )
    save(pyplot, figure, path)


def _alone(pyplot: Any, results: Sequence[Result], path: Path) -> None:
    """What each way to decide stops, and whom it wrongs."""
    attacks = [r for r in results if r.kind == "attack"]
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    names = ["trigger\nalone", "forest\nalone", "both"]
    colours = [colour for _, colour in _WAYS]
    stopped = [sum(bool(r.alone[way]["stopped"]) for r in attacks) for way, _ in _WAYS]
    wronged = [sum(len(r.alone[way]["wronged"]) for r in results) for way, _ in _WAYS]
    judged = [sum(r.alone[way]["judged"] for r in results) for way, _ in _WAYS]
    for ax, values, title in (
        (left, stopped, f"attacks stopped, of {len(attacks)}"),
        (middle, wronged, "ordinary senders cut off"),
        (right, judged, "packets put to the forest"),
    ):
        bars = ax.bar(names, values, color=colours)
        ax.bar_label(bars, labels=[f"{value:,}" for value in values])
        ax.set_title(title, loc="left", fontsize=10)
        ax.set_yticks([])
        ax.margins(y=0.2)
        for side in ("top", "right", "left"):
            ax.spines[side].set_visible(False)
    save(pyplot, figure, path)

"""A run's document in, pictures (PNG) of it out; matplotlib is an extra."""

from pathlib import Path
from typing import Any, Final

from ids_appliance.bench import published
from ids_appliance.bench.document import Document, rates
from ids_appliance.telemetry.pictures import drawing, save

_COLOURS: Final = ("#8a817c", "#bcb8b1", "#4c78a8", "#54a24b", "#e45756", "#f2cf5b", "#b279a2")


def draw(told: Document, folder: Path) -> list[str]:
    """Draw everything into a folder; return the files' names, none without matplotlib."""
    pyplot = drawing()
    if pyplot is None:
        return []
    made = []
    if told["found"]:
        _rates(pyplot, told, folder / "rates.png")
        made.append("rates.png")
    if any(step["used"].get("gateway") for step in told["fixed"]):
        _processor(pyplot, told, folder / "processor.png")
        made.append("processor.png")
    return made


def _rates(pyplot: Any, told: Document, path: Path) -> None:
    """Highest rate by mode and mix, the published two as lines."""
    modes, mixes = list(told["modes"]), told["mixes"]
    figure, ax = pyplot.subplots(figsize=(1.6 + 1.5 * len(mixes), 4), layout="constrained")
    width = 0.8 / len(modes)
    for i, mode in enumerate(modes):
        values, errors = [], []
        for mix in mixes:
            found, _ = rates(told, mode, mix)
            median = found.median / 1000 if found else 0.0
            values.append(median)
            spread = (found.low / 1000, found.high / 1000) if found else (0.0, 0.0)
            errors.append((median - spread[0], spread[1] - median))
        places = [k + (i - (len(modes) - 1) / 2) * width for k in range(len(mixes))]
        low_high = [list(side) for side in zip(*errors, strict=True)]
        ax.bar(places, values, width, yerr=low_high, label=mode, color=_COLOURS[i % len(_COLOURS)])
    for mode, kpps in published.RATES_KPPS.items():
        ax.axhline(kpps, color="black", linestyle=":", linewidth=1)
        ax.text(len(mixes) - 0.5, kpps, f"published, {mode}", fontsize=7, ha="right", va="bottom")
    ax.set_yscale("log")
    ax.set_xticks(range(len(mixes)), mixes, fontsize=8)
    ax.set_ylabel("kpps without loss (log)")
    ax.legend(fontsize=8, frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    save(pyplot, figure, path)


def _processor(pyplot: Any, told: Document, path: Path) -> None:
    """CPU of the gateway's process at the fixed rates."""
    steps = [step for step in told["fixed"] if step["used"].get("gateway")]
    names = [f"{s['mode']}, {s['mix']}, {s['sent']['requested_pps'] / 1000:g} kpps" for s in steps]
    figure, ax = pyplot.subplots(figsize=(8, 0.25 * len(steps) + 1), layout="constrained")
    bars = ax.barh(names, [s["used"]["gateway"]["cpu_percent"] for s in steps], color="#4c78a8")
    ax.bar_label(bars, fmt="%.1f", fontsize=7)
    ax.tick_params(axis="y", labelsize=7)
    ax.invert_yaxis()
    ax.set_xlabel("CPU of the gateway's process, % of one core")
    save(pyplot, figure, path)

"""A study's figures in, pictures (PNG) out; matplotlib is an extra."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ids_appliance.telemetry.pictures import drawing, save
from ids_appliance.train.study.replays import RUNS

COLOURS: Final = {"random": "#8a817c", "capture": "#4c78a8", "origin": "#e45756"}
RUN_COLOURS: Final = dict(zip(RUNS, ("#54a24b", "#4c78a8", "#f2cf5b", "#8a817c"), strict=True))


def draw(result: Mapping[str, Any], folder: Path) -> list[str]:
    """Draw what there is into a folder; return the files' names, none without matplotlib."""
    pyplot = drawing()
    if pyplot is None:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    splits = {k: v for k, v in result["splits"].items() if v["calibration"]}
    if splits:
        _curves(pyplot, splits, folder / "curves.png")
        _reliability(pyplot, splits, folder / "reliability.png")
        made += ["curves.png", "reliability.png"]
    if result.get("features"):
        _features(pyplot, result["features"], folder / "features.png")
        made.append("features.png")
    if result.get("summary"):
        _found(pyplot, result["summary"], folder / "families.png")
        made.append("families.png")
    return made


def _curves(pyplot: Any, splits: Mapping[str, Any], path: Path) -> None:
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for split, own in splits.items():
        cal = own["calibration"]
        for ax, name in ((left, "roc"), (right, "precision_recall")):
            xs, ys = zip(*cal[name], strict=True)
            ax.plot(xs, ys, color=COLOURS[split], label=split)
    left.set(xlabel="share of ordinary packets flagged", ylabel="share of malicious found")
    right.set(xlabel="recall", ylabel="precision")
    left.legend()
    save(pyplot, figure, path)


def _reliability(pyplot: Any, splits: Mapping[str, Any], path: Path) -> None:
    figure, ax = pyplot.subplots(figsize=(4.8, 4.5), layout="constrained")
    ax.plot([0, 1], [0, 1], color="#bbbbbb", linestyle="--")
    for split, own in splits.items():
        bins = own["calibration"]["reliability"]
        ax.plot(
            [b["said"] for b in bins],
            [b["came"] for b in bins],
            marker="o",
            color=COLOURS[split],
            label=split,
        )
    ax.set(xlabel="probability said", ylabel="share that was malicious")
    ax.legend()
    save(pyplot, figure, path)


def _features(pyplot: Any, features: list[dict[str, Any]], path: Path) -> None:
    ranked = sorted(features, key=lambda one: -one["random"])[:20][::-1]
    figure, ax = pyplot.subplots(figsize=(7, 5), layout="constrained")
    places = range(len(ranked))
    ax.barh(places, [one["random"] for one in ranked], color=COLOURS["random"], label="random")
    ax.barh(places, [one["origin"] for one in ranked], 0.4, color=COLOURS["origin"], label="origin")
    ax.set_yticks(places, [one["feature"] for one in ranked])
    ax.set(xlabel="F1 of a small tree on this feature alone")
    ax.legend()
    save(pyplot, figure, path)


def _found(pyplot: Any, made: Mapping[str, Any], path: Path) -> None:
    families = list(made["runs"][RUNS[0]]["families"])
    figure, ax = pyplot.subplots(figsize=(8, 4), layout="constrained")
    width = 0.8 / len(RUNS)
    for number, run in enumerate(RUNS):
        shares, below, above = [], [], []
        for family in families:
            of = made["runs"][run]["families"][family]
            share = of["found"] / of["culprits"] if of["culprits"] else 0.0
            low, high = of["interval"]
            shares.append(share)
            # In floating point a share of 0 can lie below its own interval.
            below.append(max(0.0, share - low))
            above.append(max(0.0, high - share))
        places = [i + (number - 1.5) * width for i in range(len(families))]
        ax.bar(places, shares, width, color=RUN_COLOURS[run], label=run)
        ax.errorbar(places, shares, (below, above), fmt="none", ecolor="#444444", linewidth=0.8)
    ax.set_xticks(range(len(families)), families)
    ax.set(ylabel="culprits found (95 %)", ylim=(0, 1))
    ax.legend()
    save(pyplot, figure, path)

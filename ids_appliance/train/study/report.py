"""A study's figures in, JSON, a page of Markdown and the same page as HTML out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ids_appliance.train.page import to_html
from ids_appliance.train.study import protocol
from ids_appliance.train.study.replays import RUNS

TITLES: Final = {
    "random": "random packets (as papers do; near twins on both sides)",
    "capture": "whole captures left out, near twins together",
    "origin": "**whole origins left out: expect this**",
}
RUN_TITLES: Final = {
    "appliance": "appliance",
    "always": "window always open",
    "triggers": "triggers alone",
    "forest": "forest alone",
}
SHORTCUTS: Final = 12


def write(result: Mapping[str, Any], folder: Path, *, plots: list[str]) -> str:
    """Write evaluation.json, .md and .html into a folder; return the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, allow_nan=False) + "\n"
    (folder / "evaluation.json").write_text(text)
    page = markdown(result, plots=plots)
    (folder / "evaluation.md").write_text(page)
    pictures = {name: (folder / name).read_bytes() for name in plots}
    (folder / "evaluation.html").write_text(to_html(page, pictures=pictures))
    return page


def markdown(result: Mapping[str, Any], *, plots: list[str]) -> str:
    """Return the page for people."""
    recipe, packets = result["recipe"], result["packets"]
    lines = [
        "# Evaluation",
        "",
        f"{packets['benign']:,} ordinary and {packets['malicious']:,} malicious packets of "
        f"{packets['captures']} captures, {packets['origins']} origins. Recipe: "
        + ", ".join(f"{name} {value}" for name, value in recipe.items())
        + f". Made by {result['made_by']}.",
        "",
    ]
    if "paper" in result:
        lines += protocol.table(result["paper"])
    if result["splits"]:
        lines += _packets(result)
    if "summary" in result:
        lines += _appliance(result["summary"])
    if "features" in result:
        lines += _shortcuts(result["features"])
    if "ablations" in result:
        lines += _ablations(result)
    lines += [line for name in plots for line in (f"![{name}]({name})", "")]
    if result["left_out"]:
        lines += ["## Captures not, or not wholly used", ""]
        lines += [
            f"- {one['file']}: {one['status']}: {one['detail']}" for one in result["left_out"]
        ]
    return "\n".join(lines).rstrip() + "\n"


def _packets(result: Mapping[str, Any]) -> list[str]:
    lines = [
        "## Packets",
        "",
        "| left out | folds | accuracy | precision | recall | F1 | weighted F1 | false alarms | "
        "found, mean of origins (95 %) | flagged, mean of origins (95 %) | Brier | ROC area |",
        "|---" * 12 + "|",
    ]
    for split, own in result["splits"].items():
        for kind, title in (("packets", TITLES[split]), ("distinct", "- equal packets once")):
            lines.append(_packet_line(own, kind, title))
    lines += [
        "",
        "Precision, recall and F1 are of the class malicious. Weighted: both classes by their "
        "packets, as papers report. Intervals: drawing other origins (bootstrap).",
        "",
        *_baselines(result),
        *_families(result),
    ]
    return lines


def _packet_line(own: Mapping[str, Any], kind: str, title: str) -> str:
    m = own[kind]
    bad = m["malicious"]
    cells = [title, str(own["folds"]), f"{m['accuracy']:.3f}"]
    cells += [f"{bad[name]:.3f}" for name in ("precision", "recall", "f1")]
    cells += [f"{m['weighted']['f1']:.3f}", _percent(m["false_alarms"])]
    if kind == "packets":
        cells += [_mean(own["origins"][name]) for name in ("found", "flagged")]
        cells += ["", ""]
    else:
        cal = own["calibration"]
        cells += ["", ""]
        cells += [f"{cal[name]:.3f}" if cal else "-" for name in ("brier", "roc_auc")]
    return "| " + " | ".join(cells) + " |"


def _baselines(result: Mapping[str, Any]) -> list[str]:
    lines = ["| baseline, by packet | " + " | ".join(result["splits"]) + " |"]
    lines.append("|---" * (len(result["splits"]) + 1) + "|")
    for name, title in (("majority_class", "majority class"), ("size_rule", "rule on the size")):
        cells = []
        for own in result["splits"].values():
            of = own["packets"]["baselines"][name]
            cells.append(f"accuracy {of['accuracy']:.3f}, F1 {of['malicious']['f1']:.3f}")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _families(result: Mapping[str, Any]) -> list[str]:
    splits = result["splits"]
    names = sorted({f for own in splits.values() for f in own["packets"]["found_by_family"]})
    lines = ["| malicious packets found | " + " | ".join(splits) + " |"]
    lines.append("|---" * (len(splits) + 1) + "|")
    for name in names:
        cells = []
        for own in splits.values():
            of = own["packets"]["found_by_family"].get(name)
            cells.append(f"{_percent(of['found'])} of {of['packets']:,}" if of else "-")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _appliance(made: Mapping[str, Any]) -> list[str]:
    runs = made["runs"]
    lines = [
        "## The whole appliance, replayed",
        "",
        "Each capture by the model that has seen nothing of its origin. One culprit = one sender "
        "of an attack in a capture, a spoofed flood is one; found = limited or cut off. In "
        "brackets: mean over origins.",
        "",
        "| family (captures, a window opened in) | "
        + " | ".join(RUN_TITLES[r] for r in RUNS)
        + " |",
        "|---" * (len(RUNS) + 1) + "|",
    ]
    for family, own in runs["appliance"]["families"].items():
        cells = []
        for run in RUNS:
            of = runs[run]["families"][family]
            cells.append(f"{of['found']} of {of['culprits']} ({_percent(of['mean_of_origins'])})")
        lines.append(
            f"| {family} ({own['captures']}, {own['windows']}) | " + " | ".join(cells) + " |"
        )
    cells = []
    for run in RUNS:
        of = runs[run]["ordinary"]
        low, high = of["interval"]
        cells.append(
            f"{of['accused']} of {of['senders']:,} ({100 * low:.2f} to {100 * high:.2f} %), "
            + (f"{of['a_device_day']:.2f} a device-day" if of["a_device_day"] is not None else "")
        )
    lines.append("| **ordinary senders accused** | " + " | ".join(cells) + " |")
    lines += ["", f"{made['device_days']} device-days of ordinary life (active time).", ""]
    lines += ["### Attacks that were not contained", "", *_worst(runs["appliance"]["families"])]
    reasons: dict[str, list[str]] = {}
    for one in made["missed"]:
        reasons.setdefault(one["why"], []).append(f"{one['file']} ({one['family']})")
    for why, files in sorted(reasons.items(), key=lambda item: -len(item[1])):
        lines += [f"**{why}: {len(files)}**", "", ", ".join(files), ""]
    return lines


def _worst(families: Mapping[str, Any]) -> list[str]:
    """Return per family where most of the missed come from: one origin can be most of a share."""
    lines = [
        "| family | missed | origins | of the missed, most are of the origin |",
        "|---|---|---|---|",
    ]
    for family, own in families.items():
        missed, worst = own["culprits"] - own["found"], own["worst_origin"]
        most = f"{worst['origin']}: {worst['missed']} of {missed}" if missed else "-"
        lines.append(f"| {family} | {missed} of {own['culprits']} | {own['origins']} | {most} |")
    return [*lines, ""]


def _shortcuts(features: list[dict[str, Any]]) -> list[str]:
    ranked = sorted(features, key=lambda one: -one["shortcut"])[:SHORTCUTS]
    lines = [
        "## Shortcuts",
        "",
        "F1 of a small tree on one feature alone: what is good in the random split and bad on "
        "other origins knows labs, not attacks.",
        "",
        "| feature | random | origin | difference |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {one['feature']} | {one['random']:.3f} | {one['origin']:.3f} | {one['shortcut']:.3f} |"
        for one in ranked
    ]
    return [*lines, ""]


def _ablations(result: Mapping[str, Any]) -> list[str]:
    whole = result["splits"]["origin"]
    lines = [
        "## Without some features (whole origins left out)",
        "",
        "| without | F1 | recall | false alarms | found, mean of origins |",
        "|---|---|---|---|---|",
    ]
    for name, own in [("nothing", whole), *result["ablations"].items()]:
        m = own["packets"]
        lines.append(
            f"| {name} | {m['malicious']['f1']:.3f} | {m['malicious']['recall']:.3f} | "
            f"{_percent(m['false_alarms'])} | {_mean(own['origins']['found'])} |"
        )
    return [*lines, ""]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _mean(of: Mapping[str, Any]) -> str:
    if of["mean"] is None:
        return "-"
    return f"{_percent(of['mean'])} ({100 * of['low']:.0f} to {100 * of['high']:.0f})"

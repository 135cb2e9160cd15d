"""The seed paper's own protocol: packets in, its table out, fold by fold, so that the spread shows.

Packets of the ordinary and of DoS, Spoofing, Mirai and Recon, each counted alike, equal ones as
often as they occur; stratified folds of packets; scalers, ranking and model fitted inside each
training fold (C. Tao, M. Bandai, *Collaborative packet-level IDS for IoT environment*, Table II).
What it leaves open (how many trees, how deep) is the recipe's.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from ids_appliance.train.draw import PAPER_FAMILIES
from ids_appliance.train.evaluate import Judged, Packets, measure
from ids_appliance.train.fit import Recipe
from ids_appliance.train.study.learning import THRESHOLD, Models, judge
from ids_appliance.train.study.splits import random_folds

Figures = dict[str, Any]

PUBLISHED: Final = {"all": 0.993, "top20": 0.992}
"""Accuracy, precision, recall and F1 alike, on the paper's own data."""

TITLES: Final = {"all": "all 60", "top20": "top 20", "header": "length, protocol, addresses"}
_SCORES: Final = ("precision", "recall", "f1")


def feature_sets(recipe: Recipe) -> tuple[str, ...]:
    """Return the sets of features that are compared: the paper's two, and the recipe's own."""
    return tuple(dict.fromkeys((*PUBLISHED, recipe.features)))


def protocol(
    recipe: Recipe, packets: Packets, *, folds: int, folder: Path, step: Callable[[str], None]
) -> Figures:
    """Return per set of features each fold's figures, their mean and standard deviation.

    folder: where models are kept, so that a stopped study goes on. step: called before each fit.
    """
    own = (packets.classes == 0) | np.isin(packets.families, PAPER_FAMILIES)
    chosen = packets.take(own)
    made = list(random_folds(chosen.classes, folds, seed=recipe.seed))
    result: Figures = {
        "benign": int((chosen.classes == 0).sum()),
        "malicious": {
            family: int((chosen.families[chosen.classes == 1] == family).sum())
            for family in PAPER_FAMILIES
        },
        "folds": folds,
        "sets": {},
    }
    for features in feature_sets(recipe):
        asked = replace(recipe, features=features, weight="packet")
        # A set without addresses is to be fitted, ranked and kept as if there were none.
        seen = replace(chosen, rows=np.ascontiguousarray(chosen.rows[:, : asked.width]))
        models = Models(asked, seen, folder)
        rows = []
        for fold in made:
            step(f"paper, {features}: {fold.name}")
            bundle, _ = models.without(fold.test)
            test = seen.take(fold.test)
            said = judge(bundle, test.rows)
            rows.append(_line(measure(test, Judged(said, said, said), THRESHOLD)))
        result["sets"][features] = {
            "folds": rows,
            **{
                name: {
                    "mean": float(np.mean([row[name] for row in rows])),
                    "spread": float(np.std([row[name] for row in rows], ddof=1)),
                }
                for name in rows[0]
            },
        }
    return result


def _line(measured: Figures) -> dict[str, float]:
    line = {"accuracy": measured["accuracy"], "false_alarms": measured["false_alarms"]}
    for kind, scores in (("weighted", measured["weighted"]), ("attack", measured["malicious"])):
        line |= {f"{kind}_{name}": scores[name] for name in _SCORES}
    return line


def table(made: Figures) -> list[str]:
    """Return the page's section, as Markdown."""
    malicious = ", ".join(f"{n:,} of {family}" for family, n in made["malicious"].items())
    names = ["accuracy"] + [f"{k}_{n}" for k in ("weighted", "attack") for n in _SCORES]
    lines = [
        "## The paper's protocol",
        "",
        f"Random packets, each counted alike: {made['benign']:,} ordinary, {malicious}; "
        f"{made['folds']} folds, mean and standard deviation.",
        "",
        "| features | accuracy | weighted precision | recall | F1 | attack: precision | recall | "
        "F1 | published |",
        "|---" * 9 + "|",
    ]
    for features, own in made["sets"].items():
        cells = [f"{own[n]['mean']:.4f} +- {own[n]['spread']:.4f}" for n in names]
        published = PUBLISHED.get(features)
        cells.append(f"{published:.3f}" if published else "-")
        lines.append(f"| {TITLES[features]} | " + " | ".join(cells) + " |")
    return [*lines, ""]

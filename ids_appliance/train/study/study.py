"""Labelled captures and a recipe in, everything that a user should know of the model out.

The order: packets under three splits, features one by one, ablations, then each capture replayed
through the whole appliance with the model that has seen nothing of its origin. Models and replayed
captures are kept, so that a stopped study goes on where it was.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ids_appliance import __version__
from ids_appliance.errors import LabelError
from ids_appliance.schema import COLUMNS
from ids_appliance.train.corpus import read_corpus
from ids_appliance.train.evaluate import Judged, Packets, baselines
from ids_appliance.train.fit import Recipe
from ids_appliance.train.labels import Entry, Label
from ids_appliance.train.study.audit import GROUPS, alone, blank
from ids_appliance.train.study.learning import THRESHOLD, Models, judge
from ids_appliance.train.study.protocol import feature_sets, protocol
from ids_appliance.train.study.replays import replay_kept
from ids_appliance.train.study.scores import Figures, figures
from ids_appliance.train.study.splits import Fold, group_folds, random_folds, twins
from ids_appliance.train.study.summary import summary
from ids_appliance.types import F64

SPLITS: Final = ("random", "capture", "origin")
PAPER: Final = "paper"
"""Not a split of its own: random packets as the seed paper counts them (protocol.py)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a study is asked for."""

    data: Path
    folder: Path
    """Where models, replays and the report go."""
    recipe: Recipe = field(default_factory=Recipe)
    folds: int = 5
    """Of the random split, and of captures and origins without an attack."""
    splits: tuple[str, ...] = SPLITS
    audit: bool = True
    ablate: bool = True
    replays: bool = True
    jobs: int = 1
    leave_out: tuple[str, ...] = ()
    max_per_capture: int = 0


@dataclass(frozen=True, slots=True)
class Material:
    """What is judged, with each packet's capture."""

    packets: Packets
    files: npt.NDArray[Any]
    """(n,) index into entries."""
    entries: list[Entry]
    reports: list[dict[str, str]]
    """Captures that were not, or not wholly used: file, status, detail."""


Step = Callable[[str], None]


def read(plan: Plan, *, step: Step) -> Material:
    """Read the captures; victims' answers are not judged. Raises LabelError."""
    most = plan.max_per_capture
    corpus = read_corpus(plan.data, leave_out=plan.leave_out, most=most, progress=step)
    corpus = corpus.narrow(plan.recipe.width)
    usable = corpus.labels <= Label.MALICIOUS
    names = np.array(corpus.families)[corpus.family]
    packets = Packets(
        corpus.rows[usable],
        (corpus.labels[usable] == Label.MALICIOUS).astype(np.uint8),
        corpus.group[usable],
        names[usable],
    )
    if set(np.unique(packets.classes).tolist()) != {0, 1}:
        raise LabelError(
            f"{plan.data} has not both ordinary and malicious packets: nothing to test"
        )
    odd = [
        {"file": r.entry.file, "status": r.status, "detail": r.detail}
        for r in corpus.reports
        if r.status not in ("used", "skipped")
    ]
    return Material(packets, corpus.file[usable], [r.entry for r in corpus.reports], odd)


def folds_of(plan: Plan, material: Material) -> dict[str, list[Fold]]:
    """Return the folds of each split that is asked for."""
    packets = material.packets
    made: dict[str, list[Fold]] = {}
    if "random" in plan.splits:
        made["random"] = list(random_folds(packets.classes, plan.folds, seed=plan.recipe.seed))
    if "capture" in plan.splits:
        cluster = twins(packets.rows, material.files)
        made["capture"] = list(
            group_folds(cluster, packets.classes, together=plan.folds, name="capture")
        )
    if "origin" in plan.splits:
        made["origin"] = list(
            group_folds(packets.groups, packets.classes, together=plan.folds, name="origin")
        )
    return made


def steps(plan: Plan, made: dict[str, list[Fold]]) -> int:
    """Return how often `study` reports a step, replays apart (one each)."""
    fits = sum(len(folds) for folds in made.values())
    origin = len(made.get("origin", ()))
    audit = sum(len(made.get(split, ())) for split in ("random", "origin")) * plan.audit
    paper = plan.folds * len(feature_sets(plan.recipe)) * (PAPER in plan.splits)
    return fits + audit + origin * len(GROUPS) * plan.ablate + paper


def study(
    plan: Plan, material: Material, made: dict[str, list[Fold]], *, step: Step
) -> dict[str, Any]:
    """Return all figures; writes nothing but what it keeps to go on from."""
    packets = material.packets
    result: dict[str, Any] = {
        "made_by": f"ids-appliance {__version__}",
        "recipe": {k: v for k, v in asdict(plan.recipe).items() if k != "jobs"},
        "packets": {
            "benign": int((packets.classes == 0).sum()),
            "malicious": int((packets.classes == 1).sum()),
            "captures": len(np.unique(material.files)),
            "origins": len(np.unique(packets.groups)),
        },
        "left_out": material.reports,
        "splits": {},
    }
    models = Models(plan.recipe, packets, plan.folder / "models")
    kept: dict[str, Path] = {}
    for split, folds in made.items():
        judged = _judge(models, packets, folds, step=step, kept=kept, plan=plan)
        result["splits"][split] = figures(packets, judged, threshold=THRESHOLD)
        result["splits"][split]["folds"] = len(folds)
    if PAPER in plan.splits:
        result["paper"] = protocol(
            plan.recipe, packets, folds=plan.folds, folder=plan.folder / "models", step=step
        )
    if plan.audit and {"random", "origin"} <= made.keys():
        result["features"] = _audit(packets, made, step=step)
    if plan.ablate and "origin" in made:
        result["ablations"] = _ablate(plan, packets, made["origin"], step=step)
    if plan.replays and "origin" in made:
        result["captures"] = list(_replays(plan, material, made["origin"], kept, step=step))
        result["summary"] = summary(result["captures"])
    return result


def _judge(
    models: Models,
    packets: Packets,
    folds: Iterable[Fold],
    *,
    step: Step,
    kept: dict[str, Path],
    plan: Plan,
) -> Judged:
    n = len(packets.rows)
    judged = Judged(np.zeros(n), np.zeros(n), np.zeros(n))
    for fold in folds:
        step(fold.name)
        bundle, kept[fold.name] = models.without(fold.test)
        test = packets.take(fold.test)
        judged.forest[fold.test] = judge(bundle, test.rows)
        simple: tuple[F64, F64] = baselines(plan.recipe, packets.take(~fold.test), test)
        judged.majority[fold.test], judged.size_rule[fold.test] = simple
    return judged


def _audit(packets: Packets, made: dict[str, list[Fold]], *, step: Step) -> list[Figures]:
    f1 = {
        split: alone(packets, made[split], step=lambda: step("features alone"))
        for split in ("random", "origin")
    }
    rows = zip((c.name for c in COLUMNS), f1["random"], f1["origin"], strict=False)
    return [{"feature": name, "random": r, "origin": o, "shortcut": r - o} for name, r, o in rows]


def _ablate(plan: Plan, packets: Packets, folds: list[Fold], *, step: Step) -> dict[str, Figures]:
    out = {}
    for name, features in GROUPS.items():
        less = blank(packets, features)
        models = Models(plan.recipe, less, plan.folder / "models")

        def told(fold: str, name: str = name) -> None:
            step(f"without {name}: {fold}")

        judged = _judge(models, less, folds, step=told, kept={}, plan=plan)
        out[name] = figures(packets, judged, threshold=THRESHOLD)
        del out[name]["calibration"]
    return out


def _replays(
    plan: Plan, material: Material, folds: list[Fold], kept: dict[str, Path], *, step: Step
) -> Iterable[dict[str, Any]]:
    """Yield a row per capture, by the model of the fold that left its origin out."""
    folder = plan.folder / "replays"
    folder.mkdir(parents=True, exist_ok=True)
    work: list[tuple[Entry, Path]] = []
    for fold in folds:
        for index in np.unique(material.files[fold.test]).tolist():
            work.append((material.entries[index], kept[fold.name]))
    with ProcessPoolExecutor(plan.jobs) as pool:
        one = partial(replay_kept, data=plan.data, folder=folder)
        for row in pool.map(one, *zip(*work, strict=True)):
            step(row["file"])
            yield row

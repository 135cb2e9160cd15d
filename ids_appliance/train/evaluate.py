"""Labelled packets and a recipe in, what a user may expect out: several splits, side by side.

A random split of packets leaks: packets of one scan or one device are near twins, and some of them
are always in training (Kostas et al., arXiv 2406.07578). It is reported because papers do. What a
user should expect on a network of their own is the split by origin.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.tree import DecisionTreeClassifier

from ids_appliance.schema import FEATURE_NAMES
from ids_appliance.train.fit import Classes, Groups, Recipe, distinct, fit, weigh
from ids_appliance.types import F64, U16

Metrics = dict[str, Any]
Split = tuple[npt.NDArray[Any], npt.NDArray[Any]]
"""Places to train and to test on."""
_LENGTH: Final = FEATURE_NAMES.index("length")
_WORST: Final = 10
_WORST_PACKETS: Final = 20
"""Origins of fewer packets are not named among the worst."""


@dataclass(frozen=True, slots=True)
class Packets:
    """What is learnt from or judged: packets of the classes benign and malicious."""

    rows: U16
    classes: Classes
    groups: Groups
    families: npt.NDArray[Any]

    def take(self, which: npt.NDArray[Any]) -> "Packets":
        """Return those that a mask or an index array names."""
        return Packets(
            self.rows[which], self.classes[which], self.groups[which], self.families[which]
        )


def evaluate(
    recipe: Recipe,
    packets: Packets,
    *,
    folds: int,
    threshold: float,
    progress: Callable[[str], None] = lambda step: None,
) -> dict[str, Metrics]:
    """Return metrics by split: `random` (stratified folds of packets), `origin` (folds of whole
    origins) and `origin_distinct` (as judged there, equal packets of an origin counted once); the
    latter two only if without each fold both classes are left (`origin_folds`).

    Features are ranked, scalers and forest fitted inside each training fold. progress: called with
    a name before each of 2 x folds fits.
    """
    places = np.arange(len(packets.rows))
    by_packet = StratifiedKFold(folds, shuffle=True, random_state=recipe.seed)
    random = _cross(
        recipe, packets, by_packet.split(places, packets.classes), lambda: progress("random")
    )
    made = {"random": measure(packets, random, threshold)}
    by_origin = origin_folds(packets, folds)
    if not by_origin:
        return made
    origin = _cross(recipe, packets, by_origin, lambda: progress("origin"))
    once = distinct(packets.rows, packets.classes, packets.groups)
    return made | {
        "origin": measure(packets, origin, threshold),
        "origin_distinct": measure(packets.take(once), _take(origin, once), threshold),
    }


def origin_folds(packets: Packets, folds: int) -> list[Split]:
    """Return folds of whole origins, as many as there are origins at most; none where that cannot
    be: of one origin alone, or where one fold has all packets of a class, nothing can be learnt."""
    origins = len(np.unique(packets.groups))
    if origins < 2:
        return []
    split = GroupKFold(min(folds, origins)).split(packets.rows, packets.classes, packets.groups)
    made = list(split)
    return made if all(len(np.unique(packets.classes[train])) == 2 for train, _ in made) else []


@dataclass(frozen=True, slots=True)
class Judged:
    """Probabilities of packets that were not trained on, and what the baselines would have said."""

    forest: F64
    majority: F64
    size_rule: F64


def judge(pipeline: Any, features: list[int], rows: U16) -> F64:
    """Return P(malicious) as the reference gives it: float64 integers, one job."""
    out = np.empty(len(rows))
    for start in range(0, len(rows), 65536):
        block = rows[start : start + 65536][:, features].astype(np.float64)
        out[start : start + 65536] = pipeline.predict_proba(block)[:, 1]
    return out


def judge_with_baselines(recipe: Recipe, train: Packets, test: Packets) -> Judged:
    """Fit on `train`, judge `test`, and do the same with the two baselines."""
    pipeline, features = fit(recipe, train.rows, train.classes, train.groups)
    return Judged(judge(pipeline, features, test.rows), *baselines(recipe, train, test))


def baselines(recipe: Recipe, train: Packets, test: Packets) -> tuple[F64, F64]:
    """Return the verdicts of the majority class and of a rule on the size alone, as floats."""
    majority = np.full(len(test.rows), float(train.classes.mean() > 0.5))
    chosen, share = weigh(recipe.weight, train.rows, train.classes, train.groups)
    stump = DecisionTreeClassifier(max_depth=1, random_state=recipe.seed)
    stump.fit(train.rows[chosen][:, [_LENGTH]], train.classes[chosen], sample_weight=share)
    return majority, np.asarray(stump.predict(test.rows[:, [_LENGTH]]), np.float64)


def _cross(
    recipe: Recipe,
    packets: Packets,
    splits: Iterable[Split],
    progress: Callable[[], None],
) -> Judged:
    n = len(packets.rows)
    judged = Judged(np.zeros(n), np.zeros(n), np.zeros(n))
    for train, test in splits:
        progress()
        fold = judge_with_baselines(recipe, packets.take(train), packets.take(test))
        judged.forest[test] = fold.forest
        judged.majority[test] = fold.majority
        judged.size_rule[test] = fold.size_rule
    return judged


def _take(judged: Judged, which: npt.NDArray[Any]) -> Judged:
    return Judged(judged.forest[which], judged.majority[which], judged.size_rule[which])


def measure(packets: Packets, judged: Judged, threshold: float) -> Metrics:
    """Return everything that the card says about one split."""
    verdicts = judged.forest > threshold
    malicious = packets.classes == 1
    found = {}
    for family in sorted(set(packets.families[malicious].tolist())):
        own = malicious & (packets.families == family)
        found[family] = {"packets": int(own.sum()), "found": _round(verdicts[own].mean())}
    origins = _by_origin(packets, verdicts)
    alarms = [o["flagged"] for o in origins if o["class"] == "benign"]
    hits = [o["flagged"] for o in origins if o["class"] == "malicious"]
    return {
        "packets": len(verdicts),
        **_scores(malicious, verdicts),
        "false_alarms_mean_of_origins": _round(np.mean(alarms)) if alarms else None,
        "found_mean_of_origins": _round(np.mean(hits)) if hits else None,
        "found_by_family": found,
        "found_by_origin": {
            o["origin"]: {"packets": o["packets"], "found": o["flagged"]}
            for o in origins
            if o["class"] == "malicious"
        },
        "baselines": {
            "majority_class": _scores(malicious, judged.majority > 0.5),
            "size_rule": _scores(malicious, judged.size_rule > 0.5),
        },
        "worst_origins": _worst(origins),
    }


def _scores(malicious: npt.NDArray[np.bool_], verdicts: npt.NDArray[np.bool_]) -> Metrics:
    hit = int((verdicts & malicious).sum())
    alarm = int((verdicts & ~malicious).sum())
    n_malicious, n_benign = int(malicious.sum()), int((~malicious).sum())
    quiet = n_benign - alarm
    bad = _prf(hit, alarm, n_malicious - hit)
    good = _prf(quiet, n_malicious - hit, alarm)
    n = max(len(verdicts), 1)
    weighted = [(b * n_malicious + g * n_benign) / n for b, g in zip(bad, good, strict=True)]
    names = ("precision", "recall", "f1")
    return {
        "accuracy": _round((hit + quiet) / n),
        "malicious": dict(zip(names, map(_round, bad), strict=True)),
        "weighted": dict(zip(names, map(_round, weighted), strict=True)),
        "false_alarms": _round(alarm / n_benign) if n_benign else None,
    }


def _prf(hit: int, false: int, missed: int) -> tuple[float, float, float]:
    precision = hit / (hit + false) if hit + false else 0.0
    recall = hit / (hit + missed) if hit + missed else 0.0
    both = precision + recall
    return precision, recall, 2 * precision * recall / both if both else 0.0


def _by_origin(packets: Packets, verdicts: npt.NDArray[np.bool_]) -> list[Metrics]:
    out = []
    names, index = np.unique(packets.groups, return_inverse=True)
    for number, name in enumerate(names.tolist()):
        for value, kind in ((0, "benign"), (1, "malicious")):
            own = verdicts[(index == number) & (packets.classes == value)]
            if len(own):
                share = float(own.mean())
                wrong = share if value == 0 else 1 - share
                out.append(
                    {
                        "origin": name,
                        "class": kind,
                        "packets": len(own),
                        "flagged": _round(share),
                        "wrong": _round(wrong),
                    }
                )
    return out


def _worst(origins: list[Metrics]) -> list[Metrics]:
    large = [o for o in origins if o["packets"] >= _WORST_PACKETS and o["wrong"] > 0]
    return sorted(large, key=lambda o: (-o["wrong"], -o["packets"], o["origin"]))[:_WORST]


def _round(value: Any) -> float:
    return round(float(value), 4)

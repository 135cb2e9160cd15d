"""A sample of KDD records in, accuracy, precision, recall, F1 and time of four models and the vote.

A random split flatters here as well: in the 10 % file seven of ten records have an equal twin, and
every attack tested has been trained on. So each set of columns is judged three times: as published,
without the tested records that equal one trained on, and on categories of attacks left out of
training.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from sklearn.preprocessing import OneHotEncoder

from ids_appliance.train.families import VOTERS
from ids_appliance.train.families.making import make
from ids_appliance.train.families.vote import AT, Vote
from ids_appliance.train.kdd.columns import CATEGORIES, CHOICES, NUMERIC, SYMBOLIC
from ids_appliance.train.kdd.records import Sample

TESTED: Final = 0.3
"""Share of each label's records that is tested on."""
ONE_BY_ONE: Final = 200
"""Records timed one at a time."""

Clock = Callable[[], float]
Report = dict[str, Any]
Places = npt.NDArray[np.int64]


def judge_sample(
    sample: Sample,
    *,
    seed: int,
    clock: Clock,
    columns: Sequence[str] = tuple(CHOICES),
    progress: Callable[[str], None] = lambda step: None,
) -> Report:
    """Return the whole report, for JSON. clock: seconds of a running clock, for times per record.

    progress: called with a name before each set of columns, and each category left out.
    """
    train, test = split(sample.labels, seed)
    attack = (sample.labels != "normal").astype(np.uint8)
    report: Report = {
        "records": sample.records,
        "lines_passed_over": sample.wrong,
        "damage": sample.damage,
        "sampled": len(sample.labels),
        "labels": _counts(sample.labels),
        "seed": seed,
        "split": f"of each label {TESTED:.0%} tested, the rest trained on, drawn at random",
        "trained_on": len(train),
        "tested_on": len(test),
        "attacks_tested": int(attack[test].sum()),
        "columns": {},
    }
    for name in columns:
        progress(name)
        chosen = CHOICES[name]
        rows = encode(sample, chosen, train)
        fresh = test[~_twins(rows, train, test)]
        models = fit_all(rows[train], attack[train], seed)
        own: Report = {"columns": len(chosen), "encoded": rows.shape[1], "fresh": len(fresh)}
        own["models"] = {
            family: {
                "test": measure(model, rows[test], attack[test]),
                "fresh": measure(model, rows[fresh], attack[fresh]),
                "us_a_record": times(model, rows[test], clock),
            }
            for family, model in models.items()
        }
        report["columns"][name] = own
    report["unseen"] = unseen(sample, (train, test), seed=seed, progress=progress)
    return report


def split(labels: npt.NDArray[np.str_], seed: int) -> tuple[Places, Places]:
    """Return the places to train and to test on: TESTED of each label, rounded; one of a kind is
    trained on."""
    rng = np.random.default_rng(seed)
    tested = []
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        tested.append(own[: round(TESTED * len(own)) if len(own) > 1 else 0])
    test = np.sort(np.concatenate(tested))
    return np.setdiff1d(np.arange(len(labels)), test), test


def encode(sample: Sample, columns: Sequence[int], train: Places) -> npt.NDArray[np.float64]:
    """Return the chosen columns as numbers, symbols one-hot; symbols new to training are zeros."""
    numeric = [NUMERIC.index(i) for i in columns if i in NUMERIC]
    symbolic = [SYMBOLIC.index(i) for i in columns if i in SYMBOLIC]
    parts = [sample.numbers[:, numeric]]
    if symbolic:
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        one_hot.fit(sample.symbols[train][:, symbolic])
        parts.append(one_hot.transform(sample.symbols[:, symbolic]))
    return np.hstack(parts)


def fit_all(rows: npt.NDArray[Any], attack: npt.NDArray[Any], seed: int) -> dict[str, Any]:
    """Return every family's fitted pipeline, and their vote: the settings of `train`."""
    models: dict[str, Any] = {}
    for family in VOTERS:
        models[family] = make(family, trees=50, leaves=128, seed=seed).fit(rows, attack)
    return models | {"vote": Vote(list(models.values()))}


def measure(model: Any, rows: npt.NDArray[Any], attack: npt.NDArray[Any]) -> Report:
    """Return accuracy, and precision, recall and F1 of the class attack and weighted; None where
    there is nothing to measure."""
    if not len(rows):
        return dict.fromkeys(("accuracy", "precision", "recall", "f1"))
    said = model.predict_proba(rows)[:, 1] > AT
    report: Report = {"accuracy": round(float(accuracy_score(attack, said)), 5)}
    for average, prefix in (("binary", ""), ("weighted", "weighted_")):
        scores = precision_recall_fscore_support(attack, said, average=average, zero_division=0.0)
        for name, score in zip(("precision", "recall", "f1"), scores[:3], strict=True):
            report[prefix + name] = round(float(score), 5)
    return report


def times(model: Any, rows: npt.NDArray[Any], clock: Clock) -> dict[str, float]:
    """Return microseconds a record of the library, encoded record to probability: the median of
    single records, and all at once."""
    singles = []
    for i in range(min(ONE_BY_ONE, len(rows))):
        start = clock()
        model.predict_proba(rows[i : i + 1])
        singles.append(clock() - start)
    start = clock()
    model.predict_proba(rows)
    batched = (clock() - start) / max(len(rows), 1)
    return {
        "one_at_a_time": round(float(np.median(singles)) * 1e6, 1),
        "batched": round(batched * 1e6, 2),
    }


def unseen(
    sample: Sample,
    places: tuple[Places, Places],
    *,
    seed: int,
    progress: Callable[[str], None] = lambda step: None,
) -> dict[str, Report]:
    """Return, by category of attacks that no training record is of, what share is found, on the
    columns that a gateway can know."""
    train, test = places
    category = np.array([CATEGORIES.get(label, "other") for label in sample.labels.tolist()])
    attack = (sample.labels != "normal").astype(np.uint8)
    out: dict[str, Report] = {}
    for left_out in sorted(set(category.tolist()) - {"normal"}):
        progress(f"without {left_out}")
        kept, asked = train[category[train] != left_out], test[category[test] == left_out]
        if not len(asked) or len(np.unique(attack[kept])) < 2:
            continue
        rows = encode(sample, CHOICES["gateway"], kept)
        models = fit_all(rows[kept], attack[kept], seed)
        out[left_out] = {"records": len(asked)} | {
            family: round(float((model.predict_proba(rows[asked])[:, 1] > AT).mean()), 4)
            for family, model in models.items()
        }
    return out


def steps(sample: Sample) -> int:
    """Return how often `judge_sample` reports progress."""
    categories = {CATEGORIES.get(label, "other") for label in np.unique(sample.labels).tolist()}
    return len(CHOICES) + len(categories - {"normal"})


def _counts(labels: npt.NDArray[np.str_]) -> dict[str, int]:
    names, counts = np.unique(labels, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def _twins(rows: npt.NDArray[np.float64], train: Places, test: Places) -> npt.NDArray[np.bool_]:
    """Return which tested records equal one that is trained on."""
    known = {row.tobytes() for row in rows[train]}
    return np.array([row.tobytes() in known for row in rows[test]], np.bool_)

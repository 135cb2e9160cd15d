"""Figures are those of the definitions, and an origin is never both learnt from and judged."""

import numpy as np
import pytest

from ids_appliance.train import evaluate as module
from ids_appliance.train.evaluate import Judged, Packets, evaluate, measure, origin_folds
from ids_appliance.train.fit import Recipe
from tests.bundles import random_rows


def some_packets(n=240):
    rows = random_rows(1, n)
    classes = (rows[:, 5] > 100).astype(np.uint8)
    groups = np.array([f"origin{i % 6}" for i in range(n)])
    families = np.where(classes == 1, np.where(np.arange(n) % 2, "DoS", "Recon"), "Benign")
    return Packets(rows, classes, groups, families)


def test_measures_by_hand():
    classes = np.array([1] * 40 + [0] * 60, np.uint8)
    groups = np.array(["a"] * 20 + ["b"] * 20 + ["a"] * 60)
    families = np.array(["DoS"] * 30 + ["Recon"] * 10 + ["Benign"] * 60)
    forest = np.zeros(100)
    forest[:20] = 0.9  # all of a's attack, none of b's
    forest[40:46] = 0.500001  # six false alarms
    forest[46:50] = 0.5  # not greater than the threshold
    packets = Packets(random_rows(1, 100), classes, groups, families)
    m = measure(packets, Judged(forest, np.zeros(100), np.ones(100)), 0.5)
    assert m["accuracy"] == 0.74
    assert m["malicious"] == {"precision": 0.7692, "recall": 0.5, "f1": 0.6061}
    assert m["weighted"]["recall"] == 0.74
    assert m["false_alarms"] == 0.1 == m["false_alarms_mean_of_origins"]
    assert m["found_mean_of_origins"] == 0.5
    assert m["found_by_family"]["DoS"] == {"packets": 30, "found": 0.6667}
    assert m["found_by_family"]["Recon"] == {"packets": 10, "found": 0.0}
    assert m["baselines"]["majority_class"]["accuracy"] == 0.6
    assert m["baselines"]["size_rule"]["malicious"]["recall"] == 1.0
    assert m["worst_origins"][0] == {
        "origin": "b",
        "class": "malicious",
        "packets": 20,
        "flagged": 0.0,
        "wrong": 1.0,
    }
    assert len(m["worst_origins"]) == 2  # a's attack was judged without a mistake


def test_origins_are_left_out_whole(monkeypatch):
    seen = []
    original = module.judge_with_baselines

    def spy(recipe, train, test):
        seen.append((set(train.groups.tolist()), set(test.groups.tolist()), len(test.rows)))
        return original(recipe, train, test)

    monkeypatch.setattr(module, "judge_with_baselines", spy)
    packets, steps = some_packets(), []
    recipe = Recipe(features="all", trees=5, leaves=8, jobs=1)
    metrics = evaluate(recipe, packets, folds=3, threshold=0.5, progress=steps.append)
    assert steps == ["random"] * 3 + ["origin"] * 3
    assert sum(n for _, _, n in seen) == 2 * len(packets.rows)
    assert all(not train & test for train, test, _ in seen[3:])
    assert list(metrics) == ["random", "origin", "origin_distinct"]
    assert metrics["random"]["packets"] == len(packets.rows)
    # What decides is the TTL alone, which every origin shares: both splits find it.
    assert metrics["origin"]["accuracy"] > 0.8


@pytest.mark.parametrize(
    ("groups", "malicious", "folds"),
    [
        (["a", "b", "c"], ["a", "b"], 3),  # fewer origins than folds were asked for
        (["a", "b", "c"], ["a"], 0),  # without its only attacks nothing can be learnt
        (["a"], ["a"], 0),
    ],
)
def test_origins_are_left_out_only_where_both_classes_stay(groups, malicious, folds):
    names = np.repeat(groups, 40)
    classes = (np.isin(names, malicious) & (np.arange(len(names)) % 2 == 1)).astype(np.uint8)
    packets = Packets(random_rows(1, len(names)), classes, names, np.full(len(names), "DoS"))
    made = origin_folds(packets, 5)
    assert len(made) == folds
    for train, test in made:
        assert not set(names[train]) & set(names[test]) and len(np.unique(classes[train])) == 2
    recipe = Recipe(features="all", trees=2, leaves=4, jobs=1)
    metrics = evaluate(recipe, packets, folds=5, threshold=0.5)
    assert ("origin" in metrics) == bool(folds) and "random" in metrics

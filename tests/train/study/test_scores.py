"""Figures by hand: origins weigh alike, equal packets count once, bins say what they hold."""

import numpy as np
import pytest

from ids_appliance.train.evaluate import Judged, Packets
from ids_appliance.train.study.scores import by_origin, calibration, figures
from tests.bundles import random_rows


def packets(classes, groups):
    rows = random_rows(3, len(classes))
    families = np.where(np.array(classes) == 1, "DoS", "Benign")
    return Packets(rows, np.array(classes, np.uint8), np.array(groups), families)


def test_origins_weigh_alike():
    some = packets([1] * 90 + [1] * 10 + [0] * 20, ["a"] * 90 + ["b"] * 10 + ["c"] * 20)
    verdicts = np.array([True] * 90 + [False] * 10 + [True] * 5 + [False] * 15)
    found = by_origin(some, verdicts)
    assert found["found"]["mean"] == 0.5 and found["found"]["origins"] == 2
    assert found["flagged"]["mean"] == 0.25 and found["flagged"]["origins"] == 1
    assert (found["flagged"]["low"], found["flagged"]["high"]) == (0.0, 1.0)


def test_equal_packets_of_an_origin_count_once():
    some = packets([1] * 50 + [0] * 50, ["a"] * 100)
    some.rows[:50] = some.rows[0]
    probabilities = np.concatenate([np.ones(50), np.zeros(50)])
    probabilities[0] = 1.0
    made = figures(some, Judged(probabilities, np.zeros(100), np.zeros(100)), threshold=0.5)
    assert made["packets"]["packets"] == 100 and made["distinct"]["packets"] == 51


def test_calibration_by_hand():
    classes = np.array([0, 0, 0, 1, 1, 1, 1, 0], np.uint8)
    said = np.array([0.05, 0.05, 0.15, 0.15, 0.95, 0.95, 1.0, 1.0])
    made = calibration(classes, said)
    assert made["reliability"] == [
        {"packets": 2, "said": pytest.approx(0.05), "came": 0.0},
        {"packets": 2, "said": pytest.approx(0.15), "came": 0.5},
        {"packets": 4, "said": pytest.approx(0.975), "came": 0.75},
    ]
    assert made["brier"] == pytest.approx(np.mean((said - classes) ** 2))
    assert made["roc"][0] == [0.0, 0.0] and made["roc"][-1] == [1.0, 1.0]
    assert made["precision_recall"][-1][0] == 1.0


def test_one_class_has_no_calibration():
    assert calibration(np.zeros(5, np.uint8), np.zeros(5)) == {}

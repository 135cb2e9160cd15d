"""The paper's protocol counts its own four families, each packet alike, and shows the spread."""

from dataclasses import replace

import numpy as np
import pytest

from ids_appliance.schema import N_FEATURES
from ids_appliance.train.evaluate import Packets
from ids_appliance.train.fit import Recipe
from ids_appliance.train.study import protocol

FAMILIES = ("DoS", "Spoofing", "Mirai", "Recon", "BruteForce")


@pytest.fixture
def packets():
    rows = np.zeros((300, N_FEATURES), np.uint16)
    classes = (np.arange(300) % 2).astype(np.uint8)
    rows[:, 5] = np.where(classes == 1, 200, 10) + np.arange(300) % 7
    names = np.array(FAMILIES)[np.arange(300) // 2 % 5]
    families = np.where(classes == 1, names, "Benign")
    return Packets(rows, classes, np.array(["one"] * 300), families)


def test_all_and_top20_by_fold_and_the_recipes_own_set(packets, tmp_path):
    recipe = Recipe(features="all", trees=2, leaves=4, jobs=1)
    told = []
    made = protocol.protocol(recipe, packets, folds=3, folder=tmp_path, step=told.append)
    assert made["benign"] == 150 and made["malicious"] == dict.fromkeys(FAMILIES[:4], 30)
    assert list(made["sets"]) == ["all", "top20"] and len(told) == 6
    for own in made["sets"].values():
        assert len(own["folds"]) == 3
        scores = [fold["accuracy"] for fold in own["folds"]]
        assert own["accuracy"]["mean"] == pytest.approx(np.mean(scores))
        assert own["accuracy"]["spread"] == pytest.approx(np.std(scores, ddof=1))
        assert own["attack_recall"]["mean"] == 1.0  # ttl alone differs, and tells all
    page = protocol.table(made)
    rows = [line for line in page if line.startswith(("| all 60", "| top 20"))]
    assert [row.split("|")[-2].strip() for row in rows] == ["0.993", "0.992"]
    assert protocol.feature_sets(replace(recipe, features="header")) == ("all", "top20", "header")


def test_what_was_fitted_is_found_again(packets, tmp_path, monkeypatch):
    recipe = Recipe(features="all", trees=2, leaves=4, jobs=1)
    first = protocol.protocol(recipe, packets, folds=2, folder=tmp_path, step=lambda step: None)
    monkeypatch.setattr("ids_appliance.train.study.learning.fit", None)
    again = protocol.protocol(recipe, packets, folds=2, folder=tmp_path, step=lambda step: None)
    assert again == first

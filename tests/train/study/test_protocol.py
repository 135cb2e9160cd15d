"""The paper's protocol counts its own four families, each packet alike, and shows the spread."""

from dataclasses import replace

import numpy as np
import pytest

from ids_appliance.classify.bundle import load_bundle
from ids_appliance.schema import N_COLUMNS, N_FEATURES
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


def test_addresses_are_in_no_other_set_than_the_one_that_names_them(packets, tmp_path):
    rng = np.random.default_rng(0)
    rows = np.zeros((300, N_COLUMNS), np.uint16)
    rows[:, :N_FEATURES] = packets.rows
    rows[:, 5] = rng.integers(0, 256, 300)
    rows[:, N_FEATURES:] = rng.integers(0, 256, (300, 8))
    rows[:, N_FEATURES] = packets.classes * 9  # who sent it says all there is to say
    recipe = Recipe(features="header", trees=20, leaves=8, jobs=1)
    whole = replace(packets, rows=rows)
    made = protocol.protocol(recipe, whole, folds=2, folder=tmp_path, step=lambda step: None)
    recalls = {name: own["attack_recall"]["mean"] for name, own in made["sets"].items()}
    assert recalls["header"] > 0.99 and max(recalls["all"], recalls["top20"]) < 0.9
    asked = [load_bundle(path).card["features"] for path in tmp_path.iterdir()]
    named = [features for features in asked if any("octet" in name for name in features)]
    assert len(asked) == 6 and len(named) == 2 and {len(features) for features in named} == {10}

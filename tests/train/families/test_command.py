"""`train --family`: labelled captures in, a bundle of that family with an honest card out."""

import json

import pytest
from click.testing import CliRunner

from ids_appliance.classify.bundle import load_bundle
from ids_appliance.cli import main
from ids_appliance.train.families import FAMILIES, VOTERS
from tests.train.captures import make_data

FEW = ("--trees", "6", "--leaves", "16", "--jobs", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("captures")
    make_data(root, n=60)
    return root


def run(*arguments):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("family", FAMILIES)
def test_trained_twice_it_is_the_same_and_says_what_it_is(family, data, tmp_path):
    call = ("train", "--data", data, "--family", family, "--no-evaluate", *FEW)
    for name in ("a", "b"):
        run(*call, "--out", tmp_path / name / "model")
    for file in ("card.json", "card.md", "card.html", "arrays.npz"):
        one, two = ((tmp_path / name / "model" / file).read_bytes() for name in "ab")
        assert one == two
    bundle = load_bundle(tmp_path / "a" / "model")
    members = VOTERS if family == "vote" else (family,)
    assert bundle.forest.members == members and bundle.card["size"]["members"] == list(members)
    assert bundle.card["options"]["family"] == family
    assert ("xgboost-cpu" in bundle.card["versions"]) == ("xgboost" in members)
    assert ("lightgbm" in bundle.card["versions"]) == ("lightgbm" in members)
    assert f"judged by   {', '.join(members)}" in run("inspect", tmp_path / "a" / "model")


def test_evaluated_in_the_same_splits_as_the_forest(data, tmp_path):
    run("train", "--data", data, "--family", "vote", "--out", tmp_path / "vote", *FEW, "--folds", 2)
    card = json.loads((tmp_path / "vote" / "card.json").read_text())
    assert set(card["metrics"]) == {"random", "origin", "origin_distinct"}
    assert card["metrics"]["random"]["accuracy"] > 0.8
    assert sum(map(len, card["at_threshold"].values())) <= card["packets_at_threshold"]
    assert "Majority vote of random forest" in (tmp_path / "vote" / "card.md").read_text()

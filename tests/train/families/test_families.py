"""Each compiled family gives its library's verdicts, in all of a feature's values and ties."""

import numpy as np
import pytest

from ids_appliance.classify.bundle import load_bundle, make_bundle, save_bundle
from ids_appliance.errors import BundleError
from ids_appliance.schema import N_FEATURES
from ids_appliance.train.agreement import compare
from ids_appliance.train.compiler import compile_pipeline
from ids_appliance.train.families import FAMILIES, TITLES, VOTERS
from ids_appliance.train.families.making import make
from ids_appliance.train.families.vote import count
from ids_appliance.train.fit import Recipe, fit
from tests.bundles import random_rows
from tests.train.test_compiler import SRC_PORT, lively


def trained(family, *, seed=1, n=1500, features="top20"):
    rows, classes = lively(seed, n)
    groups = np.array(["a", "b"] * (n // 2))
    recipe = Recipe(family=family, features=features, trees=12, leaves=64, seed=seed, jobs=1)
    pipeline, chosen = fit(recipe, rows, classes, groups)
    return pipeline, chosen, rows


def compiled(pipeline, features):
    return make_bundle(compile_pipeline(pipeline, features), 0.5, card={})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("features", ["top20", "all"])
def test_verdicts_are_the_librarys(family, features):
    pipeline, chosen, rows = trained(family, features=features)
    bundle = compiled(pipeline, chosen)
    assert bundle.forest.members == (VOTERS if family == "vote" else (family,))
    found = compare(bundle, pipeline, chosen, np.concatenate([rows, random_rows(7, 4000)]))
    assert found.exact and found.verdicts == 0 and found.packets == 5500
    if family != "xgboost" and family != "vote":
        assert found.farthest < 1e-13
    # It judges: neither class is given to everything.
    out = np.empty(len(rows))
    bundle.forest.evaluate_rows(rows, out)
    assert 0.1 < (out > 0.5).mean() < 0.9


@pytest.mark.parametrize("family", ["xgboost", "lightgbm"])
def test_every_value_of_a_wide_feature_goes_the_librarys_way(family):
    # Values far apart: neighbours collapse in float32, which XGBoost sees and LightGBM does not.
    rng = np.random.default_rng(5)
    rows = np.zeros((4000, N_FEATURES), np.uint16)
    rows[:, SRC_PORT] = rng.integers(65_000, 65_536, 4000)
    rows[:3, SRC_PORT] = 0
    classes = (rows[:, SRC_PORT] // 3 % 2).astype(np.uint8)
    pipeline = make(family, trees=30, leaves=512, seed=0)
    pipeline.fit(rows[:, [SRC_PORT]].astype(np.float64), classes)
    every = np.zeros((1 << 16, N_FEATURES), np.uint16)
    every[:, SRC_PORT] = np.arange(1 << 16)
    bundle = compiled(pipeline, [SRC_PORT])
    assert len(bundle.grid.cuts[0]) > 100
    found = compare(bundle, pipeline, [SRC_PORT], every)
    assert found.verdicts == 0 and found.farthest < (1e-6 if family == "xgboost" else 1e-14)


def test_xgboosts_sums_are_its_own_to_the_bit():
    pipeline, chosen, rows = trained("xgboost")
    bundle = compiled(pipeline, chosen)
    found = compare(bundle, pipeline, chosen, random_rows(3, 5000))
    # Its own exp rounds the last bit otherwise now and then; sums in another order would always.
    assert found.bits < 0.02 * found.packets and found.farthest <= 2**-23


@pytest.mark.parametrize("family", FAMILIES)
def test_repeated_it_is_the_same_bundle_to_the_byte(family, tmp_path):
    for name in "ab":
        pipeline, chosen, _ = trained(family, n=600)
        save_bundle(compiled(pipeline, chosen), tmp_path / name)
    for file in ("arrays.npz", "card.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert load_bundle(tmp_path / "a").forest.members


def test_the_votes_of_members_are_the_members():
    pipeline, chosen, _ = trained("vote")
    bundle = compiled(pipeline, chosen)
    rows = random_rows(2, 1000)
    each = np.empty((1000, 4))
    bundle.forest.evaluate_rows_each(rows, each)
    expected = pipeline.predict_each(rows[:, chosen].astype(np.float64))
    assert np.abs(each - expected).max() < 1e-6
    assert ((each > 0.5) == (expected > 0.5)).all()
    out = np.empty(1000)
    bundle.forest.evaluate_rows(rows, out)
    assert out.tolist() == count(each).tolist()
    assert len({tuple(row) for row in (each > 0.5).tolist()}) > 4  # they do disagree


def test_a_vote():
    each = np.array(
        [[0.9, 0.9, 0.9, 0.1], [0.51, 0.51, 0.51, 0.0], [0.9, 0.9, 0.4, 0.4], [0.6, 0.6, 0.1, 0.1]]
    )
    assert (count(each) > 0.5).tolist() == [True, True, True, False]
    assert (count(1 - each) > 0.5).tolist() == [False, False, False, True]
    assert count(each)[1] == np.nextafter(0.5, 1)


def test_packets_at_the_threshold_are_found():
    rows = np.zeros((400, N_FEATURES), np.uint16)
    rows[:, 4] = np.arange(400) % 4
    classes = (np.arange(400) // 4 % 2).astype(np.uint8)  # says nothing: all leaves are 0.5
    pipeline = make("logistic", trees=1, leaves=2, seed=0)
    pipeline.fit(rows[:, [4]].astype(np.float64), classes)
    found = compare(compiled(pipeline, [4]), pipeline, [4], rows)
    assert len(found.near) == 400 and found.exact


def test_what_differs_far_from_the_threshold_is_not_exact():
    pipeline, chosen, rows = trained("logistic", n=600)
    arrays = compile_pipeline(pipeline, chosen)
    arrays["member_bases"] = arrays["member_bases"] + 1e-3
    found = compare(make_bundle(arrays, 0.5, card={}), pipeline, chosen, rows)
    assert found.farthest > 1e-6 and not found.exact
    forest, chosen, rows = trained("forest", n=600)
    arrays = compile_pipeline(forest, chosen)
    arrays["leaves"] = np.nextafter(arrays["leaves"], 0)
    assert not compare(make_bundle(arrays, 0.5, card={}), forest, chosen, rows).exact


def test_what_cannot_be_represented_is_refused():
    rows, classes = lively(1, 500)
    numbers = rows[:, [4, 5]].astype(np.float64)
    pipeline = make("xgboost", trees=2, leaves=16, seed=0)
    pipeline[-1].set_params(base_score=0.3)
    with pytest.raises(BundleError, match="base_score"):
        compile_pipeline(pipeline.fit(numbers, classes), [4, 5])
    pipeline = make("lightgbm", trees=2, leaves=16, seed=0)
    pipeline[-1].set_params(zero_as_missing=True)
    with pytest.raises(BundleError, match="missing"):
        compile_pipeline(pipeline.fit(numbers, classes), [4, 5])
    pipeline = make("lightgbm", trees=2, leaves=16, seed=0)
    pipeline[-1].set_params(objective="cross_entropy")
    with pytest.raises(BundleError, match="LightGBM: only binary"):
        compile_pipeline(pipeline.fit(numbers, classes), [4, 5])
    pipeline = make("forest", trees=2, leaves=16, seed=0).fit(numbers, classes)
    pipeline.steps[-1] = ("tree", pipeline[-1].estimators_[0])
    with pytest.raises(BundleError, match="DecisionTreeClassifier"):
        compile_pipeline(pipeline, [4, 5])
    with pytest.raises(BundleError, match="no family"):
        make("oracle", trees=1, leaves=2, seed=0)


def test_every_family_has_a_title():
    assert set(TITLES) == set(FAMILIES)

"""Weights count what they say, and equal data give equal forests."""

import numpy as np
import pytest

from ids_appliance.schema import COLUMNS, N_COLUMNS, N_FEATURES
from ids_appliance.train.compiler import compile_pipeline
from ids_appliance.train.fit import TOP, Recipe, distinct, fit, weigh
from tests.bundles import random_rows


def packets(n=400):
    rows = random_rows(2, n)
    rows[1::4] = rows[0]
    groups = np.array(["large"] * (n - 40) + ["small"] * 40)
    classes = (rows[:, 5] > 128).astype(np.uint8)
    return rows, classes, groups


def test_distinct_keeps_the_first_of_equal_packets_per_origin_and_class():
    rows = np.zeros((6, 60), np.uint16)
    rows[4] = 1
    classes = np.array([0, 0, 1, 0, 0, 0], np.uint8)
    groups = np.array(["a", "a", "a", "b", "a", "b"])
    assert distinct(rows, classes, groups).tolist() == [0, 2, 3, 4]


@pytest.mark.parametrize("scheme", ["packet", "record", "balanced", "origin"])
def test_weights_have_mean_one(scheme):
    rows, classes, groups = packets()
    chosen, share = weigh(scheme, rows, classes, groups)
    assert share.mean() == pytest.approx(1) and (share > 0).all()
    assert (len(chosen) == len(rows)) == (scheme == "packet")
    if scheme in ("balanced", "origin"):
        own = classes[chosen]
        assert share[own == 1].sum() == pytest.approx(share[own == 0].sum())
    if scheme == "origin":
        large = (classes[chosen] == 1) & (groups[chosen] == "large")
        small = (classes[chosen] == 1) & (groups[chosen] == "small")
        assert share[large].sum() == pytest.approx(share[small].sum())


def test_fits_are_repeatable_whatever_the_jobs():
    rows, classes, groups = packets()
    models = []
    for jobs in (1, 2):
        recipe = Recipe(trees=6, leaves=16, seed=3, jobs=jobs)
        pipeline, features = fit(recipe, rows, classes, groups)
        assert len(features) == TOP == len(set(features)) and features == sorted(features)
        assert pipeline[-1].n_jobs == 1
        models.append(compile_pipeline(pipeline, features))
    for name in models[0]:
        assert models[0][name].tobytes() == models[1][name].tobytes()
    assert 5 in features


def test_header_is_length_protocol_and_addresses():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 2, (300, N_COLUMNS)).astype(np.uint16)
    rows[:, 63] = rng.integers(0, 256, 300)
    classes = (rows[:, 63] > 128).astype(np.uint8)
    recipe = Recipe(features="header", trees=3, leaves=8)
    pipeline, features = fit(recipe, rows, classes, np.array(["one"] * 300))
    assert [COLUMNS[i].name for i in features[:3]] == ["proto", "length", "src_octet_0"]
    assert len(features) == 10 and recipe.width == N_COLUMNS == 68
    assert 63 in compile_pipeline(pipeline, features)["features"]
    assert Recipe().width == 60


def test_a_ranking_sees_no_addresses():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 2, (300, N_COLUMNS)).astype(np.uint16)
    classes = (rows[:, 63] > 0).astype(np.uint8)
    recipe = Recipe(features="top20", trees=3, leaves=8)
    _, chosen = fit(recipe, rows, classes, np.array(["one"] * 300))
    assert max(chosen) < N_FEATURES

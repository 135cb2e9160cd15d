"""The compiled model equals Pipeline.predict_proba (integers as float64, one job) bit for bit."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

from ids_appliance.classify.bundle import make_bundle
from ids_appliance.errors import BundleError
from ids_appliance.schema import FEATURES, N_FEATURES
from ids_appliance.train.compiler import compile_pipeline, scaled_domains
from tests.bundles import random_rows

LENGTH, TTL, IS_TCP, SRC_PORT, URG = 4, 5, 48, 0, 45


def fitted(features, rows, classes, **shape):
    shape = {"n_estimators": 20, "max_leaf_nodes": 64, "random_state": 1} | shape
    pipeline = make_pipeline(StandardScaler(), MinMaxScaler(), RandomForestClassifier(**shape))
    return pipeline.fit(rows[:, features].astype(np.float64), classes)


def lively(seed, n):
    """Rows with few values, so that thresholds and training values meet, and a class to learn."""
    rng = np.random.default_rng(seed)
    rows = random_rows(seed, n)
    for i in range(N_FEATURES):
        if rng.random() < 0.7:
            wide = rows[:, i].astype(np.int64) // rng.integers(1, 5000) * rng.integers(1, 3)
            rows[:, i] = wide % FEATURES[i].domain
    noise = rng.random(n) < 0.1
    return rows, ((rows[:, LENGTH] > 400) ^ (rows[:, TTL] < 90) ^ noise).astype(np.uint8)


def same_bits(pipeline, features, rows):
    bundle = make_bundle(compile_pipeline(pipeline, features), 0.5, card={})
    out = np.empty(len(rows))
    bundle.forest.evaluate_rows(rows, out)
    expected = pipeline.predict_proba(rows[:, features].astype(np.float64))[:, 1]
    assert out.tobytes() == np.ascontiguousarray(expected).tobytes()
    return bundle


@pytest.mark.parametrize("seed", range(6))
def test_equal_on_training_rows_and_on_any_rows(seed):
    rng = np.random.default_rng(seed)
    features = sorted(rng.choice(N_FEATURES, 20, replace=False).tolist() + [LENGTH, TTL])
    features = sorted(set(features))
    rows, classes = lively(seed, 1500)
    pipeline = fitted(features, rows, classes)
    same_bits(pipeline, features, np.concatenate([rows, random_rows(seed + 100, 3000)]))


def test_equal_on_the_whole_domain_of_a_wide_feature():
    rows, classes = lively(3, 4000)
    classes = (np.sin(rows[:, SRC_PORT] / 900.0) > 0).astype(np.uint8)
    rows[:, SRC_PORT] = random_rows(9, 4000)[:, SRC_PORT]
    pipeline = fitted([SRC_PORT, IS_TCP], rows, classes, max_leaf_nodes=400)
    every = np.zeros((1 << 16, N_FEATURES), np.uint16)
    every[:, SRC_PORT] = np.arange(1 << 16)
    bundle = same_bits(pipeline, [SRC_PORT, IS_TCP], every)
    assert len(bundle.grid.cuts[0]) > 255 and bundle.forest.key_bytes in (2, 3)


def test_a_constant_column_is_no_feature_of_the_grid():
    rows = random_rows(4, 600)
    classes = (rows[:, TTL] > 100).astype(np.uint8)
    rows[:, URG] = 0
    bundle = same_bits(fitted([TTL, URG], rows, classes), [TTL, URG], random_rows(1, 2000))
    assert bundle.grid.features == (TTL,)


def test_a_forest_that_asks_nothing():
    rows = np.zeros((50, N_FEATURES), np.uint16)
    classes = (np.arange(50) % 3 == 0).astype(np.uint8)
    pipeline = fitted([LENGTH, TTL], rows, classes)
    bundle = same_bits(pipeline, [LENGTH, TTL], random_rows(1, 50))
    assert bundle.grid.features == () and bundle.forest.key_bytes == 0


def test_float32_ties_go_left_as_in_scikit_learn():
    # Values far apart and a mean that is not a float32: neighbours collapse after the cast.
    rows, _ = lively(5, 3000)
    rows[:, SRC_PORT] = np.random.default_rng(5).integers(65_000, 65_536, 3000)
    rows[:3, SRC_PORT] = 0
    classes = (rows[:, SRC_PORT] % 2).astype(np.uint8)
    pipeline = fitted([SRC_PORT], rows, classes, max_leaf_nodes=600)
    every = np.zeros((1 << 16, N_FEATURES), np.uint16)
    every[:, SRC_PORT] = np.arange(1 << 16)
    same_bits(pipeline, [SRC_PORT], every)


def test_refuses_what_it_cannot_compile():
    rows, classes = lively(6, 300)
    pipeline = fitted([LENGTH, TTL], rows, classes)
    with pytest.raises(BundleError, match="other features"):
        compile_pipeline(pipeline, [LENGTH])
    with pytest.raises(BundleError, match="other features"):
        compile_pipeline(pipeline, [TTL, LENGTH])
    pipeline[0].scale_[1] *= -1
    with pytest.raises(BundleError, match="not monotone"):
        compile_pipeline(pipeline, [LENGTH, TTL])
    one = fitted([LENGTH, TTL], rows, np.zeros(300, np.uint8))
    with pytest.raises(BundleError, match="classes"):
        compile_pipeline(one, [LENGTH, TTL])
    broken = make_pipeline(FunctionTransformer(np.log), RandomForestClassifier(2))
    broken.fit(rows[:, [LENGTH]].astype(np.float64) + 1.0, classes)
    with pytest.raises(BundleError, match="not monotone"), np.errstate(divide="ignore"):
        scaled_domains(broken, [LENGTH])

"""The compiled forest equals its plain twin bit for bit, and refuses whatever is not a forest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ids_appliance._forest import ARRAYS, Forest
from tests.bundles import random_arrays, random_rows
from tests.examples import examples
from tests.reference import forest as twin

SHAPES = [
    {"n_trees": 1, "n_leaves": 1},
    {"n_trees": 3, "n_leaves": 2},
    {"n_trees": 50, "n_leaves": 64},
    {"n_trees": 9, "n_leaves": 65},
    {"n_trees": 7, "n_leaves": 128},
    {"n_trees": 5, "n_leaves": 256},
    {"n_trees": 4, "n_leaves": 500},
    {"n_trees": 20, "n_leaves": 2000},
    {"n_trees": 5, "n_leaves": 60, "features": [0]},
    {"n_trees": 5, "n_leaves": 60, "features": list(range(60))},
    {"n_trees": 4, "n_leaves": 100, "features": [0, 1, 4], "max_cuts": 60000},
]


def probabilities(forest, cells):
    out = np.full(len(cells), np.nan)
    forest.evaluate(cells, out)
    return out


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_twin_bit_for_bit(shape):
    arrays = random_arrays(5, **shape)
    forest = Forest(arrays)
    rows = random_rows(6, 60)
    codes = [twin.encode(arrays, row) for row in rows]
    expected = np.array([twin.probability(arrays, c) for c in codes])
    cells = np.frombuffer(b"".join(twin.pack(arrays, c) for c in codes), np.uint8)
    cells = cells.reshape(len(rows), forest.key_bytes)
    out = np.empty(len(rows))
    forest.evaluate_rows(rows, out)
    assert out.tobytes() == expected.tobytes()
    assert probabilities(forest, cells).tobytes() == expected.tobytes()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_any_bytes_are_a_cell(seed, data):
    arrays = random_arrays(seed, n_trees=4, n_leaves=20)
    forest = Forest(arrays)
    cell = data.draw(st.binary(min_size=forest.key_bytes, max_size=forest.key_bytes))
    cells = np.frombuffer(cell, np.uint8).reshape(1, -1)
    expected = twin.probability(arrays, twin.unpack(arrays, cell))
    assert probabilities(forest, cells)[0] == expected


def test_a_forest_keeps_its_own_copy():
    arrays = random_arrays(1)
    forest = Forest(arrays)
    cells = np.zeros((1, forest.key_bytes), np.uint8)
    before = probabilities(forest, cells)
    for array in arrays.values():
        array[:] = 0
    assert probabilities(forest, cells) == before


def test_shapes_are_checked():
    forest = Forest(random_arrays(1))
    with pytest.raises(ValueError, match="cells must be"):
        forest.evaluate(np.zeros((2, forest.key_bytes + 1), np.uint8), np.zeros(2))
    with pytest.raises(ValueError, match="cells must be"):
        forest.evaluate(np.zeros((2, forest.key_bytes), np.uint8), np.zeros(1))
    with pytest.raises(ValueError, match="rows must be"):
        forest.evaluate_rows(np.zeros((2, 59), np.uint16), np.zeros(2))
    forest.evaluate(np.zeros((0, forest.key_bytes), np.uint8), np.zeros(0))


def changed(name, change):
    arrays = random_arrays(1, n_trees=3, n_leaves=20)
    array = arrays[name].copy()
    changed_array = change(array)
    arrays[name] = array if changed_array is None else changed_array
    return arrays


def put(place, value):
    def change(array):
        array[place] = value

    return change


def first_inner(arrays):
    return int(np.flatnonzero(arrays["node_feature"] != 255)[0])


INNER = first_inner(random_arrays(1, n_trees=3, n_leaves=20))
N_LEAF = int(np.flatnonzero(random_arrays(1, n_trees=3, n_leaves=20)["node_feature"] == 255)[0])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("features", put(0, 68), "columns of the record"),
        ("features", put(1, 0), "columns of the record"),
        ("features", lambda a: a[:-1], "with its number of cuts"),
        ("cut_counts", put(0, 70000), "more cuts than values"),
        ("cut_counts", put(0, 0), "disagree"),
        ("cuts", put(0, 0), "strictly increasing"),
        ("cuts", lambda a: a[:-1], "disagree"),
        ("tree_starts", put(0, 1), "do not cover"),
        ("tree_starts", put(-1, 10**6), "do not cover"),
        ("tree_starts", put(1, 0), "has no nodes"),
        ("tree_starts", put(1, 2**32 - 1), "has no nodes"),
        ("tree_starts", lambda a: a[:1], "1 to 1024 trees"),
        ("tree_starts", lambda a: np.arange(1026, dtype="<u4"), "1 to 1024 trees"),
        ("node_feature", put(INNER, 200), "out of range"),
        ("node_feature", put(N_LEAF, 0), "node"),
        ("node_feature", put(INNER, 255), "no proper leaf"),
        ("node_code", put(INNER, 65535), "out of range"),
        ("node_code", put(N_LEAF, 1), "no proper leaf"),
        ("node_right", put(INNER, 0), "out of place"),
        ("node_right", put(INNER, 2**32 - 1), "outside its tree"),
        ("node_right", put(INNER, INNER), "out of place"),
        ("node_right", put(N_LEAF, 1), "no proper leaf"),
        ("node_right", lambda a: a[:-1], "each with feature"),
        ("leaves", put(0, np.nan), "not a probability"),
        ("leaves", put(0, np.inf), "not a probability"),
        ("leaves", put(0, -1e-9), "not a probability"),
        ("leaves", put(0, 1.0000001), "not a probability"),
        ("leaves", lambda a: a[:-1], "values are given"),
        ("leaves", lambda a: a.astype("<f4"), "one-dimensional"),
        ("leaves", lambda a: a.reshape(1, -1), "one-dimensional"),
        ("leaves", lambda a: list(a), "one-dimensional"),
    ],
)
def test_malicious_structures_are_refused(name, change, message):
    with pytest.raises(ValueError, match=message):
        Forest(changed(name, change))


def test_nothing_half_built_is_evaluated():
    forest = Forest.__new__(Forest)
    with pytest.raises(ValueError, match="leaves"):
        forest.__init__(changed("leaves", lambda a: a[:-1]))
    for _ in range(2):
        with pytest.raises(ValueError, match="not built"):
            forest.evaluate_rows(random_rows(1, 1), np.empty(1))
        with pytest.raises(ValueError, match="built once"):
            forest.__init__(random_arrays(1))


def test_names_are_exact():
    arrays = random_arrays(1)
    with pytest.raises(ValueError, match="extra"):
        Forest(arrays | {"extra": arrays["cuts"]})
    del arrays["leaves"]
    with pytest.raises(ValueError, match="leaves"):
        Forest(arrays)


@examples(400)
@given(data=st.data())
def test_random_damage_is_refused_or_harmless(data):
    arrays = random_arrays(data.draw(st.integers(0, 20)), n_trees=3, n_leaves=12)
    name = data.draw(st.sampled_from(sorted(ARRAYS)))
    array = bytearray(arrays[name].tobytes())
    place = data.draw(st.integers(0, len(array) - 1))
    array[place] = data.draw(st.integers(0, 255))
    arrays[name] = np.frombuffer(bytes(array), arrays[name].dtype)
    try:
        forest = Forest(arrays)
    except ValueError:
        return
    cells = np.random.default_rng(1).integers(0, 256, (8, forest.key_bytes), np.uint8)
    expected = [twin.probability(arrays, twin.unpack(arrays, c.tobytes())) for c in cells]
    assert probabilities(forest, cells).tolist() == expected


def test_rows_without_addresses_are_enough_only_where_none_is_asked_for():
    arrays = random_arrays(3, n_trees=4, n_leaves=8, features=[2, 4, 60, 67], max_cuts=200)
    forest, without = Forest(arrays), Forest(random_arrays(3, n_trees=4, n_leaves=8, features=[2]))
    rows = np.random.default_rng(0).integers(0, 256, (50, 68)).astype(np.uint16)
    out, same = np.empty(50), np.empty(50)
    forest.evaluate_rows(rows, out)
    expected = [twin.probability(arrays, twin.encode(arrays, row)) for row in rows]
    assert out.tobytes() == np.array(expected).tobytes()
    without.evaluate_rows(rows, out)
    without.evaluate_rows(np.ascontiguousarray(rows[:, :60]), same)
    assert out.tobytes() == same.tobytes()
    for width in (59, 60, 61, 67, 69):
        with pytest.raises(ValueError, match="rows must be"):
            forest.evaluate_rows(np.zeros((50, width), np.uint16), out)

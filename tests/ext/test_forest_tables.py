"""Trees as masks in tables say what walked trees say, bit for bit; by shape one or the other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ids_appliance._forest import TABLE_LIMIT, Forest
from tests.bundles import random_arrays, random_members
from tests.examples import examples
from tests.reference import forest as twin

AMPLE = 64 << 20
TABLED = {
    "one tree, masks of 4 bytes": {"n_trees": 1, "n_leaves": 32, "features": [4]},
    "rows of 16 bytes and a tail": {"n_trees": 53, "n_leaves": 32, "features": [0, 2, 5, 6, 40]},
    "masks of 8 bytes": {"n_trees": 30, "n_leaves": 64, "features": [2, 4, 5, 6, 7]},
    "masks of 16 bytes": {"n_trees": 7, "n_leaves": 128, "features": [2, 4, 5]},
    "200 trees, codes of two bytes": {
        "n_trees": 200,
        "n_leaves": 128,
        "features": [0, 1, 2, 4],
        "max_cuts": 2000,
    },
}
WALKED = {
    "too many leaves": {"n_trees": 3, "n_leaves": 300, "features": [2, 4]},
    "too many features": {"n_trees": 9, "n_leaves": 20, "features": list(range(60))},
    "too shallow": {"n_trees": 50, "n_leaves": 8, "features": [2, 4]},
    "rows too long": {"n_trees": 1000, "n_leaves": 128, "features": [6]},
    "nothing asked": {"n_trees": 5, "n_leaves": 1, "features": [6]},
}


def edge_codes(arrays, n, seed=0):
    """Return (n, features) codes: anything, often the first, the last, or past the last."""
    rng = np.random.default_rng(seed)
    counts = arrays["cut_counts"].astype(int)
    most = np.where(counts > 255, 65535, 255)
    near = np.stack([0 * counts, 0 * counts + 1, counts - 1, counts, counts + 1, most])
    near = np.minimum(near, most)
    chosen = near[rng.integers(0, len(near), (n, len(counts))), np.arange(len(counts))]
    return np.where(rng.random((n, len(counts))) < 0.4, chosen, rng.integers(0, counts + 1))


def packed(arrays, codes):
    cells = b"".join(twin.pack(arrays, row) for row in codes.tolist())
    return np.frombuffer(cells, np.uint8).reshape(len(codes), -1)


def judged(forest, cells, batch):
    out = np.full(len(cells), np.nan)
    for k in range(0, len(cells), batch):
        forest.evaluate(cells[k : k + batch], out[k : k + batch])
    return out.tobytes()


@pytest.mark.parametrize("shape", TABLED.values(), ids=TABLED)
def test_tables_equal_the_walk_and_the_twin(shape):
    arrays = random_arrays(2, **shape)
    tabled, walked = Forest(arrays, table_limit=AMPLE), Forest(arrays, table_limit=0)
    assert tabled.table_bytes > 0 and walked.table_bytes == 0
    codes = edge_codes(arrays, 331)
    cells = packed(arrays, codes)
    expected = judged(walked, cells, 256)
    for batch in (1, 2, 3, 4, 7, 16, 331):
        assert judged(tabled, cells, batch) == expected
    few = [twin.probability(arrays, twin.unpack(arrays, cell)) for cell in cells[:12]]
    assert expected[: 8 * 12] == np.array(few).tobytes()


@pytest.mark.parametrize("shape", WALKED.values(), ids=WALKED)
def test_shapes_that_do_not_pay_are_walked(shape):
    arrays = random_arrays(2, **shape)
    forest = Forest(arrays, table_limit=AMPLE)
    assert forest.table_bytes == 0
    cells = packed(arrays, edge_codes(arrays, 9))
    few = [twin.probability(arrays, twin.unpack(arrays, cell)) for cell in cells]
    assert judged(forest, cells, 9) == np.array(few).tobytes()


def test_the_limit_is_a_limit():
    arrays = random_arrays(2, **TABLED["masks of 8 bytes"])
    size = Forest(arrays).table_bytes
    assert 0 < size <= TABLE_LIMIT
    assert Forest(arrays, table_limit=size).table_bytes == size
    assert Forest(arrays, table_limit=size - 1).table_bytes == 0


@pytest.mark.parametrize("kinds", [(2,), (3,), (0, 2, 3), (3, 1, 2)])
def test_members_add_up_from_tables_as_from_walks(kinds):
    arrays = random_members(5, kinds=kinds, n_trees=37, n_leaves=32, features=[2, 5, 6, 40])
    tabled, walked = Forest(arrays, table_limit=AMPLE), Forest(arrays, table_limit=0)
    assert tabled.table_bytes > 0
    cells = packed(arrays, edge_codes(arrays, 103))
    each, same = np.empty((103, len(kinds))), np.empty((103, len(kinds)))
    tabled.evaluate_each(cells, each)
    walked.evaluate_each(cells, same)
    assert each.tobytes() == same.tobytes()
    for batch in (1, 103):
        assert judged(tabled, cells, batch) == judged(walked, cells, batch)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    trees=st.integers(1, 60),
    leaves=st.integers(2, 128),
    features=st.sets(st.integers(0, 59), min_size=1, max_size=60),
    cuts=st.sampled_from([1, 3, 255, 256, 300]),
)
def test_any_forest_says_the_same_in_both_ways(seed, trees, leaves, features, cuts):
    arrays = random_arrays(
        seed, n_trees=trees, n_leaves=leaves, features=sorted(features), max_cuts=cuts
    )
    cells = packed(arrays, edge_codes(arrays, 21, seed))
    expected = judged(Forest(arrays, table_limit=0), cells, 21)
    assert judged(Forest(arrays, table_limit=AMPLE), cells, 21) == expected
    first = twin.probability(arrays, twin.unpack(arrays, cells[0]))
    assert expected[:8] == np.array([first]).tobytes()


@examples(200)
@given(data=st.data())
def test_damage_is_refused_or_harmless_in_tables_too(data):
    arrays = random_arrays(data.draw(st.integers(0, 9)), n_trees=3, n_leaves=32, features=[2, 4, 6])
    name = data.draw(st.sampled_from(sorted(arrays)))
    array = bytearray(arrays[name].tobytes())
    place = data.draw(st.integers(0, len(array) - 1))
    array[place] = data.draw(st.integers(0, 255))
    arrays[name] = np.frombuffer(bytes(array), arrays[name].dtype)
    try:
        forest = Forest(arrays, table_limit=AMPLE)
    except ValueError:
        return
    cells = np.random.default_rng(1).integers(0, 256, (6, forest.key_bytes), np.uint8)
    expected = [twin.probability(arrays, twin.unpack(arrays, c.tobytes())) for c in cells]
    assert judged(forest, cells, 6) == np.array(expected).tobytes()

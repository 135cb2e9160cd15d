"""Models of several members equal their plain twin bit for bit, and bad members are refused."""

import math

import numpy as np
import pytest

from ids_appliance._forest import ARRAYS, KINDS, Forest
from tests.bundles import random_members, random_rows
from tests.reference import forest as twin

VOTE = (0, 1, 2, 3)


@pytest.mark.parametrize("kinds", [(0,), (1,), (2,), (3,), VOTE, (1, 1), (3, 2, 2), (0,) * 16])
def test_equals_the_twin_bit_for_bit(kinds):
    arrays = random_members(3, kinds=kinds)
    forest = Forest(arrays)
    assert forest.members == tuple(KINDS[kind] for kind in kinds)
    rows = random_rows(4, 40)
    codes = [twin.encode(arrays, row) for row in rows]
    cells = b"".join(twin.pack(arrays, c) for c in codes)
    cells = np.frombuffer(cells, np.uint8).reshape(len(rows), forest.key_bytes)
    alone = [twin.each(arrays, c) for c in codes]
    for judge, given in ((forest.evaluate_each, cells), (forest.evaluate_rows_each, rows)):
        each = np.empty((len(rows), len(kinds)))
        judge(given, each)
        assert each.tolist() == alone
    for judge, given in ((forest.evaluate, cells), (forest.evaluate_rows, rows)):
        out = np.empty(len(rows))
        judge(given, out)
        assert out.tolist() == [twin.probability(arrays, c) for c in codes]


def says(*log_odds, kinds):
    """Return what a model says whose members have these log-odds whatever they are shown."""
    arrays = {
        "features": np.zeros(0, "<u1"),
        "cut_counts": np.zeros(0, "<u4"),
        "cuts": np.zeros(0, "<u2"),
        "tree_starts": np.arange(sum(k != 1 for k in kinds) + 1, dtype="<u4"),
        "node_feature": np.full(sum(k != 1 for k in kinds), 255, "<u1"),
        "node_code": np.zeros(sum(k != 1 for k in kinds), "<u2"),
        "node_right": np.zeros(sum(k != 1 for k in kinds), "<u4"),
        "leaves": np.zeros(sum(k != 1 for k in kinds)),
        "member_kinds": np.array(kinds, "<u1"),
        "member_trees": np.array([int(k != 1) for k in kinds], "<u4"),
        "member_bases": np.array(log_odds, "<f8"),
        "weights": np.zeros(0),
    }
    out = np.empty(1)
    Forest(arrays).evaluate(np.zeros((1, 0), np.uint8), out)
    return out[0]


@pytest.mark.parametrize("kind", [1, 3])
def test_the_logistic_function_is_right_to_the_last_places(kind):
    for x in [*np.linspace(-40, 40, 999), 1e-300, -1e-17, 300.0, -300.0, 700.0, -700.0, 1e6, -1e6]:
        power = math.exp(min(-x, 709.0))
        assert says(x, kinds=[kind]) == pytest.approx(1 / (1 + power), rel=5e-16, abs=0)


def test_the_majority_is_obeyed_and_a_tie_is_decided_by_the_mean():
    sure, weak = 9.0, 0.01
    assert says(weak, weak, weak, -sure, kinds=[1, 1, 3, 3]) == np.nextafter(0.5, 1)
    assert says(-weak, -weak, -weak, sure, kinds=[1, 1, 3, 3]) == 0.5
    assert says(weak, weak, -sure, -sure, kinds=[1, 1, 3, 3]) < 0.5
    assert says(sure, sure, -weak, -weak, kinds=[1, 1, 3, 3]) > 0.7
    assert says(sure, sure, sure, -weak, kinds=[1, 1, 3, 3]) > 0.8
    assert says(0.0, 0.0, kinds=[1, 3]) == 0.5


def test_a_code_past_the_last_is_the_last_also_for_a_weight():
    arrays = random_members(1, kinds=(1,), features=[40])
    out = np.empty(3)
    Forest(arrays).evaluate(np.array([[1], [2], [255]], np.uint8), out)
    assert out[0] == out[1] == out[2]


def put(name, place, value):
    def change(arrays):
        arrays[name] = arrays[name].copy()
        arrays[name][place] = value

    return change


def short(name):
    def change(arrays):
        arrays[name] = arrays[name][:-1]

    return change


def gap(arrays):
    arrays["cuts"] = arrays["cuts"][1:]
    arrays["cut_counts"] = arrays["cut_counts"].copy()
    arrays["cut_counts"][0] -= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("member_kinds", 0, 4), "no known kind"),
        (put("member_kinds", 0, 1), "weight for each"),
        (put("member_kinds", 1, 3), "weight for each"),
        (put("member_trees", 3, 5), "more trees than there are"),
        (put("member_trees", 0, 2**32 - 1), "more trees than there are"),
        (put("member_trees", 3, 3), "belong to no member"),
        (put("member_trees", 0, 0), "at least one"),
        (put("member_trees", 1, 1), "at least one"),
        (put("member_bases", 0, 0.5), "base of member 0"),
        (put("member_bases", 2, np.nan), "base of member 2"),
        (put("member_bases", 3, np.inf), "base of member 3"),
        (put("weights", 1, np.nan), "weight 1"),
        (put("weights", 1, -1e7), "weight 1"),
        (short("weights"), "weight for each"),
        (short("member_bases"), "1 to 16 members"),
        (short("member_trees"), "1 to 16 members"),
        (put("leaves", 0, 1.5), "not a probability"),
        (put("leaves", -1, np.inf), "out of range"),
        (put("leaves", -1, -2e6), "out of range"),
        (put("leaves", slice(None), 0.1), "no float32"),
        (gap, "codes are not its values"),
        (lambda a: a.pop("weights"), "missing or unknown: weights"),
        (lambda a: a.pop("member_kinds"), "missing or unknown"),
    ],
)
def test_malicious_members_are_refused(change, message):
    arrays = random_members(2)
    Forest(arrays)
    change(arrays)
    with pytest.raises(ValueError, match=message):
        Forest(arrays)


def test_as_many_members_as_there_is_room_for_and_none_is_none():
    with pytest.raises(ValueError, match="1 to 16 members"):
        Forest(random_members(1, kinds=(0,) * 17, n_trees=1))
    nobody = random_members(1, kinds=(1,)) | {
        "member_kinds": np.zeros(0, "<u1"),
        "member_trees": np.zeros(0, "<u4"),
        "member_bases": np.zeros(0),
        "weights": np.zeros(0),
    }
    with pytest.raises(ValueError, match="1 to 16 members"):
        Forest(nobody)
    alone = {k: v for k, v in random_members(1, kinds=(1,)).items() if k in ARRAYS}
    with pytest.raises(ValueError, match="1 to 1024 trees"):
        Forest(alone)


def test_shapes_are_checked():
    forest = Forest(random_members(1))
    rows, cells = np.zeros((2, 60), np.uint16), np.zeros((2, forest.key_bytes), np.uint8)
    for judge, given in ((forest.evaluate_each, cells), (forest.evaluate_rows_each, rows)):
        for shape in ((2, 3), (1, 4)):
            with pytest.raises(ValueError, match=r"out \(n, 4\)"):
                judge(given, np.empty(shape))
        with pytest.raises(ValueError, match=r"out \(n, 4\)"):
            judge(given[:, :-1].copy(), np.empty((2, 4)))

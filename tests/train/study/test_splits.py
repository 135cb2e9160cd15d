"""What is left out together stays together, and everything is left out once."""

import numpy as np
import pytest

from ids_appliance.train.study.splits import group_folds, random_folds, twins
from tests.bundles import random_rows

CLASSES = np.array(([0] * 30 + [1] * 10) * 5, np.uint8)


def once(folds):
    return np.sum([fold.test for fold in folds], axis=0).tolist() == [1] * len(CLASSES)


def test_random_folds_hold_the_classes_in_proportion():
    folds = list(random_folds(CLASSES, 5, seed=1))
    assert once(folds) and [fold.test.sum() for fold in folds] == [40] * 5
    assert {int(CLASSES[fold.test].sum()) for fold in folds} == {10}


def test_groups_with_an_attack_are_left_out_one_at_a_time():
    groups = np.repeat(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"], 20)
    classes = np.zeros(200, np.uint8)
    classes[[3, 50]] = 1  # in a and in c
    folds = list(group_folds(groups, classes, together=3, name="origin"))
    assert once(folds)
    assert [fold.name for fold in folds[:2]] == ["origin a", "origin c"]
    assert len(folds) == 5
    sizes = [len(np.unique(groups[fold.test])) for fold in folds]
    assert sizes[:2] == [1, 1] and sorted(sizes[2:]) == [2, 3, 3]


def test_fewer_ordinary_groups_than_folds():
    groups = np.array(["a"] * 20 + ["b"] * 20)
    classes = np.array([1] * 20 + [0] * 20, np.uint8)
    folds = list(group_folds(groups, classes, together=5, name="x"))
    assert [fold.name for fold in folds] == ["x a", "x ordinary 1"]


@pytest.mark.parametrize(("shared", "together"), [(4, False), (5, True)])
def test_twins_share_half_of_the_smaller_ones_records(shared, together):
    rows = random_rows(1, 60)
    assert len(np.unique(rows, axis=0)) == 60
    small = np.concatenate([rows[:shared], rows[50 : 60 - shared]])  # 10 records
    both = np.concatenate([rows[:40], small, np.repeat(small[:1], 30, axis=0)])
    files = np.array([7] * 40 + [9] * (len(small) + 30))
    found = twins(both, files)
    assert bool(found[0] == found[-1]) is together
    assert len(np.unique(found[:40])) == 1 == len(np.unique(found[40:]))


def test_twins_of_twins_belong_together():
    rows = random_rows(2, 30)
    chain = np.concatenate([rows[:10], rows[5:15], rows[10:20], rows[20:30]])
    found = twins(chain, np.repeat([1, 2, 3, 4], 10))
    assert len(np.unique(found[:30])) == 1 and found[39] != found[0]

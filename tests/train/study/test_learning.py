"""A kept model is found again by what it was made of, and by nothing less."""

import numpy as np
import pytest

from ids_appliance.errors import BundleError
from ids_appliance.train.fit import Recipe
from ids_appliance.train.study.learning import Models, judge
from tests.train.test_evaluate import some_packets

RECIPE = Recipe(features="all", trees=3, leaves=8, jobs=1)


def test_a_second_run_learns_nothing_anew(tmp_path):
    packets = some_packets()
    test = packets.groups == "origin1"
    first = Models(RECIPE, packets, tmp_path)
    bundle, path = first.without(test)
    again = Models(RECIPE, packets, tmp_path)
    same, place = again.without(test)
    assert (first.made, again.made, place) == (1, 0, path)
    assert judge(same, packets.rows).tolist() == judge(bundle, packets.rows).tolist()


@pytest.mark.parametrize("change", ["recipe", "fold", "rows", "classes"])
def test_another_model_has_another_name(tmp_path, change):
    packets, recipe = some_packets(), RECIPE
    test = packets.groups == "origin1"
    _, path = Models(recipe, packets, tmp_path).without(test)
    if change == "recipe":
        recipe = Recipe(features="all", trees=3, leaves=8, jobs=1, seed=1)
    elif change == "fold":
        test = packets.groups == "origin2"
    elif change == "rows":
        packets.rows[0, 0] ^= 1
    else:
        packets.classes[0] ^= 1
    assert Models(recipe, packets, tmp_path).without(test)[1] != path


def test_a_fold_that_takes_a_whole_class_away_is_named(tmp_path):
    packets = some_packets()
    with pytest.raises(BundleError, match="both classes"):
        Models(RECIPE, packets, tmp_path).without(packets.classes == 1)
    assert not any(tmp_path.iterdir()), np.unique(packets.classes)

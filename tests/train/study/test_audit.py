"""A feature that knows labs is found out; blanked features are never asked for."""

import numpy as np

from ids_appliance.schema import FEATURE_NAMES
from ids_appliance.train.evaluate import Packets
from ids_appliance.train.fit import Recipe
from ids_appliance.train.study.audit import GROUPS, alone, blank
from ids_appliance.train.study.learning import Models, judge
from ids_appliance.train.study.splits import group_folds, random_folds

TTL, FLAGS = FEATURE_NAMES.index("ttl"), FEATURE_NAMES.index("tcp_flags")


def world():
    """Six origins: the ttl tells each origin's attack in a way of its own, the flags everywhere."""
    n, origins = 40, 6
    rows = np.zeros((n * origins, 60), np.uint16)
    classes = np.tile(np.repeat([0, 1], n // 2), origins).astype(np.uint8)
    origin = np.repeat(np.arange(origins), n)
    rows[:, TTL] = 10 + 2 * origin + classes  # what lies between two others' is judged wrongly
    rows[:, FLAGS] = np.where(classes == 1, 2, 24)
    families = np.where(classes == 1, "DoS", "Benign")
    return Packets(rows, classes, origin.astype(str), families)


def test_a_shortcut_is_good_at_random_and_bad_on_other_origins():
    packets, turns = world(), []
    random = alone(packets, random_folds(packets.classes, 4, seed=0), step=lambda: turns.append(0))
    origins = group_folds(packets.groups, packets.classes, together=2, name="origin")
    origin = alone(packets, origins, step=lambda: turns.append(1))
    assert len(random) == len(origin) == 60 and len(turns) == 4 + 6
    assert random[TTL] > 0.75 and origin[TTL] < 0.5
    assert random[FLAGS] == origin[FLAGS] == 1.0
    assert random[FEATURE_NAMES.index("src_port")] in (0.0, 2 / 3), "a constant knows nothing"


def test_without_a_group_its_features_do_not_matter(tmp_path):
    packets = world()
    less = blank(packets, GROUPS["ttl"])
    assert packets.rows[:, TTL].any() and not less.rows[:, TTL].any()
    recipe = Recipe(features="all", trees=4, leaves=8, jobs=1)
    bundle, _ = Models(recipe, less, tmp_path).without(packets.groups == "0")
    changed = less.rows.copy()
    changed[:, TTL] = 200
    assert judge(bundle, changed).tolist() == judge(bundle, less.rows).tolist()


def test_every_group_is_of_features_that_exist():
    assert all(GROUPS.values()) and len(GROUPS["payload"]) == 33 and GROUPS["ttl"] == (TTL,)

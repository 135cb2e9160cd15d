"""Fewer trees of a larger forest are the forest of so many, and worth counts origins alike."""

from collections import defaultdict

import numpy as np
import pytest

from ids_appliance.train.compiler import compile_pipeline
from ids_appliance.train.evaluate import Packets
from ids_appliance.train.families.making import make
from tests.campaigns import size_curve
from tests.campaigns.context_features import NAMES as COLUMNS_OF
from tests.campaigns.context_features import WINDOW_NS, Window, context


def packets(n=400):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 200, (n, 60)).astype(np.uint16)
    classes = (rows[:, 4] > 100).astype(np.uint8)
    groups = np.array([f"o{i % 8}" for i in range(n)])
    return Packets(rows, classes, groups, np.where(classes == 1, "DoS", "Benign"))


def test_the_first_trees_are_the_forest_that_so_few_would_have_been(monkeypatch):
    monkeypatch.setattr(size_curve, "SHAPES", {(60, 8): (3, 6)})
    monkeypatch.setattr(size_curve, "SHIPPED", (60, 8, 6))
    made = dict(size_curve.forests(packets(), jobs=1))
    chosen, share = size_curve.weigh("origin", packets().rows, packets().classes, packets().groups)
    alone = make("forest", trees=3, leaves=8, seed=0)
    rows = packets().rows[chosen].astype(np.float64)
    alone.fit(rows, packets().classes[chosen], randomforestclassifier__sample_weight=share)
    for name, array in compile_pipeline(alone, list(range(60))).items():
        assert (made[60, 8, 3].arrays[name] == array).all()
    assert made[60, 8, 6].forest.n_trees == 6
    told = size_curve.cost(made[60, 8, 3], packets().rows)
    assert told["bundle_bytes"] > 100 and told["us_batch_1"] > 0


def test_worth_lets_origins_weigh_alike_and_keeps_to_the_rate():
    own = packets(1000)
    groups = np.where(np.arange(1000) < 900, "large", "small")
    own = Packets(own.rows, own.classes, groups, own.families)
    said = np.where(own.classes == 1, np.where(groups == "large", 0.9, 0.1), 0.2)
    told = size_curve.worth(own, said)
    half = dict.fromkeys(("found", "found_at_rate", "roc_area"), 0.5)
    assert told == pytest.approx(half | {"flagged": 0.0})


def test_an_origin_has_one_fold():
    assert {size_curve.fold_of("allkahra", 5) for _ in range(3)} == {
        size_curve.fold_of("allkahra", 5)
    }
    assert {size_curve.fold_of(f"o{i}", 5) for i in range(60)} == set(range(5))


def frame(source, target, port, flags):
    row = np.zeros(68, np.uint16)
    told = {"src_octet_3": source, "dst_octet_3": target, "dst_port": port, "tcp_flags": flags}
    for name, value in {**told, "proto": 6, "length": 64}.items():
        row[COLUMNS_OF.index(name)] = value
    return row


def test_counters_are_those_of_before_the_packet_and_end_with_the_window():
    rows = np.stack(
        [
            frame(1, 2, 80, 2),
            frame(2, 1, 999, 0x14),  # refused
            frame(1, 2, 81, 2),
            frame(1, 3, 81, 2),
            frame(3, 1, 999, 0x12),  # answered
            frame(1, 3, 81, 16),
            frame(1, 3, 81, 16),
        ]
    )
    times = np.array([0, 1, 2, 3, 4, 5, WINDOW_NS])
    told = context(rows, times, defaultdict(Window)).tolist()
    assert told[0] == [0] * 7
    assert told[2] == [1, 1, 1, 1, 0, 1, 1]
    assert told[5] == [3, 2, 2, 3, 1, 1, 3]
    assert told[6] == [0] * 7

"""A draw is exact, fair, uniform, and the same in whatever order and parts the packets come."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ids_appliance.train.sampling import (
    Pool,
    Smallest,
    first_of_smallest,
    packet_keys,
    record_keys,
    shares,
    spread,
)


@given(
    st.integers(0, 1000),
    st.dictionaries(st.text("abc", min_size=1), st.integers(0, 300), min_size=1, max_size=8),
)
def test_shares_are_max_min_fair_and_use_the_budget_up(budget, sizes):
    out = shares(budget, sizes)
    assert sum(out.values()) == min(budget, sum(sizes.values()))
    level = max(out.values())
    for name, share in out.items():
        assert share <= sizes[name]
        # Who gets less than another one has no more than that.
        assert share >= level - 1 or share == sizes[name]


@settings(max_examples=50)
@given(
    st.lists(st.lists(st.integers(0, 50), max_size=60), max_size=8),
    st.integers(0, 20),
    st.booleans(),
)
def test_the_smallest_are_kept_whatever_the_order(parts, most, once):
    whole = sorted(key for part in parts for key in part)
    expected = (sorted(set(whole)) if once else whole)[:most]
    for order in (parts, parts[::-1]):
        kept = Smallest(most, once=once)
        for part in order:
            kept.add(np.array(part, np.uint64))
            kept.keys()
        assert kept.keys().tolist() == expected


def test_a_pool_forgets_only_what_cannot_be_drawn(monkeypatch):
    monkeypatch.setattr("ids_appliance.train.sampling._SLACK", 10)
    rng = np.random.default_rng(1)
    parts = [
        (f"s{i % 7}", rng.integers(0, 2**63, rng.integers(1, 90)).astype(np.uint64))
        for i in range(60)
    ]
    found = []
    for order in (parts, parts[::-1], sorted(parts, key=lambda p: len(p[1]))):
        pool = Pool(200, once=False)
        for stratum, keys in order:
            pool.add(stratum, np.sort(keys), len(keys))
        found.append((pool.quotas(), pool.last_keys(), pool.seen))
    assert found[0] == found[1] == found[2]
    quotas, last, seen = found[0]
    assert sum(quotas.values()) == 200 and seen == sum(len(k) for _, k in parts)
    for stratum, quota in quotas.items():
        own = np.sort(np.concatenate([k for s, k in parts if s == stratum]))
        assert int(own[quota - 1]) == last[stratum]


def test_keys_are_spread_evenly_and_differ_by_seed_capture_and_stratum():
    frames = np.arange(20_000, dtype=np.uint64)
    keys = packet_keys(0, "a", frames)
    assert len(np.unique(keys)) == len(keys)
    share = np.bincount((keys >> np.uint64(60)).astype(int), minlength=16) / len(keys)
    assert (abs(share - 1 / 16) < 0.01).all()
    assert not np.isin(packet_keys(1, "a", frames), keys).any()
    assert not np.isin(packet_keys(0, "b", frames), keys).any()
    rows = np.random.default_rng(0).integers(0, 9, (500, 60)).astype(np.uint16)
    own = record_keys(0, "a", rows)
    assert (own == record_keys(0, "a", rows[:, :].copy())).all()
    assert len(np.unique(own)) == 500
    for column in range(60):
        other = rows.copy()
        other[:, column] += 1
        assert not (record_keys(0, "a", other) == own).any()
    assert not (record_keys(0, "b", rows) == own).any()


@pytest.mark.parametrize("once", [False, True])
def test_the_first_of_the_smallest_is_drawn(once):
    parts = [np.array([5, 1, 5], np.uint64), np.array([1, 9, 0], np.uint64)]
    drawn = first_of_smallest(parts, 3, once=once)
    assert [which.tolist() for which in drawn] == ([[0, 1], [2]] if once else [[1], [0, 2]])
    assert first_of_smallest([], 3, once=once) == []


def test_of_a_file_the_usable_packets_are_kept_evenly():
    file = np.repeat([0, 1, 2], [10, 3, 4])
    usable = np.ones(17, np.bool_)
    usable[[0, 9, 13, 14, 15, 16]] = False
    kept = spread(file, usable, 3)
    # Of 1..8 the first, a middle and the last; all of a file of three; none of the unusable.
    assert np.flatnonzero(kept).tolist() == [1, 4, 8, 10, 11, 12]

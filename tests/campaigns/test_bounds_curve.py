"""The curve counts on the other half, and each of the three is held to the same budget."""

import numpy as np

from ids_appliance.cli.calibrating import Offline
from ids_appliance.policy.calibration import Reached
from ids_appliance.train.labels import Label
from tests.campaigns.bounds_curve import BUDGETS, compared, curve


def test_alike_networks_keep_what_is_stated_and_unlike_ones_do_not():
    alike = np.random.default_rng(0).exponential(1.0, 4000)
    networks = [f"n{i % 40}" for i in range(4000)]
    for point in curve(networks, alike, rates=(0.05, 0.2), halvings=50):
        assert point.low <= point.stated <= point.high
        assert abs(point.mean - point.stated) < 0.3 * point.stated
    # One network in ten scores high: a half without it learns a bound that its senders reach.
    odd = np.where(np.arange(4000) % 40 < 4, alike + 10, alike)
    (point,) = curve(networks, odd, rates=(0.05,), halvings=50)
    assert point.high > 2 * point.stated


def test_nobody_at_zero_is_ever_accused():
    (point,) = curve(["a", "b", "c"] * 5, np.zeros(15), rates=(0.2,), halvings=10)
    assert point.mean == point.high == 0.0


def test_who_finds_what_within_a_budget():
    good, bad = 1 << Label.BENIGN, 1 << Label.MALICIOUS

    def offline(peaks, triggers):
        reached = {
            ("net", str(i).encode()): Reached(peak, 9, 1, good if i < 1000 else bad)
            for i, peak in enumerate(peaks)
        }
        named = {r: {("net", str(i).encode()) for i in own} for r, own in triggers.items()}
        return Offline(reached=reached, triggers=named)

    quiet = [0.0] * 999 + [20.0]  # one ordinary sender scores 20
    alone = offline([*quiet, 16.0, 30.0, 0.0], {})
    both = offline([*quiet, 26.0, 40.0, 0.0], {"sure": [1000], "eager": [3, 1001, 1002]})
    none, one, *_ = compared(both, alone)
    assert (none["budget"], one["budget"]) == BUDGETS[:2] and one["allowed"] == 1
    assert none["triggers"]["found"] == 1 and one["triggers"]["found"] == 3
    assert none["forest"]["found"] == 1 and one["forest"]["found"] == 2
    assert none["both"]["found"] == 2 and none["both"]["accused"] == 0
    assert none["either"]["found"] == 2 and one["either"]["accused"] == 2
    assert one["forest"]["bound"] == 14.0  # never below what no two cells reach

"""Intervals against figures that others have published, and in the corners."""

import pytest

from ids_appliance.train.study.intervals import bootstrap, wilson


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson(hits, of, low, high):
    assert wilson(hits, of) == pytest.approx((low, high), abs=5e-5)


def test_nothing_counted_says_nothing():
    assert wilson(0, 0) == (0.0, 1.0)
    assert bootstrap([0.5]) == (0.0, 1.0)


def test_bootstrap_is_of_the_mean_and_repeatable():
    shares = [0.0] * 10 + [1.0] * 10
    low, high = bootstrap(shares)
    assert 0.2 < low < 0.4 and 0.6 < high < 0.8
    assert bootstrap(shares) == (low, high)
    assert bootstrap([0.25] * 9) == (0.25, 0.25)

"""The histogram of delays against the numbers themselves."""

from ids_appliance.telemetry.delays import BOUNDS_US, Delays


def test_each_delay_is_in_one_bucket_and_the_cumulated_ones_grow() -> None:
    delays = Delays()
    now = 10**18
    given = [-5, 0, 10_000, 10_001, 59_000, 5_000_000_000]
    delays.add([now - delay for delay in given], now_ns=now)
    counts = delays.counters("d")
    assert counts["d_us_le_10"] == 3 and counts["d_us_le_20"] == 4 and counts["d_us_le_60"] == 5
    assert counts["d_us_le_1000000"] == 5 and counts["d_us_le_inf"] == 6
    assert counts["d_us_sum"] == round(10 + 10.001 + 59 + 5_000_000)
    steps = [counts[f"d_us_le_{bound}"] for bound in (*BOUNDS_US, "inf")]
    assert steps == sorted(steps)


def test_quantiles_are_within_their_bucket() -> None:
    delays = Delays()
    assert delays.quantile(0.5) == 0
    delays.add([-us * 1000 for us in range(1, 1001)], now_ns=0)
    for share in (0.01, 0.5, 0.9, 0.99, 1.0):
        exact = share * 1000
        above = min(bound for bound in BOUNDS_US if bound >= exact)
        below = max((bound for bound in BOUNDS_US if bound < exact), default=0)
        assert below <= delays.quantile(share) <= above


def test_many_at_once_and_one_by_one_come_to_the_same() -> None:
    stamps = [-(7**i) % 3_000_000_000 for i in range(200)]
    together, apart = Delays(), Delays()
    together.add(stamps, now_ns=2_000_000_000)
    for stamp in stamps:
        apart.add([stamp], now_ns=2_000_000_000)
    assert together.counts == apart.counts and together.most_us == apart.most_us

"""Delays and queues, from the counters that the stages themselves tell."""

from ids_appliance.dashboard.feed import Sample
from ids_appliance.dashboard.queues import class_rows, delay_rows, inline_rows, percentiles
from ids_appliance.telemetry.delays import BOUNDS_US, Delays


def sample(at_s: float, delays: Delays) -> Sample:
    return Sample(at_s, delays.counters("inline_delay") | {"judged": 1})


def test_the_present_is_told_and_not_the_whole_past() -> None:
    delays = Delays()
    delays.add([0] * 1000, now_ns=900_000_000)  # long ago, all was slow
    before = sample(0.0, delays)
    delays.add([0] * 90, now_ns=55_000)
    delays.add([0] * 10, now_ns=1_900_000)
    rows = delay_rows([before, sample(60.0, delays)])
    assert len(rows) == len(BOUNDS_US) + 1 and sum(row["packets"] for row in rows) == 100
    assert percentiles(rows) == [("p50", "≤ 60 µs"), ("p90", "≤ 60 µs"), ("p99", "≤ 2,000 µs")]


def test_a_single_sample_is_told_since_the_start() -> None:
    delays = Delays()
    delays.add([0], now_ns=5_000_000_000)
    assert percentiles(delay_rows([sample(0.0, delays)]))[0] == ("p50", "over 1 s")


def test_nothing_where_the_mode_has_none() -> None:
    assert delay_rows([]) == [] == delay_rows([Sample(0.0, {"judged": 1})])
    assert percentiles([]) == [] == inline_rows({"judged": 1}) == class_rows({"judged": 1})
    assert percentiles(delay_rows([sample(0.0, Delays())])) == []


def test_queues_by_interface_and_class() -> None:
    counters = {
        "tc_packets_wan0/priority": 9,
        "tc_waiting_wan0/priority": 1,
        "tc_waiting_bytes_wan0/priority": 1500,
        "tc_dropped_wan0/suspect": 4,
        "tc_interfaces": 1,
        "queue_received": 7,
        "inline_delay_us_p50": 3,
    }
    assert class_rows(counters) == [
        {
            "interface": "wan0",
            "class": "priority",
            "packets": 9,
            "waiting": 1,
            "waiting bytes": 1500,
        },
        {"interface": "wan0", "class": "suspect", "dropped": 4},
    ]
    assert inline_rows(counters) == [{"what": "queue received", "packets": 7}]

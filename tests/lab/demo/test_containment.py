"""Containment is computed from counters: by hand, and against a slow twin on random series."""

from hypothesis import given
from hypothesis import strategies as st

from ids_appliance.lab.demo.containment import MIN_SENT, SHARE, containment, per_sample
from ids_appliance.lab.measure import Sample

S = 10**9
STEP = S // 10


def series(rows: list[tuple[int, int]], start: int = 0) -> list[Sample]:
    """Totals every 100 ms of (sent, arrived) per interval, after a first sample of nothing."""
    found = [Sample(start, 0, 0)]
    for sent, arrived in rows:
        last = found[-1]
        found.append(Sample(last.time_ns + STEP, last.sent + sent, last.arrived + arrived))
    return found


def flood(open_for: int, rate: int = 500, length: int = 100, leak: int = 0) -> list[Sample]:
    """A flood of `length` intervals that reaches its victim in the first `open_for` of them."""
    return series([(rate, rate if i < open_for else leak) for i in range(length)])


def test_a_flood_is_cut_off() -> None:
    found = containment(flood(4), first_ns=0, trigger_ns=S // 10, stop_ns=10 * S)
    assert (found.sent, found.arrived) == (50_000, 2_000)
    assert found.after_s == 0.4
    assert (found.late_sent, found.late_arrived) == (500 * 79, 0)
    assert found.contained


def test_a_little_that_leaks_is_contained_and_more_is_not() -> None:
    some = containment(flood(4, leak=5), first_ns=0, trigger_ns=0, stop_ns=10 * S)
    assert some.contained and some.late_share == 0.01 and some.after_s == 0.4
    more = containment(flood(4, leak=6), first_ns=0, trigger_ns=0, stop_ns=10 * S)
    assert not more.contained and more.after_s is None


def test_a_short_breach_counts_from_its_end() -> None:
    rows = [(500, 500)] * 3 + [(500, 0)] * 27 + [(500, 500)] + [(500, 0)] * 69
    found = containment(series(rows), first_ns=0, trigger_ns=0, stop_ns=10 * S)
    assert found.after_s == 3.1
    assert not found.contained, "500 of 40,000 are 1.25 %"


def test_too_late_is_not_contained_although_it_ends() -> None:
    found = containment(flood(23), first_ns=0, trigger_ns=S // 10, stop_ns=10 * S)
    assert found.after_s == 2.3 and not found.contained


def test_who_stops_sending_shows_nothing() -> None:
    rows = [(500, 500)] * 10 + [(0, 0)] * 90
    found = containment(series(rows), first_ns=0, trigger_ns=0, stop_ns=10 * S)
    assert not found.contained and found.late_sent == 0 and found.after_s is None
    assert found.late_share == 1.0


def test_a_slow_spoofer_needs_a_few_packets() -> None:
    claims = [(1, int(i == 0)) if i % 20 == 0 else (0, 0) for i in range(100)]
    found = containment(series(claims), first_ns=0, trigger_ns=0, stop_ns=10 * S)
    assert (found.late_sent, found.late_arrived) == (4, 0) and found.contained
    believed = [(1, 1) if i in (0, 60) else (i % 20 == 0, 0) for i in range(100)]
    found = containment(series(believed), first_ns=0, trigger_ns=0, stop_ns=10 * S)
    assert not found.contained


def test_without_a_trigger_nothing_is_contained() -> None:
    found = containment(flood(0), first_ns=0, trigger_ns=None, stop_ns=10 * S)
    assert not found.contained and found.after_s == 0.0


def test_only_the_attack_counts() -> None:
    before = [Sample(-5 * S, 10, 10), Sample(-S, 40, 40)]
    samples = [*before, *(Sample(s.time_ns, s.sent + 40, s.arrived + 40) for s in flood(4))]
    found = containment(samples, first_ns=0, trigger_ns=0, stop_ns=5 * S)
    assert (found.sent, found.arrived) == (25_000, 2_000), "not what was before, nor after the end"


def test_no_samples_at_all() -> None:
    found = containment([], first_ns=0, trigger_ns=0, stop_ns=S)
    assert (found.sent, found.arrived, found.after_s, found.contained) == (0, 0, None, False)


def slow(samples: list[Sample]) -> int | None:
    """The definition, word by word: the first time from which on no second breaks the rule."""
    end = samples[-1]

    def breaks(i: int) -> bool:
        later = [s for s in samples if s.time_ns >= samples[i].time_ns + S]
        to = later[0] if later else end
        sent, arrived = to.sent - samples[i].sent, to.arrived - samples[i].arrived
        return arrived > SHARE * sent

    for i in range(len(samples) - 1):
        if not any(breaks(j) for j in range(i, len(samples) - 1)):
            return samples[i].time_ns if end.sent - samples[i].sent >= MIN_SENT else None
    return None


interval = st.tuples(st.integers(0, 300), st.sampled_from([0, 0, 0, 0, 0.01, 0.5, 1])).map(
    lambda pair: (pair[0], int(pair[0] * pair[1]))
)


@given(st.lists(interval, min_size=1, max_size=60))
def test_it_is_what_the_slow_definition_says(rows: list[tuple[int, int]]) -> None:
    samples = series(rows)
    expected = slow(samples)
    found = containment(samples, first_ns=0, trigger_ns=0, stop_ns=10 * S)
    assert found.after_s == (None if expected is None else expected / S)


def test_intervals_add_up() -> None:
    rows = [(3, 1), (0, 0), (7, 7)]
    assert [(s, a) for _, s, a in per_sample(series(rows))] == rows

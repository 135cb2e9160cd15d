"""The search, held against one that tries every rate."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ids_appliance.bench.search import Search, Terms, Verdict

LIMITS = st.floats(10, 5e6)


def answer(search: Search, held: float, generator: float) -> int:
    """Let a system that holds up to a rate be searched by a generator that reaches one."""
    for probes in range(500):
        probe = search.probe
        if probe is None:
            return probes
        if probe.pps > generator:
            search.tell(Verdict.LIMITED)
        else:
            search.tell(Verdict.HELD if probe.pps <= held else Verdict.LOST)
    raise AssertionError("it does not end")


def slow_twin(terms: Terms, held: float, generator: float) -> float:
    """Try every rate from the floor on, a thousandth apart."""
    pps, best = terms.floor_pps, 0.0
    while pps <= terms.ceiling_pps and pps <= min(held, generator):
        best, pps = pps, pps * 1.001
    return best


@given(
    held=LIMITS,
    generator=LIMITS,
    start=st.floats(200, 1e6),
    stride=st.floats(1.05, 2),
    resolution=st.floats(0.01, 0.5),
)
def test_it_finds_what_trying_every_rate_finds(held, generator, start, stride, resolution):
    terms = Terms(
        start_pps=start, stride=stride, ceiling_pps=2e6, resolution=resolution, confirmations=1
    )
    search = Search(terms)
    probes = answer(search, held, generator)
    wanted = slow_twin(terms, held, generator)
    # Never more than what holds, and less by no more than the resolution (and the twin's step).
    assert search.pps <= min(held, generator, terms.ceiling_pps)
    if search.pps:
        assert wanted / 1.001 <= search.pps * (1 + resolution) * 1.001
        assert search.limited == (min(generator, terms.ceiling_pps) < held) or math.isclose(
            held, generator, rel_tol=2 * resolution
        )
    else:
        assert wanted <= 2 * terms.floor_pps
    assert probes < 60


@pytest.mark.parametrize("held", [85_000, 90_000, 97_000, 105_000])
def test_who_knows_about_where_it_is_needs_few_steps(held):
    near = Search(Terms(start_pps=93_000, stride=1.16, resolution=0.1, confirmations=0))
    assert answer(near, held, 1e9) <= 4 and held / 1.1 <= near.pps <= held


def test_confirmations_are_asked_for_and_counted():
    search = Search(Terms(start_pps=1000, confirmations=3))
    seen = []
    while (probe := search.probe) is not None:
        seen.append(probe.confirming)
        search.tell(Verdict.HELD if probe.pps <= 5000 else Verdict.LOST)
    assert seen[-3:] == [True] * 3 and not any(seen[:-3])


def test_what_does_not_hold_again_goes_down_and_is_confirmed_anew():
    search = Search(Terms(start_pps=1000, confirmations=2, resolution=0.1))
    confirmed = []
    while (probe := search.probe) is not None:
        if not probe.confirming:
            search.tell(Verdict.HELD if probe.pps <= 5000 else Verdict.LOST)
            continue
        confirmed.append(probe.pps)
        # The first confirmation holds, the second does not.
        search.tell(Verdict.LOST if len(confirmed) == 2 else Verdict.HELD)
    assert len(confirmed) == 4 and confirmed[2] == confirmed[3] == search.pps
    assert confirmed[0] == pytest.approx(1.1 * search.pps)


def test_what_does_not_hold_for_long_goes_down_faster_and_faster():
    search = Search(Terms(start_pps=1000, confirmations=1, resolution=0.1))
    confirmed = []
    while (probe := search.probe) is not None:
        confirmed += [probe.pps] if probe.confirming else []
        holds = 2000 if probe.confirming else 5000
        search.tell(Verdict.HELD if probe.pps <= holds else Verdict.LOST)
    falls = [math.log(high / low, 1.1) for high, low in pairwise(confirmed)]
    assert falls == pytest.approx([*range(1, len(confirmed))])
    assert search.pps == confirmed[-1] <= 2000 < confirmed[-2]


def test_a_system_that_holds_nothing_is_zero():
    search = Search(Terms(start_pps=1000, floor_pps=100))
    answer(search, 0, 1e9)
    assert search.pps == 0 and not search.limited


def test_one_that_never_holds_when_confirmed_is_zero_and_ends():
    search = Search(Terms(start_pps=1000, floor_pps=100, resolution=0.5))
    while (probe := search.probe) is not None:
        search.tell(Verdict.LOST if probe.confirming else Verdict.HELD)
        assert probe.pps <= 4_000_000
    assert search.pps == 0


def test_the_ceiling_is_a_limit_not_an_answer():
    search = Search(Terms(start_pps=1000, ceiling_pps=3000, confirmations=1))
    answer(search, 1e9, 1e9)
    assert search.pps == 3000 and search.limited

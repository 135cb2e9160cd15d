"""The campaigns at full length for `make nightly`, and a small one that keeps them running."""

import pytest

from tests.campaigns import mutated, twin_all
from tests.reference import packet as twin

EDGES = {*twin.COUNTERS, "judged", "unparsable", "own", "echo"}


def reached(comparisons: list) -> set[str]:
    assert [c.differences for c in comparisons] == [[] for _ in comparisons]
    return {name for c in comparisons for name, count in c.totals.items() if count}


def test_ten_thousand_mutated_packets_reach_every_edge() -> None:
    assert reached(mutated.run(10_000, seed=7)) >= EDGES


@pytest.mark.nightly
@pytest.mark.data
def test_a_million_mutated_packets(data_dir) -> None:
    assert reached(mutated.run(1_000_000, data=data_dir)) >= EDGES


@pytest.mark.nightly
@pytest.mark.data
def test_every_packet_of_every_capture(data_dir) -> None:
    comparison = twin_all.run(data_dir)
    assert comparison.differences == []
    assert comparison.totals["frames"] > 0

"""Cells: the grid against a plain count, cache and asks, and back-pressure: the state machine
against a made-up classifier."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ids_appliance import _cells
from ids_appliance.schema import FEATURES, N_FEATURES
from ids_appliance.types import Direction, Outcome
from tests.ext import frames as f
from tests.fuzz import cells
from tests.reference import packet as twin


def test_damage_is_counted_once_however_often_a_batch_has_no_room() -> None:
    cut = [f.ethernet(f.ipv4(f.tcp(ports=(p, 80)))[:30]) for p in range(40)]
    run = cells.Run(shed=False)
    run.batch([(f.ETHERNET, frame) for frame in cut], Direction.HOST)
    run.finish()
    assert run.raised["truncated_l4"] == run.done == 40


def test_empty_buffer_is_fine() -> None:
    data, records = f.records([b""], f.RAW)
    a = _cells.Assignment(records)
    assert cells.table(0, False).assign(a, data, cells.IDENTITY.packed())
    assert a.outcomes.tolist() == [twin.UNPARSABLE]


def test_any_order_of_batches_answers_and_models_gives_each_packet_its_own_answer() -> None:
    rng = random.Random(3)
    seeds = list(cells.seeds())
    for seed in seeds:
        cells.fuzz(seed)
    for _ in range(300):
        data = np.frombuffer(rng.choice(seeds), np.uint8).copy()
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        cells.fuzz(data.tobytes())


@pytest.mark.parametrize("index", range(N_FEATURES), ids=[feature.name for feature in FEATURES])
def test_every_table_ends_where_its_features_domain_does(index: int) -> None:
    domain = FEATURES[index].domain

    def table(cut: int) -> _cells.CellTable:
        return _cells.CellTable(bytes(16), [index], [np.array([cut], np.uint16)])

    if domain < 65536:
        with pytest.raises(ValueError, match="domain"):
            table(domain)
    row = np.zeros((1, N_FEATURES), np.uint16)
    row[0, index] = domain - 1
    assert table(domain - 1).encode(row).tolist() == [[1]]
    if domain < 65536:
        row[0, index] = domain
        with pytest.raises(ValueError, match="record 0 has a value outside"):
            table(domain - 1).encode(row)


# One table by itself ------------------------------------------------------------------------------

PORTS = [0, 1]


def ports_table(**options: Any) -> _cells.CellTable:
    """A grid in which nearly each pair of ports is a cell of its own."""
    every = np.arange(1, 65_536, dtype=np.uint16)
    return _cells.CellTable(bytes(16), PORTS, [every, every], **options)


def assignment(ports: Sequence[int], *, source: int = 7) -> tuple[_cells.Assignment, np.ndarray]:
    data, records = f.records([f.ipv4(f.udp(ports=(source, p)), proto=17) for p in ports], f.RAW)
    return _cells.Assignment(records), data


def answer(table: _cells.CellTable, asked: Any, value: float = 0.75) -> None:
    first, asked_cells, _ = asked
    table.answer(first, np.full(len(asked_cells), value))


@given(
    cuts=st.lists(
        st.lists(st.integers(1, 65_535), max_size=600, unique=True).map(sorted),
        min_size=1,
        max_size=3,
    ),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_encode_equals_a_plain_count_of_cuts(cuts: list[list[int]], data: st.DataObject) -> None:
    features = [0, 4, 7][: len(cuts)]
    table = _cells.CellTable(bytes(16), features, [np.array(c, np.uint16) for c in cuts])
    near = st.sampled_from([v for c in cuts for x in c[:50] for v in (x - 1, x)] or [0])
    rows = np.zeros((8, N_FEATURES), np.uint16)
    for i in range(8):
        for feature in features:
            rows[i, feature] = data.draw(near | st.integers(0, 65_535))
    expected = [
        b"".join(
            sum(cut <= row[feature] for cut in c).to_bytes(2 if len(c) > 255 else 1, "little")
            for feature, c in zip(features, cuts, strict=True)
        )
        for row in rows.tolist()
    ]
    assert [cell.tobytes() for cell in table.encode(rows)] == expected


@pytest.mark.parametrize("n", [255, 256])
def test_a_code_takes_two_bytes_past_255_cuts(n: int) -> None:
    table = _cells.CellTable(bytes(16), [1], [np.arange(1, n + 1, dtype=np.uint16)])
    rows = np.zeros((1, N_FEATURES), np.uint16)
    rows[0, 1] = 65_535
    assert table.key_bytes == (1 if n == 255 else 2)
    assert table.encode(rows).tobytes() == n.to_bytes(table.key_bytes, "little")


@pytest.mark.parametrize(
    "wrong",
    [
        {"features": [1, 0], "cuts": [[1], [1]]},
        {"features": [0, 0], "cuts": [[1], [1]]},
        {"features": [-1], "cuts": [[1]]},
        {"features": [68], "cuts": [[1]]},
        {"features": [0, 1], "cuts": [[1]]},
        {"features": [0], "cuts": [[0, 1]]},
        {"features": [0], "cuts": [[5, 5]]},
        {"features": [0], "cuts": [[6, 5]]},
        {"features": [0], "cuts": [np.array([1.5])]},
        {"features": [0], "cuts": [np.array([65_537], np.uint32)]},
        {"features": [0], "cuts": [np.array([[1, 2]], np.uint16)]},
        {"cache_cells": 0},
        {"cache_cells": 1 << 25},
        {"max_asks": 0},
        {"max_asks": 1 << 23},
        {"max_waiting": 0},
        {"model_index": 256},
        {"model_index": -1},
    ],
    ids=str,
)
def test_a_table_refuses_what_is_out_of_range(wrong: dict[str, Any]) -> None:
    options: dict[str, Any] = {"features": [0], "cuts": [[1]]} | wrong
    options["cuts"] = [
        np.array(c, np.uint16) if isinstance(c, list) else c for c in options["cuts"]
    ]
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        _cells.CellTable(bytes(16), **options)


def test_arguments_of_another_kind_are_refused() -> None:
    """None stands for every class in Cython unless told otherwise, and is then followed."""
    table = ports_table()
    a, data = assignment([1])
    for call in (table.settle, table.adopt, lambda x: table.assign(x, data, bytes(4))):
        with pytest.raises(TypeError):
            call(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        table.release([None])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="another table"):
        table.settle(a)
    host = bytearray(cells.IDENTITY.packed())
    host[:4] = b"\xff" * 4  # as many MACs: would be read far behind the end
    for wrong in (bytes(host), b"", bytes(4)):
        with pytest.raises(ValueError, match="HostIdentity"):
            table.assign(a, data, wrong)
    assert table.adopt(a) and a.table is table and a.waiting == 0


def test_a_buffer_that_shrinks_under_way_is_refused() -> None:
    table = ports_table(max_asks=1)
    a, data = assignment([1, 2, 3])
    assert not table.assign(a, data, cells.IDENTITY.packed())
    with pytest.raises(ValueError, match="frame 1 lies outside"):
        table.assign(a, data[:40].copy(), cells.IDENTITY.packed())


def test_the_cache_evicts_and_never_grows() -> None:
    table = ports_table(cache_cells=64)
    host = cells.IDENTITY.packed()
    for turn in range(2):
        a, data = assignment(range(1000))
        assert table.assign(a, data, host)
        while (asked := table.request(100)) is not None:
            answer(table, asked)
        assert table.settle(a) == 0
        table.release([])
        now = table.counters()
        assert now["cell_evictions"] >= 1000 * (turn + 1) - 64 - now["cell_hits"]
    assert now["cell_asks"] + now["cell_hits"] + now["cell_joined"] == 2000
    assert now["cell_hits"] <= 64
    a, data = assignment([5] * 100)
    assert table.assign(a, data, host)
    assert a.waiting in (0, 100)  # known, or evicted and asked once
    assert table.unsent <= 1


def test_the_asks_wrap_around_for_as_long_as_one_likes() -> None:
    table = ports_table(max_asks=4, cache_cells=8)
    host = cells.IDENTITY.packed()
    for turn in range(50):
        a, data = assignment(range(3), source=turn)
        assert table.assign(a, data, host)
        first, asked_cells, rows = table.request(10) or (-1, np.zeros(0), np.zeros(0))
        assert first == 3 * turn and rows[:, 1].tolist() == [0, 1, 2]
        table.answer(first, np.array([0.0, 0.5, 1.0]))
        assert table.settle(a) == 0
        assert a.probabilities.tolist() == [0.0, 0.5, 1.0] and a.verdicts.tolist() == [0, 0, 1]
        table.release([])


def test_asks_are_freed_in_order_whatever_the_order_of_answers() -> None:
    table = ports_table(max_asks=4)
    host = cells.IDENTITY.packed()
    one, data_one = assignment([0, 1])
    two, data_two = assignment([1, 2, 3, 4])
    assert table.assign(one, data_one, host)
    assert not table.assign(two, data_two, host)  # 2 and 3 asked, 1 joined, 4 has no room
    assert two.assigned == two.waiting == 3
    requests = [table.request(1) for _ in range(4)]
    for request in (requests[3], requests[2], requests[1]):
        answer(table, request)
        assert table.settle(one) >= 1
        table.release([one, two])
        assert not table.assign(two, data_two, host)  # the oldest ask is still out
    answer(table, requests[0])
    assert table.settle(one) == 0
    table.release([two])  # frees ask 0: `two` waits for 1, and has not been told
    assert table.assign(two, data_two, host)
    assert table.settle(two) == 1
    answer(table, table.request(1))
    assert table.settle(two) == 0
    assert one.outcomes.tolist() == [Outcome.JUDGED] * 2
    assert two.outcomes.tolist() == [Outcome.JUDGED] * 4
    assert table.counters()["cell_asks"] == 5


def test_an_ask_that_failed_is_asked_anew_by_later_packets() -> None:
    table = ports_table(model_index=9)
    host = cells.IDENTITY.packed()
    one, data = assignment([1])
    two, _ = assignment([1])
    assert table.assign(one, data, host)
    first, _, _ = table.request(1) or (-1, 0, 0)
    table.fail(first, 1)
    assert table.assign(two, data, host)
    answer(table, table.request(1))
    assert table.settle(one) == table.settle(two) == 0
    assert (one.outcomes[0], two.outcomes[0]) == (Outcome.UNANSWERED, Outcome.JUDGED)
    assert np.isnan(one.probabilities[0]) and two.models[0] == 9


@pytest.mark.parametrize(("first", "n"), [(-1, 1), (0, 3), (2, 1), (2**63 - 1, 2), (1, 2)])
def test_answers_to_asks_not_under_way_are_refused(first: int, n: int) -> None:
    table = ports_table()
    a, data = assignment([1, 2, 3])
    assert table.assign(a, data, cells.IDENTITY.packed())
    table.request(2)
    with pytest.raises(ValueError, match="not under way"):
        table.answer(first, np.zeros(n))
    with pytest.raises(ValueError, match="not under way"):
        table.fail(first, n)
    with pytest.raises(ValueError, match="not under way"):
        table.fail(0, -1)


def test_without_a_grid_each_packet_is_its_own_ask() -> None:
    table = _cells.CellTable(bytes(16), [], [], max_asks=8, max_waiting=3)
    assert table.identity and table.key_bytes == 2 * N_FEATURES
    a, data = assignment([5] * 4)
    host = cells.IDENTITY.packed()
    assert not table.assign(a, data, host) and a.waiting == 3  # max_waiting
    first, asked_cells, rows = table.request(9) or (-1, np.zeros(0), np.zeros(0))
    assert asked_cells.tobytes() == rows[:, :N_FEATURES].tobytes() and len(rows) == 3
    table.answer(first, np.array([0.25, 0.5, 0.75]))
    assert table.settle(a) == 0
    table.release([a])
    assert table.assign(a, data, host)
    answer(table, table.request(9), 1.0)
    assert table.settle(a) == 0
    assert a.probabilities.tolist() == [0.25, 0.5, 0.75, 1.0]


def test_without_a_grid_equal_packets_are_one_cell_all_the_same() -> None:
    """A thousand equal packets are not a thousand witnesses, whatever the transport."""
    table = _cells.CellTable(bytes(16), [], [])
    a, data = assignment([5, 6, 5])
    assert table.assign(a, data, cells.IDENTITY.packed())
    answer(table, table.request(9))
    assert table.settle(a) == 0
    first, other, again = a.cells.tolist()
    assert first == again != other


def test_packets_not_yet_taken_over_count_as_waiting_in_their_new_table() -> None:
    """Else each change of the model would let max_waiting more packets wait."""
    host = cells.IDENTITY.packed()
    old = ports_table(max_waiting=6)
    a, data = assignment(range(6))
    assert old.assign(a, data, host)
    new = ports_table(max_asks=2, max_waiting=6, model_index=1)
    assert not new.adopt(a) and a.adopted == 2 and a.waiting == 6
    late, late_data = assignment([0, 1])
    assert not new.assign(late, late_data, host) and late.waiting == 0
    free, free_data = assignment(range(6), source=8)
    assert old.assign(free, free_data, host)  # nothing waits in the old one any more
    while a.waiting:
        answer(new, new.request(2), 0.5)
        new.settle(a)
        new.release([a, late])
        new.adopt(a)
    assert new.assign(late, late_data, host)
    new.settle(late)
    assert late.outcomes.tolist() == [Outcome.JUDGED] * 2
    assert a.outcomes.tolist() == [Outcome.JUDGED] * 6 and set(a.models.tolist()) == {1}


def test_full_asks_shed_and_say_so() -> None:
    table = ports_table(max_asks=2, shed=True)
    a, data = assignment([1, 2, 3, 1])
    assert table.assign(a, data, cells.IDENTITY.packed())
    answer(table, table.request(9))
    assert table.settle(a) == 0
    judged, shed = Outcome.JUDGED, Outcome.SHED
    assert a.outcomes.tolist() == [judged, judged, shed, judged]
    assert table.counters()["cell_shed"] == 1


# One batch ----------------------------------------------------------------------------------------


def test_only_what_a_gate_lets_through_is_taken_and_the_rest_is_counted() -> None:
    data, records = f.records([f.ipv4(f.udp(ports=(7, p)), proto=17) for p in range(6)], f.RAW)
    marks = np.array([6, Outcome.CONTAINED, 6, Outcome.SHED, Outcome.SHED, 6], np.uint8)
    totals = np.ones(len(Outcome), np.uint64)
    a = _cells.Assignment(records, marks, totals)
    assert len(a) == 3 and a.frames.tolist() == records[[0, 2, 5]].tolist()
    wanted = np.ones(len(Outcome), int)
    wanted[[Outcome.CONTAINED, Outcome.SHED]] += 1, 2
    assert totals.tolist() == wanted.tolist()
    assert ports_table().assign(a, data, cells.IDENTITY.packed())
    assert a.outcomes.tolist() == [Outcome.WAITING] * 3 and np.isnan(a.probabilities).all()
    a.count(totals)
    wanted[Outcome.WAITING] += 3
    assert totals.tolist() == wanted.tolist()


def test_a_batch_outlives_its_source_and_its_columns_outlive_it() -> None:
    data, records = f.records([f.ipv4(f.udp(ports=(7, 9)), proto=17)] * 3, f.RAW)
    before = records.tolist()
    a = _cells.Assignment(records)
    records["number"] = 0
    columns = (a.frames, a.senders, a.outcomes, a.probabilities, a.verdicts, a.models, a.cells)
    assert [len(column) for column in columns] == [3] * 7
    assert sum(column.nbytes for column in columns) + 8 == memoryview(a).nbytes
    del a
    assert columns[0].tolist() == before and not columns[-1].any()
    assert len(_cells.Assignment(records[:0]).senders) == 0


def test_what_is_no_batch_is_refused() -> None:
    data, records = f.records([f.ipv4(f.udp(ports=(7, 9)), proto=17)] * 3, f.RAW)
    marks = np.zeros(3, np.uint8)
    for wrong in (data, records["number"].copy(), np.zeros(3, "V39")):
        with pytest.raises(ValueError, match="40 bytes"):
            _cells.Assignment(wrong)
    with pytest.raises(ValueError, match="contiguous"):
        _cells.Assignment(records[::2])
    with pytest.raises(ValueError, match="fewer"):
        _cells.Assignment(records, marks[:2])
    with pytest.raises(ValueError, match="9 places"):
        _cells.Assignment(records, marks, np.zeros(8, np.uint64))
    with pytest.raises(ValueError, match="9 places"):
        _cells.Assignment(records).count(np.zeros(8, np.uint64))
    a = _cells.Assignment(records)
    with pytest.raises(ValueError, match="once"):
        a.__init__(records)  # type: ignore[misc]


@given(st.lists(st.integers(0, 255)))
def test_a_tally_is_a_plain_count(outcomes: list[int]) -> None:
    array = np.array(outcomes, np.uint8)
    assert _cells.tally(array) == [outcomes.count(i) for i in range(len(Outcome))]

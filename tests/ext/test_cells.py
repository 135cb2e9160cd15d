"""Cells under back-pressure: the state machine against a made-up classifier."""

import random

import numpy as np
import pytest

from ids_appliance import _cells
from ids_appliance.schema import FEATURES, N_FEATURES
from ids_appliance.types import Direction
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

"""The literally built gateway computes the same features, and its node the same verdicts."""

import json
import socket
import threading

import numpy as np
import pytest

from ids_appliance._features import COUNTER_NAMES, HostIdentity, extract
from ids_appliance.bench.literal import ROWS, Here, There, rows_of
from ids_appliance.bench.literal_forest import FEATURES, NAMES, fitted
from ids_appliance.bench.literal_node import _serve, judge
from ids_appliance.bench.mixes import MIXES, make
from ids_appliance.bench.timed import Stopwatch
from ids_appliance.schema import N_FEATURES
from ids_appliance.types import FRAME, SENDER, FrameBatch, Outcome


def batch(mix, n=2000):
    data, ends = make(mix, frames=n)
    n = min(n, len(ends))
    frames = np.zeros(n, FRAME)
    frames["offset"] = np.concatenate(([0], ends[: n - 1]))
    frames["caplen"] = frames["wirelen"] = np.diff(np.concatenate(([0], ends[:n])))
    frames["linktype"] = 1
    return FrameBatch(data, frames)


def compiled(of):
    n = len(of.frames)
    rows, counters = np.empty((n, N_FEATURES), np.uint16), np.zeros(len(COUNTER_NAMES), np.uint64)
    outcomes = np.empty(n, np.uint8)
    extract(of.data, of.frames, HostIdentity(), rows, np.empty(n, SENDER), outcomes, counters)
    return rows


@pytest.fixture(scope="module")
def pipeline():
    return fitted()


@pytest.mark.parametrize("mix", MIXES)
def test_features_are_those_of_the_compiled_extraction(mix):
    of = batch(mix)
    assert np.array_equal(np.array(rows_of(of)), compiled(of))


def test_damaged_packets_too():
    of = batch("ordinary")
    rng = np.random.default_rng(1)
    for frame in of.frames:
        begin, size = int(frame["offset"]), int(frame["caplen"])
        places = begin + 16 + rng.integers(0, size - 16, 3)
        of.data[places] = rng.integers(0, 256, 3)
        frame["caplen"] = rng.integers(60, size + 1) if size > 60 else size
    rows = compiled(of)
    sane = rows[:, 4] > 0  # a length of 0 stands for segmentation offload, which is off here
    literal = np.array(rows_of(of))
    assert sane.sum() > 1900 and np.array_equal(literal[sane], rows[sane])


def test_what_is_not_ipv4_has_none():
    of = batch("ordinary", 10)
    of.data[of.frames["offset"][3] + 12] = 0x86
    assert len(rows_of(of)) == 9


def test_a_node_answers_every_object_as_the_forest_does(pipeline):
    rows = np.array(rows_of(batch("scan", 300)))[:, FEATURES]
    lines = [
        json.dumps({"seq": seq} | dict(zip(NAMES, row, strict=True))).encode()
        for seq, row in enumerate(rows.tolist())
    ]
    replies = [json.loads(line) for line in judge(pipeline, lines).splitlines()]
    expected = pipeline.predict_proba(rows.astype(float))[:, 1] > 0.5
    assert [r["seq"] for r in replies] == list(range(len(rows)))
    assert [r["verdict"] for r in replies] == expected.astype(int).tolist()
    assert 0 < expected.sum() < len(expected)


def test_here_judges_everything_that_waits():
    here = Here()
    rows = rows_of(batch("mixed", 2000))
    here.take(rows[:100])
    assert here.judged == 0
    here.take(rows[100 : ROWS + 50])
    assert here.judged == ROWS + 50
    here.take(rows[:7])
    here.idle()
    assert here.judged == ROWS + 57


def test_there_counts_every_reply(pipeline):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            link, _ = server.accept()
            with link:
                _serve(link, pipeline)

        thread = threading.Thread(target=serve)
        thread.start()
        there = There(*server.getsockname())
        for _ in range(5):
            there.take(rows_of(batch("random", 1000)))
        waiting = threading.Event()
        for _ in range(3000):
            there.idle()
            if there.judged == 5000:
                break
            waiting.wait(0.01)
        there.close()
        thread.join(30)
    assert there.judged == 5000


def test_a_stopwatch_knows_percentiles():
    class Judged:
        outcomes = np.array([Outcome.JUDGED] * 99 + [Outcome.JUDGED, Outcome.SHED], np.uint8)
        frames = np.zeros(101, FRAME)

    Judged.frames["timestamp_ns"] = 1_000_000_000
    Judged.frames["timestamp_ns"][99] -= 50_000_000
    watch = Stopwatch(lambda: 1_001_000_000)
    assert watch.percentile(0.5) == 0
    watch.take(Judged)
    assert watch.percentile(0.5) == pytest.approx(1000, rel=0.02)
    assert watch.percentile(0.995) == pytest.approx(51_000, rel=0.02)

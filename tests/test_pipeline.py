"""The pipeline under every behaviour a classifier is allowed: late, out of order, full, failing,
changing its model under way. What must hold: each frame ends in exactly one outcome, in order, and
a probability is the one of the model named beside it."""

import dataclasses
import hashlib
import random
import struct
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ids_appliance._features import HostIdentity, extract
from ids_appliance.pipeline import Limits, Pipeline
from ids_appliance.schema import FEATURES, N_FEATURES
from ids_appliance.types import (
    FRAME,
    SENDER,
    Answer,
    AnswerStatus,
    CellRequest,
    FrameBatch,
    Grid,
    JudgedBatch,
    Outcome,
)


def udp(sport: int, dport: int, payload: bytes = b"") -> bytes:
    length = 28 + len(payload)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, 1, 0, 64, 17, 0, b"\n\0\0\1", b"\n\0\0\2")
    ethernet = b"\2\0\0\0\0\2" + b"\2\0\0\0\0\1" + b"\x08\0"
    return ethernet + ip + struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload


def batch_of(frames: Sequence[bytes], *, first: int = 1) -> FrameBatch:
    data = np.frombuffer(b"".join(frames) or b"\0", dtype=np.uint8)
    records = np.zeros(len(frames), dtype=FRAME)
    at = 0
    for i, frame in enumerate(frames):
        records[i] = (at, len(frame), len(frame), 1000 * i, first + i, 0, 1, 255, 0)
        at += len(frame)
    return FrameBatch(data, records)


class ListSource:
    def __init__(self, batches: Sequence[FrameBatch | None]) -> None:
        self._batches = batches

    def batches(self) -> Iterator[FrameBatch | None]:
        yield from self._batches

    def counters(self) -> dict[str, int]:
        return {"delivered": sum(len(b.frames) for b in self._batches if b is not None)}

    def close(self) -> None:
        pass


class Collect:
    def __init__(self) -> None:
        self.batches: list[JudgedBatch] = []

    def take(self, batch: JudgedBatch) -> None:
        self.batches.append(batch)


def grid(seed: int, *, identity: bool = False) -> Grid:
    rng = np.random.default_rng(seed)
    model_id = hashlib.sha256(b"%d" % seed).digest()[:16]
    if identity:
        return Grid(model_id, 0.5, (), ())
    features = (0, 1, 4, 7, 8)
    cuts = tuple(
        np.unique(rng.integers(1, FEATURES[f].domain, size=300 if f == 1 else 20)).astype(np.uint16)
        for f in features
    )
    return Grid(model_id, 0.5, features, cuts)


def judge(model: Grid, cell: bytes) -> float:
    """Stand for a forest: any fixed function of model and cell will do."""
    return int.from_bytes(hashlib.sha256(model.model_id + cell).digest()[:4], "big") / 2**32


def cell_of(model: Grid, row: np.ndarray) -> bytes:
    if not model.features:
        return row.tobytes()
    out = b""
    for feature, cuts in zip(model.features, model.cuts, strict=True):
        code = int((cuts <= row[feature]).sum())
        out += code.to_bytes(2 if len(cuts) > 255 else 1, "little")
    return out


class Scripted:
    """A classifier that does, in random order, all that the protocol allows."""

    def __init__(self, models: Sequence[Grid], rng: random.Random, *, kind: str) -> None:
        self._models = list(models)
        self._rng = rng
        self._kind = kind
        self._queue: list[CellRequest] = []
        self.grid = models[0]
        self.asked = 0

    def submit(self, request: CellRequest) -> bool:
        if len(self._queue) >= 4 or self._rng.random() < 0.2:
            return False
        self._queue.append(request)
        self.asked += len(request.cells)
        return True

    def answers(self, timeout_s: float) -> Sequence[Answer]:
        if self._kind == "swap" and len(self._models) > 1 and self._rng.random() < 0.1:
            self._models.pop(0)
            self.grid = self._models[0]
        self._rng.shuffle(self._queue)
        n = len(self._queue) if timeout_s else self._rng.randint(0, len(self._queue))
        return [self._answer(self._queue.pop()) for _ in range(n)]

    def _answer(self, request: CellRequest) -> Answer:
        model_id = request.model_id
        if self._kind == "swap" and model_id != self.grid.model_id:
            return Answer(request.seq, self.grid.model_id, AnswerStatus.STALE, None)
        if self._kind == "fail" and self._rng.random() < 0.3:
            return Answer(request.seq, model_id, AnswerStatus.UNANSWERED, None)
        values = [judge(self.grid, cell.tobytes()) for cell in request.cells]
        return Answer(request.seq, model_id, AnswerStatus.ANSWERED, np.array(values))

    def counters(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass


KINDS = ["plain", "fail", "swap"]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(KINDS),
    identity=st.booleans(),
    shed=st.booleans(),
    limits=st.sampled_from([(8, 4, 8), (64, 16, 1000), (4096, 4096, 65536)]),
)
def test_every_frame_ends_in_one_outcome(
    seed: int, kind: str, identity: bool, shed: bool, limits: tuple[int, int, int]
) -> None:
    rng = random.Random(seed)
    frames = [
        b"\0" * rng.randint(0, 13)
        if rng.random() < 0.1
        else udp(
            rng.choice([53, 80, rng.randint(0, 65535)]),
            rng.choice([1, 9999]),
            b"x" * rng.randint(0, 3),
        )
        for _ in range(rng.randint(1, 400))
    ]
    batches: list[FrameBatch | None] = []
    at = 0
    while at < len(frames):
        n = rng.randint(1, 90)
        batches += [batch_of(frames[at : at + n], first=at + 1), None]
        at += n
    models = [grid(s, identity=identity) for s in range(1, 4)]
    classifier = Scripted(models, rng, kind=kind)
    sink = Collect()
    cache, asks, waiting = limits
    pipeline = Pipeline(
        ListSource(batches),
        classifier,
        sink,
        limits=Limits(cache, asks, waiting, max_batches=3, max_rows=7, shed=shed),
    )
    pipeline.run()

    numbers = np.concatenate([b.frames["number"] for b in sink.batches])
    assert numbers.tolist() == list(range(1, len(frames) + 1))
    outcomes = np.concatenate([b.outcomes for b in sink.batches])
    allowed = {Outcome.JUDGED, Outcome.UNPARSABLE}
    allowed |= {Outcome.SHED} if shed else set()
    allowed |= {Outcome.UNANSWERED} if kind == "fail" else set()
    assert set(outcomes.tolist()) <= allowed
    counters = pipeline.counters()
    assert counters["delivered"] == len(frames)
    assert counters["under_way"] == 0
    assert counters["frames"] == len(frames)
    assert counters["judged"] == int((outcomes == Outcome.JUDGED).sum())

    by_id = {m.model_id: m for m in models}
    rows = np.empty((len(frames), N_FEATURES), dtype=np.uint16)
    whole = batch_of(frames)
    parsed = np.zeros(9, dtype=np.uint64)
    extract(
        whole.data,
        whole.frames,
        HostIdentity(),
        rows,
        np.empty(len(frames), dtype=SENDER),
        np.empty(len(frames), dtype=np.uint8),
        parsed,
    )
    for b in sink.batches:
        for i in range(len(b.frames)):
            if b.outcomes[i] != Outcome.JUDGED:
                assert np.isnan(b.probabilities[i]) and b.verdicts[i] == 0
                continue
            model = by_id[b.model_ids[b.models[i]]]
            expected = judge(model, cell_of(model, rows[int(b.frames["number"][i]) - 1]))
            assert b.probabilities[i] == expected
            assert b.verdicts[i] == (expected > model.threshold)


def test_a_known_cell_is_asked_once() -> None:
    classifier = Scripted([grid(1)], random.Random(1), kind="plain")
    batches = [batch_of([udp(53, 53)] * 500) for _ in range(20)]
    pipeline = Pipeline(ListSource(batches), classifier, Collect())
    pipeline.run()
    assert classifier.asked == 1
    assert pipeline.counters()["judged"] == 10_000


def test_a_column_can_be_replaced() -> None:
    """A consumer may judge anew; the others' columns stay, and the piece is no longer the truth."""
    whole = Collect()
    classifier = Scripted([grid(1)], random.Random(1), kind="plain")
    Pipeline(ListSource([batch_of([udp(5, 53), udp(6, 53)])]), classifier, whole).run()
    (batch,) = whole.batches
    assert batch.piece is not None
    other = dataclasses.replace(batch, verdicts=1 - batch.verdicts)
    assert other.verdicts.tolist() == (1 - batch.verdicts).tolist() and other.piece is None
    for field in dataclasses.fields(JudgedBatch):
        if field.name != "verdicts":
            assert np.array_equal(getattr(other, field.name), getattr(batch, field.name))


def test_a_cache_smaller_than_the_cells_changes_no_verdict() -> None:
    frames = [udp(p, 1) for p in range(0, 60_000, 37)] * 3
    results = []
    for cells in (8, 65536):
        sink = Collect()
        classifier = Scripted([grid(1)], random.Random(1), kind="plain")
        pipeline = Pipeline(ListSource([batch_of(frames)]), classifier, sink, limits=Limits(cells))
        pipeline.run()
        results.append(np.concatenate([b.probabilities for b in sink.batches]))
    assert np.array_equal(results[0], results[1])
    assert pipeline.counters()["cell_asks"] <= len(frames)


@pytest.mark.parametrize("bad", ["offset", "caplen"])
def test_a_frame_outside_its_buffer_is_the_sources_error(bad: str) -> None:
    batch = batch_of([udp(1, 2)])
    batch.frames[bad] = 2**40 if bad == "offset" else 2**31
    pipeline = Pipeline(
        ListSource([batch]), Scripted([grid(1)], random.Random(1), kind="plain"), Collect()
    )
    with pytest.raises(ValueError, match="outside its buffer"):
        pipeline.run()

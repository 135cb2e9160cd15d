"""The pipeline beside a classifier that breaks its promises, and beside other threads: memory stays
bounded, each frame still ends in one outcome, and the run ends."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from ids_appliance import _cells, pipeline
from ids_appliance.pipeline import Limits, Pipeline
from ids_appliance.types import Answer, AnswerStatus, CellRequest, FrameBatch, Grid, Outcome
from tests.test_pipeline import Collect, ListSource, Scripted, batch_of, grid, judge, udp

A, B = grid(1), grid(2)


class Programmed:
    """A classifier that answers each request by what `reply` returns; None: not yet."""

    def __init__(self, reply: Callable[[CellRequest], Answer | None], *, at_most: int = 1000):
        self._reply = reply
        self._left = at_most
        self.pending: list[CellRequest] = []
        self.requests: list[CellRequest] = []
        self.grid = A

    def submit(self, request: CellRequest) -> bool:
        assert len(self.requests) < self._left, "asked without an end"
        self.requests.append(request)
        self.pending.append(request)
        return True

    def answers(self, timeout_s: float) -> Sequence[Answer]:
        found = []
        for request in self.pending.copy():
            answer = self._reply(request)
            if answer is not None:
                self.pending.remove(request)
                found.append(answer)
        return found

    def counters(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass


def right(request: CellRequest) -> Answer:
    model = A if request.model_id == A.model_id else B
    values = np.array([judge(model, cell.tobytes()) for cell in request.cells])
    return Answer(request.seq, request.model_id, AnswerStatus.ANSWERED, values)


def outcomes(sink: Collect) -> Counter[int]:
    return Counter(np.concatenate([b.outcomes for b in sink.batches]).tolist())


@pytest.mark.parametrize("wrong", [float("nan"), -0.1, 1.5, float("inf")])
def test_a_number_that_is_no_probability_is_no_answer(wrong: float) -> None:
    """And it is not remembered: the cell is asked again."""
    sink = Collect()
    batches = [batch_of([udp(53, 53)]), None, batch_of([udp(53, 53)], first=2)]

    def reply(request: CellRequest) -> Answer:
        if request.seq > 1:
            return right(request)
        values = np.full(len(request.cells), wrong)
        return Answer(request.seq, request.model_id, AnswerStatus.ANSWERED, values)

    Pipeline(ListSource(batches), Programmed(reply), sink).run()
    assert [b.outcomes.tolist() for b in sink.batches] == [[Outcome.UNANSWERED], [Outcome.JUDGED]]


@pytest.mark.parametrize("kind", ["nothing", "too few", "too many", "other model", "stale"])
def test_an_answer_that_does_not_fit_is_no_answer(kind: str) -> None:
    """ "stale": for the very model that the classifier says is its present one."""

    def reply(request: CellRequest) -> Answer:
        n = len(request.cells)
        size = {"too few": n - 1, "too many": n + 1}.get(kind, n)
        model_id = B.model_id if kind == "other model" else request.model_id
        status = AnswerStatus.STALE if kind == "stale" else AnswerStatus.ANSWERED
        values = None if kind in ("nothing", "stale") else np.full(size, 0.5)
        return Answer(request.seq, model_id, status, values)

    sink = Collect()
    Pipeline(ListSource([batch_of([udp(p, 1) for p in range(99)])]), Programmed(reply), sink).run()
    assert outcomes(sink) == {Outcome.UNANSWERED: 99}


def test_answers_given_twice_or_never_asked_for_are_dropped() -> None:
    sink = Collect()
    classifier = Programmed(lambda request: right(request))
    once = classifier.answers

    def twice(timeout_s: float) -> Sequence[Answer]:
        stray = Answer(10_000, A.model_id, AnswerStatus.ANSWERED, np.array([0.1]))
        return [a for answer in once(timeout_s) for a in (answer, stray, answer)]

    classifier.answers = twice  # type: ignore[method-assign]
    frames = [udp(p, 1) for p in range(3000)]
    Pipeline(
        ListSource([batch_of(frames)]), classifier, sink, limits=Limits(max_asks=64, max_rows=7)
    ).run()
    assert outcomes(sink) == {Outcome.JUDGED: 3000}


def test_a_model_that_comes_back_while_its_table_is_given_up_loses_nothing() -> None:
    """The link's thread may change the grid between two looks at it."""
    looks: list[Grid] = []

    class Flip(Programmed):
        @property
        def grid(self) -> Grid:
            if looks:
                return looks.pop(0)
            return A

        @grid.setter
        def grid(self, value: Grid) -> None:
            pass

    def reply(request: CellRequest) -> Answer:
        if request.seq == 1:
            looks.append(B)  # seen once; the next look finds A again
            return Answer(request.seq, B.model_id, AnswerStatus.STALE, None)
        return right(request)

    sink = Collect()
    Pipeline(ListSource([batch_of([udp(p, 1) for p in range(50)])]), Flip(reply), sink).run()
    assert outcomes(sink) == {Outcome.JUDGED: 50}


def test_a_classifier_that_only_ever_changes_its_model_is_given_up() -> None:
    """Otherwise the packets would be encoded anew and asked again for ever."""
    classifier: Programmed

    def reply(request: CellRequest) -> Answer:
        classifier.grid = B if request.model_id == A.model_id else A
        return Answer(request.seq, classifier.grid.model_id, AnswerStatus.STALE, None)

    classifier = Programmed(reply)
    sink = Collect()
    run = Pipeline(ListSource([batch_of([udp(p, 1) for p in range(50)])]), classifier, sink)
    run.run()
    assert outcomes(sink) == {Outcome.UNANSWERED: 50}
    assert run.counters()["frames"] == 50


def test_models_pushed_without_end_do_not_take_memory_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A table has megabytes: a node that pushes models and answers nothing gets few of them."""
    made = []

    class Counted(_cells.CellTable):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self.model_id)

    monkeypatch.setattr(pipeline, "CellTable", Counted)
    silent = True
    classifier = Programmed(lambda request: None if silent else right(request))

    class Flips(ListSource):
        def batches(self) -> Iterator[FrameBatch | None]:
            nonlocal silent
            for i in range(200):
                classifier.grid = (A, B)[i % 2]
                yield batch_of([udp(i, 1)], first=i + 1)
            silent = False

    sink = Collect()
    Pipeline(Flips([]), classifier, sink).run()
    assert outcomes(sink) == {Outcome.JUDGED: 200}
    assert len(made) <= 8


def test_a_run_outlives_more_models_than_an_index_counts() -> None:
    models = [grid(i, identity=True) for i in range(700)]
    classifier = Programmed(
        lambda request: Answer(
            request.seq, request.model_id, AnswerStatus.ANSWERED, np.array([0.25])
        )
    )

    class Pushes(ListSource):
        def batches(self) -> Iterator[FrameBatch | None]:
            for i, model in enumerate(models):
                classifier.grid = model
                yield batch_of([udp(i, 1)], first=i + 1)

    sink = Collect()
    limits = Limits(max_asks=1, cache_cells=8)
    Pipeline(Pushes([]), classifier, sink, limits=limits).run()
    judging = [b.model_ids[b.models[0]] for b in sink.batches]
    assert judging == [model.model_id for model in models]
    assert len(sink.batches[-1].model_ids) == pipeline.MAX_MODELS


def test_frames_under_way_are_bounded_and_stop_is_heeded_meanwhile() -> None:
    """One packet whose answer does not come holds up all that follow, known as they are."""
    asked = 0

    def reply(request: CellRequest) -> Answer | None:
        nonlocal asked
        asked += 1
        return None if request.seq == 2 and asked < 100 else right(request)

    most = 0
    run: Pipeline

    class Known(ListSource):
        def batches(self) -> Iterator[FrameBatch | None]:
            nonlocal most
            yield batch_of([udp(53, 53)])
            yield batch_of([udp(60_000, 9999, b"\xff" * 30)], first=2)
            for i in range(100):
                yield batch_of([udp(53, 53)] * 100, first=3 + 100 * i)
                most = max(most, run.counters()["under_way"])

    sink = Collect()
    run = Pipeline(Known([]), Programmed(reply), sink, limits=Limits(max_frames=1000))
    stops = 0

    def stop() -> bool:
        nonlocal stops
        stops += 1
        return False

    run.run(stop)
    assert outcomes(sink) == {Outcome.JUDGED: 10_002}
    assert 900 <= most <= 1100
    assert stops > 150  # asked more often than there were batches


def test_counters_hold_seen_from_another_thread_while_models_change() -> None:
    rng = random.Random(5)
    models = [grid(i) for i in range(1, 200)]
    batches: list[FrameBatch | None] = []
    for _ in range(400):
        batches += [batch_of([udp(rng.randrange(3000), 1) for _ in range(20)]), None]
    run = Pipeline(
        ListSource(batches),
        Scripted(models, rng, kind="swap"),
        Collect(),
        limits=Limits(64, 16, 1000, max_rows=7),
    )
    wrong: list[dict[str, int]] = []
    ended = threading.Event()

    def look() -> None:
        before = run.counters()
        while not ended.is_set():
            now = run.counters()
            parts = ("judged", "unparsable", "own", "echo", "unanswered", "shed", "under_way")
            if now["delivered"] != sum(now[p] for p in parts) or now["under_way"] < 0:
                wrong.append(now)
            if any(now[name] < before[name] for name in ("frames", "delivered", "cell_asks")):
                wrong.append(now)
            before = now

    looker = threading.Thread(target=look)
    looker.start()
    try:
        run.run()
    finally:
        ended.set()
        looker.join()
    assert not wrong
    assert run.counters()["judged"] == 8000

"""Frames in, judged batches out: the one path that every mode shares. Read this first.

    source --> CellTable.assign --> known cell: judged at once
                     |
                     +--> new cell: an *ask*, sent to the classifier in a request;
                          packets of that cell wait, batches are finished in order

The pipeline knows the stages by their protocols only (types.py). Which source feeds it and who
evaluates new cells, the gateway itself or a node, is decided in assemble.py and changes nothing
here: that is why gateway-only, offloaded and offline give the same verdicts.

Accounting: every frame a source delivers ends in exactly one Outcome, and `counters()` says at any
instant how many are still under way, so that

    delivered = screened + contained + judged + unparsable + own + echo + unanswered + shed
                + under way

A gate, where there is one, sees every batch first and keeps back what need not be judged: the
scrutiny window is closed (screened), or the sender is contained already.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ids_appliance._cells import STAT_NAMES, Assignment, CellTable
from ids_appliance._features import COUNTER_NAMES, HostIdentity
from ids_appliance.errors import ModelLimit
from ids_appliance.types import (
    Answer,
    AnswerStatus,
    CellRequest,
    Classifier,
    FrameBatch,
    Gate,
    Grid,
    JudgedBatch,
    Outcome,
    Source,
    VerdictSink,
)

MAX_MODELS = 256
"""Models told apart at a time: an index into them is one byte."""
MAX_TABLES = 4
"""Models in use at a time, about 10 MB each. While packets still wait for so many of them, new
batches stay with the newest of these; a node cannot push memory full."""
MAX_MOVES = 8
"""Stale answers in a row, none of them followed by a true one, after which a further one counts
as no answer: else a classifier that changes its model each time would be asked for ever."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the pipeline; memory is flat under any load. The first three hold per model, of
    which there are at most MAX_TABLES at a time."""

    cache_cells: int = 65_536
    """Known cells kept."""
    max_asks: int = 16_384
    """Cells with the classifier at a time."""
    max_waiting: int = 65_536
    """Packets that wait for an answer at a time; 132 bytes each."""
    max_batches: int = 4_096
    """Batches under way at a time, about 2 KB each. At this and the next limit the source waits,
    live too: the ring is the buffer then, and the kernel counts what it has no room for."""
    max_frames: int = 131_072
    """Frames under way at a time, judged ones included that wait for those before them (batches
    finish in order); 79 bytes each. The batch that reaches it is still taken."""
    max_rows: int = 1_024
    """Cells in one request."""
    lockstep: bool = False
    """Finish each batch before the gate sees the next: a replay then gives the same windows and
    decisions every time."""
    shed: bool = False
    """Asks or waiting packets full: give new packets up (live) instead of letting the source wait
    (offline)."""


class Pipeline:
    """Drive one source through one classifier into one sink, from one thread."""

    def __init__(
        self,
        source: Source,
        classifier: Classifier,
        sink: VerdictSink,
        *,
        host: HostIdentity | None = None,
        gate: Gate | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._source = source
        self._classifier = classifier
        self._sink = sink
        self._host = (host or HostIdentity()).packed()
        self._gate = gate
        self._limits = limits or Limits()
        self._underway: deque[Assignment] = deque()
        self._asked: dict[int, tuple[CellTable, int, int]] = {}
        self._held: CellRequest | None = None
        self._seq = 0
        self._moves = 0
        self._delivered = 0
        self._frames = 0
        self._books = threading.Lock()  # so that no table is counted twice while it retires
        self._outcomes = np.zeros(len(Outcome), dtype=np.uint64)
        self._retired = dict.fromkeys((*COUNTER_NAMES, *STAT_NAMES), 0)
        self._model_ids: list[bytes] = []
        self._tables: list[CellTable] = []
        self._follow(classifier.grid)

    def run(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Judge until the source ends or `stop` says so; then wait for what is under way.

        `stop` is called after each batch, each None of the source's, and each tenth of a second
        while too much is under way."""
        for batch in self._source.batches():
            if batch is not None:
                self._accept(batch)
            self._pump(0.0)
            stopped = stop()
            while not stopped and (self._full() or (self._limits.lockstep and self._underway)):
                self._pump(0.1)
                stopped = stop()
            if stopped:
                break
        while self._underway:
            self._pump(0.1)

    def set_host(self, host: HostIdentity) -> None:
        """Use another identity of the gateway from the next batch on (an address has changed)."""
        self._host = host.packed()

    def pressure(self) -> float:
        """Return how near the pipeline is to giving packets up or holding up its source, 0 .. 1."""
        frames = self._frames / self._limits.max_frames
        return min(1.0, max(frames, *(table.load for table in self._tables)))

    def counters(self) -> dict[str, int]:
        """Return every total by name; the identity in this module's docstring holds.

        May be called from any thread."""
        with self._books:
            totals = dict(self._retired)
            for table in self._tables:
                _add(totals, table)
        counts = self._outcomes.tolist()  # before `delivered`, which grows first
        delivered = self._delivered
        outcomes = {o.name.lower(): counts[o] for o in Outcome if o != Outcome.WAITING}
        under_way = delivered - sum(outcomes.values())
        return {"delivered": delivered, **outcomes, "under_way": under_way, **totals}

    # Frames in ---------------------------------------------------------------------------------

    def _accept(self, batch: FrameBatch) -> None:
        if len(self._tables) < MAX_TABLES:
            self._follow(self._classifier.grid)
        n = len(batch.frames)
        self._delivered += n
        marks = self._gate.admit(batch, self._host) if self._gate is not None else None
        assignment = Assignment(batch.frames, marks, self._outcomes)
        if n and not len(assignment):
            return
        self._frames += len(assignment)
        self._underway.append(assignment)
        table = self._tables[-1]
        while not table.assign(assignment, batch.data, self._host):
            # No room, and the source can wait (offline). Every request gets an answer, so room
            # comes; a stale answer moves the batch to the next model's table on the way.
            self._pump(0.1)
            while assignment.adopted < assignment.waiting:
                self._pump(0.1)
            table = assignment.table
        if len(self._underway) == 1 and not assignment.waiting:
            self._finish()  # all is known, and somebody may be waiting for the verdicts

    def _full(self) -> bool:
        limits = self._limits
        return len(self._underway) >= limits.max_batches or self._frames >= limits.max_frames

    def _follow(self, grid: Grid) -> None:
        """Open a table for a model that has come; older batches keep theirs."""
        if self._tables and self._tables[-1].model_id == grid.model_id:
            return
        index = self._index(grid.model_id)
        self._tables.append(
            CellTable(
                grid.model_id,
                grid.features,
                grid.cuts,
                threshold=grid.threshold,
                cache_cells=self._limits.cache_cells,
                max_asks=self._limits.max_asks,
                max_waiting=self._limits.max_waiting,
                shed=self._limits.shed,
                model_index=index,
            )
        )

    def _index(self, model_id: bytes) -> int:
        """Give a model its index in judged batches; that of one long gone if all are given."""
        ids = self._model_ids
        if model_id in ids:
            return ids.index(model_id)
        if len(ids) < MAX_MODELS:
            ids.append(model_id)
            return len(ids) - 1
        used = {ids.index(table.model_id) for table in self._tables}
        used.update(*(np.unique(a.models).tolist() for a in self._underway))
        free = next((i for i in range(MAX_MODELS) if i not in used), None)
        if free is None:
            raise ModelLimit(f"packets under way were judged by {MAX_MODELS} models")
        ids[free] = model_id
        return free

    # Cells out, answers in ---------------------------------------------------------------------

    def _pump(self, timeout_s: float) -> None:
        """Send new cells, take answers (waiting at most `timeout_s`), finish batches in order."""
        self._submit()
        for answer in self._classifier.answers(timeout_s if self._asked else 0.0):
            self._on_answer(answer)
        self._finish()
        self._submit()

    def _submit(self) -> None:
        for table in self._tables:
            while self._held is not None or table.unsent:
                request = self._held or self._next_request(table)
                self._held = None if self._classifier.submit(request) else request
                if self._held is not None:
                    return  # the classifier's queue is full: asks fill up next, then `shed` decides

    def _next_request(self, table: CellTable) -> CellRequest:
        handed = table.request(self._limits.max_rows)
        assert handed is not None  # the caller has seen `unsent`
        first, cells, rows = handed
        self._seq += 1
        self._asked[self._seq] = (table, first, len(cells))
        return CellRequest(self._seq, table.model_id, cells, rows)

    def _on_answer(self, answer: Answer) -> None:
        asked = self._asked.pop(answer.seq, None)
        if asked is None:
            return  # of a table that was given up when its model went stale
        table, first, n = asked
        probabilities = answer.probabilities
        if (
            answer.status is AnswerStatus.ANSWERED
            and answer.model_id == table.model_id
            and probabilities is not None
            and len(probabilities) == n
        ):
            table.answer(first, probabilities)
            self._moves = 0
            return
        grid = self._classifier.grid  # looked at once: the link may change it at any time
        if (
            answer.status is AnswerStatus.STALE
            and grid.model_id != table.model_id
            and self._moves < MAX_MOVES
        ):
            self._moves += 1
            self._abandon(table, grid)
        else:
            table.fail(first, n)

    def _abandon(self, stale: CellTable, grid: Grid) -> None:
        """Encode all that waits in a stale model's table again, with another model's grid."""
        self._follow(grid)
        table = self._tables[-1]
        self._asked = {seq: asked for seq, asked in self._asked.items() if asked[0] is not stale}
        if self._held is not None and self._held.seq not in self._asked:
            self._held = None
        for assignment in self._underway:
            if assignment.table is stale:
                table.adopt(assignment)
        self._retire(stale)

    # Batches out -------------------------------------------------------------------------------

    def _finish(self) -> None:
        done = False
        while self._underway:
            first = self._underway[0]
            if first.waiting:
                before = first.waiting
                if first.table.settle(first) < before:
                    first.table.release(self._underway)
                if first.adopted < first.waiting and not first.table.adopt(first):
                    # Batches behind it, moved here earlier, may hold all the asks: free those.
                    for assignment in self._underway:
                        if assignment.table is first.table:
                            assignment.table.settle(assignment)
                    first.table.release(self._underway)
                    first.table.adopt(first)
                if first.waiting:
                    break
            if first.assigned < len(first):
                break
            self._underway.popleft()
            self._frames -= len(first)
            done = True
            first.count(self._outcomes)
            self._sink.take(_Judged.of(first, tuple(self._model_ids)))
        if not done or len(self._tables) == 1:
            return
        in_use = {id(a.table) for a in self._underway} | {id(t) for t, _, _ in self._asked.values()}
        for table in self._tables[:-1]:
            if id(table) not in in_use:
                self._retire(table)

    def _retire(self, table: CellTable) -> None:
        with self._books:
            _add(self._retired, table)
            self._tables.remove(table)


class _Judged(JudgedBatch):
    """A batch in one piece; the arrays that it promises are made when somebody asks for them."""

    __slots__ = ("piece",)
    piece: Assignment | None

    @classmethod
    def of(cls, piece: Assignment, model_ids: tuple[bytes, ...]) -> "_Judged":
        batch = cls.__new__(cls)
        object.__setattr__(batch, "piece", piece)
        object.__setattr__(batch, "model_ids", model_ids)
        return batch

    def __getattr__(self, column: str) -> Any:
        # A place that is empty: a column of ours; the piece itself, after dataclasses.replace.
        return None if column == "piece" else getattr(self.piece, column)


def _add(totals: dict[str, int], table: CellTable) -> None:
    for name, value in zip(COUNTER_NAMES, table.parsed(), strict=True):
        totals[name] += value
    for name, value in table.counters().items():
        totals[name] += value

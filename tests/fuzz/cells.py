"""Frames, answers, failures and model changes in any order in: each packet gets its own answer.

The probability that the made-up classifier gives is a function of model and cell, so a packet that
got another's would show; outcomes and counters are the twin's.
"""

import zlib
from collections import Counter
from collections.abc import Iterator

import numpy as np

from ids_appliance import _cells, _features
from ids_appliance.types import Outcome
from tests.ext import frames as f
from tests.fuzz.parse import HOSTS, LINKS, catalogue
from tests.reference import packet as twin

IDENTITY, HOST = HOSTS[2]
ADDED = (Outcome.UNANSWERED, Outcome.SHED)
GRIDS = (  # few features, because a table's codes are made anew for every input
    ((0, 5, 8), [[1, 53, 80, 1024], [32, 64, 128], [1, 65]]),
    ((2, 4), [[6, 7, 17], list(range(40, 400))]),
    ((), []),
)


def table(which: int, shed: bool) -> _cells.CellTable:
    """Return one of three small tables that are soon full; the last one has no grid."""
    features, cuts = GRIDS[which]
    return _cells.CellTable(
        bytes([which] * 16),
        features,
        [np.array(c, np.uint16) for c in cuts],
        cache_cells=8,
        max_asks=4,
        max_waiting=6,
        shed=shed,
        model_index=which,
    )


def probability(model: int, cell: bytes) -> float:
    return zlib.crc32(bytes([model]) + cell) / 2**32


class Run:
    """The pipeline's part, driven by bytes: batches under way, tables, the classifier."""

    def __init__(self, shed: bool) -> None:
        self.shed = shed
        self.tables = [table(0, shed)]
        self.under_way: list[tuple[_cells.Assignment, np.ndarray, list[twin.Judged]]] = []
        self.asked: list[tuple[_cells.CellTable, int, np.ndarray]] = []
        self.raised: Counter[str] = Counter()
        self.done = 0

    @property
    def table(self) -> _cells.CellTable:
        return self.tables[-1]

    def batch(self, links: list[tuple[int, bytes]], direction: int) -> None:
        """Begin a batch and carry it as far as it goes, answering what stands in the way."""
        data, records = f.records([frame for _, frame in links], direction=direction)
        records["linktype"] = [linktype for linktype, _ in links]
        expected = [twin.judge(frame, linktype, direction, HOST) for linktype, frame in links]
        for judged in expected:
            self.raised.update(judged.raised)
        self.raised["frames"] += len(links)
        a = _cells.Assignment(records)
        self.under_way.append((a, data.copy(), expected))
        while not self.table.assign(a, data.copy(), IDENTITY.packed()):
            self.ask(3)
            self.answer(fail=False)
            self.settle()

    def ask(self, rows: int) -> None:
        asked = self.table.request(rows)
        if asked is not None:
            first, cells, _ = asked
            self.asked.append((self.table, first, cells))

    def answer(self, fail: bool) -> None:
        """Answer or fail the oldest request; an answer for a table that is gone is dropped."""
        if not self.asked:
            return
        where, first, cells = self.asked.pop(0)
        if fail:
            where.fail(first, len(cells))
        else:
            model = where.model_id[0]
            where.answer(first, np.array([probability(model, c.tobytes()) for c in cells]))

    def settle(self) -> None:
        """Settle, check and release batches, in order."""
        for a, _, _ in self.under_way:
            if a.table is self.table:
                self.table.settle(a)
        while self.under_way:
            a, _, expected = self.under_way[0]
            if a.waiting or a.assigned < len(expected):
                break
            self.check(*self.under_way.pop(0))
        self.table.release([a for a, _, _ in self.under_way])

    def swap(self) -> None:
        """Change the model: batches under way are encoded again."""
        if any(a.assigned < len(expected) for a, _, expected in self.under_way):
            return
        self.tables.append(table((self.table.model_id[0] + 1) % len(GRIDS), self.shed))
        for a, _, _ in list(self.under_way):  # settling takes finished ones out
            while a.waiting and not self.table.adopt(a):
                self.ask(3)
                while self.asked:
                    self.answer(fail=False)
                self.settle()

    def check(self, a: _cells.Assignment, _data: np.ndarray, expected: list[twin.Judged]) -> None:
        """Assert that each frame has its outcome and its own probability."""
        self.done += len(expected)
        for i, judged in enumerate(expected):
            outcome = int(a.outcomes[i])
            if judged.row is None or outcome not in (Outcome.JUDGED, *ADDED):
                assert outcome == judged.outcome, (i, outcome, judged)
                continue
            assert outcome != Outcome.SHED or self.shed
            if outcome == Outcome.JUDGED:
                model = int(a.models[i])
                made = next(t for t in self.tables if t.model_id[0] == model)
                cell = made.encode(np.array([judged.row], np.uint16))[0].tobytes()
                p = probability(model, cell)
                assert a.probabilities[i] == p, (i, a.probabilities[i], p)
                assert a.verdicts[i] == (p > 0.5)

    def finish(self) -> None:
        """Answer everything; all frames are accounted for, and so is their damage."""
        for _ in range(1000):
            if not self.under_way:
                break
            self.ask(4)
            self.answer(fail=False)
            self.settle()
        assert not self.under_way
        parsed = np.sum([t.parsed() for t in self.tables], axis=0).tolist()
        assert parsed == [self.raised[name] for name in _features.COUNTER_NAMES], (
            parsed,
            self.raised,
        )


def fuzz(data: bytes) -> None:
    """First byte: shed or not; then steps: what to do, and for a frame its length and bytes."""
    if not data:
        return
    run = Run(bool(data[0] & 1))
    links: list[tuple[int, bytes]] = []
    at = 1
    while at < len(data):
        step, argument = data[at] % 8, data[at] // 8
        at += 1
        if step < 4 and len(links) < 12:
            size = data[at] if at < len(data) else 0
            links.append((LINKS[argument % len(LINKS)], data[at + 1 : at + 1 + size]))
            at += 1 + size
        elif step == 4 and links:
            run.batch(links, 4 if argument & 1 else 0)
            links = []
        elif step == 5:
            run.ask(argument % 4 + 1)
        elif step == 6:
            run.answer(fail=argument % 4 == 0)
            run.settle()
        elif step == 7 and len(run.tables) < 3:
            run.swap()
    run.finish()


def seeds() -> Iterator[bytes]:
    steps = [
        bytes([8 * LINKS.index(linktype), min(len(frame), 120)]) + frame[:120]
        for linktype, frame in catalogue()
    ]
    for start in range(0, len(steps), 9):
        chunk = steps[start : start + 9]
        orders = bytes([4]), bytes([5 + 8, 6 + 8]), bytes([7])
        yield b"\x00" + b"".join(chunk[:5]) + orders[0] + b"".join(chunk[5:]) + orders[0]
        yield b"\x01" + b"".join(chunk) + orders[0] + orders[1] + b"".join(chunk) + orders[0]
        yield b"\x00" + b"".join(chunk[:3]) + orders[0] + orders[2] + b"".join(chunk) + orders[0]

"""Switching under load: each request has one answer, from the classifier that was asked."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ids_appliance.classify.switch import SwitchClassifier
from ids_appliance.types import Answer, AnswerStatus, CellRequest, Grid

MODEL = b"m" * 16
GRID = Grid(MODEL, 0.5, (), ())


class Owing:
    """A classifier that answers when it is let."""

    def __init__(self, mark: float) -> None:
        self.mark = mark
        self.owed: list[CellRequest] = []
        self.free = 0
        self.waited: list[float] = []
        self.closed = 0

    @property
    def grid(self) -> Grid:
        return GRID

    def submit(self, request: CellRequest) -> bool:
        assert not self.closed
        self.owed.append(request)
        return True

    def answers(self, timeout_s: float) -> list[Answer]:
        self.waited.append(timeout_s)
        n, self.free = min(self.free, len(self.owed)), 0
        ready, self.owed = self.owed[:n], self.owed[n:]
        return [Answer(r.seq, MODEL, AnswerStatus.ANSWERED, np.full(1, self.mark)) for r in ready]

    def counters(self) -> dict[str, int]:
        return {"mark": int(self.mark)}

    def close(self) -> None:
        self.closed += 1


def ask(seq: int) -> CellRequest:
    return CellRequest(seq, MODEL, np.zeros((1, 1), np.uint8), np.zeros((1, 60), np.uint16))


@settings(max_examples=200)
@given(st.lists(st.sampled_from(["ask", "switch", "free", "collect"]), max_size=60))
def test_one_answer_each_from_whom_was_asked(steps: list[str]) -> None:
    made = [Owing(0.0)]
    switch = SwitchClassifier(made[0])
    asked: dict[int, float] = {}
    got: dict[int, float] = {}

    def collect() -> None:
        for answer in switch.answers(0.0):
            assert answer.seq not in got and answer.probabilities is not None
            got[answer.seq] = float(answer.probabilities[0])

    for step in steps:
        if step == "ask":
            seq = len(asked)
            asked[seq] = made[-1].mark
            assert switch.submit(ask(seq))
        elif step == "switch":
            made.append(Owing(float(len(made))))
            switch.switch(made[-1])
        elif step == "free":
            for one in made:
                one.free = 2
        else:
            collect()
        assert all(not one.closed or not one.owed for one in made)
    for _ in asked:
        for one in made:
            one.free = len(asked)
        collect()
    assert got == asked
    assert all(one.closed for one in made[:-1]) and not made[-1].closed
    assert switch.counters() == {"mark": len(made) - 1, "switches": len(made) - 1}


def test_who_waits_waits_for_whom_was_asked_first() -> None:
    first, second = Owing(0.0), Owing(1.0)
    switch = SwitchClassifier(first)
    switch.submit(ask(1))
    switch.switch(second)
    assert list(switch.answers(0.3)) == []
    assert (first.waited, second.waited) == ([0.3], [0.0])
    switch.close()
    assert first.closed and second.closed

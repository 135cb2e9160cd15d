"""The ledger: one answer each, bounded, whatever the link does."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ids_appliance.classify.outstanding import Outstanding
from ids_appliance.types import AnswerStatus, CellRequest

MODEL = b"m" * 16


def make(seq, n=1):
    return CellRequest(seq, MODEL, np.zeros((n, 1), np.uint8), np.zeros((n, 60), np.uint16))


@pytest.fixture
def clock():
    now = [0.0]

    def read():
        return now[0]

    read.now = now
    return read


def test_deadlines_and_a_link_that_never_takes(clock):
    ledger = Outstanding(4, 100, deadline_s=1.0, clock=clock)
    for round_number in range(50):
        for seq in range(4):
            assert ledger.submit(make(seq))
        assert not ledger.submit(make(9))
        clock.now[0] += 1.0
        ledger.expire()
        answers = ledger.collect(0.0)
        assert [a.status for a in answers] == [AnswerStatus.UNANSWERED] * 4
        assert len(ledger._unsent) == 0, round_number


def test_rows_are_bounded_but_a_large_request_goes_alone(clock):
    ledger = Outstanding(10, 100, deadline_s=1.0, clock=clock)
    assert ledger.submit(make(1, 500))
    assert not ledger.submit(make(2, 1))
    ledger.part(ledger.next_unsent(), 0, np.zeros(500))
    assert ledger.submit(make(2, 99))
    assert not ledger.submit(make(3, 2))


def test_answers_that_nobody_collects_are_bounded(clock):
    ledger = Outstanding(2, 100, deadline_s=1.0, clock=clock)
    taken = 0
    while ledger.submit(make(taken)):
        ledger.part(ledger.next_unsent(), 0, np.zeros(1))
        taken += 1
    assert taken == 4
    assert len(ledger.collect(0.0)) == 4
    assert ledger.submit(make(9))


class Ledger(RuleBasedStateMachine):
    """Any order of submissions, parts, failures and deadlines: one answer per request."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.ledger = Outstanding(5, 40, deadline_s=1.0, clock=lambda: self.now)
        self.wakes = 0
        self.ledger.wake = self.woken
        self.seq = 0
        self.open = set()
        self.sent = []

    def woken(self):
        self.wakes += 1

    @rule(n=st.integers(1, 60))
    def submit(self, n):
        if self.ledger.submit(make(self.seq + 1, n)):
            self.seq += 1
            self.open.add(self.seq)

    @rule()
    def take(self):
        asked = self.ledger.next_unsent()
        if asked is not None:
            assert asked.request.seq in self.open
            self.sent.append([asked, 0])

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def answer_a_part(self, data):
        which = data.draw(st.integers(0, len(self.sent) - 1))
        asked, done = self.sent[which]
        n = data.draw(st.integers(1, len(asked.request.rows) - done))
        self.ledger.part(asked, done, np.full(n, asked.request.seq / 1e6))
        self.sent[which][1] += n
        if self.sent[which][1] == len(asked.request.rows):
            self.sent.pop(which)

    @precondition(lambda self: self.sent)
    @rule()
    def go_stale(self):
        self.ledger.stale(self.sent.pop(0)[0], b"n" * 16)

    @rule()
    def lose_the_node(self):
        self.ledger.unsend()
        self.sent = []

    @rule(step=st.sampled_from([0.1, 0.6, 2.0]))
    def time_passes(self, step):
        self.now += step
        self.ledger.expire()

    @rule()
    def collect(self):
        for answer in self.ledger.collect(0.0):
            self.open.remove(answer.seq)  # KeyError: answered twice
            if answer.status is AnswerStatus.ANSWERED:
                assert answer.model_id == MODEL
                assert (answer.probabilities == answer.seq / 1e6).all()
            else:
                assert answer.probabilities is None

    @invariant()
    def bounded(self):
        assert self.ledger.waiting <= 5
        assert len(self.open) <= 15

    def teardown(self):
        self.ledger.close()
        self.collect()
        assert self.open == set()
        assert self.ledger.waiting == 0


Ledger.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLedger = Ledger.TestCase


def test_who_sleeps_for_packets_is_told_of_the_first_answer(clock):
    ledger = Outstanding(8, 100, deadline_s=1.0, clock=clock)
    told = []
    ledger.ready = lambda: told.append(len(ledger._answers))
    for seq in range(3):
        ledger.submit(make(seq))
    for _ in range(3):
        ledger.part(ledger.next_unsent(), 0, np.zeros(1))
    assert told == [1]  # the others are found beside it
    assert len(ledger.collect(0.0)) == 3
    ledger.submit(make(4))
    clock.now[0] += 1.0
    ledger.expire()
    assert told == [1, 1]

"""When the window opens, stays open and closes, and what its records say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ids_appliance import config
from ids_appliance.trigger.window import KEEP, MAX_RULES, Window
from ids_appliance.types import Outcome, TriggerEvent

S = 10**9
T0 = 1_700_000_000 * S


def event(rule="dos", key="k", sender=None):
    return TriggerEvent(rule, key, 0, 0, sender, f"{rule} {key}")


def window(**changes):
    return Window(config.Window(**({"window_s": 30.0, "max_window_s": 100.0} | changes)))


def told(changes):
    return [("open" if c.opened else "close", c.record.id) for c in changes]


def test_opens_on_a_trigger_and_closes_after_its_length():
    w = window()
    assert w.tick(T0) == []
    assert told(w.event(T0, event())) == [("open", 1)]
    assert w.tick(T0 + 30 * S - 1) == []
    [change] = w.tick(T0 + 77 * S)
    record = change.record
    assert not change.opened and w.record is None
    assert (record.opened_ns, record.closed_ns, record.why) == (T0, T0 + 30 * S, "quiet")
    assert (record.rule, record.key, record.detail, record.triggers) == ("dos", "k", "dos k", 1)


def test_each_trigger_and_decision_gives_it_a_whole_length():
    w = window()
    w.event(T0, event())
    assert w.event(T0 + 20 * S, event("mirai")) == []
    assert w.decision(T0 + 45 * S) == []
    assert w.tick(T0 + 75 * S - 1) == []
    [change] = w.tick(T0 + 75 * S)
    assert change.record.closed_ns == T0 + 75 * S
    assert change.record.rules == {"dos": 1, "mirai": 1}
    assert (change.record.triggers, change.record.decisions) == (2, 1)


def test_a_trigger_after_its_end_opens_a_new_one():
    w = window()
    w.event(T0, event())
    assert told(w.event(T0 + 31 * S, event())) == [("close", 1), ("open", 2)]


def test_a_late_decision_opens_nothing():
    w = window()
    w.event(T0, event())
    assert told(w.decision(T0 + 40 * S)) == [("close", 1)]
    assert w.record is None and w.counts["window_decisions_late"] == 1


def test_a_verdict_extends_and_never_opens():
    w = window()
    assert w.verdict(T0) == [] and w.record is None
    w.event(T0, event())
    w.verdict(T0 + 10 * S)
    assert w.tick(T0 + 39 * S) == [] and told(w.tick(T0 + 40 * S)) == [("close", 1)]


def test_max_window_ends_a_window_that_only_decisions_hold_open():
    w = window()
    w.event(T0, event())
    for at in range(20, 100, 20):
        w.decision(T0 + at * S)
    [change] = w.tick(T0 + 100 * S)
    assert change.record.why == "max_window" and w.record is None


def test_max_window_begins_a_new_record_while_a_trigger_is_still_firing():
    w = window()
    w.event(T0, event())
    for at in range(5, 100, 5):
        w.event(T0 + at * S, event("port_scan"))
    closed, opened = w.tick(T0 + 101 * S)
    assert closed.record.why == "max_window" and closed.record.closed_ns == T0 + 100 * S
    assert opened.opened and opened.record.opened_ns == T0 + 100 * S
    assert opened.record.rule == "port_scan"
    # What was still to come of the old end counts on: 95 s + 30 s.
    [change] = w.tick(T0 + 200 * S)
    assert change.record.closed_ns == T0 + 125 * S


def test_contained_senders_neither_open_nor_extend():
    w = window()
    w.contained = frozenset({b"x"})
    assert w.event(T0, event(sender=b"x")) == [] and w.record is None
    w.event(T0, event(sender=b"y"))
    w.event(T0 + 20 * S, event(sender=b"x"))
    assert told(w.tick(T0 + 30 * S)) == [("close", 1)]
    assert w.counts["window_triggers_contained"] == 2
    assert w.counts["window_triggers"] == 1


def test_a_sample_is_short_and_no_incident():
    w = window(sample_every_s=60.0, sample_s=2.0)
    [opened] = w.event(T0, event("sample"))
    assert not opened.record.incident
    [closed] = w.tick(T0 + 60 * S)
    assert (closed.record.closed_ns, closed.record.why) == (T0 + 2 * S, "sample over")
    assert (w.counts["windows"], w.counts["window_samples"]) == (0, 1)


@pytest.mark.parametrize("what", ["event", "decision"])
def test_a_sample_that_finds_something_becomes_a_window(what):
    w = window(sample_every_s=60.0, sample_s=2.0)
    w.event(T0, event("sample"))
    changes = w.event(T0 + S, event()) if what == "event" else w.decision(T0 + S, "found")
    assert told(changes) == [("close", 1), ("open", 2)]
    assert w.record.incident and w.record.rule == ("dos" if what == "event" else "decision")
    assert told(w.tick(T0 + 60 * S)) == [("close", 2)]
    assert w.records[-1].closed_ns == T0 + 31 * S


def test_a_sample_changes_nothing_in_an_open_window():
    w = window(sample_every_s=60.0)
    w.event(T0, event())
    assert w.event(T0 + 29 * S, event("sample")) == []
    assert told(w.tick(T0 + 30 * S)) == [("close", 1)]


def test_by_hand():
    w = window()
    assert told(w.event(T0, event("manual", "open"))) == [("open", 1)]
    assert told(w.event(T0 + S, event("manual", "close"))) == [("close", 1)]
    assert w.records[-1].why == "manual"
    assert w.event(T0 + 2 * S, event("manual", "close")) == []


def test_always_is_one_endless_window():
    w = Window(config.Window(max_window_s=10.0), always=True)
    assert told(w.tick(T0)) == [("open", 1)]
    assert w.event(T0 + 5 * S, event()) == []
    assert w.tick(T0 + 10**6 * S) == [] and w.horizon_ns(T0) is None
    assert told(w.close(T0 + 10**6 * S, "end")) == [("close", 1)]


def test_time_never_runs_backwards():
    w = window()
    w.event(T0, event())
    assert w.event(T0 - 50 * S, event("mirai")) == []
    assert told(w.tick(T0 + 30 * S)) == [("close", 1)]
    assert w.tick(0) == []


def test_only_the_latest_records_are_kept():
    w = window()
    for i in range(KEEP + 7):
        w.event(T0 + i * 40 * S, event())
    assert len(w.records) == KEEP and w.records[-1].id == KEEP + 7


def test_rules_in_a_record_are_bounded():
    w = window()
    for i in range(3 * MAX_RULES):
        w.event(T0, event(f"rule{i}"))
    assert len(w.record.rules) == MAX_RULES + 1
    assert sum(w.record.rules.values()) == w.record.triggers == 3 * MAX_RULES


def test_frames_are_counted_for_the_window_that_let_them_through():
    w = window()
    asked = 0
    w._asked = lambda: asked
    w.admitted(np.array([Outcome.WAITING], np.uint8))  # closed: nobody's
    w.event(T0, event())
    first = w.record
    OUT = Outcome
    w.admitted(
        np.array([OUT.WAITING, OUT.WAITING, OUT.OWN, OUT.ECHO, OUT.CONTAINED, OUT.SHED], np.uint8)
    )
    asked = 5
    w.close(T0 + S, "manual")
    w.event(T0 + 2 * S, event())
    w.admitted(np.array([OUT.WAITING, OUT.UNPARSABLE], np.uint8))
    asked = 7
    w.judged(np.array([OUT.JUDGED], np.uint8), np.array([1], np.uint8))
    w.judged(np.array([OUT.UNANSWERED, OUT.JUDGED], np.uint8), np.array([0, 1], np.uint8))
    second = w.look()
    assert (first.seen, first.contained, first.shed) == (4, 1, 1)
    assert (first.judged, first.unanswered, first.votes, first.cells_asked) == (1, 1, 1, 5)
    assert (second.seen, second.judged, second.votes, second.cells_asked) == (2, 1, 1, 2)


STEP = st.tuples(
    st.sampled_from(["event", "contained", "sample", "decision", "tick", "close"]),
    st.integers(0, 60),
)


@given(st.lists(STEP, max_size=60))
@settings(deadline=None)
def test_invariants_of_any_history(steps):
    w = window(sample_every_s=60.0)
    w.contained = frozenset({b"x"})
    now, history, last = T0, [], T0
    for what, seconds in steps:
        now += seconds * S
        if what == "event":
            changes = w.event(now, event())
        elif what == "contained":
            changes = w.event(now, event(sender=b"x"))
        elif what == "sample":
            changes = w.event(now, event("sample"))
        elif what == "decision":
            changes = w.decision(now)
        else:
            changes = w.tick(now) if what == "tick" else w.close(now, "manual")
        history += changes
        for change in changes:
            at = change.record.opened_ns if change.opened else change.record.closed_ns
            assert last <= at <= now  # in order, and none in the future
            last = at
        if w.record is not None:
            assert now < w.horizon_ns(now) <= w.record.opened_ns + 100 * S
    # Opened and closed in turn, each record once.
    assert [c.opened for c in history] == [i % 2 == 0 for i in range(len(history))]
    for opened, closed in zip(history[::2], history[1::2], strict=False):
        assert opened.record is closed.record
        assert 0 <= closed.record.closed_ns - closed.record.opened_ns <= 100 * S

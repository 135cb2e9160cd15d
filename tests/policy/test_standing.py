"""What stands: one per subject, the next to end, the weakest."""

from hypothesis import given
from hypothesis import strategies as st

from ids_appliance.policy.history import LINES, MAX_TRACES, Offences, Traces
from ids_appliance.policy.notes import HOLD_NS, MAX_SAID, MAX_WAITING, Note, Notes
from ids_appliance.policy.standing import Held, Standing
from ids_appliance.types import Decision, Kind, Response, Subject
from tests.policy.ledgers import S, device


def held(n: int, ends: int, *, number: int, score: float = 1.0, hand: bool = False) -> Held:
    decision = Decision(number, device(n), Response.RATE_LIMIT, 600.0, "", score=score)
    return Held(decision, Response.RATE_LIMIT, 0, ends, count=1, by_hand=hand)


steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "remove"]),
        st.integers(0, 9),
        st.integers(0, 50),
        st.floats(0, 9),
        st.booleans(),
    ),
    max_size=200,
)


@given(steps)
def test_against_a_plain_dictionary(ops: list[tuple[str, int, int, float, bool]]) -> None:
    table, twin = Standing(100), dict[int, Held]()
    for number, (op, n, ends, score, hand) in enumerate(ops):
        if op == "put":
            row = held(n, ends, number=number, score=score, hand=hand)
            table.put(row)
            twin[n] = row
        else:
            assert table.remove(device(n)) is twin.pop(n, None)
        assert len(table) == len(twin) and set(map(id, table)) == set(map(id, twin.values()))
        weakest = table.weakest()
        assert (weakest is None) == (not twin)
        if weakest is not None:
            assert weakest.strength == min(row.strength for row in twin.values())
        ending = table.ending(25)
        due = [row.ends_ns for row in twin.values() if row.ends_ns <= 25]
        assert (ending is None) == (not due)
        assert ending is None or ending.ends_ns == min(due)
        assert len(table._ends) <= 2 * len(twin) + 64 + 1
        assert len(table._weakest) <= 2 * len(twin) + 64 + 1


def test_peoples_orders_give_way_last() -> None:
    table = Standing(10)
    table.put(held(1, 9, number=1, score=0.0, hand=True))
    table.put(held(2, 99, number=2, score=1e9))
    weakest = table.weakest()
    assert weakest is not None and weakest.subject == device(2)


def test_proven_or_not_it_is_the_same_subject() -> None:
    table = Standing(10)
    table.put(held(1, 9, number=1))
    unproven = Subject(Kind.MAC, device(1).value, "lan0", proven=False)
    assert table.get(unproven) is not None and table.remove(unproven) is not None
    assert len(table) == 0


def test_offences_start_over_after_a_quiet_time() -> None:
    rows = Offences(memory_s=100.0, most=100)
    rows.add(device(1), 0)
    rows.add(device(1), 50 * S)
    assert rows.count(device(1), 149 * S) == 2
    assert rows.count(device(1), 150 * S) == 0
    rows.touch(device(1), 140 * S)
    assert rows.count(device(1), 239 * S) == 2
    rows.forget(device(1))
    assert rows.count(device(1), 0) == 0


def test_offences_are_bounded_by_the_longest_quiet() -> None:
    rows = Offences(memory_s=1e6, most=16)
    rows.add(device(0), 0)
    for n in range(1, 17):
        rows.add(device(n), n)
    assert len(rows) == 16 and rows.count(device(0), 20) == 0 and rows.count(device(1), 20) == 1


def test_traces_are_bounded() -> None:
    traces = Traces()
    for n in range(MAX_TRACES + 10):
        traces.line(Subject(Kind.IPV4, n.to_bytes(4, "big")), "x" * 9999)
    assert len(traces) == MAX_TRACES
    last = Subject(Kind.IPV4, (MAX_TRACES + 9).to_bytes(4, "big"))
    for _ in range(99):
        traces.line(last, "again")
    assert len(traces.get(last).lines) == LINES
    assert not traces.get(Subject(Kind.IPV4, bytes(4))).lines


def test_the_same_note_is_said_once_a_minute() -> None:
    notes = Notes()
    assert notes.say(Note("refused", device(1), "a", 0), 0)
    assert not notes.say(Note("refused", device(1), "b", 0), HOLD_NS - 1)
    assert notes.say(Note("refused", device(2), "c", 0), HOLD_NS - 1)
    assert notes.say(Note("refused", device(1), "d", 0), HOLD_NS)
    assert [(n.text, n.repeated) for n in notes.take()] == [("a", 0), ("c", 0), ("d", 1)]
    assert notes.take() == [] and notes.totals == {"refused": 4}


def test_notes_that_nobody_takes_give_way() -> None:
    notes = Notes()
    for n in range(2 * MAX_WAITING):
        notes.say(Note("refused", Subject(Kind.IPV4, n.to_bytes(4, "big")), "x" * 9999, 0), n)
    assert notes.dropped == MAX_WAITING and len(notes._said) <= MAX_SAID
    taken = notes.take()
    assert len(taken) == MAX_WAITING and max(len(n.text) for n in taken) <= 500

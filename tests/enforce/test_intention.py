"""The books of what should stand, against a slow twin that keeps a plain list."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ids_appliance.config import Enforce
from ids_appliance.enforce.intention import Full, Intention
from ids_appliance.types import Decision, Kind, Response, Subject

STEP = st.tuples(
    st.sampled_from(["put", "put", "put", "drop", "wait"]),
    st.integers(0, 9),
    st.integers(0, 5),
    st.integers(1, 30),
)


def wan(number: int) -> Subject:
    return Subject(Kind.IPV4, bytes([10, 0, 0, number]))


@settings(max_examples=200)
@given(st.lists(STEP, max_size=60))
def test_like_its_slow_twin(steps: list[tuple[str, int, int, int]]) -> None:
    now = 0.0
    books = Intention(Enforce(wan_set=4), clock=lambda: now, alarm=lambda line: None)
    twin: dict[int, tuple[float, float, int]] = {}  # who -> score, end, order
    for order, (what, number, score, length) in enumerate(steps):
        if what == "wait":
            now += length
            ended = {one.decision.subject.value[3] for one in books.expire()}
            assert ended == {n for n, (_, end, _) in twin.items() if end <= now}
            twin = {n: kept for n, kept in twin.items() if kept[1] > now}
        elif what == "drop":
            assert (books.drop(wan(number)) is None) == (twin.pop(number, None) is None)
        else:
            made = Decision(1, wan(number), Response.QUARANTINE, float(length), "x", score=score)
            mine = (float(score), now + length, order)
            full = number not in twin and len(twin) >= 4
            weakest = min(twin, key=lambda n: twin[n]) if full else None
            try:
                evicted = [one.decision.subject.value[3] for one in books.put(made, ())]
            except Full:
                assert weakest is not None and mine < twin[weakest]
                continue
            assert evicted == ([weakest] if weakest is not None else [])
            if weakest is not None:
                del twin[weakest]
            twin[number] = mine
        standing = {one.decision.subject.value[3]: one for one in books.all()}
        assert standing.keys() == twin.keys() and len(books) == books.held("wan") == len(twin)
        assert all(standing[n].ends_s == end for n, (_, end, _) in twin.items())


def test_memory_is_flat_while_decisions_are_renewed() -> None:
    books = Intention(Enforce(wan_set=4), clock=lambda: 0.0, alarm=lambda line: None)
    for turn in range(5_000):
        books.put(Decision(1, wan(turn % 4), Response.QUARANTINE, 60.0, "x"), ())
    assert len(books._weakest["wan"]) < 200 and len(books._ends) < 200


def test_the_alarm_comes_once_until_it_is_over() -> None:
    lines: list[str] = []
    books = Intention(Enforce(wan_set=10, alarm_share=0.8), clock=lambda: 0.0, alarm=lines.append)
    for number in range(10):
        books.put(Decision(1, wan(number), Response.QUARANTINE, 60.0, "x"), ())
    assert lines == ["the wan set is 80% full: 8 of 10 decisions"]
    for number in range(5):
        books.drop(wan(number))
    for number in range(5):
        books.put(Decision(1, wan(number), Response.QUARANTINE, 60.0, "x"), ())
    assert len(lines) == 2

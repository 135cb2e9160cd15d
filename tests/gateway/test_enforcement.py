"""The thread that talks to the kernel: in order, never blocking, and never dying unnoticed."""

import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from ids_appliance.errors import IdsError
from ids_appliance.gateway import enforcement
from ids_appliance.gateway.enforcement import Enforcement
from ids_appliance.types import Applied, Decision, Kind, Reconciled, Response, Subject

SUBJECT = Subject(Kind.IPV4, bytes([192, 0, 2, 9]))


def decision(number: int) -> Decision:
    return Decision(number, SUBJECT, Response.QUARANTINE, 60.0, "test")


class Slow:
    """An enforcer that can be held up, and that fails on demand."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.seen: list[str] = []
        self.raises: BaseException | None = None

    def _step(self, what: str) -> None:
        assert self.go.wait(60)
        if self.raises is not None:
            raise self.raises
        self.seen.append(what)

    def apply(self, decisions: Sequence[Decision]) -> Sequence[Applied]:
        self._step(f"apply {[d.number for d in decisions]}")
        return [Applied(d, True) for d in decisions]

    def release(self, subjects: Sequence[Subject]) -> None:
        self._step("release")

    def tidy(self) -> None:
        """Nothing to do."""

    def reconcile(self) -> Reconciled:
        self._step("reconcile")
        return Reconciled(1, 1, 0, 0, False)

    def clear(self) -> None:
        self._step("clear")

    def counters(self) -> dict[str, int]:
        return {"steps": len(self.seen)}


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def woken() -> threading.Semaphore:
    return threading.Semaphore(0)


@pytest.fixture
def thread(slow: Slow, woken: threading.Semaphore) -> Iterator[Enforcement]:
    made = Enforcement(slow, reconcile_s=0.0, clock=time.monotonic, wake=woken.release)
    yield made
    slow.go.set()
    made.close()


def test_orders_are_carried_out_in_order_and_answered(
    slow: Slow, woken: threading.Semaphore, thread: Enforcement
) -> None:
    slow.go.clear()
    thread.apply([decision(1)])
    thread.release([SUBJECT])
    thread.apply([decision(2), decision(3)])
    thread.clear()
    assert slow.seen == []  # nothing was waited for
    slow.go.set()
    thread.close()
    assert slow.seen == ["apply [1]", "release", "apply [2, 3]", "clear"]
    done = [a.decision.number for a in thread.answers() if isinstance(a, Applied)]
    assert done == [1, 2, 3] and thread.answers() == []
    assert woken.acquire(timeout=60)
    assert thread.counters() == {"steps": 4, "enforce_orders_refused": 0}


def test_nothing_is_ordered_for_nobody(slow: Slow, thread: Enforcement) -> None:
    thread.apply([])
    thread.release([])
    thread.close()
    assert slow.seen == []


def test_a_failure_of_the_enforcers_is_an_answer(
    slow: Slow, woken: threading.Semaphore, thread: Enforcement
) -> None:
    slow.raises = IdsError("the table is gone")
    thread.apply([decision(1)])
    assert woken.acquire(timeout=60)
    refused = Applied(decision(1), False, "the table is gone")
    assert thread.answers() == [refused, "the table is gone"]
    slow.raises = None
    thread.apply([decision(2)])
    thread.close()
    assert slow.seen == ["apply [2]"]


def test_a_bug_ends_the_loop_too(
    slow: Slow, woken: threading.Semaphore, thread: Enforcement
) -> None:
    thread.check()
    slow.raises = ZeroDivisionError()
    thread.apply([decision(1)])
    assert woken.acquire(timeout=60)
    with pytest.raises(ZeroDivisionError):
        thread.check()
    thread.close()


def test_the_kernel_is_compared_though_orders_never_cease(slow: Slow) -> None:
    compared = threading.Event()
    made = Enforcement(slow, reconcile_s=0.02, clock=time.monotonic, wake=lambda: None)
    end = time.monotonic() + 60
    while not compared.is_set() and time.monotonic() < end:
        made.apply([decision(1)])
        if any(isinstance(a, Reconciled) for a in made.answers()):
            compared.set()
    made.close()
    assert compared.is_set()


def test_a_stuck_kernel_costs_orders_never_the_loop(
    slow: Slow, thread: Enforcement, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow.go.clear()
    for number in range(enforcement.MAX_ORDERS + 2):
        thread.apply([decision(number)])
    assert thread.counters()["enforce_orders_refused"] in (1, 2)  # one may be under way
    answers = thread.answers()
    assert any("refused" in a for a in answers if isinstance(a, str))
    lost = [a.decision.number for a in answers if isinstance(a, Applied) and not a.done]
    assert lost and lost[-1] == enforcement.MAX_ORDERS + 1  # or it would pass for enforced

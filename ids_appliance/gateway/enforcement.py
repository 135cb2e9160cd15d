"""Orders in, what became of them out: the one thread that talks to the kernel's rules.

The loop that judges packets never waits for the kernel: it leaves decisions here and collects the
answers when it is woken. Between orders the thread compares the kernel with what is intended.
"""

import queue
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Protocol

from ids_appliance.errors import IdsError
from ids_appliance.types import Applied, Decision, Enforcer, Reconciled, Subject

MAX_ORDERS = 4096
"""Batches of orders that wait; one batch may hold thousands of decisions."""
MAX_ANSWERS = 65_536
BUSY = "too many orders wait for the kernel"


class Clock(Protocol):
    """Seconds that only grow."""

    def __call__(self) -> float: ...


Answer = Applied | Reconciled | str
Order = Callable[[], Sequence[Answer]]


class Enforcement:
    """Run an enforcer in a thread of its own.

    reconcile_s: pause between two comparisons with the kernel; 0: none. wake: called from the
    thread when there are answers. What the enforcer raises as IdsError becomes an answer of text;
    anything else ends the thread, which `check` then says to the loop that is to go down with it.
    """

    def __init__(
        self,
        enforcer: Enforcer,
        *,
        reconcile_s: float,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._enforcer = enforcer
        self._reconcile_s = reconcile_s
        self._clock = clock
        self._wake = wake
        self._orders: queue.Queue[Order | None] = queue.Queue(MAX_ORDERS)
        self._answers: deque[Answer] = deque(maxlen=MAX_ANSWERS)
        self._refused = 0
        self._counters: dict[str, int] = {}
        pool = ThreadPoolExecutor(1, thread_name_prefix="enforcement")
        self._thread: Future[None] = pool.submit(self._run)
        self._thread.add_done_callback(lambda _: wake())
        pool.shutdown(wait=False)

    def apply(self, decisions: Sequence[Decision]) -> None:
        """Let decisions hold soon; never blocks."""

        def order() -> Sequence[Answer]:
            try:
                return self._enforcer.apply(decisions)
            except IdsError as error:
                # Each of them has its answer, or they would pass for enforced.
                return [*(Applied(one, False, str(error)) for one in decisions), str(error)]

        if decisions and not self._put(order):
            self._answers.extend(Applied(one, False, BUSY) for one in decisions)

    def release(self, subjects: Sequence[Subject]) -> None:
        """Let subjects go soon; never blocks."""
        if subjects:
            self.call(lambda: self._enforcer.release(subjects))

    def clear(self) -> None:
        """Remove everything of ours soon; never blocks."""
        self.call(self._enforcer.clear)

    def call(self, what: Callable[[], None]) -> None:
        """Run something in the thread, in its turn among the orders; never blocks."""

        def order() -> Sequence[Answer]:
            what()
            return ()

        self._put(order)

    @property
    def waiting(self) -> bool:
        """There are answers."""
        return bool(self._answers)

    def answers(self) -> list[Answer]:
        """Return what has been answered since the last call."""
        found = []
        while self._answers:
            found.append(self._answers.popleft())
        return found

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        if self._thread.done():
            self._thread.result()

    @property
    def intended(self) -> int:
        """Decisions that the kernel should hold, as the thread last saw them."""
        held = (n for name, n in self._counters.items() if name.startswith("elements_"))
        return sum(held)

    def counters(self) -> dict[str, int]:
        """Return the enforcer's totals as the thread last saw them, and orders refused here."""
        return self._counters | {"enforce_orders_refused": self._refused}

    def close(self, *, timeout_s: float = 5.0) -> None:
        """Carry out what is ordered already, then end the thread; safe to call twice."""
        if not self._thread.done():
            with suppress(queue.Full):  # it is stuck: what is in the kernel has its time-outs
                self._orders.put(None, timeout=timeout_s)
                wait([self._thread], timeout_s)

    def _put(self, order: Order) -> bool:
        try:
            self._orders.put_nowait(order)
        except queue.Full:
            self._refused += 1
            self._answers.append(f"{BUSY}: one batch was refused")
            return False
        return True

    def _run(self) -> None:
        due = self._clock() + self._reconcile_s
        while True:
            order = self._next(due)
            if order is None:
                return
            if order == self._compare:
                due = self._clock() + self._reconcile_s
            self._answer(order)

    def _next(self, due: float) -> Order | None:
        if not self._reconcile_s:
            return self._orders.get()
        try:
            # Overdue, the comparison takes its turn even when orders never cease.
            pause = due - self._clock()
            return self._orders.get(timeout=pause) if pause > 0 else self._compare
        except queue.Empty:
            return self._compare

    def _compare(self) -> Sequence[Answer]:
        return (self._enforcer.reconcile(),)

    def _answer(self, order: Order) -> None:
        try:
            answers = order()
        except IdsError as error:
            answers = (str(error),)
        if answers:
            self._answers.extend(answers)
            self._wake()
        # After the answers: reading the kernel's counters takes longer than most orders.
        with suppress(IdsError):  # what is wrong is told by orders
            self._counters = self._enforcer.counters()
        with suppress(IdsError):  # noted by the enforcer
            self._enforcer.tidy()

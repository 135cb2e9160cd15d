"""Requests in, exactly one answer each out: the ledger between a pipeline and its link.

The pipeline's thread submits and collects; the link's thread takes requests to send and settles
them. Whatever the link does or fails to do, a request that was taken in leaves as one Answer, at
the latest when its deadline passes. Everything here is short and under one lock.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from ids_appliance.types import F64, Answer, AnswerStatus, CellRequest

MAX_UNCOLLECTED: Final = 2
"""Answers may wait to be collected for this many times `max_requests`."""


class Asked:
    """One request under way; a large one travels in several parts."""

    __slots__ = ("request", "deadline", "left", "done", "probabilities")

    def __init__(self, request: CellRequest, deadline: float) -> None:
        self.request = request
        self.deadline = deadline
        self.left = len(request.rows)
        """Rows not answered yet."""
        self.done = False
        """Settled: whatever still comes for it is dropped."""
        self.probabilities: F64 = np.empty(self.left)


class Outstanding:
    """The ledger. `wake` is called, from the submitting thread, when there is something to send."""

    def __init__(
        self, max_requests: int, max_rows: int, *, deadline_s: float, clock: Callable[[], float]
    ) -> None:
        self._max_requests = max_requests
        self._max_rows = max_rows
        self._deadline_s = deadline_s
        self._clock = clock
        self._changed = threading.Condition()
        self._asked: dict[Asked, None] = {}
        self._unsent: deque[Asked] = deque()
        self._answers: list[Answer] = []
        self._rows = 0
        self._woken = False
        self._open = True
        self.wake: Callable[[], None] = lambda: None
        self.ready: Callable[[], None] = lambda: None
        """Called, from either thread, when there is an answer after there was none: it must be
        short, and never come back here."""
        self.counts = dict.fromkeys(("requests", "rows", "answered", "unanswered", "stale"), 0)

    # The pipeline's thread --------------------------------------------------------------------

    def submit(self, request: CellRequest) -> bool:
        """Take a request, or return False: too many requests or rows are under way, or too many
        answers have not been collected. A request larger than the cap goes alone."""
        n = len(request.rows)
        with self._changed:
            if self._asked and (
                len(self._asked) >= self._max_requests or self._rows + n > self._max_rows
            ):
                return False
            if len(self._answers) >= MAX_UNCOLLECTED * self._max_requests:
                return False
            self.counts["requests"] += 1
            self.counts["rows"] += n
            asked = Asked(request, self._clock() + self._deadline_s)
            self._asked[asked] = None
            self._rows += n
            if not self._open:
                self._settle(asked, AnswerStatus.UNANSWERED, request.model_id)
                return True
            self._unsent.append(asked)
            wake = not self._woken
            self._woken = True
        if wake:
            self.wake()
        return True

    def collect(self, timeout_s: float) -> Sequence[Answer]:
        """Return the answers there are, waiting at most `timeout_s` for the first."""
        with self._changed:
            if not self._answers and timeout_s > 0 and self._asked:
                self._changed.wait_for(lambda: self._answers or not self._asked, timeout_s)
            answers, self._answers = self._answers, []
            return answers

    def close(self) -> None:
        """Settle everything UNANSWERED; later requests at once."""
        with self._changed:
            self._open = False
            self._unsent.clear()
            for asked in list(self._asked):
                self._settle(asked, AnswerStatus.UNANSWERED, asked.request.model_id)

    # The link's thread ------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Requests under way."""
        return len(self._asked)

    def next_unsent(self) -> Asked | None:
        """Take the oldest request that was not sent yet."""
        with self._changed:
            self._woken = False
            while self._unsent:
                asked = self._unsent.popleft()
                if not asked.done:
                    return asked
        return None

    def unsend(self) -> None:
        """The connection is gone: everything under way is to be sent again, whole."""
        with self._changed:
            self._unsent = deque(self._asked)
            for asked in self._asked:
                asked.left = len(asked.request.rows)

    def part(self, asked: Asked, start: int, probabilities: F64) -> None:
        """Note the answer to some rows of a request; the last part settles it ANSWERED."""
        with self._changed:
            if asked.done:
                return
            asked.probabilities[start : start + len(probabilities)] = probabilities
            asked.left -= len(probabilities)
            if asked.left <= 0:
                self._settle(asked, AnswerStatus.ANSWERED, asked.request.model_id)

    def stale(self, asked: Asked, model_id: bytes) -> None:
        """Nobody can answer a request for its model any more; `model_id` is the present one."""
        with self._changed:
            self._settle(asked, AnswerStatus.STALE, model_id)

    def expire(self) -> None:
        """Settle UNANSWERED what is past its deadline."""
        now = self._clock()
        with self._changed:
            late = []
            for asked in self._asked:  # in order of submission, hence of deadlines
                if asked.deadline > now:
                    break
                late.append(asked)
            for asked in late:
                self._settle(asked, AnswerStatus.UNANSWERED, asked.request.model_id)
            # Without a node nobody takes from this list, and it must not grow.
            while self._unsent and self._unsent[0].done:
                self._unsent.popleft()

    def _settle(self, asked: Asked, status: AnswerStatus, model_id: bytes) -> None:
        if asked.done:
            return
        asked.done = True
        del self._asked[asked]
        self._rows -= len(asked.request.rows)
        self.counts[status.name.lower()] += 1
        answered = status is AnswerStatus.ANSWERED
        probabilities = asked.probabilities if answered else None
        self._answers.append(Answer(asked.request.seq, model_id, status, probabilities))
        self._changed.notify_all()
        if len(self._answers) == 1:
            self.ready()

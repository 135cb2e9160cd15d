"""Cells in, probabilities out, on this machine: the forest evaluated where it is asked."""

from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from ids_appliance.classify.bundle import Bundle
from ids_appliance.types import Answer, AnswerStatus, CellRequest, Grid

MAX_WAITING: Final = 1024
"""Answers that may wait to be fetched before `submit` says that the queue is full."""


class LocalClassifier:
    """A Classifier that answers at once, from a model that may be replaced while it runs.

    Not safe for use by several threads; `replace` may be called from the same thread at any time.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._models = [bundle]
        self._waiting: deque[Answer] = deque()
        self._open = True
        self._counts = dict.fromkeys(("requests", "cells", "stale", "unanswered", "models"), 0)

    @property
    def grid(self) -> Grid:
        """Cut points of the newest model."""
        return self._models[0].grid

    def replace(self, bundle: Bundle) -> None:
        """Judge new requests with `bundle`; the model before it still answers its own requests."""
        if bundle.grid.model_id == self.grid.model_id:
            return
        self._models = [bundle, self._models[0]]
        self._counts["models"] += 1

    def submit(self, request: CellRequest) -> bool:
        """Evaluate a request; False if MAX_WAITING answers have not been fetched yet.

        Raises ValueError if the cells are not of the model that the request names.
        """
        if len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting.append(self._answer(request))
        self._counts["requests"] += 1
        return True

    def answers(self, timeout_s: float) -> Sequence[Answer]:
        """Return every answer there is; there is never one to wait for."""
        ready = list(self._waiting)
        self._waiting.clear()
        return ready

    def counters(self) -> dict[str, int]:
        """Totals: requests, cells, stale, unanswered, models (replaced)."""
        return dict(self._counts)

    def close(self) -> None:
        """Answer requests from now on UNANSWERED; nothing is outstanding here."""
        self._open = False

    def _answer(self, request: CellRequest) -> Answer:
        if not self._open:
            self._counts["unanswered"] += 1
            return Answer(request.seq, request.model_id, AnswerStatus.UNANSWERED, None)
        for bundle in self._models:
            if bundle.grid.model_id == request.model_id:
                probabilities = np.empty(len(request.cells), np.float64)
                bundle.forest.evaluate(request.cells, probabilities)
                self._counts["cells"] += len(probabilities)
                return Answer(request.seq, request.model_id, AnswerStatus.ANSWERED, probabilities)
        self._counts["stale"] += 1
        return Answer(request.seq, self.grid.model_id, AnswerStatus.STALE, None)

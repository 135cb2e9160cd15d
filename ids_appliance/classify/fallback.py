"""A node and the forest on this machine in, one classifier out: what happens when the node is down.

on_classifier_down = "local": a request that the node leaves unanswered is judged here, and while
the node is known to be down requests come here at once; single requests are sent to the node beside
that, as probes whose answers are thrown away, and the first answer puts it in charge again. Where
the forest here is of another model, requests of the node's model are STALE: the packets are encoded
again with the grid of here. "open" and "closed": unanswered stays unanswered; the packets pass
unjudged, and in "closed" the ledger limits whom a trigger names.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final, Literal, Protocol

from ids_appliance._cells import CellTable
from ids_appliance.classify.local import LocalClassifier
from ids_appliance.types import Answer, AnswerStatus, CellRequest, Classifier, Grid

PROBE_S: Final = 0.25
"""Time between two probes of a node that is there but was found not to answer."""
KEPT: Final = 1024
"""Requests under way at the node that are kept to be judged here."""


class Node(Classifier, Protocol):
    """A classifier that may be out of reach: remote.RemoteClassifier."""

    @property
    def connected(self) -> bool:
        """A node is there and has said which model it judges with; `grid` is that model's."""

    @property
    def reached(self) -> tuple[bytes, ...]:
        """Addresses of the nodes that were reached so far."""

    @property
    def trouble(self) -> str:
        """Why no node can be used at present."""


class FallbackClassifier(Classifier):
    """A Classifier that owns both; `close` closes both. Not safe for use by several threads.

    Without a local forest, or under a policy other than "local", it is the node as it stands.
    """

    def __init__(
        self,
        remote: Node,
        local: LocalClassifier | None,
        *,
        policy: Literal["local", "open", "closed"],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._remote = remote
        self._local = local if policy == "local" else None
        self._owned = local
        self._clock = clock
        self._down = not remote.connected
        self._kept: dict[int, CellRequest] = {}
        self._taken_over: set[int] = set()
        self._probe: int | None = None
        self._last: CellRequest | None = None
        self._probe_due = clock()
        self._back = False
        self._rest: list[Answer] = []
        self._encoder: CellTable | None = None
        self._open = True
        self._counts = dict.fromkeys(
            ("local_requests", "local_fallbacks", "node_losses", "node_returns", "node_probes"), 0
        )

    @property
    def down(self) -> bool:
        """The node is known not to answer; requests are judged here."""
        return self._local is not None and self._down

    @property
    def reached(self) -> tuple[bytes, ...]:
        """Addresses of the nodes that were reached so far."""
        return self._remote.reached

    @property
    def trouble(self) -> str:
        """Why no node can be used at present, in a line; empty where the link stands."""
        return self._remote.trouble

    @property
    def grid(self) -> Grid:
        """Cut points of the model that judges at present: the node's, or the one here."""
        if self._local is not None and self._down:
            return self._local.grid
        return self._remote.grid

    def submit(self, request: CellRequest) -> bool:
        """Take a request, or return False: too much is under way."""
        if self._local is None or not self._open:
            return self._remote.submit(request)
        self._look()
        here = self._down or (
            request.model_id == self._local.grid.model_id
            and request.model_id != self._remote.grid.model_id
        )
        if here:
            if not self._local.submit(self._fitting(request)):
                return False
            self._counts["local_requests"] += 1
            if self._down:
                self._last = request
                self._send_probe(request)
            return True
        if len(self._kept) >= KEPT or not self._remote.submit(request):
            return False
        self._kept[request.seq] = request
        return True

    def answers(self, timeout_s: float) -> Sequence[Answer]:
        """Return what has been answered, waiting at most `timeout_s` for the first."""
        if self._local is None or not self._open:
            rest, self._rest = self._rest, []
            return rest or self._remote.answers(timeout_s)
        self._look()
        ready = list(self._local.answers(0.0))
        if self._down:
            ready += self._take_over(list(self._kept.values()))
            self._ask_again()
        wait_s = 0.0 if ready or not self._kept else timeout_s
        unanswered = []
        mine = []
        for answer in self._remote.answers(wait_s):
            if answer.seq == self._probe:
                self._on_probe(answer)
            elif answer.seq in self._taken_over:
                self._taken_over.discard(answer.seq)
            elif answer.status is AnswerStatus.UNANSWERED or self._changed_back(answer):
                unanswered.append(self._kept[answer.seq])
            elif answer.status is AnswerStatus.STALE and self._known_here(answer):
                mine.append(self._kept[answer.seq])
            else:
                del self._kept[answer.seq]
                ready.append(answer)
        if unanswered:
            self._lost()
            self._last = unanswered[-1]
        for request in (*unanswered, *mine):
            ready += self._judge(request)
        return ready

    def counters(self) -> dict[str, int]:
        """Totals: the node's, and local_requests (judged here at once), local_fallbacks (judged
        here in the node's stead), local_cells, node_losses, node_returns, node_probes."""
        local = self._local.counters()["cells"] if self._local is not None else 0
        return self._remote.counters() | self._counts | {"local_cells": local}

    def close(self) -> None:
        """Stop both; what is under way at the node is answered UNANSWERED, except what was
        answered here already."""
        if self._open:
            self._remote.close()
            if self._local is not None:
                self._rest = self._drain()
            self._open = False
            if self._owned is not None:
                self._owned.close()

    # -------------------------------------------------------------------------------------------

    def _changed_back(self, answer: Answer) -> bool:
        """A node that has changed its model and back again since: there is no other grid to encode
        the packets with, as a STALE answer would ask for."""
        same = self._remote.grid.model_id == self._kept[answer.seq].model_id
        return answer.status is AnswerStatus.STALE and same

    def _known_here(self, answer: Answer) -> bool:
        """The forest here is the one that was asked for."""
        assert self._local is not None
        return self._local.grid.model_id == self._kept[answer.seq].model_id

    def _look(self) -> None:
        """A node that is not connected is down at once, before any deadline has passed. One that
        has answered a probe is in charge from here on: between two calls `grid` stays what the
        answers of the last one were made with."""
        if self._back:
            self._back = self._down = False
            self._last = None
            self._counts["node_returns"] += 1
        if not self._down and not self._remote.connected:
            self._lost()

    def _lost(self) -> None:
        if not self._down:
            self._down = True
            self._counts["node_losses"] += 1
            self._probe_due = self._clock()

    def _take_over(self, requests: Sequence[CellRequest]) -> list[Answer]:
        """Judge here what is under way at a node that is gone; its answers are dropped later."""
        answers = []
        for request in requests:
            self._taken_over.add(request.seq)
            answers += self._judge(request)
        return answers

    def _judge(self, request: CellRequest) -> list[Answer]:
        assert self._local is not None
        del self._kept[request.seq]
        self._counts["local_fallbacks"] += 1
        taken = self._local.submit(self._fitting(request))
        assert taken  # its answers were fetched just before
        return list(self._local.answers(0.0))

    def _fitting(self, request: CellRequest) -> CellRequest:
        """A request in the cells of here.

        They are made anew from its packets: a transport without cells has others, and a node that
        says the model of here, but other cut points, is not believed."""
        assert self._local is not None
        grid = self._local.grid
        if request.model_id != grid.model_id:
            return request
        if self._encoder is None or self._encoder.model_id != grid.model_id:
            self._encoder = CellTable(grid.model_id, grid.features, grid.cuts)
        cells = self._encoder.encode(request.rows)
        return CellRequest(request.seq, request.model_id, cells, request.rows)

    def _send_probe(self, request: CellRequest) -> None:
        if self._probe is not None or self._clock() < self._probe_due:
            return
        if self._remote.connected and self._remote.submit(request):
            self._probe = request.seq
            self._counts["node_probes"] += 1

    def _ask_again(self) -> None:
        """Ask the last question again where nobody has a new one, or a node that is back would go
        on being called down. One that was lost with its connection has nothing to prove."""
        if self._last is not None:
            self._send_probe(self._last)
        elif self._remote.connected:
            self._back = True

    def _on_probe(self, answer: Answer) -> None:
        self._probe = None
        self._probe_due = self._clock() + PROBE_S
        # STALE is an answer too: of a node that judges by another model.
        self._back = answer.status is not AnswerStatus.UNANSWERED and self._remote.connected

    def _drain(self) -> list[Answer]:
        assert self._local is not None
        rest = list(self._local.answers(0.0))
        rest += [
            answer
            for answer in self._remote.answers(0.0)
            if answer.seq in self._kept and answer.seq not in self._taken_over
        ]
        self._kept.clear()
        return rest

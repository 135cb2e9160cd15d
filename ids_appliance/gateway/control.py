"""Questions and orders from the control sockets in, the running gateway's answers out.

A thread of its own reads and writes; what a request asks for happens in the gateway's loop, which
calls `serve_pending` between two batches. The two exchange through deques (atomic under the
interpreter's lock) and a wake-up each way, so no packet ever waits for a lock.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ids_appliance.errors import ControlError, IdsError
from ids_appliance.gateway.actions import Actions
from ids_appliance.gateway.lines import FOLLOWER_BYTES, Bounds, Connection, LineServer
from ids_appliance.gateway.messages import (
    AnyRequest,
    AskEvents,
    ErrorKind,
    Panic,
    decode_request,
    encode_answer,
    encode_error,
    encode_event,
    encode_lost,
)
from ids_appliance.gateway.sockets import Endpoints, Peer

log = logging.getLogger("ids_appliance.control")

RECENT_EVENTS = 2000
"""Kept for `events -n`."""
QUEUED_EVENTS = 4096
QUEUED_REQUESTS = 256
LONGEST_EVENT = 16_384
DENIALS_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Order:
    """An order for the event log, whether carried out or not."""

    peer: Peer
    by_token: bool
    action: str
    details: dict[str, Any]
    outcome: str
    """"done", "denied", or the error."""


class _Pending:
    """One request on its way through the gateway's loop."""

    __slots__ = ("answer", "by_token", "claim", "connection", "deadline", "denied", "request")

    def __init__(self, connection: Connection, request: AnyRequest, deadline: float) -> None:
        self.connection = connection
        self.request = request
        self.deadline = deadline
        self.by_token = False
        self.denied = False  # only to be noted
        self.answer = b""
        # Who pops it owns the request: the loop, to carry it out, or the thread, to give it up.
        # So a request that was given up is never carried out afterwards.
        self.claim = [True]

    def take(self) -> bool:
        try:
            return self.claim.pop()
        except IndexError:
            return False


class Control:
    """The control sockets of one gateway; `serve_pending` and `publish` are for its loop."""

    def __init__(
        self,
        run_dir: Path,
        actions: Actions,
        *,
        on_write: Callable[[Order], None],
        wake: Callable[[], None] = lambda: None,
        group: str = "",
        bounds: Bounds | None = None,
    ) -> None:
        """Take the run directory; nothing is answered before `start`.

        `on_write` is called in the gateway's loop; `wake` in the thread, to end the loop's wait for
        packets. Raises AlreadyRunning, ControlError."""
        self._actions = actions
        self._on_write = on_write
        self._wake_loop = wake
        self._bounds = bounds or Bounds()
        self._endpoints = Endpoints(run_dir, group)
        self._server = LineServer(self._endpoints, self._on_line, bounds=self._bounds)
        self._orders: deque[_Pending] = deque()  # to the loop
        self._answered: deque[_Pending] = deque()  # from the loop
        self._published: deque[dict[str, Any]] = deque()  # from the loop
        self._recent: deque[msgspec.Raw] = deque(maxlen=RECENT_EVENTS)
        self._waiting: dict[int, _Pending] = {}  # by its identity
        self._followers: dict[Connection, int] = {}  # with how many events each has missed
        self._overflown = 0  # events that found `_published` full
        self._denied_at = -DENIALS_EVERY_S
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._counts = dict.fromkeys(("requests", "denied", "expired", "faults", "events_lost"), 0)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, remove the sockets; safe to call twice."""
        self._stopping = True
        if self._thread.is_alive():
            self._server.wake()
            self._thread.join()
        else:
            self._server.close()
        self._endpoints.close()

    def counters(self) -> dict[str, int]:
        """Totals by name."""
        counts = self._server.counts | self._counts
        return {f"control_{name}": value for name, value in counts.items()}

    # Called in the gateway's loop.

    def publish(self, event: dict[str, Any]) -> None:
        """Let followers see an event, which nobody may change afterwards; any thread may call it,
        and it never blocks."""
        if len(self._published) >= QUEUED_EVENTS:
            self._overflown += 1
            return
        self._published.append(event)
        if self._followers:
            self._server.wake()

    def serve_pending(self, most: int = 4) -> int:
        """Carry out what is asked, at most so many requests; return how many there were."""
        served = 0
        while served < most and self._orders:
            pending = self._orders.popleft()
            if not pending.take():
                continue  # its time was up
            served += 1
            outcome = "denied" if pending.denied else self._carry_out(pending)
            if pending.request.writes:
                self._note(pending, outcome)  # before its answer: who has that finds the note
            if not pending.denied:
                self._answered.append(pending)
                self._server.wake()
        return served

    def _carry_out(self, pending: _Pending) -> str:
        outcome = "done"
        try:
            pending.answer = encode_answer(pending.request.run(self._actions))
        except IdsError as error:
            outcome = str(error)
            pending.answer = encode_error("failed", outcome)
        except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError):
            # A question must not end a gateway that protects a network. It is a defect all the
            # same, so it is counted and told with its trace.
            log.exception("cannot carry out %s", type(pending.request).__name__)
            self._counts["faults"] += 1
            outcome = "internal error: see the gateway's log"
            pending.answer = encode_error("failed", outcome)
        return outcome

    def _note(self, pending: _Pending, outcome: str) -> None:
        told = msgspec.structs.asdict(pending.request)
        details = {name: value for name, value in told.items() if name not in ("v", "token")}
        action = str(pending.request.__struct_config__.tag)
        self._on_write(Order(pending.connection.peer, pending.by_token, action, details, outcome))

    # The thread.

    def _serve(self) -> None:
        now = time.monotonic()
        try:
            while not self._stopping:
                now = self._server.turn()
                self._hand_out_events(now)
                while self._answered:
                    pending = self._answered.popleft()
                    if self._waiting.pop(id(pending), None) is not None:
                        self._server.send(pending.connection, pending.answer, now)
                self._give_up(now)
            for pending in self._waiting.values():
                self._server.refuse(pending.connection, "busy", "the gateway is stopping", now)
        finally:
            self._server.close()

    def _on_line(self, connection: Connection, line: bytes, now: float) -> None:
        try:
            request = decode_request(line)
        except ControlError as error:
            self._server.counts["malformed"] += 1
            kind: ErrorKind = "version" if error.kind == "version" else "request"
            self._server.refuse(connection, kind, str(error), now)
            return
        self._counts["requests"] += 1
        pending = _Pending(connection, request, now + self._bounds.answer_s)
        if request.writes and not self._may_write(pending):
            self._counts["denied"] += 1
            # Noted once a second at most: trying again and again must not fill the event log.
            if now - self._denied_at >= DENIALS_EVERY_S and len(self._orders) < QUEUED_REQUESTS:
                self._denied_at = now
                pending.denied = True
                self._orders.append(pending)
            self._server.refuse(connection, "denied", "orders need root, or the token", now)
        elif isinstance(request, AskEvents):
            self._hand_out_events(now)
            latest = list(self._recent)[-request.n :] if request.n else []
            if request.follow:
                connection.following = True
                self._followers[connection] = 0
            self._server.send(connection, encode_answer(latest), now)
        elif len(self._orders) >= QUEUED_REQUESTS and not isinstance(request, Panic):
            self._server.refuse(connection, "busy", "too many requests wait: nothing was done", now)
        else:
            connection.busy = True
            self._waiting[id(pending)] = pending
            self._orders.append(pending)
            self._wake_loop()

    def _may_write(self, pending: _Pending) -> bool:
        token = pending.request.token
        if token is not None:
            pending.by_token = self._endpoints.is_token(token)
            return pending.by_token
        return pending.connection.writer and pending.connection.peer.uid in (0, os.geteuid())

    def _hand_out_events(self, now: float) -> None:
        queued = len(self._published)
        missed, self._overflown = self._overflown, 0  # after those that are queued
        self._tell_lost(0, now)
        for _ in range(queued):
            event = self._published.popleft()
            try:
                line = encode_event(event)
                told = msgspec.Raw(msgspec.json.encode(event))
            except (TypeError, ValueError, RecursionError):
                line = b""
            if not 0 < len(line) <= LONGEST_EVENT:
                self._counts["events_lost"] += 1
                continue
            self._recent.append(told)
            for connection, lost in self._followers.items():
                # Once something is lost, nothing is sent before that is told.
                if lost or len(connection.out) + len(line) > FOLLOWER_BYTES:
                    self._followers[connection] = lost + 1
                    self._counts["events_lost"] += 1
                else:
                    self._server.send(connection, line, now)
        self._counts["events_lost"] += missed
        self._tell_lost(missed, now)

    def _tell_lost(self, missed: int, now: float) -> None:
        for connection, lost in list(self._followers.items()):
            if not connection.open:
                del self._followers[connection]
                continue
            lost += missed
            if lost and len(connection.out) < FOLLOWER_BYTES // 2:
                self._server.send(connection, encode_lost(lost), now)
                lost = 0
            self._followers[connection] = lost

    def _give_up(self, now: float) -> None:
        for key, pending in list(self._waiting.items()):
            if now < pending.deadline:
                continue
            if isinstance(pending.request, Panic):
                # Never taken back: a gateway that comes to itself must do this first of all.
                what = "the gateway is stuck: it will panic as soon as it can"
            elif pending.take():
                what = "the gateway is busy and did not take the request: nothing was done"
            elif now < pending.deadline + self._bounds.answer_s:
                continue  # it is being carried out
            else:
                what = "the gateway took the request and does not answer: look at its status"
            self._counts["expired"] += 1
            del self._waiting[key]
            self._server.refuse(pending.connection, "busy", what, now)

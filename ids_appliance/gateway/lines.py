"""Two listening Unix sockets in, whole lines of well-behaved clients out; answers go back.

All is bounded: length of a line, connections, connections and lines a second of one user, time for
a line to arrive and for a reader to take its answer, bytes kept for readers. Who exceeds a bound
loses his own connection, after one line that says why. A client is asked one thing at a time: until
it is answered nothing more is read from it. Knows lines, not what they mean.
"""

import logging
import os
import selectors
import socket
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ids_appliance.gateway.messages import MAX_REQUEST_BYTES, ErrorKind, encode_error
from ids_appliance.gateway.sockets import Endpoints, Peer

log = logging.getLogger("ids_appliance.control")

OUTPUT_BYTES = 16 << 20
"""Kept for all readers together."""
FOLLOWER_BYTES = 65_536
"""Kept for a follower that does not read; what comes then is lost to it, and counted."""
LINES_PER_S = 50.0
BURST_S = 1.0
ACCEPTED_AT_ONCE = 16
TICK_S = 0.5


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of the control sockets."""

    readers: int = 64
    readers_per_user: int = 16
    writers: int = 16
    request_s: float = 10.0
    """For a whole line to arrive."""
    answer_s: float = 2.0
    """For the gateway's loop to take a request."""
    take_s: float = 5.0
    """Longest that a reader may take nothing of what waits for it."""


class Connection:
    """One client."""

    __slots__ = ("buffer", "busy", "closing", "deadline", "events", "following", "out", "peer",
                 "ready_at", "socket", "writer")  # fmt: skip

    def __init__(self, accepted: socket.socket, *, writer: bool) -> None:
        self.socket = accepted
        self.peer = Peer.of(accepted)
        self.writer = writer  # came in through the write socket
        self.buffer = bytearray()  # not yet answered; at most MAX_REQUEST_BYTES + 1
        self.out = bytearray()
        self.busy = False  # its line was handed over and is not answered yet
        self.following = False  # has asked for all that comes: nothing more is read from it
        self.closing = False  # as soon as `out` is empty
        self.ready_at = 0.0  # when its next line may be looked at; 0 where nothing holds it back
        self.deadline = 0.0
        self.events = 0  # what the selector waits for

    @property
    def open(self) -> bool:
        return self.socket.fileno() >= 0


class LineServer:
    """The connections of two sockets, served by whoever calls `turn` again and again."""

    def __init__(
        self,
        endpoints: Endpoints,
        on_line: Callable[[Connection, bytes, float], None],
        *,
        bounds: Bounds,
    ) -> None:
        """`on_line` gets a connection's line and the time, and answers with `send` or `refuse`, at
        once or, after setting `busy`, later."""
        self._on_line = on_line
        self._bounds = bounds
        self._listeners = (endpoints.read, endpoints.write)
        self._write = endpoints.write
        self.connections: dict[int, Connection] = {}
        self._paced: dict[int, float] = {}  # user -> time at which his allowance is whole again
        self._accept_again = 0.0
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # Not closed before the last one who might call `wake` is gone.
        weakref.finalize(self, os.close, self._wake)
        self._selector = selectors.EpollSelector()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._listen()
        self.counts = dict.fromkeys(("connections", "refused", "malformed", "dropped"), 0)

    def wake(self) -> None:
        """End a wait in `turn`; any thread may."""
        os.eventfd_write(self._wake, 1)

    def turn(self) -> float:
        """Wait for something to do, at most half a second, and do it; return the time."""
        now = time.monotonic()
        held = [c.ready_at for c in self.connections.values() if c.ready_at]
        for key, events in self._selector.select(
            min([TICK_S, *(max(0.0, at - now) for at in held)])
        ):
            now = time.monotonic()
            connection: Any = key.data
            if key.fd == self._wake:
                os.eventfd_read(self._wake)
            elif isinstance(connection, Connection):
                if events & selectors.EVENT_WRITE:
                    self._flush(connection, now)
                if events & selectors.EVENT_READ and connection.open:
                    self._receive(connection, now)
            else:
                self._accept(connection, now)
        now = time.monotonic()
        self._look_after(now)
        return now

    def send(self, connection: Connection, line: bytes, now: float) -> None:
        """Answer with a line; passed over where the client has gone."""
        if not connection.open:
            return
        kept = sum(len(c.out) for c in self.connections.values())
        if kept + len(line) > OUTPUT_BYTES:
            line = encode_error("busy", "too many answers wait for slow readers: try again")
        if not connection.out:
            connection.deadline = now + self._bounds.take_s
        connection.busy = False
        connection.out += line
        self._flush(connection, now)

    def refuse(self, connection: Connection, kind: ErrorKind, message: str, now: float) -> None:
        """Answer with an error and let the client go."""
        connection.closing = True
        self.send(connection, encode_error(kind, message), now)

    def watch(self, connection: Connection) -> None:
        """Let the selector wait for what this connection can do next."""
        events = selectors.EVENT_WRITE if connection.out else 0
        held = connection.busy or connection.closing or connection.ready_at or connection.out
        if connection.following or not held:
            events |= selectors.EVENT_READ
        if events == connection.events:
            return
        if not connection.events:
            self._selector.register(connection.socket, events, connection)
        elif not events:
            self._selector.unregister(connection.socket)
        else:
            self._selector.modify(connection.socket, events, connection)
        connection.events = events

    def close(self) -> None:
        """Let everybody go."""
        for connection in list(self.connections.values()):
            self._drop(connection)
        self._selector.close()

    def _listen(self) -> None:
        for listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ, listener)

    def _accept(self, listener: socket.socket, now: float) -> None:
        for _ in range(ACCEPTED_AT_ONCE):  # the others want a turn, too
            try:
                accepted, _address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # out of descriptors: it would be ready again at once
                log.warning("control socket: %s", error)
                self._accept_again = now + TICK_S
                for waiting in self._listeners:
                    self._selector.unregister(waiting)
                return
            accepted.setblocking(False)
            connection = Connection(accepted, writer=listener is self._write)
            connection.deadline = now + self._bounds.request_s
            full = self._full(connection)
            self.connections[accepted.fileno()] = connection
            self.counts["connections"] += 1
            if full:
                self.counts["refused"] += 1
                self.refuse(connection, "busy", full, now)
            else:
                self.watch(connection)

    def _full(self, new: Connection) -> str:
        same = [c for c in self.connections.values() if c.writer == new.writer]
        if new.writer:
            return "too many connections" if len(same) >= self._bounds.writers else ""
        if sum(c.peer.uid == new.peer.uid for c in same) >= self._bounds.readers_per_user:
            return f"too many connections of user {new.peer.uid}"
        return "too many connections" if len(same) >= self._bounds.readers else ""

    def _receive(self, connection: Connection, now: float) -> None:
        try:
            got = connection.socket.recv(MAX_REQUEST_BYTES + 1 - len(connection.buffer))
        except BlockingIOError:
            return
        except OSError:
            got = b""
        if not got or connection.following:
            # The other end has gone, or talks where it has nothing to say.
            self._drop(connection)
            return
        connection.buffer += got
        self._look_for_line(connection, now)

    def _look_for_line(self, connection: Connection, now: float) -> None:
        line, newline, rest = connection.buffer.partition(b"\n")
        if newline:
            connection.ready_at = self._pace(connection, now)
            if not connection.ready_at:
                connection.buffer = rest
                self._on_line(connection, bytes(line), now)
        elif len(line) > MAX_REQUEST_BYTES:
            self.counts["malformed"] += 1
            what = f"a line is at most {MAX_REQUEST_BYTES} bytes long"
            self.refuse(connection, "request", what, now)
        if connection.open:
            self.watch(connection)

    def _pace(self, connection: Connection, now: float) -> float:
        """Return when the user's next line may be looked at, or 0 for now, and book it.

        The generic cell rate algorithm (ITU-T I.371): one time per user says it all."""
        if connection.writer:
            return 0.0
        whole = max(now, self._paced.get(connection.peer.uid, 0.0))
        if whole - now > BURST_S:
            return whole - BURST_S
        self._paced[connection.peer.uid] = whole + 1.0 / LINES_PER_S
        return 0.0

    def _flush(self, connection: Connection, now: float) -> None:
        try:
            sent = connection.socket.send(connection.out) if connection.out else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(connection)
            return
        if sent:
            del connection.out[:sent]
            connection.deadline = now + self._bounds.take_s
        if not connection.out:
            if connection.closing:
                self._drop(connection)
                return
            connection.deadline = now + self._bounds.request_s
            if not connection.busy and b"\n" in connection.buffer:
                connection.ready_at = now
        self.watch(connection)

    def _look_after(self, now: float) -> None:
        """Let go of whom takes too long, go on with what was held back."""
        for connection in list(self.connections.values()):
            if connection.busy or (connection.following and len(connection.out) <= FOLLOWER_BYTES):
                continue
            if connection.out:
                if now >= connection.deadline:
                    self._drop(connection)
            elif connection.ready_at:
                if now >= connection.ready_at:
                    connection.ready_at = 0.0
                    self._look_for_line(connection, now)
            elif now >= connection.deadline:
                if connection.buffer:
                    what = f"no whole line within {self._bounds.request_s:g} s"
                    self.refuse(connection, "request", what, now)
                else:
                    self._drop(connection)
        if self._accept_again and now >= self._accept_again:
            self._accept_again = 0.0
            self._listen()
        if len(self._paced) > 4 * self._bounds.readers:
            self._paced = {uid: at for uid, at in self._paced.items() if at > now}

    def _drop(self, connection: Connection) -> None:
        if not connection.open:
            return
        self.counts["dropped"] += bool(connection.out)
        if connection.events:
            self._selector.unregister(connection.socket)
        del self.connections[connection.socket.fileno()]
        connection.socket.close()

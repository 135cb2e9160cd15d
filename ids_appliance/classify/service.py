"""Gateways in, answers out: the node, which judges cells for many gateways and keeps no state.

One thread, one event loop. Connections are served in turn, one request each, so that nobody waits
behind another's queue; between turns the loop reads and writes. The present and the previous model
are kept: requests under way while the model is replaced are answered by the one they were made for.
"""

import asyncio
import logging
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from ids_appliance import _wire as wire
from ids_appliance.classify.bundle import Bundle
from ids_appliance.classify.connection import (
    BinaryConnection,
    Connection,
    Node,
    ServiceOptions,
    State,
)
from ids_appliance.classify.tls import telling
from ids_appliance.errors import BundleError, LinkError

log = logging.getLogger("ids_appliance.node")

TURN_S: Final = 0.002
"""Longest time requests are served before the loop looks at its sockets again."""
MAX_NOTES: Final = 20
"""Log lines about gateways in a second: whoever can connect can also write into the log."""
SWEEP_S: Final = 0.25
"""How often timeouts are looked at."""


class ClassifierService(Node):
    """The node. Create it inside a running event loop, then `listen`; `close` ends it."""

    def __init__(
        self,
        bundle: Bundle,
        options: ServiceOptions | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        connection: Callable[[Node], Connection] = BinaryConnection,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check_usable(bundle)
        self.options = options or ServiceOptions()
        self.counts = dict.fromkeys(
            ("accepted", "requests", "rows", "stale", "refused", "malformed", "timeouts")
            + ("blocked", "tls_failures", "models", "bytes_sent", "bytes_received"),
            0,
        )
        self.revoked: frozenset[int] = frozenset()
        self._slot = 0
        self._models = {0: bundle}
        self._tls = self._telling(tls)
        self._make = connection
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._turns: deque[Connection] = deque()
        self._turn_due = False
        self._open: dict[Connection, None] = {}
        self._entering: dict[asyncio.Task[None], None] = {}
        self._accepting: list[asyncio.Task[None]] = []
        self._noted = (0, 0)
        self._drained = asyncio.Event()
        self._sweep_timer = self._loop.call_later(SWEEP_S, self._sweep)

    # For the command --------------------------------------------------------------------------

    async def listen(self, host: str, port: int) -> list[tuple[str, int]]:
        """Listen at every address of `host`; return the addresses with their real ports.

        Raises LinkError if the address cannot be used."""
        bound: list[tuple[str, int]] = []
        try:
            found = await self._loop.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, *_, address in dict.fromkeys(found):
                listener = socket.create_server(address, family=family, backlog=128)
                listener.setblocking(False)
                self._accepting.append(self._loop.create_task(self._accept(listener)))
                bound.append(listener.getsockname()[:2])
        except (OSError, UnicodeError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise LinkError(f"cannot listen on {host} port {port}: {reason}") from error
        return bound

    def replace_model(self, bundle: Bundle) -> None:
        """Judge new requests with `bundle` and tell every gateway; nothing if it judges alike."""
        _check_usable(bundle)
        if bundle.grid.model_id == self._models[self._slot].grid.model_id:
            return
        previous = self._slot
        self._slot = (previous + 1) % 256
        self._models = {previous: self._models[previous], self._slot: bundle}
        self.counts["models"] += 1
        for connection in list(self._open):
            connection.announce()

    def replace_tls(self, tls: ssl.SSLContext, revoked: frozenset[int]) -> None:
        """Use `tls` for handshakes from now on; close connections of revoked certificates."""
        self._tls = self._telling(tls)
        self.revoked = revoked
        for connection in list(self._open):
            if connection.identity is not None and connection.identity.serial in revoked:
                self.note(f"connection from {connection.peer} closed: certificate revoked")
                connection.abort()

    async def close(self) -> None:
        """Stop accepting, answer what waits, say BYE, and flush for at most a second."""
        # One after the other: a task cancelled before it has begun would leave its socket open.
        for tasks in (self._accepting, self._entering):
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        while self._turns:
            self._one_turn()
        for connection in list(self._open):
            connection.goodbye()
        if self._open:
            try:
                await asyncio.wait_for(self._drained.wait(), 1.0)
            except TimeoutError:
                for connection in list(self._open):
                    connection.abort()
        self._sweep_timer.cancel()

    # For connections --------------------------------------------------------------------------

    def now(self) -> float:
        return self._clock()

    def current(self) -> tuple[int, Bundle]:
        return self._slot, self._models[self._slot]

    def model(self, slot: int) -> Bundle | None:
        return self._models.get(slot)

    def note(self, line: str) -> None:
        second = int(self._clock())
        if second != self._noted[0]:
            unsaid = self._noted[1] - MAX_NOTES
            if unsaid > 0:
                log.info("%d more such lines left out", unsaid)
            self._noted = (second, 0)
        self._noted = (second, self._noted[1] + 1)
        if self._noted[1] <= MAX_NOTES:
            log.info("%s", line)

    def enqueue(self, connection: Connection) -> None:
        if not connection.queued:
            connection.queued = True
            self._turns.append(connection)
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._serve)

    def joined(self, connection: Connection) -> None:
        self._open[connection] = None
        self._drained.clear()

    def left(self, connection: Connection) -> None:
        self._open.pop(connection, None)
        if not self._open:
            self._drained.set()

    def connections_of(self, name: str) -> int:
        return sum(
            c.identity is not None and c.identity.name == name and c.state is not State.CLOSING
            for c in self._open
        )

    # Turns and timeouts -----------------------------------------------------------------------

    def _serve(self) -> None:
        self._turn_due = False
        until = self._clock() + TURN_S
        while self._turns and self._clock() < until:
            self._one_turn()
        if self._turns:
            self._turn_due = True
            self._loop.call_soon(self._serve)

    def _one_turn(self) -> None:
        connection = self._turns.popleft()
        connection.queued = False
        if connection.ready:
            connection.turn()
        if connection.ready:
            connection.queued = True
            self._turns.append(connection)

    def _sweep(self) -> None:
        now = self._clock()
        for connection in [c for c in self._open if c.deadline < now]:
            self.counts["timeouts"] += 1
            if connection.state is State.CLOSING or connection.queue:
                connection.abort()  # it does not take what it was sent
            else:
                connection.refuse(wire.ERROR_TIMEOUT, "silent for too long")
        self._sweep_timer = self._loop.call_later(SWEEP_S, self._sweep)

    # Connections in ---------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    peer, _ = await self._loop.sock_accept(listener)
                except OSError as error:
                    # Out of descriptors or memory: nothing tells when there are some again.
                    log.warning("cannot accept a connection: %s", error)
                    await asyncio.sleep(0.1)
                    continue
                self.counts["accepted"] += 1
                if self._make_room():
                    task = self._loop.create_task(self._enter(peer))
                    self._entering[task] = None
                    task.add_done_callback(lambda done: self._entering.pop(done, None))
                else:
                    self.counts["refused"] += 1
                    peer.close()
                # `sock_accept` pauses only when nobody waits: a flood of connections would be
                # taken in without one look at those that are there, or have been given up.
                await asyncio.sleep(0)

    def _make_room(self) -> bool:
        """Keep to the connection cap; who has said HELLO is worth more than who has not."""
        if len(self._open) + len(self._entering) < self.options.max_connections:
            return True
        for task in list(self._entering):
            del self._entering[task]
            if task.cancel():  # it may have entered just now
                return True
        for connection in self._open:
            if connection.state is State.GREETING:
                connection.abort()
                return True
        return False

    def _telling(self, tls: ssl.SSLContext | None) -> ssl.SSLContext | None:
        if tls is not None:
            tls.sslobject_class = telling(self.note)
        return tls

    async def _enter(self, peer: socket.socket) -> None:
        """Do the TLS handshake, if any; the connection then calls `joined`."""
        timeout = self.options.handshake_timeout_s if self._tls is not None else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._make(self),
                peer,
                ssl=self._tls,
                ssl_handshake_timeout=timeout,
            )
        except OSError:
            # Why has been noted; or the peer was gone or too slow, which says nothing. The socket
            # is the transport's, which has closed it; so it is where the task is cancelled.
            self.counts["tls_failures"] += 1


def _check_usable(bundle: Bundle) -> None:
    if not bundle.grid.features:
        raise BundleError("the model asks for no feature: there is nothing to send to a node")

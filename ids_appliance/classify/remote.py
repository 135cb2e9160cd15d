"""Cells in, probabilities out, from nodes over the link; the next node when one fails.

A thread of its own runs an event loop with one connection at a time. The pipeline's thread only
ever touches the ledger (outstanding.py), so `submit` never blocks. When a connection ends, what
was under way is sent again to the next node if that judges by the same model, and is STALE if not.
"""

import asyncio
import contextlib
import logging
import math
import random
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import numpy as np

from ids_appliance.classify.outstanding import Outstanding
from ids_appliance.classify.session import BinarySession, Session
from ids_appliance.classify.tls import Role, TlsFiles, client_context, explain, own_identity
from ids_appliance.errors import CertificateError, HandshakeError, LinkError, NodeUnreachable
from ids_appliance.types import Answer, CellRequest, Classifier, Grid

log = logging.getLogger("ids_appliance.link")


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """How a gateway deals with its nodes. A hung node is left after `quiet_s` + `probe_s`; one that
    lives but answers nothing, after `deadline_s` more."""

    gateway_id: str = "gateway"
    """Under TLS the certificate's name is used instead."""
    tls: TlsFiles | None = None
    """None: plain TCP. Read again for each connection, so a new certificate needs no restart."""
    deadline_s: float = 1.0
    """From submission to UNANSWERED."""
    max_requests: int = 256
    max_rows: int = 65536
    """Rows under way; with `max_requests`, what bounds memory."""
    connect_timeout_s: float = 0.5
    """Connect and handshake, per node."""
    quiet_s: float = 0.25
    """Silence, while a request is under way, after which a PING is sent."""
    probe_s: float = 0.25
    """Time for the answer to a PING."""
    idle_probe_s: float = 5.0
    """Silence, with nothing under way, after which a PING is sent."""
    backoff_s: tuple[float, float] = (0.05, 5.0)
    """First and longest wait between two rounds through the nodes; doubled each round."""
    wait_s: float = 0.0
    """How long to keep trying at the start; afterwards it never stops trying."""
    bare_verdicts: bool = False
    """Ask for bits instead of probabilities, as published; probabilities are then 0.0 or 1.0."""


TICK_S = 0.05
"""How often deadlines and silence are looked at."""


class RemoteClassifier(Classifier):
    """A Classifier whose forest is on a node. `connect` makes one."""

    session_type: type[Session] = BinarySession

    def __init__(
        self,
        nodes: Sequence[tuple[str, int]],
        options: LinkOptions | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.options = options or LinkOptions()
        self.bare_verdicts = self.options.bare_verdicts
        self.gateway_id = self.options.gateway_id
        if self.options.tls is not None:
            self.gateway_id = own_identity(self.options.tls, Role.GATEWAY).name
            client_context(self.options.tls)
        if not nodes:
            raise NodeUnreachable("no node is named")
        self.outstanding = Outstanding(
            self.options.max_requests,
            self.options.max_rows,
            deadline_s=self.options.deadline_s,
            clock=clock,
        )
        self.counts = dict.fromkeys(("bytes_sent", "bytes_received", "reconnects", "failovers"), 0)
        self.trouble = ""
        """Why no node can be used at present, in a line; empty while one is."""
        self._reached: dict[tuple[str, int], bytes] = {}
        self._nodes = list(nodes)
        self._clock = clock
        self._grid: Grid | None = None
        self._session: Session | None = None
        self._started = threading.Event()
        self._failure: LinkError | None = None
        self._stopping = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="ids-link", daemon=True)

    @classmethod
    def connect(
        cls,
        nodes: Sequence[tuple[str, int]],
        options: LinkOptions | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """Return a classifier that has reached a node.

        Raises NodeUnreachable, HandshakeError or CertificateError if none can be used."""
        link = cls(nodes, options, clock=clock)
        link.outstanding.wake = link._wake
        link._thread.start()
        try:
            link._started.wait()
        except BaseException:
            link.close()
            raise
        if link._failure is not None or link._grid is None:
            link.close()
            raise link._failure or NodeUnreachable("closed before a node was reached")
        return link

    def on_answer(self, call: Callable[[], None]) -> None:
        """Have `call` called from the link's thread when an answer has come after there was none,
        so that who sleeps for packets can look after it; it must be short."""
        self.outstanding.ready = call

    @classmethod
    def start(
        cls,
        nodes: Sequence[tuple[str, int]],
        options: LinkOptions | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """Return a classifier that goes on trying to reach a node, with none reached yet.

        `grid` must not be asked for, nor a request submitted, before `connected` was true once.
        Raises CertificateError where our own certificate cannot be used."""
        link = cls(nodes, replace(options or LinkOptions(), wait_s=math.inf), clock=clock)
        link.outstanding.wake = link._wake
        link._thread.start()
        return link

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Classifier, for the pipeline's thread ----------------------------------------------------

    def await_node(self, timeout_s: float) -> bool:
        """Wait for the first node to be reached, at most so long; return whether one was."""
        self._started.wait(timeout_s)
        return self.connected

    @property
    def connected(self) -> bool:
        """A node is there and has pushed its model; it may be gone in the next instant."""
        return self._session is not None

    @property
    def reached(self) -> tuple[bytes, ...]:
        """Addresses (4 or 16 bytes) of the nodes that were reached so far, whatever names them."""
        return tuple(filter(None, dict.fromkeys(self._reached.values())))

    @property
    def grid(self) -> Grid:
        """Cut points that the node pushed last."""
        assert self._grid is not None  # `connect` returns only after the first model
        return self._grid

    def submit(self, request: CellRequest) -> bool:
        """Take a request, or return False: too much is under way."""
        return self.outstanding.submit(request)

    def answers(self, timeout_s: float) -> Sequence[Answer]:
        """Return what has been answered, waiting at most `timeout_s` for the first."""
        return self.outstanding.collect(timeout_s)

    def counters(self) -> dict[str, int]:
        """Totals: requests, rows, answered, unanswered, stale, bytes_sent, bytes_received
        (payload of the socket, without TLS), reconnects, failovers."""
        return self.outstanding.counts | self.counts

    def close(self) -> None:
        """Settle everything UNANSWERED and end the thread."""
        self.outstanding.close()
        if self._thread.is_alive():
            # The thread may be about to end by itself, with its loop closed already.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        elif not self._loop.is_closed():
            self._loop.close()

    # Link, for the session --------------------------------------------------------------------

    def now(self) -> float:
        return self._clock()

    def follow(self, grid: Grid) -> None:
        if self._grid is not None and self._grid.model_id == grid.model_id:
            if not _alike(self._grid, grid):
                raise HandshakeError("the node gives two models the same id")
            return
        self._grid = grid

    def pump(self) -> None:
        """Send what there is room for."""
        session = self._session
        while session is not None and session.room():
            asked = self.outstanding.next_unsent()
            if asked is None:
                return
            if asked.request.model_id in session.models:
                session.send(asked)
            else:
                self.outstanding.stale(asked, self.grid.model_id)

    # The link's thread ------------------------------------------------------------------------

    def _wake(self) -> None:
        # After `close` nobody is there to wake, and the ledger has answered.
        try:
            self._loop.call_soon_threadsafe(self.pump)
        except RuntimeError:
            return

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._live())
        finally:
            self.outstanding.close()
            self._loop.close()
            self._started.set()

    async def _live(self) -> None:
        stop = asyncio.ensure_future(self._stopping.wait())
        work = asyncio.ensure_future(self._keep_connected())
        tick = asyncio.ensure_future(self._tick())
        await asyncio.wait((stop, work, tick), return_when=asyncio.FIRST_COMPLETED)
        if self._session is not None:
            self._session.goodbye()
        for task in (stop, work, tick):
            task.cancel()
        results = await asyncio.gather(stop, work, tick, return_exceptions=True)
        for result in results:
            if isinstance(result, LinkError):
                self._failure = result
            elif isinstance(result, Exception):
                raise result
        if self._session is not None:
            await asyncio.wait((self._session.closed,), timeout=0.2)
            self._session.fail(NodeUnreachable("closed"))
        await asyncio.sleep(0)  # the transport of a session that was given up closes its socket

    async def _keep_connected(self) -> None:
        """Hold a connection to one of the nodes; raise the first node's error if at the start
        none can be used."""
        at, failures = 0, 0
        first: LinkError | None = None
        last_node: int | None = None
        give_up = self._clock() + self.options.wait_s
        while True:
            node = self._nodes[at % len(self._nodes)]
            began = self._clock()
            try:
                session = await self._open(node)
            except LinkError as error:
                # A node that refuses us tells more than one that is not there.
                if first is None or isinstance(first, NodeUnreachable):
                    first = error
                log.info("%s", error)
                self.trouble = str(error)
            else:
                if last_node is not None:
                    self.counts["reconnects"] += 1
                    self.counts["failovers"] += last_node != at % len(self._nodes)
                last_node = at % len(self._nodes)
                self._session = session
                self._reached[node] = session.peer
                self.trouble = ""
                self._started.set()
                self.pump()
                why = await asyncio.shield(session.closed)
                self._session = None
                self.trouble = f"node {node[0]}: {why}"
                self.outstanding.unsend()
                log.warning("node %s:%d: %s", *node, why)
                if self._clock() - began > 1.0:
                    failures = 0
            at += 1
            failures += 1
            if failures % len(self._nodes) == 0:
                if first is not None and not self._started.is_set() and self._clock() >= give_up:
                    raise first
                shortest, longest = self.options.backoff_s
                wait = min(longest, shortest * 2 ** min(failures // len(self._nodes) - 1, 20))
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))

    async def _open(self, node: tuple[str, int]) -> Session:
        host, port = node
        where = f"{host}:{port}" if ":" not in host else f"[{host}]:{port}"
        sessions: list[Session] = []

        def make() -> Session:
            sessions.append(self.session_type(self))
            return sessions[-1]

        try:
            tls = client_context(self.options.tls) if self.options.tls is not None else None
            async with asyncio.timeout(self.options.connect_timeout_s):
                _, session = await self._loop.create_connection(
                    make, host, port, ssl=tls, server_hostname=host if tls else None
                )
                await asyncio.shield(session.ready)
            return session
        except TimeoutError:
            error: LinkError = NodeUnreachable(
                f"node {where} does not answer within {self.options.connect_timeout_s:g} s"
            )
        except ssl.SSLError as cause:
            error = CertificateError(f"node {where}: {explain(cause)}")
        except OSError as cause:
            error = NodeUnreachable(f"node {where} cannot be reached: {explain(cause)}")
        except UnicodeError:
            error = NodeUnreachable(f"node {where} cannot be reached: that is no host name")
        except LinkError as cause:
            error = type(cause)(f"node {where}: {cause}")
        except asyncio.CancelledError:
            for session in sessions:
                session.fail(NodeUnreachable("closed"))
            raise
        for session in sessions:
            session.fail(error)
        raise error

    async def _tick(self) -> None:
        """Look at deadlines and at the node's silence."""
        while True:
            await asyncio.sleep(TICK_S)
            self.outstanding.expire()
            session, now = self._session, self._clock()
            if session is None:
                continue
            silent = self.options.quiet_s + self.options.probe_s
            if session.busy and now - session.unanswered_since >= self.options.deadline_s + silent:
                session.fail(NodeUnreachable("the node lives, but answers nothing"))
            elif session.probed_at is not None:
                if now - session.probed_at >= self.options.probe_s:
                    session.fail(NodeUnreachable("the node is silent"))
            elif now - session.quiet_since >= (
                self.options.quiet_s if session.busy else self.options.idle_probe_s
            ):
                session.probed_at = now
                session.probe()


def _alike(one: Grid, other: Grid) -> bool:
    return (
        one.threshold == other.threshold
        and one.features == other.features
        and all(map(np.array_equal, one.cuts, other.cuts))
    )

"""Bytes of one gateway in, requests to judge out: the node's end of a connection.

Flow control, the same for both transports: at most `max_in_flight` requests of a connection wait
for their turn, and a connection whose peer does not take its answers is neither read nor served
until it does. What one read has brought beyond that is looked at in later turns. A gateway that
stops, or sends without end, costs one bounded queue and delays nobody.
"""

import abc
import asyncio
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from ssl import SSLObject
from typing import Any, Final, Protocol, cast

import numpy as np

from ids_appliance import _wire as wire
from ids_appliance.classify.bundle import Bundle
from ids_appliance.classify.tls import Identity, Role, peer_identity
from ids_appliance.errors import CertificateError
from ids_appliance.schema import SCHEMA_HASH

MAX_KEY_BYTES: Final = 136
"""Of a cell of all 68 columns, two bytes each: no cell is longer."""


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """Limits of a node; each bounds memory or time per connection."""

    node_id: str = "node"
    max_rows: int = 1024
    """Cells in one CLASSIFY: nobody waits behind a larger one (half a millisecond)."""
    max_in_flight: int = 32
    """Requests of one connection that wait for their turn."""
    max_connections: int = 256
    max_per_gateway: int = 16
    """Connections of one certificate's name: no gateway can shut out the others."""
    handshake_timeout_s: float = 5.0
    """From accept to HELLO, TLS included; also for the last bytes of a closing connection."""
    idle_timeout_s: float = 60.0
    """Without a whole message from the gateway, or without it taking its answers."""
    high_water_bytes: int = 65536
    """Answers not yet taken by the kernel at which a connection is no longer served."""


class Node(Protocol):
    """What a connection needs of the service."""

    options: ServiceOptions
    counts: dict[str, int]
    revoked: frozenset[int]
    """Serial numbers of revoked certificates, as of the last reload."""

    def now(self) -> float:
        """Monotonic seconds."""

    def current(self) -> tuple[int, Bundle]:
        """The present model and its slot."""

    def model(self, slot: int) -> Bundle | None:
        """The present or the previous model, by slot."""

    def note(self, line: str) -> None:
        """Write a line into the log, unless there are too many."""

    def enqueue(self, connection: "Connection") -> None:
        """Give the connection its turns until it is not `ready`."""

    def joined(self, connection: "Connection") -> None:
        """The connection is up: under TLS, the handshake is done."""

    def left(self, connection: "Connection") -> None:
        """The connection is gone."""

    def connections_of(self, name: str) -> int:
        """How many connections a certificate's name has, those about to close left out."""


class State(IntEnum):
    GREETING = 0
    """Nothing is believed yet; the handshake timeout runs."""
    SERVING = 1
    CLOSING = 2
    """The last bytes are being flushed; whatever arrives is ignored."""


class Connection(asyncio.Protocol, abc.ABC):
    """What both transports share: flow control, timeouts, who the peer is.

    A transport implements `begin`, `on_bytes`, `serve`, `announce` and `refuse`.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self.state = State.GREETING
        self.identity: Identity | None = None
        self.peer = "?"
        self.queue: deque[Any] = deque()
        self.queued = False
        """In the service's turn list."""
        self.deadline = node.now() + node.options.handshake_timeout_s
        self._blocked = False
        self._reading = True
        self._transport: asyncio.Transport | None = None

    # asyncio's calls -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self.node.options.high_water_bytes)
        address = transport.get_extra_info("peername") or ("?", 0)
        self.peer = f"{address[0]}:{address[1]}"
        self.node.joined(self)
        tls = cast(SSLObject | None, transport.get_extra_info("ssl_object"))
        if tls is not None:
            try:
                self.identity = peer_identity(tls, Role.GATEWAY)
            except CertificateError as error:
                self.refuse(wire.ERROR_ROLE, str(error))
                return
            if not self._admitted(self.identity):
                return
        self.begin()

    def data_received(self, data: bytes) -> None:
        self.node.counts["bytes_received"] += len(data)
        if self.state is not State.CLOSING:
            self.on_bytes(data)
            self._adjust_reading()
            if self.ready:
                self.node.enqueue(self)

    def pause_writing(self) -> None:
        self._blocked = True
        self.node.counts["blocked"] += 1
        self._adjust_reading()

    def resume_writing(self) -> None:
        self._blocked = False
        self.progress()
        self._adjust_reading()
        if self.ready:
            self.node.enqueue(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.state = State.CLOSING
        self.queue.clear()
        self._transport = None
        self.node.left(self)

    # What the service calls ------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Something to serve or to look at, and room for the answer."""
        waiting = bool(self.queue) or self.behind
        return waiting and not self._blocked and self.state is State.SERVING

    @property
    def behind(self) -> bool:
        """Bytes have come that were not looked at yet."""
        return False

    def turn(self) -> None:
        """Serve one request, or look at bytes that are held."""
        if self.queue:
            self.serve()
        else:
            self.on_bytes(b"")
        self._adjust_reading()

    def abort(self) -> None:
        """Drop the connection and all it holds, at once."""
        if self._transport is not None:
            self._transport.abort()

    def finish(self) -> None:
        """Flush what is written, then close; `deadline` limits the flushing."""
        if self._transport is not None and self.state is not State.CLOSING:
            self.state = State.CLOSING
            self.deadline = self.node.now() + self.node.options.handshake_timeout_s
            self._transport.close()

    # What a transport implements and uses ----------------------------------------------------

    def begin(self) -> None:
        """The peer is connected and, under TLS, a gateway."""

    @abc.abstractmethod
    def on_bytes(self, data: bytes) -> None:
        """Take bytes; append requests to `queue`."""

    @abc.abstractmethod
    def serve(self) -> None:
        """Answer the first request of `queue`."""

    @abc.abstractmethod
    def announce(self) -> None:
        """Tell the gateway the present model."""

    @abc.abstractmethod
    def refuse(self, code: int, text: str) -> None:
        """Say why, and close."""

    def goodbye(self) -> None:
        """Close in good order: the node stops."""
        self.finish()

    def write(self, data: bytes) -> None:
        if self._transport is not None and self.state is not State.CLOSING:
            self.node.counts["bytes_sent"] += len(data)
            self._transport.write(data)

    def progress(self) -> None:
        """The peer did something whole: the idle timeout starts anew."""
        if self.state is State.SERVING:
            self.deadline = self.node.now() + self.node.options.idle_timeout_s

    def _admitted(self, identity: Identity) -> bool:
        options = self.node.options
        if identity.serial in self.node.revoked:
            # The list was read again while the handshake, begun with the old one, was under way.
            self.refuse(wire.ERROR_ROLE, "the gateway's certificate has been revoked")
        elif self.node.connections_of(identity.name) > options.max_per_gateway:
            text = f"{identity.name} has {options.max_per_gateway} connections already"
            self.refuse(wire.ERROR_BUSY, text)
        else:
            return True
        return False

    def _adjust_reading(self) -> None:
        # Without this a peer could make us keep everything that it sends and never fetches.
        room = len(self.queue) < self.node.options.max_in_flight and not self.behind
        want = room and not self._blocked
        if self._transport is None or self.state is State.CLOSING or want == self._reading:
            return
        self._reading = want
        if want:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()


class BinaryConnection(Connection):
    """One gateway that speaks the binary protocol (docs/link.md)."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        limit = wire.ROWS_HEAD + node.options.max_rows * MAX_KEY_BYTES
        self._decoder = wire.Decoder(False, limit=limit)

    @property
    def behind(self) -> bool:
        return self._decoder.held > 0

    def on_bytes(self, data: bytes) -> None:
        # One read may hold ten thousand messages: answering them all would hold up everybody.
        room = self.node.options.max_in_flight - len(self.queue)
        try:
            messages = self._decoder.feed(data, max(room, 0))
        except wire.WireError as error:
            self.node.counts["malformed"] += 1
            self.refuse(wire.ERROR_PROTOCOL, str(error))
            return
        for message in messages:
            if self.state is State.CLOSING:
                return
            self._on_message(message)
        if messages:
            self.progress()

    def _on_message(self, message: wire.Message) -> None:
        if self.state is State.GREETING:
            if isinstance(message, wire.Hello):
                self._on_hello(message)
            else:
                self.refuse(wire.ERROR_PROTOCOL, "the first message must be HELLO")
        elif isinstance(message, wire.Classify):
            if len(message.cells) > self.node.options.max_rows:
                self.refuse(wire.ERROR_PROTOCOL, "CLASSIFY with more rows than WELCOME allows")
            else:
                self.queue.append(message)
        elif isinstance(message, wire.Ping):
            self.write(wire.encode_pong(message.token))
        elif isinstance(message, wire.Bye | wire.Error):
            self.finish()
        elif not isinstance(message, wire.Pong):
            self.refuse(wire.ERROR_PROTOCOL, "HELLO twice")

    def _on_hello(self, hello: wire.Hello) -> None:
        if not hello.min_version <= wire.VERSION <= hello.max_version:
            versions = f"{hello.min_version} to {hello.max_version}"
            self.refuse(
                wire.ERROR_VERSION,
                f"the node speaks protocol version {wire.VERSION}, the gateway {versions}",
            )
        elif hello.schema_hash != SCHEMA_HASH:
            self.refuse(
                wire.ERROR_SCHEMA,
                f"the node's packet record is {SCHEMA_HASH.hex()[:16]}, the gateway's "
                f"{hello.schema_hash.hex()[:16]}: install the same version on both",
            )
        elif self.identity is not None and hello.gateway_id != self.identity.name:
            self.refuse(
                wire.ERROR_ROLE,
                f"the certificate belongs to {self.identity.name}, not to {hello.gateway_id}",
            )
        else:
            self.state = State.SERVING
            options = self.node.options
            self.write(
                wire.encode_welcome(
                    options.node_id, options.max_rows, max_in_flight=options.max_in_flight
                )
            )
            self.announce()
            self.node.note(f"gateway {hello.gateway_id} connected from {self.peer}")

    def serve(self) -> None:
        message: wire.Classify = self.queue.popleft()
        bundle = self.node.model(message.slot)
        if bundle is None:
            self.node.counts["stale"] += 1
            text = f"model {message.slot} is not known any more"
            self.write(wire.encode_error(wire.ERROR_STALE, text, seq=message.seq))
            return
        if message.cells.shape[1] != bundle.forest.key_bytes:
            self.refuse(wire.ERROR_PROTOCOL, "CLASSIFY whose cells are not of its model's size")
            return
        out = np.empty(len(message.cells))
        bundle.forest.evaluate(message.cells, out)
        self.node.counts["requests"] += 1
        self.node.counts["rows"] += len(out)
        if message.bits:
            threshold = bundle.grid.threshold
            self.write(wire.encode_bits(message.seq, message.slot, out, threshold=threshold))
        else:
            self.write(wire.encode_verdicts(message.seq, message.slot, out))

    def announce(self) -> None:
        slot, bundle = self.node.current()
        if self.state is State.SERVING:
            self.write(wire.encode_model(slot, bundle.grid))

    def refuse(self, code: int, text: str) -> None:
        self.node.counts["refused"] += 1
        self.node.note(f"connection from {self.peer} refused: {text}")
        self.write(wire.encode_error(code, text))
        self.finish()

    def goodbye(self) -> None:
        if self.state is State.SERVING:
            self.write(wire.encode_bye())
        self.finish()

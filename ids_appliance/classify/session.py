"""Requests in, messages out, and answers back: the gateway's end of one connection to a node."""

import abc
import asyncio
import ipaddress
import ssl
from collections import deque
from typing import Any, Final, NoReturn, Protocol, cast

from ids_appliance import _wire as wire
from ids_appliance.classify.outstanding import Asked, Outstanding
from ids_appliance.classify.tls import Role, explain, peer_identity
from ids_appliance.errors import CertificateError, HandshakeError, LinkError, NodeUnreachable
from ids_appliance.schema import COLUMNS, SCHEMA_HASH, model_hash
from ids_appliance.types import Grid

_WIDTHS: Final = tuple(feature.width for feature in COLUMNS)

MAX_UNREAD: Final = 4 << 20
"""Bytes; more than all requests that may be under way."""
MAX_IN_FLIGHT: Final = 256
"""CLASSIFY messages not answered yet, whatever WELCOME allows: each of them keeps its cells."""


class Link(Protocol):
    """What a session needs of the classifier that it works for."""

    outstanding: Outstanding
    counts: dict[str, int]
    gateway_id: str
    bare_verdicts: bool

    def now(self) -> float:
        """Monotonic seconds."""

    def follow(self, grid: Grid) -> None:
        """The node judges by this model from now on. Raises HandshakeError if it cannot be."""

    def pump(self) -> None:
        """There is room for further requests."""


class Session(asyncio.Protocol, abc.ABC):
    """What both transports share: the life of the connection, and its silence.

    A transport implements `begin`, `on_bytes`, `send`, `probe` and `room`.
    """

    def __init__(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        self.link = link
        self.ready: asyncio.Future[None] = loop.create_future()
        """Done when the node's model is known; LinkError if that fails."""
        self.ready.add_done_callback(_retrieve)
        self.closed: asyncio.Future[str] = loop.create_future()
        """Done when the connection is gone, with the reason."""
        self.quiet_since = link.now()
        """Since when the node owes us something and says nothing."""
        self.unanswered_since = link.now()
        """Since when, while `busy`, no answer has come; other messages are none."""
        self.probed_at: float | None = None
        self.models: dict[bytes, int] = {}
        """Model id -> slot, of the present and the previous model."""
        self.peer = b""
        """The node's address, 4 or 16 bytes, once it is connected."""
        self._why: LinkError | None = None
        self._transport: asyncio.Transport | None = None

    # asyncio's calls --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.peer = _address(transport.get_extra_info("peername"))
        tls = cast(ssl.SSLObject | None, transport.get_extra_info("ssl_object"))
        if tls is not None:
            try:
                peer_identity(tls, Role.NODE)
            except CertificateError as error:
                self.fail(error)
                return
        self.begin()

    def data_received(self, data: bytes) -> None:
        self.link.counts["bytes_received"] += len(data)
        self.quiet_since = self.link.now()
        self.probed_at = None
        if not self.ready.done() and data[:1] == b"\x15":  # an alert of TLS
            self.fail(
                HandshakeError("it expects TLS: give a certificate, its key and the authority")
            )
        if self._why is None:
            self.on_bytes(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._why is None:
            if isinstance(exc, ssl.SSLError):
                self._why = CertificateError(explain(exc))
            elif self.ready.done():
                self._why = NodeUnreachable(f"the node closed the connection{_because(exc)}")
            else:
                self._why = HandshakeError(
                    f"it closed the connection in the handshake{_because(exc)}: "
                    "does it expect TLS, or refuse our certificate?"
                )
        if not self.ready.done():
            self.ready.set_exception(self._why)
        if not self.closed.done():
            self.closed.set_result(str(self._why))

    # What the link calls ----------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """The handshake is done and nothing has failed yet."""
        return self._transport is not None and self._why is None and self.ready.done()

    @property
    def unread(self) -> int:
        """Bytes written that the kernel has not taken."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    @abc.abstractmethod
    def busy(self) -> bool:
        """Something was sent that the node has not answered."""

    @abc.abstractmethod
    def room(self) -> bool:
        """Whether a further request may be sent now."""

    @abc.abstractmethod
    def send(self, asked: Asked) -> None:
        """Send a request; its model is in `models`."""

    @abc.abstractmethod
    def probe(self) -> None:
        """Make a node that lives say something."""

    def goodbye(self) -> None:
        """Close in good order."""
        if self._transport is not None:
            self._transport.close()

    def fail(self, why: LinkError) -> None:
        """Give the connection up."""
        if self._why is None:
            self._why = why
        if self._transport is not None:
            self._transport.abort()

    # What a transport implements and uses -----------------------------------------------------

    def begin(self) -> None:
        """The node is connected and, under TLS, a node."""

    @abc.abstractmethod
    def on_bytes(self, data: bytes) -> None:
        """Take bytes from the node."""

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self.link.counts["bytes_sent"] += len(data)
            self._transport.write(data)

    def adopt(self, slot: int, grid: Grid) -> None:
        """Follow a model; the one before it may still be asked for what was made for it."""
        ours = model_hash(grid.features)
        if grid.schema_hash != ours:
            raise HandshakeError(
                f"the node's packet record is {grid.schema_hash.hex()[:16]}, ours "
                f"{ours.hex()[:16]}: install the same version on both"
            )
        self.link.follow(grid)
        newest = list(self.models.items())[-1:]
        self.models = {k: v for k, v in newest if k != grid.model_id} | {grid.model_id: slot}
        if not self.ready.done():
            self.ready.set_result(None)


class BinarySession(Session):
    """One connection that speaks the binary protocol (docs/link.md)."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._decoder = wire.Decoder(True, widths=_WIDTHS)
        self._welcome: wire.Welcome | None = None
        self._most = 0
        """Messages that may be in flight."""
        self._seq = 0
        self._in_flight: dict[int, tuple[Asked, int, int, int]] = {}
        """Sequence number -> request, first row, rows, slot."""
        self._backlog: deque[tuple[Asked, int, int, int]] = deque()
        """Parts of the last request that found no room."""

    def begin(self) -> None:
        self.write(wire.encode_hello(self.link.gateway_id, SCHEMA_HASH))

    def on_bytes(self, data: bytes) -> None:
        try:
            for message in self._decoder.feed(data):
                self._on_message(message)
        except wire.WireError as error:
            self.fail(HandshakeError(f"the node does not keep to the protocol: {error}"))
        except LinkError as error:
            self.fail(error)
        else:
            self._advance()

    @property
    def busy(self) -> bool:
        return bool(self._in_flight)

    def room(self) -> bool:
        return self.usable and not self._backlog and len(self._in_flight) < self._most

    def send(self, asked: Asked) -> None:
        assert self._welcome is not None  # `room` was asked
        slot = self.models[asked.request.model_id]
        n, key_bytes = asked.request.cells.shape
        step = min(self._welcome.max_rows, (wire.MAX_PAYLOAD - wire.ROWS_HEAD) // key_bytes)
        self._backlog.extend((asked, i, min(step, n - i), slot) for i in range(0, n, step))
        self._drain()

    def probe(self) -> None:
        self.write(wire.encode_ping(0))

    def goodbye(self) -> None:
        self.write(wire.encode_bye())
        super().goodbye()

    def _drain(self) -> None:
        while self._backlog and len(self._in_flight) < self._most:
            part = self._backlog.popleft()
            asked, first, n, slot = part
            if asked.done:
                continue
            if not self._in_flight:
                self.quiet_since = self.unanswered_since = self.link.now()
            self._seq = self._seq % 0xFFFFFFFF + 1
            self._in_flight[self._seq] = part
            cells = asked.request.cells[first : first + n]
            self.write(wire.encode_classify(self._seq, slot, cells, bits=self.link.bare_verdicts))

    def _advance(self) -> None:
        if self._backlog and self.usable:
            self._drain()
        if self.room():
            self.link.pump()

    def _on_message(self, message: wire.Message) -> None:
        if isinstance(message, wire.Verdicts):
            self._on_verdicts(message)
        elif isinstance(message, wire.Model):
            if self._welcome is None:
                raise HandshakeError("the node sent a model before WELCOME")
            grid = Grid(
                message.model_id,
                message.threshold,
                message.features,
                message.cuts,
                message.schema_hash,
            )
            self.adopt(message.slot, grid)
        elif isinstance(message, wire.Welcome):
            if self._welcome is not None or message.version != wire.VERSION:
                raise HandshakeError("the node sent a WELCOME that we cannot use")
            self._welcome = message
            self._most = min(message.max_in_flight, MAX_IN_FLIGHT)
        elif isinstance(message, wire.Error):
            self._on_error(message)
        elif isinstance(message, wire.Ping):
            if self.unread > MAX_UNREAD:
                raise HandshakeError("the node asks and does not read the answers")
            self.write(wire.encode_pong(message.token))
        elif isinstance(message, wire.Bye):
            raise NodeUnreachable("the node said goodbye")

    def _on_verdicts(self, verdicts: wire.Verdicts) -> None:
        asked, first, n, slot = self._in_flight.pop(verdicts.seq, (None, 0, 0, 0))
        if asked is None or n != len(verdicts.probabilities) or slot != verdicts.slot:
            raise HandshakeError("the node answered something that it was not asked")
        if verdicts.bits and not self.link.bare_verdicts:
            raise HandshakeError("the node sent bare verdicts instead of probabilities")
        self.unanswered_since = self.link.now()
        self.link.outstanding.part(asked, first, verdicts.probabilities)

    def _on_error(self, error: wire.Error) -> None:
        if error.code != wire.ERROR_STALE or error.seq not in self._in_flight:
            _refused(error)
        asked, *_ = self._in_flight.pop(error.seq)
        self.unanswered_since = self.link.now()
        self.link.outstanding.stale(asked, self._newest())

    def _newest(self) -> bytes:
        return list(self.models)[-1]


def _address(peer: Any) -> bytes:
    """Return the address of a socket's name, empty where that has none."""
    if not isinstance(peer, tuple):
        return b""
    return ipaddress.ip_address(str(peer[0]).partition("%")[0]).packed


def _retrieve(ready: asyncio.Future[None]) -> None:
    # asyncio complains of an exception that nobody looked at; a connection given up has no caller.
    if not ready.cancelled():
        ready.exception()


def _refused(error: wire.Error) -> NoReturn:
    text = error.text or f"error {error.code}"
    if error.code == wire.ERROR_ROLE:
        raise CertificateError(f"the node refuses us: {text}")
    if error.code in (wire.ERROR_BUSY, wire.ERROR_TIMEOUT):
        raise NodeUnreachable(f"the node refuses us: {text}")
    raise HandshakeError(f"the node refuses us: {text}")


def _because(exc: Exception | None) -> str:
    return f" ({explain(exc)})" if exc is not None else ""

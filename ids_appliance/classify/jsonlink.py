"""Packets out as JSON, verdicts in: the published system's own link, for comparison.

One object per packet and line with the 60 features by name, one object per reply; about a thousand
bytes a packet. The node opens with a line that carries version, schema hash, model id and
threshold, and sends another one when its model changes; replies after it are of the new model.
There are no cells here: the grid is empty and every packet is asked. An empty line asks for an
empty line, as PING does.
"""

import json
import operator
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from ids_appliance import _wire as wire
from ids_appliance.classify.connection import Connection, Node, State
from ids_appliance.classify.outstanding import Asked
from ids_appliance.classify.remote import LinkOptions, RemoteClassifier
from ids_appliance.classify.session import Link, Session
from ids_appliance.errors import HandshakeError
from ids_appliance.schema import FEATURE_NAMES, FEATURES, N_FEATURES, SCHEMA_HASH
from ids_appliance.types import U16, Grid

VERSION: Final = 1
MAX_LINE: Final = 4096
"""Bytes in a line; the longest row of features has about 1,100."""
MAX_ROWS_IN_FLIGHT: Final = 2048

_values = operator.itemgetter(*FEATURE_NAMES)
_DOMAINS: Final = np.array([feature.domain for feature in FEATURES])
_ROW: Final = '{"seq": %d, ' + ", ".join(f'"{name}": %d' for name in FEATURE_NAMES) + "}\n"
"""A template is twice as fast as json.dumps of a dict."""


class Lines:
    """Bytes in any pieces in, whole lines out; ValueError past MAX_LINE bytes without an end."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE or any(len(line) > MAX_LINE for line in lines):
            self._rest = b""
            raise ValueError(f"a line of more than {MAX_LINE} bytes")
        return lines


def parse_object(line: bytes) -> dict[str, Any]:
    """Return the object of a line; ValueError if it is none."""
    try:
        value = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def parse_rows(lines: list[bytes]) -> tuple[list[int], U16]:
    """Return sequence numbers and (n, 60) features; ValueError for anything out of place."""
    seqs, rows = [], []
    for line in lines:
        value = parse_object(line)
        seq = value.get("seq")
        if len(value) != N_FEATURES + 1 or type(seq) is not int or not 0 <= seq < 1 << 63:
            raise ValueError("not `seq` and the 60 features")
        try:
            row = _values(value)
        except KeyError as error:
            raise ValueError(f"feature {error} is missing") from error
        if set(map(type, row)) != {int}:
            raise ValueError("a feature is not an integer")
        seqs.append(seq)
        rows.append(row)
    try:
        table = np.array(rows, np.int64)
    except OverflowError as error:
        raise ValueError("a feature is out of range") from error
    if ((table < 0) | (table >= _DOMAINS)).any():
        raise ValueError("a feature is out of range")
    return seqs, table.astype(np.uint16)


class JsonConnection(Connection):
    """The node's end: rows in, replies out, as many at a time as have come."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._lines = Lines()

    def begin(self) -> None:
        # Nothing is asked of the gateway first; its first row has to come within the timeout.
        self.state = State.SERVING
        self.announce()

    def on_bytes(self, data: bytes) -> None:
        try:
            lines = self._lines.feed(data)
            rows = [line for line in lines if line]
            for first in range(0, len(rows), self.node.options.max_rows):
                self.queue.append(parse_rows(rows[first : first + self.node.options.max_rows]))
        except ValueError as error:
            self.node.counts["malformed"] += 1
            self.refuse(wire.ERROR_PROTOCOL, f"malformed line: {error}")
            return
        if lines:
            self.progress()
            self.write(b"\n" * (len(lines) - len(rows)))

    def serve(self) -> None:
        seqs, rows = self.queue.popleft()
        _, bundle = self.node.current()
        if bundle.grid.schema_hash != SCHEMA_HASH:
            self._refuse_model()
            return
        out = np.empty(len(rows))
        bundle.forest.evaluate_rows(rows, out)
        self.node.counts["requests"] += len(rows)
        self.node.counts["rows"] += len(rows)
        threshold = bundle.grid.threshold
        reply = '{"seq": %d, "probability": %r, "verdict": %d}\n'
        answers = [
            reply % (seq, p, p > threshold) for seq, p in zip(seqs, out.tolist(), strict=True)
        ]
        self.write("".join(answers).encode())

    def announce(self) -> None:
        _, bundle = self.node.current()
        if bundle.grid.schema_hash != SCHEMA_HASH:
            self._refuse_model()
            return
        line = {
            "version": VERSION,
            "schema_hash": SCHEMA_HASH.hex(),
            "model_id": bundle.grid.model_id.hex(),
            "threshold": bundle.grid.threshold,
        }
        self.write(json.dumps(line).encode() + b"\n")

    def _refuse_model(self) -> None:
        text = "the model asks for more than the 60 features of a JSON row: use the binary link"
        self.refuse(wire.ERROR_SCHEMA, text)

    def refuse(self, code: int, text: str) -> None:
        self.node.counts["refused"] += 1
        self.node.note(f"connection from {self.peer} refused: {text}")
        self.write(json.dumps({"error": text, "code": code}).encode() + b"\n")
        self.finish()


class _Sent:
    """A request whose replies are coming in, one by one and in order."""

    __slots__ = ("asked", "seq", "probabilities", "stale")

    def __init__(self, asked: Asked, seq: int) -> None:
        self.asked = asked
        self.seq = seq
        self.probabilities: list[float] = []
        self.stale = False


class JsonSession(Session):
    """The gateway's end: rows out, replies in."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._lines = Lines()
        self._sent: deque[_Sent] = deque()
        self._rows = 0
        self._seq = 0
        self._model_id = b""

    @property
    def busy(self) -> bool:
        return bool(self._sent)

    def room(self) -> bool:
        return self.usable and self._rows < MAX_ROWS_IN_FLIGHT

    def send(self, asked: Asked) -> None:
        if not self._sent:
            self.quiet_since = self.unanswered_since = self.link.now()
        self._sent.append(_Sent(asked, self._seq))
        rows = asked.request.rows[:, :N_FEATURES].tolist()
        self._rows += len(rows)
        text = "".join([_ROW % (seq, *row) for seq, row in enumerate(rows, self._seq)])
        self._seq += len(rows)
        self.write(text.encode())

    def probe(self) -> None:
        self.write(b"\n")

    def on_bytes(self, data: bytes) -> None:
        try:
            for line in self._lines.feed(data):
                if line:
                    self._on_object(parse_object(line))
        except ValueError as error:
            self.fail(HandshakeError(f"the node does not keep to the JSON protocol: {error}"))
        except HandshakeError as error:
            self.fail(error)
        else:
            if self.room():
                self.link.pump()

    def _on_object(self, value: dict[str, Any]) -> None:
        if "probability" in value:
            self._on_reply(value)
        elif "error" in value:
            text = str(value["error"])[:200]
            raise HandshakeError(f"the node refuses us: {text if text.isprintable() else '?'}")
        else:
            self._on_model(value)

    def _on_model(self, value: dict[str, Any]) -> None:
        if value.get("version") != VERSION:
            raise HandshakeError(f"the node speaks another JSON protocol than version {VERSION}")
        try:
            model_id = bytes.fromhex(value["model_id"])
            schema_hash = bytes.fromhex(value["schema_hash"])
            threshold = value["threshold"]
        except (KeyError, TypeError) as error:
            raise ValueError("a handshake line without model, schema or threshold") from error
        if len(model_id) != 16 or type(threshold) is not float or not 0.0 <= threshold <= 1.0:
            raise ValueError("a handshake line with a wrong model id or threshold")
        self._model_id = model_id
        self.adopt(0, Grid(model_id, threshold, (), (), schema_hash))
        # Without a slot in the request there is no asking the model before.
        self.models = {model_id: 0}

    def _on_reply(self, value: dict[str, Any]) -> None:
        probability = value["probability"]
        if not self._sent or type(probability) is not float or not 0.0 <= probability <= 1.0:
            raise ValueError("a reply that was not asked for, or without a probability")
        sent = self._sent[0]
        if value.get("seq") != sent.seq + len(sent.probabilities):
            raise ValueError("a reply out of order")
        self.unanswered_since = self.link.now()
        sent.probabilities.append(probability)
        sent.stale |= self._model_id != sent.asked.request.model_id
        self._rows -= 1
        if len(sent.probabilities) < len(sent.asked.request.rows):
            return
        self._sent.popleft()
        if sent.stale:
            self.link.outstanding.stale(sent.asked, self._model_id)
            return
        self.link.outstanding.part(sent.asked, 0, np.array(sent.probabilities))


class JsonClassifier(RemoteClassifier):
    """A Classifier that asks a node packet by packet, in JSON."""

    session_type = JsonSession

    def __init__(
        self,
        nodes: Sequence[tuple[str, int]],
        options: LinkOptions | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # A node takes some 20,000 objects a second: more under way would only miss its deadline.
        asked = options or LinkOptions()
        options = replace(asked, max_rows=min(asked.max_rows, 2 * MAX_ROWS_IN_FLIGHT))
        super().__init__(nodes, options, clock=clock)

"""Bytes of a connection in, the decoder against itself: any split gives the same messages.

Whatever arrives is messages or one WireError; what was decoded encodes and decodes to itself.
"""

import hashlib
from collections.abc import Iterator

import numpy as np

from ids_appliance import _wire
from ids_appliance.schema import FEATURES, SCHEMA_HASH
from ids_appliance.types import Grid
from tests.bundles import random_bundle

WIDTHS = [feature.width for feature in FEATURES]
FIELDS = {
    _wire.Hello: ("min_version", "max_version", "schema_hash", "gateway_id"),
    _wire.Welcome: ("version", "max_rows", "max_in_flight", "node_id"),
    _wire.Model: ("slot", "model_id", "schema_hash", "threshold", "features", "cuts"),
    _wire.Classify: ("seq", "slot", "bits", "cells"),
    _wire.Verdicts: ("seq", "slot", "bits", "probabilities"),
    _wire.Ping: ("token",),
    _wire.Pong: ("token",),
    _wire.Error: ("code", "seq", "text"),
    _wire.Bye: (),
}
DIGEST = slice(58, 90)  # of a MODEL's payload: SHA-256 of what is around it, the slot left out
MODEL = 3


def fuzz(data: bytes) -> None:
    """First byte: side, and whether a MODEL's digest is put right; second: the split."""
    if len(data) < 2:
        return
    from_node, step, stream = bool(data[0] & 1), data[1] + 1, data[2:]
    if data[0] & 2:
        stream = with_digest(stream)
    whole = decode(stream, from_node, len(stream) or 1)
    if decode(stream, from_node, step) != whole:
        raise AssertionError(f"pieces of {step}: {decode(stream, from_node, step)}\nwhole: {whole}")


def decode(stream: bytes, from_node: bool, step: int) -> tuple[list[object], str | None]:
    """Return the messages before the first error as plain values, and the error."""
    decoder = _wire.Decoder(from_node, widths=WIDTHS)
    seen: list[object] = []
    for at in range(0, len(stream), step):
        # A fresh allocation of exactly the piece's size.
        piece = bytes(bytearray(stream[at : at + step]))
        try:
            messages = decoder.feed(piece)
        except _wire.WireError as error:
            assert decoder.error is error and decoder.pending == 0
            return [], f"{type(error).__name__}: {error}"
        assert decoder.pending <= _wire.HEADER_BYTES + _wire.MAX_PAYLOAD
        for message in messages:
            round_trip(message, from_node)
            seen.append(plain(message))
    return seen, None


def plain(message: _wire.Message) -> tuple[object, ...]:
    """Return a message as values that compare, arrays as their bytes."""
    values = [getattr(message, name) for name in FIELDS[type(message)]]
    for i, value in enumerate(values):
        if isinstance(value, np.ndarray):
            values[i] = (value.shape, value.tobytes())
        elif isinstance(value, tuple):
            values[i] = [v.tobytes() if isinstance(v, np.ndarray) else v for v in value]
    return (type(message).__name__, *values)


def round_trip(message: _wire.Message, from_node: bool) -> None:
    """Assert that what was decoded survives being encoded and decoded again."""
    again = _wire.Decoder(from_node, widths=WIDTHS).feed(encode(message))
    assert [plain(m) for m in again] == [plain(message)]


def encode(message: _wire.Message) -> bytes:
    """Return a message's bytes; where two forms mean the same, the shorter one."""
    match message:
        case _wire.Hello(min_version=low, max_version=high, gateway_id=name):
            return _wire.encode_hello(name, message.schema_hash, min_version=low, max_version=high)
        case _wire.Welcome(node_id=name, max_rows=rows, max_in_flight=flight):
            return _wire.encode_welcome(name, rows, max_in_flight=flight, version=message.version)
        case _wire.Model(slot=slot, model_id=model_id, threshold=threshold):
            grid = Grid(model_id, threshold, message.features, message.cuts, message.schema_hash)
            return _wire.encode_model(slot, grid)
        case _wire.Classify(seq=seq, slot=slot, cells=cells, bits=bits):
            return _wire.encode_classify(seq, slot, np.array(cells), bits=bits)
        case _wire.Verdicts(seq=seq, slot=slot, probabilities=probabilities, bits=True):
            return _wire.encode_bits(seq, slot, probabilities, threshold=0.5)
        case _wire.Verdicts(seq=seq, slot=slot, probabilities=probabilities):
            return _wire.encode_verdicts(seq, slot, probabilities)
        case _wire.Ping(token=token):
            return _wire.encode_ping(token)
        case _wire.Pong(token=token):
            return _wire.encode_pong(token)
        case _wire.Error(code=code, text=text, seq=seq):
            return _wire.encode_error(code, text, seq=seq)
    return _wire.encode_bye()


def with_digest(stream: bytes) -> bytes:
    """Return a stream whose first message, if a MODEL, has the digest its payload needs."""
    head = _wire.HEADER_BYTES
    if len(stream) < head + DIGEST.stop or stream[2] & 15 != MODEL:
        return stream
    payload = stream[head : head + int.from_bytes(stream[3:6], "little")]
    if len(payload) < DIGEST.stop:
        return stream
    digest = hashlib.sha256(payload[1 : DIGEST.start] + payload[DIGEST.stop :]).digest()
    return stream[: head + DIGEST.start] + digest + stream[head + DIGEST.stop :]


def seeds() -> Iterator[bytes]:
    grid = random_bundle(3, n_trees=2, max_cuts=20, features=[0, 2, 5, 9, 40]).grid
    rng = np.random.default_rng(1)
    cells = rng.integers(0, 255, (5, 6), np.uint8)
    few, many = rng.choice([0.25, 1.0], 40), rng.random(9)
    gateway = [
        _wire.encode_hello("gateway-1", SCHEMA_HASH),
        _wire.encode_classify(7, 1, cells),
        _wire.encode_classify(8, 1, cells, bits=True),
        _wire.encode_pong(99),
        _wire.encode_bye(),
    ]
    node = [
        _wire.encode_model(1, grid),
        _wire.encode_welcome("node-1", 4096, max_in_flight=8),
        _wire.encode_verdicts(7, 1, few),
        _wire.encode_verdicts(7, 1, many),
        _wire.encode_bits(8, 1, few, threshold=0.5),
        _wire.encode_error(6, "model unknown", seq=8),
        _wire.encode_ping(2**64 - 1),
        _wire.encode_bye(),
    ]
    for side, messages in enumerate((gateway, node)):
        yield bytes([side, 4]) + b"".join(messages)
        for message in messages:
            yield bytes([side, 2]) + message
            yield bytes([side | 2, 255]) + message

"""The codec: every message, every split of it, and everything that is not one."""

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ids_appliance import _wire as wire
from ids_appliance.schema import FEATURES, SCHEMA_HASH
from ids_appliance.types import Grid
from tests.examples import examples

WIDTHS = tuple(f.width for f in FEATURES)
GRID = Grid(
    bytes(range(16)),
    0.5,
    (0, 5, 7, 40),
    tuple(np.array(c, np.uint16) for c in ([1, 300, 65535], [64, 255], [], [1])),
)
CELLS = np.arange(15, dtype=np.uint8).reshape(5, 3)
PROBABILITIES = np.array([0.0, 1.0, 0.1, np.nextafter(0.5, 1), 5e-324])
REPEATED = np.array([0.1, 0.7, 0.1, 0.1, 0.7, 0.1] * 10)

FROM_GATEWAY = {
    "hello": wire.encode_hello("gärten", SCHEMA_HASH, min_version=1, max_version=3),
    "classify": wire.encode_classify(7, 3, CELLS),
    "classify bits": wire.encode_classify(0xFFFFFFFF, 255, CELLS, bits=True),
    "ping": wire.encode_ping(2**64 - 1),
    "bye": wire.encode_bye(),
}
FROM_NODE = {
    "welcome": wire.encode_welcome("n", 1024, max_in_flight=32),
    "model": wire.encode_model(9, GRID),
    "verdicts": wire.encode_verdicts(7, 3, PROBABILITIES),
    "verdicts table": wire.encode_verdicts(7, 3, REPEATED),
    "verdicts bits": wire.encode_bits(7, 3, PROBABILITIES, threshold=0.5),
    "pong": wire.encode_pong(5),
    "error": wire.encode_error(wire.ERROR_STALE, "no such model", seq=9),
    "bye": wire.encode_bye(),
}
ALL = [(False, n, m) for n, m in FROM_GATEWAY.items()] + [
    (True, n, m) for n, m in FROM_NODE.items()
]
EVERY = pytest.mark.parametrize(
    ("from_node", "message"), [a[::2] for a in ALL], ids=[f"{a[1]}-{a[0]}" for a in ALL]
)


def decoder(from_node, **options):
    return wire.Decoder(from_node, widths=WIDTHS, **options)


def only(messages):
    assert len(messages) == 1
    return messages[0]


def fields(message):
    """All attributes of a message in comparable form."""
    names = [n for n in dir(message) if not n.startswith("_")]
    values = {n: getattr(message, n) for n in names}
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            values[name] = (value.dtype.str, value.shape, value.tobytes())
        elif name == "cuts":
            values[name] = tuple(c.tolist() for c in value)
    return type(message), values


def framed(kind, payload, *, flags=0, version=wire.VERSION, magic=wire.MAGIC):
    length = len(payload).to_bytes(3, "little")
    return bytes([magic, version, kind | flags << 4]) + length + payload


# ------------------------------------------------------------------------------ whole messages


def test_hello():
    hello = only(decoder(False).feed(FROM_GATEWAY["hello"]))
    assert (hello.min_version, hello.max_version) == (1, 3)
    assert (hello.schema_hash, hello.gateway_id) == (SCHEMA_HASH, "gärten")


def test_welcome_and_model():
    welcome, model = decoder(True).feed(FROM_NODE["welcome"] + FROM_NODE["model"])
    assert (welcome.version, welcome.max_rows, welcome.max_in_flight) == (1, 1024, 32)
    assert welcome.node_id == "n"
    assert (model.slot, model.model_id, model.threshold) == (9, GRID.model_id, 0.5)
    assert model.schema_hash == SCHEMA_HASH
    assert model.features == GRID.features
    assert all((a == b).all() for a, b in zip(model.cuts, GRID.cuts, strict=True))
    assert {c.dtype for c in model.cuts} == {np.dtype(np.uint16)}


@pytest.mark.parametrize("bits", [False, True])
def test_classify(bits):
    message = wire.encode_classify(7, 3, CELLS, bits=bits)
    classify = only(decoder(False).feed(message))
    assert (classify.seq, classify.slot, classify.bits) == (7, 3, bits)
    assert (classify.cells == CELLS).all()
    assert not classify.cells.flags.writeable
    assert len(message) == wire.HEADER_BYTES + wire.ROWS_HEAD + CELLS.size


@given(
    st.lists(
        st.floats(0, 1) | st.sampled_from([0.0, -0.0, 0.1, 0.5, 1.0]), min_size=1, max_size=700
    )
)
@settings(deadline=None)
def test_probabilities_keep_every_bit(values):
    values = np.array(values)
    message = wire.encode_verdicts(3, 1, values)
    verdicts = only(decoder(True).feed(message))
    assert verdicts.probabilities.tobytes() == values.tobytes()
    assert (verdicts.seq, verdicts.slot, verdicts.bits) == (3, 1, False)
    distinct = len(set(values.tobytes()[i : i + 8] for i in range(0, 8 * len(values), 8)))
    table = 1 + len(values) + 8 * distinct if distinct <= 255 else 8 * len(values)
    assert len(message) == wire.HEADER_BYTES + wire.ROWS_HEAD + min(8 * len(values), table)


@given(st.integers(1, 100), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_bare_verdicts(n, seed):
    values = np.random.default_rng(seed).random(n)
    message = wire.encode_bits(3, 1, values, threshold=0.5)
    verdicts = only(decoder(True).feed(message))
    assert verdicts.bits
    assert (verdicts.probabilities == (values > 0.5)).all()
    assert len(message) == wire.HEADER_BYTES + wire.ROWS_HEAD + (n + 7) // 8


@given(st.integers(1, 64), st.integers(1, 40), st.integers(0, 2**32 - 1), st.integers(0, 255))
@settings(deadline=None)
def test_cells_come_back(n, key_bytes, seq, slot):
    cells = np.random.default_rng(n).integers(0, 256, (n, key_bytes), dtype=np.uint8)
    classify = only(decoder(False).feed(wire.encode_classify(seq, slot, cells)))
    assert (classify.seq, classify.slot) == (seq, slot)
    assert (classify.cells == cells).all()


@given(st.data())
@settings(deadline=None, max_examples=50)
def test_grids_come_back(data):
    features = sorted(data.draw(st.sets(st.integers(0, 59), min_size=1, max_size=60)))
    cuts = [
        data.draw(st.sets(st.integers(1, FEATURES[f].domain - 1), max_size=40)) for f in features
    ]
    arrays = tuple(np.array(sorted(c), np.uint16) for c in cuts)
    grid = Grid(b"m" * 16, data.draw(st.floats(0, 1)), tuple(features), arrays)
    model = only(decoder(True).feed(wire.encode_model(0, grid)))
    assert (model.threshold, model.features) == (grid.threshold, grid.features)
    assert [c.tolist() for c in model.cuts] == [sorted(c) for c in cuts]


def test_the_largest_possible_model_fits_one_message():
    cuts = tuple(np.arange(1, f.domain, dtype=np.uint16) for f in FEATURES)
    message = wire.encode_model(0, Grid(b"m" * 16, 0.5, tuple(range(60)), cuts))
    assert len(message) < wire.MAX_PAYLOAD
    model = only(decoder(True).feed(message))
    assert all((a == b).all() for a, b in zip(model.cuts, cuts, strict=True))


# -------------------------------------------------------------------------------------- splits


@EVERY
def test_every_split(from_node, message):
    stream = message * 2
    want = [fields(m) for m in decoder(from_node).feed(stream)]
    assert len(want) == 2
    for cut in range(1, len(stream)):
        d = decoder(from_node)
        got = d.feed(stream[:cut]) + d.feed(stream[cut:])
        assert [fields(m) for m in got] == want, cut
        assert d.pending == 0


@EVERY
def test_byte_by_byte_in_any_buffer(from_node, message):
    want = [fields(only(decoder(from_node).feed(message)))]
    for kind in (bytes, bytearray, memoryview):
        d = decoder(from_node)
        got = [m for i in range(len(message)) for m in d.feed(kind(message[i : i + 1]))]
        assert [fields(m) for m in got] == want


@given(st.lists(st.sampled_from(list(FROM_NODE.values())), max_size=8), st.data())
@settings(deadline=None)
def test_random_pieces(messages, data):
    stream = b"".join(messages)
    want = [fields(m) for m in decoder(True).feed(stream)]
    d, got, at = decoder(True), [], 0
    while at < len(stream):
        step = data.draw(st.integers(1, 200))
        got += d.feed(stream[at : at + step])
        at += step
    assert [fields(m) for m in got] == want


@given(
    st.lists(st.sampled_from(list(FROM_NODE.values())), max_size=8),
    st.integers(0, 3),
    st.data(),
)
@settings(deadline=None)
def test_no_more_messages_than_asked_for(messages, most, data):
    stream = b"".join(messages)
    want = [fields(m) for m in decoder(True).feed(stream)]
    d, got, at = decoder(True), [], 0
    while at < len(stream):
        step = data.draw(st.integers(1, 2000))
        some = d.feed(stream[at : at + step], most)
        assert len(some) <= most
        got += some
        at += step
    while d.held:
        before = d.held
        some = d.feed(b"", max(1, most))
        assert len(some) <= max(1, most) and d.held < before
        got += some
    assert [fields(m) for m in got] == want
    assert d.pending == 0


def test_what_is_held_is_given_up_with_the_connection():
    d = decoder(True)
    assert len(d.feed(FROM_NODE["pong"] + b"garbage", 1)) == 1
    assert d.held == 7
    with pytest.raises(wire.BadMagic):
        d.feed(b"")
    assert d.held == 0


# ------------------------------------------------------------------------------------- garbage


def test_empty_feed():
    assert decoder(True).feed(b"") == []


@EVERY
def test_wrong_magic_version_type_flags(from_node, message):
    with pytest.raises(wire.BadMagic):
        decoder(from_node).feed(b"\x16" + message[1:])
    kind = message[2] & 15
    if kind in (1, 8):  # alike in all versions
        assert len(decoder(from_node).feed(message[:1] + b"\x07" + message[2:])) == 1
    else:
        with pytest.raises(wire.BadVersion):
            decoder(from_node).feed(message[:1] + b"\x07" + message[2:])
    with pytest.raises(wire.BadFlags):
        decoder(from_node).feed(message[:2] + bytes([kind | 0x80]) + message[3:])
    if kind in (1, 2, 3, 4, 5):
        with pytest.raises(wire.BadType):
            decoder(not from_node).feed(message)


@pytest.mark.parametrize("kind", [0, 10, 15])
def test_unknown_type(kind):
    for from_node in (False, True):
        with pytest.raises(wire.BadType):
            decoder(from_node).feed(framed(kind, b""))


@EVERY
def test_too_long_is_told_by_the_header_alone(from_node, message):
    header = message[:3] + b"\xff\xff\xff"
    d = decoder(from_node)
    assert d.feed(header[:5]) == []
    with pytest.raises(wire.TooLong):
        d.feed(header[5:])
    assert d.pending == 0


def test_a_limit_below_the_protocol_s():
    d = decoder(False, limit=wire.ROWS_HEAD + 14)
    with pytest.raises(wire.TooLong):
        d.feed(FROM_GATEWAY["classify"])


@EVERY
def test_payload_cut_or_grown(from_node, message):
    kind, flags, payload = message[2] & 15, message[2] >> 4, message[wire.HEADER_BYTES :]
    for size in range(len(payload)):
        # A shorter CLASSIFY may be one of narrower cells; a shorter ERROR says less.
        if kind == 8 and size >= 5 or kind == 4 and size > 7 and (size - 7) % 5 == 0:
            continue
        with pytest.raises(wire.BadPayload):
            decoder(from_node).feed(framed(kind, payload[:size], flags=flags))
    if kind not in (8,):
        with pytest.raises((wire.BadPayload, wire.TooLong)):
            decoder(from_node).feed(framed(kind, payload + b"\0", flags=flags))


def test_dead_after_an_error():
    d = decoder(True)
    with pytest.raises(wire.BadMagic):
        d.feed(b"GET / HTTP/1.1")
    with pytest.raises(wire.BadMagic):
        d.feed(FROM_NODE["pong"])
    assert isinstance(d.error, wire.BadMagic)


def model_payload(*, features=(0, 5), counts=(1, 1), cuts=(1, 64), threshold=0.5, slot=0):
    head = bytes([slot, len(features)]) + b"m" * 16 + SCHEMA_HASH + struct.pack("<d", threshold)
    body = bytes(features) + struct.pack(f"<{len(counts)}H", *counts)
    body += struct.pack(f"<{len(cuts)}H", *cuts)
    return head + hashlib.sha256(head[1:] + body).digest() + body


@pytest.mark.parametrize(
    "change",
    [
        dict(features=(), counts=(), cuts=()),
        dict(features=(5, 0)),
        dict(features=(5, 5)),
        dict(features=(0, 60)),
        dict(features=tuple(range(61)), counts=(0,) * 61, cuts=()),
        dict(counts=(2, 1)),
        dict(counts=(0xFFFF, 0xFFFF)),
        dict(cuts=(0, 64)),
        dict(cuts=(1, 256)),
        dict(counts=(2, 0), cuts=(7, 7)),
        dict(counts=(2, 0), cuts=(8, 7)),
        dict(features=(40, 41), cuts=(1, 2)),
        dict(threshold=float("nan")),
        dict(threshold=1.1),
        dict(threshold=-0.1),
    ],
    ids=str,
)
def test_models_that_break_the_rule(change):
    assert decoder(True).feed(framed(3, model_payload()))
    with pytest.raises(wire.BadPayload):
        decoder(True).feed(framed(3, model_payload(**change)))


def test_model_with_any_bit_flipped():
    payload = model_payload()
    for i in range(8, 8 * len(payload)):  # the slot, byte 0, is not part of the digest
        damaged = bytearray(payload)
        damaged[i // 8] ^= 1 << i % 8
        with pytest.raises(wire.BadPayload):
            decoder(True).feed(framed(3, bytes(damaged)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.0000001, -1e-300])
def test_numbers_that_are_no_probabilities(value):
    payload = struct.pack("<IBHd", 1, 0, 1, value)
    with pytest.raises(wire.BadPayload):
        decoder(True).feed(framed(5, payload))
    table = struct.pack("<IBHB3Bd", 1, 0, 3, 1, 0, 0, 0, value)
    with pytest.raises(wire.BadPayload):
        decoder(True).feed(framed(5, table, flags=1))


def test_verdicts_with_an_index_outside_the_table():
    payload = struct.pack("<IBHB3Bd", 1, 0, 3, 1, 0, 1, 0, 0.5)
    with pytest.raises(wire.BadPayload):
        decoder(True).feed(framed(5, payload, flags=1))


@pytest.mark.parametrize("name", [b"", b"\xff\xfe", b"a\nb", b"a" * 65, b"\x1b[2J"])
def test_ids_that_do_not_belong_into_a_log(name):
    payload = bytes([1, 1]) + SCHEMA_HASH + bytes([len(name)]) + name
    with pytest.raises((wire.BadPayload, wire.TooLong)):
        decoder(False).feed(framed(1, payload))
    if name.isascii():
        with pytest.raises(ValueError):
            wire.encode_hello(name.decode(), SCHEMA_HASH)


@given(st.booleans(), st.lists(st.binary(max_size=300), max_size=5))
@settings(deadline=None)
def test_garbage_is_a_wire_error_or_nothing(from_node, pieces):
    survive(decoder(from_node), pieces)


@given(
    st.sampled_from([(f, m) for f, _, m in ALL]),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(1, 100),
)
@examples(400)
def test_damaged_messages_are_a_wire_error_or_a_message(which, changes, step):
    from_node, message = which
    damaged = bytearray(message * 2)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    survive(decoder(from_node), [damaged[i : i + step] for i in range(0, len(damaged), step)])


@given(st.booleans(), st.integers(1, 9), st.integers(0, 3), st.binary(max_size=400))
@examples(400)
def test_garbage_in_a_good_header(from_node, kind, flags, payload):
    survive(decoder(from_node), [framed(kind, payload, flags=flags)])


def survive(d, pieces):
    fed = 0
    for piece in pieces:
        fed += len(piece)
        try:
            d.feed(bytes(piece))
        except wire.WireError:
            assert d.error is not None
            assert d.pending == 0
        assert d.pending <= min(fed, wire.HEADER_BYTES + wire.MAX_PAYLOAD)


# -------------------------------------------------------------------------------------- misuse


def test_what_does_not_fit_is_refused():
    for cells in (np.zeros((0, 3), np.uint8), np.zeros((3, 0), np.uint8)):
        with pytest.raises(ValueError):
            wire.encode_classify(1, 0, cells)
    with pytest.raises(ValueError):
        wire.encode_classify(1, 0, np.zeros((65535, 20), np.uint8))
    with pytest.raises(ValueError):
        wire.encode_classify(1, 256, CELLS)
    with pytest.raises(ValueError):
        wire.encode_verdicts(1, 0, np.empty(0))
    with pytest.raises(ValueError):
        wire.encode_bits(1, 0, np.zeros(65536), threshold=0.5)
    with pytest.raises(ValueError):
        wire.encode_welcome("n", 0, max_in_flight=1)
    with pytest.raises(ValueError):
        wire.encode_hello("g", b"short")


def test_long_error_texts_are_cut_between_characters():
    message = only(decoder(True).feed(wire.encode_error(1, "ä" * 500)))
    assert message.text == "ä" * 100

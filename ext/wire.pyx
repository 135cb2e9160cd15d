# Messages of the link to and from bytes: the codec, and nothing that touches a socket.
#
# Design:
#  a) sans-I/O: encode_* returns the bytes of one message; Decoder.feed takes bytes as they come
#     and returns whole messages. docs/link.md has the format, byte by byte.
#  b) no Python object per row: cells and probabilities are copied in one piece. Cells of a
#     decoded CLASSIFY are a read-only view of the received bytes.
#  c) a length is judged by its header, before a single byte of the payload is kept; the buffer
#     grows with what has arrived, never with what was promised.
#  d) whatever arrives is a message or a WireError with a name; after an error a decoder stays dead.
#
# All integers are little-endian, as on every machine this runs on (checked at import).

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import hashlib
import sys

import numpy as np

if sys.byteorder != "little":
    raise ImportError("ids_appliance._wire needs a little-endian machine")

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX

cdef enum:
    _MAGIC = 0xD5
    _VERSION = 1
    _HEADER = 6  # magic u8, version u8, type (low 4 bits) and flags (high 4), length u24
    _MAX_PAYLOAD = 1 << 20

    _HELLO = 1
    _WELCOME = 2
    _MODEL = 3
    _CLASSIFY = 4
    _VERDICTS = 5
    _PING = 6
    _PONG = 7
    _ERROR = 8
    _BYE = 9

    _FLAG_TABLE = 1  # VERDICTS: indices into a table of distinct probabilities
    _FLAG_BITS = 2   # CLASSIFY: asks for bare verdicts; VERDICTS: carries bare verdicts

    _MAX_NAME = 64     # bytes of a gateway's or node's id
    _MAX_TEXT = 200    # bytes of an ERROR's message
    _ROWS_HEAD = 7     # seq u32, slot u8, rows u16
    _MODEL_HEAD = 90   # slot u8, features u8, model id 16, schema hash 32, threshold f64, digest 32

MAGIC = _MAGIC
VERSION = _VERSION
HEADER_BYTES = _HEADER
MAX_PAYLOAD = _MAX_PAYLOAD
MAX_ROWS = 65535
MAX_NAME = _MAX_NAME
ROWS_HEAD = _ROWS_HEAD

ERROR_VERSION = 1    # no common protocol version
ERROR_SCHEMA = 2     # another packet record
ERROR_ROLE = 3       # the certificate does not belong to the id, or is not a gateway's
ERROR_BUSY = 4       # connection cap reached
ERROR_PROTOCOL = 5   # malformed, or not expected in this state
ERROR_STALE = 6      # the model of request `seq` is not known (any more)
ERROR_TIMEOUT = 7    # silent for too long


class WireError(Exception):
    """Bytes that are not a message: the connection is of no further use."""


class BadMagic(WireError):
    """The first byte of a header is not ours: another protocol, or lost synchronisation."""


class BadVersion(WireError):
    """A message of a protocol version that was not agreed on."""


class BadType(WireError):
    """An unknown type, or one that this side of the link never receives."""


class BadFlags(WireError):
    """A flag that its message type does not have."""


class TooLong(WireError):
    """A length over the cap of its message type."""


class BadPayload(WireError):
    """A payload whose size or content breaks its message's rules."""


# ---------------------------------------------------------------------------------- messages

cdef class Hello:
    """First message of a gateway."""
    cdef readonly int min_version  # lowest protocol version it speaks
    cdef readonly int max_version  # highest
    cdef readonly bytes schema_hash  # 32 bytes
    cdef readonly str gateway_id  # 1-64 bytes of printable UTF-8


cdef class Welcome:
    """The node's answer to HELLO; a MODEL follows at once."""
    cdef readonly int version  # agreed on
    cdef readonly int max_rows  # per CLASSIFY
    cdef readonly int max_in_flight  # CLASSIFY messages not answered yet
    cdef readonly str node_id  # 1-64 bytes of printable UTF-8


cdef class Model:
    """Cut points of a model, and the slot that CLASSIFY names it by on this connection."""
    cdef readonly int slot  # 0-255
    cdef readonly bytes model_id  # 16 bytes
    cdef readonly bytes schema_hash  # 32 bytes
    cdef readonly double threshold  # in [0, 1]
    cdef readonly tuple features  # strictly increasing
    cdef readonly tuple cuts  # u16 arrays, one per feature, strictly increasing


cdef class Classify:
    """Cells to judge."""
    cdef readonly unsigned int seq  # echoed by the answer
    cdef readonly int slot  # of the model the cells are made of
    cdef readonly bint bits  # asks for bare verdicts
    cdef readonly object cells  # u8 (n, key_bytes), read-only


cdef class Verdicts:
    """Answer to a CLASSIFY."""
    cdef readonly unsigned int seq  # of the CLASSIFY
    cdef readonly int slot  # of the model that judged
    cdef readonly bint bits  # probabilities are bare verdicts, 0.0 or 1.0
    cdef readonly object probabilities  # f64 (n,), in [0, 1]


cdef class Ping:
    """Asks for a PONG."""
    cdef readonly unsigned long long token


cdef class Pong:
    """Answer to a PING, with its token."""
    cdef readonly unsigned long long token


cdef class Error:
    """Something was refused; only ERROR_STALE leaves the connection open."""
    cdef readonly int code  # ERROR_*
    cdef readonly unsigned int seq  # of the CLASSIFY concerned; 0: none
    cdef readonly str text  # one line for people


cdef class Bye:
    """The sender closes the connection in good order."""


Message = Hello | Welcome | Model | Classify | Verdicts | Ping | Pong | Error | Bye


# ------------------------------------------------------------------------------------ encode

cdef inline void _put16(uint8_t *p, uint32_t v) noexcept nogil:
    p[0] = v & 0xFF
    p[1] = (v >> 8) & 0xFF


cdef inline void _put32(uint8_t *p, uint32_t v) noexcept nogil:
    _put16(p, v & 0xFFFF)
    _put16(p + 2, v >> 16)


cdef inline uint32_t _get16(const uint8_t *p) noexcept nogil:
    return p[0] | (<uint32_t>p[1] << 8)


cdef inline uint32_t _get32(const uint8_t *p) noexcept nogil:
    return _get16(p) | (_get16(p + 2) << 16)


cdef inline uint64_t _get64(const uint8_t *p) noexcept nogil:
    return _get32(p) | (<uint64_t>_get32(p + 4) << 32)


cdef void _put_header(uint8_t *p, int kind, int flags, Py_ssize_t length) noexcept nogil:
    p[0] = _MAGIC
    p[1] = _VERSION
    p[2] = <uint8_t>(kind | (flags << 4))
    p[3] = length & 0xFF
    p[4] = (length >> 8) & 0xFF
    p[5] = (length >> 16) & 0xFF


cdef bytes _message(int kind, bytes payload):
    cdef Py_ssize_t n = PyBytes_GET_SIZE(payload)
    cdef bytes out
    if n > _MAX_PAYLOAD:
        raise ValueError(f"payload of {n} bytes is over {_MAX_PAYLOAD}")
    out = PyBytes_FromStringAndSize(NULL, _HEADER + n)
    _put_header(<uint8_t *>PyBytes_AS_STRING(out), kind, 0, n)
    memcpy(PyBytes_AS_STRING(out) + _HEADER, PyBytes_AS_STRING(payload), n)
    return out


cdef bytes _name(str name):
    cdef bytes raw = name.encode()
    if not 1 <= len(raw) <= _MAX_NAME or not name.isprintable():
        raise ValueError(f"an id is 1 to {_MAX_NAME} bytes of printable UTF-8: {name!r}")
    return bytes([len(raw)]) + raw


def encode_hello(str gateway_id, bytes schema_hash, *, int min_version=_VERSION, int max_version=_VERSION):
    """Return HELLO; `schema_hash` has 32 bytes."""
    if len(schema_hash) != 32:
        raise ValueError("a schema hash has 32 bytes")
    return _message(_HELLO, bytes([min_version, max_version]) + schema_hash + _name(gateway_id))


def encode_welcome(str node_id, int max_rows, *, int max_in_flight, int version=_VERSION):
    """Return WELCOME with the node's limits."""
    cdef uint8_t limits[4]
    if not 1 <= max_rows <= 65535 or not 1 <= max_in_flight <= 65535:
        raise ValueError("limits are 1 to 65535")
    _put16(limits, max_rows)
    _put16(limits + 2, max_in_flight)
    return _message(_WELCOME, bytes([version]) + <bytes>(<char *>limits)[:4] + _name(node_id))


def encode_model(int slot, grid):
    """Return MODEL for a grid (attributes as of types.Grid), to be called `slot` from now on."""
    if len(grid.model_id) != 16 or len(grid.schema_hash) != 32 or len(grid.features) != len(grid.cuts):
        raise ValueError("not a grid: model id 16 bytes, schema hash 32, cuts for each feature")
    head = bytes([slot, len(grid.features)]) + grid.model_id + grid.schema_hash
    head += np.array([grid.threshold], "<f8").tobytes()
    body = bytes(grid.features) + np.array([len(c) for c in grid.cuts], "<u2").tobytes()
    body += b"".join(np.ascontiguousarray(c, "<u2").tobytes() for c in grid.cuts)
    # The digest leaves the slot out: it belongs to the connection, not to the model.
    return _message(_MODEL, head + hashlib.sha256(head[1:] + body).digest() + body)


def encode_classify(unsigned int seq, int slot, const uint8_t[:, ::1] cells, *, bint bits=False):
    """Return CLASSIFY for (n, key_bytes) cells of the model in `slot`; `bits` asks for bare
    verdicts instead of probabilities."""
    cdef Py_ssize_t n = cells.shape[0]
    cdef Py_ssize_t size = n * cells.shape[1]
    cdef bytes out
    cdef uint8_t *p
    if not 1 <= n <= 65535 or size == 0 or _ROWS_HEAD + size > _MAX_PAYLOAD or not 0 <= slot <= 255:
        raise ValueError(f"{n} cells of {cells.shape[1]} bytes do not fit one CLASSIFY")
    out = PyBytes_FromStringAndSize(NULL, _HEADER + _ROWS_HEAD + size)
    p = <uint8_t *>PyBytes_AS_STRING(out)
    _put_header(p, _CLASSIFY, _FLAG_BITS if bits else 0, _ROWS_HEAD + size)
    _put32(p + _HEADER, seq)
    p[_HEADER + 4] = <uint8_t>slot
    _put16(p + _HEADER + 5, <uint32_t>n)
    memcpy(p + _HEADER + _ROWS_HEAD, &cells[0, 0], size)
    return out


cdef Py_ssize_t _put_table(uint8_t *p, const uint64_t *values, Py_ssize_t n) noexcept nogil:
    # Table form of n probabilities: k u8, n indices u8, k values; exact bits. Returns the bytes
    # used, or 0 where that would not be smaller than 8 * n.
    cdef uint16_t slots[512]  # open addressing: index + 1 into the table
    cdef uint64_t table[255]
    cdef Py_ssize_t i, k = 0
    cdef Py_ssize_t most = (7 * n - 2) // 8  # largest k that saves a byte
    cdef uint32_t at
    if most > 255:
        most = 255
    if most < 1:
        return 0
    memset(slots, 0, sizeof(slots))
    for i in range(n):
        at = <uint32_t>((values[i] * <uint64_t>0x9E3779B97F4A7C15) >> 55)
        while slots[at] and table[slots[at] - 1] != values[i]:
            at = (at + 1) & 511
        if not slots[at]:
            if k == most:
                return 0
            table[k] = values[i]
            k += 1
            slots[at] = <uint16_t>k
        p[1 + i] = <uint8_t>(slots[at] - 1)
    p[0] = <uint8_t>k
    memcpy(p + 1 + n, table, k * 8)
    return 1 + n + k * 8


def encode_verdicts(unsigned int seq, int slot, const double[::1] probabilities):
    """Return VERDICTS with exact probabilities, in the smaller of two forms."""
    cdef Py_ssize_t n = probabilities.shape[0]
    cdef Py_ssize_t size
    cdef bytes out
    cdef uint8_t *p
    cdef uint8_t *body
    cdef int flags = _FLAG_TABLE
    if not 1 <= n <= 65535 or not 0 <= slot <= 255:
        raise ValueError(f"{n} probabilities do not fit one VERDICTS")
    out = PyBytes_FromStringAndSize(NULL, _HEADER + _ROWS_HEAD + 8 * n)
    p = <uint8_t *>PyBytes_AS_STRING(out)
    body = p + _HEADER + _ROWS_HEAD
    size = _put_table(body, <const uint64_t *>&probabilities[0], n)
    if size == 0:
        flags = 0
        size = 8 * n
        memcpy(body, &probabilities[0], size)
    _put_header(p, _VERDICTS, flags, _ROWS_HEAD + size)
    _put32(p + _HEADER, seq)
    p[_HEADER + 4] = <uint8_t>slot
    _put16(p + _HEADER + 5, <uint32_t>n)
    return out if flags == 0 else out[:_HEADER + _ROWS_HEAD + size]


def encode_bits(unsigned int seq, int slot, const double[::1] probabilities, *, double threshold):
    """Return VERDICTS with bare verdicts: 1 where the probability is greater than `threshold`."""
    cdef Py_ssize_t n = probabilities.shape[0]
    cdef Py_ssize_t i, size = (n + 7) // 8
    cdef bytes out
    cdef uint8_t *p
    if not 1 <= n <= 65535 or not 0 <= slot <= 255:
        raise ValueError(f"{n} probabilities do not fit one VERDICTS")
    out = PyBytes_FromStringAndSize(NULL, _HEADER + _ROWS_HEAD + size)
    p = <uint8_t *>PyBytes_AS_STRING(out)
    _put_header(p, _VERDICTS, _FLAG_BITS, _ROWS_HEAD + size)
    p += _HEADER
    _put32(p, seq)
    p[4] = <uint8_t>slot
    _put16(p + 5, <uint32_t>n)
    p += _ROWS_HEAD
    memset(p, 0, size)
    for i in range(n):
        if probabilities[i] > threshold:
            p[i >> 3] |= <uint8_t>(1 << (i & 7))
    return out


def encode_ping(unsigned long long token):
    """Return PING."""
    return _message(_PING, int(token).to_bytes(8, "little"))


def encode_pong(unsigned long long token):
    """Return PONG with the token of the PING."""
    return _message(_PONG, int(token).to_bytes(8, "little"))


def encode_error(int code, str text, *, unsigned int seq=0):
    """Return ERROR; the text is cut to what fits."""
    raw = text.encode()[:_MAX_TEXT].decode(errors="ignore").encode()
    return _message(_ERROR, bytes([code]) + int(seq).to_bytes(4, "little") + raw)


def encode_bye():
    """Return BYE."""
    return _message(_BYE, b"")


# ------------------------------------------------------------------------------------ decode

cdef str _decode_text(const uint8_t *p, Py_ssize_t n):
    try:
        text = (<bytes>(<const char *>p)[:n]).decode()
    except UnicodeDecodeError:
        raise BadPayload("text is not UTF-8") from None
    if not text.isprintable():
        # It goes into logs and terminals.
        raise BadPayload("text is not printable")
    return text


cdef str _decode_name(const uint8_t *p, Py_ssize_t n):
    # The length byte and the name are all that is left of the payload.
    if n < 2 or p[0] != n - 1 or p[0] > _MAX_NAME:
        raise BadPayload("id of a wrong length")
    return _decode_text(p + 1, n - 1)


cdef Hello _decode_hello(const uint8_t *p, Py_ssize_t n):
    cdef Hello m = Hello.__new__(Hello)
    if n < 36:
        raise BadPayload("HELLO is too short")
    m.min_version = p[0]
    m.max_version = p[1]
    if m.min_version > m.max_version:
        raise BadPayload("HELLO with an empty range of versions")
    m.schema_hash = (<const char *>p)[2:34]
    m.gateway_id = _decode_name(p + 34, n - 34)
    return m


cdef Welcome _decode_welcome(const uint8_t *p, Py_ssize_t n):
    cdef Welcome m = Welcome.__new__(Welcome)
    if n < 7:
        raise BadPayload("WELCOME is too short")
    m.version = p[0]
    m.max_rows = _get16(p + 1)
    m.max_in_flight = _get16(p + 3)
    if m.max_rows == 0 or m.max_in_flight == 0:
        raise BadPayload("WELCOME with a limit of 0")
    m.node_id = _decode_name(p + 5, n - 5)
    return m


cdef object _decode_cuts(const uint8_t *p, Py_ssize_t n, int width):
    cdef Py_ssize_t i
    cdef uint32_t last = 0, cut
    for i in range(n):
        cut = _get16(p + 2 * i)
        if cut <= last or cut >> width:
            raise BadPayload("MODEL with cut points out of order or range")
        last = cut
    cuts = np.frombuffer(<bytes>(<const char *>p)[:2 * n], dtype="<u2")
    return cuts


cdef Model _decode_model(const uint8_t *p, Py_ssize_t n, bytes widths):
    # The one rule: features strictly increasing and known, cuts strictly increasing within
    # 1 .. domain - 1, sizes exact, digest right, threshold a probability.
    cdef Model m = Model.__new__(Model)
    cdef Py_ssize_t i, k, at, count
    cdef int last = -1
    cdef double threshold
    if n < _MODEL_HEAD:
        raise BadPayload("MODEL is too short")
    k = p[1]
    if k == 0 or k > len(widths) or n < _MODEL_HEAD + 3 * k:
        raise BadPayload("MODEL with a wrong number of features")
    at = _MODEL_HEAD + 3 * k
    for i in range(k):
        at += 2 * _get16(p + _MODEL_HEAD + k + 2 * i)
    if at != n:
        raise BadPayload("MODEL whose cut points do not fill it")
    raw = <bytes>(<const char *>p)[:n]
    if hashlib.sha256(raw[1:58] + raw[90:]).digest() != raw[58:90]:
        raise BadPayload("MODEL with a wrong digest")
    memcpy(&threshold, p + 50, 8)
    if not 0.0 <= threshold <= 1.0:
        raise BadPayload("MODEL whose threshold is no probability")
    features = []
    cuts = []
    at = _MODEL_HEAD + 3 * k
    for i in range(k):
        if p[_MODEL_HEAD + i] <= last or p[_MODEL_HEAD + i] >= len(widths):
            raise BadPayload("MODEL with features out of order or range")
        last = p[_MODEL_HEAD + i]
        count = _get16(p + _MODEL_HEAD + k + 2 * i)
        features.append(last)
        cuts.append(_decode_cuts(p + at, count, widths[last]))
        at += 2 * count
    m.slot = p[0]
    m.model_id = raw[2:18]
    m.schema_hash = raw[18:50]
    m.threshold = threshold
    m.features = tuple(features)
    m.cuts = tuple(cuts)
    return m


cdef Classify _decode_classify(bytes data, Py_ssize_t start, Py_ssize_t n, int flags):
    cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(data) + start
    cdef Classify m = Classify.__new__(Classify)
    cdef Py_ssize_t rows
    if n < _ROWS_HEAD:
        raise BadPayload("CLASSIFY is too short")
    rows = _get16(p + 5)
    if rows == 0 or n == _ROWS_HEAD or (n - _ROWS_HEAD) % rows:
        raise BadPayload("CLASSIFY whose rows do not fill it")
    m.seq = _get32(p)
    m.slot = p[4]
    m.bits = flags == _FLAG_BITS
    cells = np.frombuffer(data, dtype=np.uint8, count=n - _ROWS_HEAD, offset=start + _ROWS_HEAD)
    m.cells = cells.reshape(rows, (n - _ROWS_HEAD) // rows)
    return m


cdef Verdicts _decode_verdicts(const uint8_t *p, Py_ssize_t n, int flags):
    cdef Verdicts m = Verdicts.__new__(Verdicts)
    cdef Py_ssize_t rows, i, k, size
    cdef double[::1] out
    cdef double value
    cdef bint fine = True
    if n < _ROWS_HEAD:
        raise BadPayload("VERDICTS is too short")
    rows = _get16(p + 5)
    m.seq = _get32(p)
    m.slot = p[4]
    m.bits = flags == _FLAG_BITS
    p += _ROWS_HEAD
    size = n - _ROWS_HEAD
    if rows == 0:
        raise BadPayload("VERDICTS without rows")
    m.probabilities = np.empty(rows)
    out = m.probabilities
    if flags == _FLAG_BITS:
        if size != (rows + 7) // 8 or (rows & 7 and p[size - 1] >> (rows & 7)):
            raise BadPayload("VERDICTS whose bits do not fill it")
        for i in range(rows):
            out[i] = (p[i >> 3] >> (i & 7)) & 1
        return m
    if flags == _FLAG_TABLE:
        k = p[0] if size else 0
        if k == 0 or size != 1 + rows + 8 * k:
            raise BadPayload("VERDICTS whose table does not fill it")
        for i in range(rows):
            if p[1 + i] >= k:
                raise BadPayload("VERDICTS with an index outside its table")
            memcpy(&out[i], p + 1 + rows + 8 * p[1 + i], 8)
    else:
        if size != 8 * rows:
            raise BadPayload("VERDICTS whose probabilities do not fill it")
        memcpy(&out[0], p, size)
    for i in range(rows):
        value = out[i]
        if not 0.0 <= value <= 1.0:  # also NaN
            fine = False
    if not fine:
        raise BadPayload("VERDICTS with a number that is no probability")
    return m


cdef Error _decode_error(const uint8_t *p, Py_ssize_t n):
    cdef Error m = Error.__new__(Error)
    if n < 5:
        raise BadPayload("ERROR is too short")
    m.code = p[0]
    m.seq = _get32(p + 1)
    m.text = _decode_text(p + 5, n - 5)
    return m


cdef class Decoder:
    """Bytes in any pieces in, whole messages out; keeps at most one unfinished message.

    `from_node` tells whose messages these are: a gateway never gets a CLASSIFY and a node never
    a MODEL. `widths` are the bits of each feature of the packet record, by which MODEL is checked;
    `limit` caps the payload of MODEL, CLASSIFY and VERDICTS below MAX_PAYLOAD.
    """

    cdef readonly object error  # the WireError that ended it, or None
    cdef bint _from_node
    cdef bytes _widths
    cdef Py_ssize_t _limit
    cdef bytearray _pending  # bytes of the unfinished message, header first
    cdef Py_ssize_t _need  # bytes until the next look at _pending
    cdef bytes _held  # bytes that were not looked at yet, from _held_at on
    cdef Py_ssize_t _held_at

    def __init__(self, bint from_node, *, widths=(), Py_ssize_t limit=_MAX_PAYLOAD):
        self._from_node = from_node
        self._widths = bytes(widths)
        self._limit = min(limit, _MAX_PAYLOAD)
        self._pending = bytearray()
        self._need = _HEADER
        self._held = b""
        self._held_at = 0

    @property
    def pending(self):
        """Number of bytes kept of an unfinished message."""
        return len(self._pending)

    @property
    def held(self):
        """Number of bytes not looked at, because `most` messages had been returned."""
        return PyBytes_GET_SIZE(self._held) - self._held_at

    def feed(self, data, Py_ssize_t most=PY_SSIZE_T_MAX):
        """Return the messages that `data` completes, in order, and no more than `most`: what
        follows them is held, as it came, for the next call.

        Raises a WireError, from then on at each call; messages completed by the same call are
        given up, since their sender cannot be trusted any more."""
        cdef bytes chunk
        cdef Py_ssize_t at = 0, size, take, length
        if self.error is not None:
            raise self.error
        chunk = data if type(data) is bytes else bytes(data)
        if self.held:
            if chunk:
                chunk = self._held[self._held_at:] + chunk
            else:
                chunk = self._held
                at = self._held_at
        self._held = b""
        self._held_at = 0
        size = PyBytes_GET_SIZE(chunk)
        out = []
        try:
            while at < size:
                if len(out) >= most:
                    self._held = chunk
                    self._held_at = at
                    break
                if self._pending:
                    take = min(self._need - len(self._pending), size - at)
                    self._pending += chunk[at:at + take]
                    at += take
                    if len(self._pending) < self._need:
                        break
                    if self._need == _HEADER:
                        whole = bytes(self._pending)
                        self._need += self._length(<const uint8_t *>PyBytes_AS_STRING(whole))
                        if len(self._pending) < self._need:
                            continue
                    whole = bytes(self._pending)
                    self._pending = bytearray()
                    self._need = _HEADER
                    out.append(self._decode(whole, 0, len(whole) - _HEADER))
                    continue
                if size - at >= _HEADER:
                    length = self._length(<const uint8_t *>PyBytes_AS_STRING(chunk) + at)
                    if size - at >= _HEADER + length:
                        out.append(self._decode(chunk, at, length))
                        at += _HEADER + length
                        continue
                    self._need = _HEADER + length
                self._pending += chunk[at:]
                break
        except WireError as error:
            self.error = error
            self._pending = bytearray()
            self._held = b""
            self._held_at = 0
            raise
        return out

    cdef Py_ssize_t _length(self, const uint8_t *p) except -1:
        # Judge a header: the length of the payload, or a WireError.
        cdef int kind = p[2] & 0x0F
        cdef int flags = p[2] >> 4
        cdef Py_ssize_t length = p[3] | (<Py_ssize_t>p[4] << 8) | (<Py_ssize_t>p[5] << 16)
        cdef Py_ssize_t cap
        if p[0] != _MAGIC:
            raise BadMagic(f"message begins with {p[0]:#04x}, not {_MAGIC:#04x}")
        # HELLO and ERROR look alike in all versions, so that a mismatch can be told.
        if p[1] != _VERSION and kind != _HELLO and kind != _ERROR:
            raise BadVersion(f"message of protocol version {p[1]}, not {_VERSION}")
        if kind == _PING or kind == _PONG:
            cap = 8
        elif kind == _ERROR:
            cap = 5 + _MAX_TEXT
        elif kind == _BYE:
            cap = 0
        elif kind == _HELLO and not self._from_node:
            cap = 35 + _MAX_NAME
        elif kind == _WELCOME and self._from_node:
            cap = 6 + _MAX_NAME
        elif (kind == _CLASSIFY) if not self._from_node else (kind == _MODEL or kind == _VERDICTS):
            cap = self._limit
        else:
            raise BadType(f"message type {kind} is not one that comes from this side")
        if length > cap:
            raise TooLong(f"message type {kind} with {length} bytes, the cap is {cap}")
        if flags and not (kind == _CLASSIFY and flags == _FLAG_BITS) and not (
            kind == _VERDICTS and (flags == _FLAG_BITS or flags == _FLAG_TABLE)
        ):
            raise BadFlags(f"message type {kind} with flags {flags}")
        return length

    cdef object _decode(self, bytes data, Py_ssize_t at, Py_ssize_t n):
        cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(data) + at
        cdef int kind = p[2] & 0x0F
        cdef int flags = p[2] >> 4
        cdef Ping ping
        cdef Pong pong
        p += _HEADER
        if kind == _CLASSIFY:
            return _decode_classify(data, at + _HEADER, n, flags)
        if kind == _VERDICTS:
            return _decode_verdicts(p, n, flags)
        if kind == _HELLO:
            return _decode_hello(p, n)
        if kind == _WELCOME:
            return _decode_welcome(p, n)
        if kind == _MODEL:
            return _decode_model(p, n, self._widths)
        if kind == _ERROR:
            return _decode_error(p, n)
        if kind == _BYE:
            return Bye.__new__(Bye)
        if n != 8:
            raise BadPayload("PING or PONG without its token")
        if kind == _PING:
            ping = Ping.__new__(Ping)
            ping.token = _get64(p)
            return ping
        pong = Pong.__new__(Pong)
        pong.token = _get64(p)
        return pong

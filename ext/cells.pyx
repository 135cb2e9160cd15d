"""Packets in, cells out, and what is already known about them.

Design:
 a) the *grid* gives every value of every feature its code by table; the codes of a packet's
    features, one byte each (two where a feature has more than 255 cuts, little-endian), are its
    cell. Packets of one cell get the same probability, bit for bit.
 b) the *cache* holds known cells: 8-way sets, full key compared, never grows. A hostile sender can
    make it useless, never large; the hash is keyed with a secret so that it cannot be steered.
 c) *asks* are cells that are with the classifier, in a bounded ring, numbered in order. Packets
    wait for an ask by number; a batch waits until none of its packets does. Batches are finished
    in order, so asks are freed from the oldest.
 d) a packet that waits keeps its record (136 bytes) so that it can be encoded again when the model
    changes under way; a packet whose cell is known keeps nothing.
 e) one C loop per batch without the GIL; nothing is allocated per packet. A batch is one piece of
    memory (judged.pxd): its numpy arrays are made for whoever asks, since a batch of 60 packets
    costs less to judge than to describe.

A table belongs to one model for its whole life, so an answer of an old model cannot reach a packet
of a new one. Without a grid (features=()), for transports that send packets, not cells, every packet
is asked by itself and nothing is cached; its cell is the 60 features of the group `packet`.
"""

import os
import sys

import numpy as np

if sys.byteorder != "little":
    raise ImportError("cells travel as the machine writes them: only little-endian machines")

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.math cimport NAN
from libc.stdlib cimport calloc, free, malloc
from judged cimport *
from packet cimport *

cdef extern from *:
    """
    static inline unsigned long long ids_mum(unsigned long long a, unsigned long long b) {
        __uint128_t r = (__uint128_t)a * b;
        return (unsigned long long)r ^ (unsigned long long)(r >> 64);
    }
    """
    uint64_t ids_mum(uint64_t a, uint64_t b) noexcept nogil

cdef enum:
    WAYS = 8
    MAX_WORDS = 17          # 68 columns of two bytes

cdef enum:
    # Outcome in types.py
    O_JUDGED = 0
    O_UNANSWERED = 4
    O_SHED = 5
    O_WAITING = 6
    N_OUTCOMES = 9

cdef enum:
    # State of an ask
    A_NEW = 1               # not yet handed to the classifier
    A_SENT = 2
    A_ANSWERED = 3
    A_FAILED = 4            # no answer: later packets of this cell ask anew

cdef enum:
    S_HITS = 0              # packets whose cell the cache knew
    S_JOINED = 1            # packets that wait for an ask of an earlier packet
    S_ASKS = 2              # new cells
    S_EVICTIONS = 3
    S_SHED = 4
    N_STATS = 5

STAT_NAMES = ("cell_hits", "cell_joined", "cell_asks", "cell_evictions", "cell_shed")

_FRAME = np.dtype([
    ("offset", "<u8"), ("caplen", "<u4"), ("wirelen", "<u4"), ("timestamp_ns", "<i8"),
    ("number", "<u8"), ("ifindex", "<u4"), ("linktype", "<u2"), ("direction", "u1"),
    ("standing", "u1"),
])
_SENDER = np.dtype([
    ("ifindex", "<u4"), ("side", "u1"), ("family", "u1"), ("mac", "u1", (6,)),
    ("address", "u1", (16,)),
])


cdef Py_ssize_t _piece(object array, Py_buffer *buffer, Py_ssize_t item, int flags) except -1:
    # Acquire an array of items of so many bytes; return how many there are. A structured memoryview
    # would compare every field of the dtype each time, which costs as much as judging 50 packets.
    PyObject_GetBuffer(array, buffer, flags)
    if buffer.itemsize != item:
        PyBuffer_Release(buffer)
        raise ValueError("an array of items of %d bytes is wanted" % item)
    return buffer.len // item


cdef void _add(const uint8_t *outcomes, Py_ssize_t n, uint64_t *totals) noexcept nogil:
    # Count the first n outcomes into (9,) totals.
    cdef uint64_t counts[256]
    cdef Py_ssize_t i
    memset(counts, 0, sizeof(counts))
    for i in range(n):
        counts[outcomes[i]] += 1
    for i in range(N_OUTCOMES):
        totals[i] += counts[i]


def tally(outcomes):
    """Return how often each Outcome is there: 9 numbers. outcomes: (n,) uint8."""
    cdef Py_buffer buffer
    cdef uint64_t totals[N_OUTCOMES]
    cdef Py_ssize_t n = _piece(outcomes, &buffer, 1, PyBUF_SIMPLE)
    memset(totals, 0, sizeof(totals))
    _add(<const uint8_t *>buffer.buf, n, totals)
    PyBuffer_Release(&buffer)
    return [totals[i] for i in range(N_OUTCOMES)]


cdef class Assignment:
    """One batch under way: what each frame became, and the packets that wait for an ask.

    frames: (m,) FRAME, in one piece. marks: (m,) of Outcome, what a gate has said; the frames that
    are WAITING are copied, all where there are no marks, and the others' last words are added to
    totals: (9,) uint64. The arrays `frames`, `senders`, `outcomes`, `probabilities` (NaN until
    judged), `verdicts`, `models` (index into the pipeline's list of model ids) and `cells` (a keyed
    hash of the packet's cell: equal cells of one model, equal numbers) have len() places; each is
    made when it is asked for. As a buffer it is the piece of memory that judged.pxd describes.
    """

    cdef readonly Py_ssize_t assigned       # frames looked at so far
    cdef readonly Py_ssize_t waiting        # packets that wait
    cdef readonly Py_ssize_t adopted        # of them, how many wait in the present table
    cdef public object table                # CellTable the waiting packets' asks belong to
    cdef Py_ssize_t n, room
    cdef uint8_t *memory
    cdef Judged j                           # the columns, in it
    cdef int64_t oldest                     # lowest ask any packet waits for
    cdef bint held                          # frame `assigned` is parsed, and had no room yet
    cdef uint16_t held_row[N_COLUMNS]              # its record
    cdef int32_t *wait_frame                # index of the frame
    cdef int64_t *wait_ask                  # number of the ask
    cdef uint16_t *wait_rows                # (room, 68)

    def __cinit__(self):
        self.memory = NULL
        self.wait_frame = NULL
        self.wait_ask = NULL
        self.wait_rows = NULL

    def __init__(self, frames, marks=None, totals=None):
        cdef Py_buffer given, marked, summed
        cdef const uint8_t *mark = NULL
        cdef const Frame *frame
        cdef Py_ssize_t i, m, n, to = 0
        cdef bint marking = marks is not None
        if self.memory != NULL:
            raise ValueError("a batch is taken once")
        m = _piece(frames, &given, sizeof(Frame), PyBUF_SIMPLE)
        n = m
        try:
            if marking:
                marking = False  # nothing to release, should this raise
                i = _piece(marks, &marked, 1, PyBUF_SIMPLE)
                marking = True
                if i < m:
                    raise ValueError("marks are fewer than the frames")
                mark = <const uint8_t *>marked.buf
                for i in range(m):
                    n -= mark[i] != O_WAITING
            self._room_for(n)
            frame = <const Frame *>given.buf
            if n == m:
                memcpy(self.j.frames, frame, n * sizeof(Frame))
            else:
                for i in range(m):
                    if mark[i] == O_WAITING:
                        self.j.frames[to] = frame[i]
                        to += 1
                if totals is not None:
                    if _piece(totals, &summed, 8, PyBUF_WRITABLE) < N_OUTCOMES:
                        PyBuffer_Release(&summed)
                        raise ValueError("totals have 9 places")
                    _add(mark, m, <uint64_t *>summed.buf)
                    (<uint64_t *>summed.buf)[O_WAITING] -= n
                    PyBuffer_Release(&summed)
        finally:
            PyBuffer_Release(&given)
            if marking:
                PyBuffer_Release(&marked)
        self.oldest = -1

    cdef int _room_for(self, Py_ssize_t n) except -1:
        cdef Py_ssize_t i
        self.memory = <uint8_t *>malloc(judged_bytes(n))
        if self.memory == NULL:
            raise MemoryError()
        self.n = n
        (<uint64_t *>self.memory)[0] = n
        judged_at(self.memory, n, &self.j)
        memset(self.j.cells, 0, n * (sizeof(uint64_t) + sizeof(Sender) + 3))
        memset(self.j.outcomes, O_WAITING, n)
        for i in range(n):
            self.j.probabilities[i] = NAN
        return 0

    def __len__(self):
        return self.n

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.memory == NULL:
            raise ValueError("a batch that was not taken")
        PyBuffer_FillInfo(buffer, self, self.memory, judged_bytes(self.n), False, flags)

    cdef object _column(self, const void *at, dtype):
        return np.frombuffer(self, dtype, self.n, <const uint8_t *>at - self.memory)

    @property
    def frames(self):
        return self._column(self.j.frames, _FRAME)

    @property
    def senders(self):
        return self._column(self.j.senders, _SENDER)

    @property
    def outcomes(self):
        return self._column(self.j.outcomes, np.uint8)

    @property
    def probabilities(self):
        return self._column(self.j.probabilities, np.float64)

    @property
    def verdicts(self):
        return self._column(self.j.verdicts, np.uint8)

    @property
    def models(self):
        return self._column(self.j.models, np.uint8)

    @property
    def cells(self):
        return self._column(self.j.cells, np.uint64)

    def count(self, totals):
        """Add what became of the packets to totals: (9,) uint64 by Outcome."""
        cdef Py_buffer summed
        if _piece(totals, &summed, 8, PyBUF_WRITABLE) < N_OUTCOMES:
            PyBuffer_Release(&summed)
            raise ValueError("totals have 9 places")
        _add(self.j.outcomes, self.n, <uint64_t *>summed.buf)
        PyBuffer_Release(&summed)

    def __dealloc__(self):
        free(self.memory)
        free(self.wait_frame)
        free(self.wait_ask)
        free(self.wait_rows)

    cdef inline void _move(self, Py_ssize_t i, Py_ssize_t to) noexcept nogil:
        # Waiting packet i becomes waiting packet `to`.
        if i == to:
            return
        self.wait_frame[to] = self.wait_frame[i]
        self.wait_ask[to] = self.wait_ask[i]
        memcpy(self.wait_rows + to * N_COLUMNS, self.wait_rows + i * N_COLUMNS,
               N_COLUMNS * sizeof(uint16_t))

    cdef int _reserve(self) except -1 nogil:
        # Room for one more waiting packet; doubled, so that a batch of known cells pays nothing.
        cdef Py_ssize_t room
        cdef int32_t *frame
        cdef int64_t *ask
        cdef uint16_t *rows
        if self.waiting < self.room:
            return 0
        room = self.room * 2 if self.room else 64
        frame = <int32_t *>malloc(room * sizeof(int32_t))
        ask = <int64_t *>malloc(room * sizeof(int64_t))
        rows = <uint16_t *>malloc(room * N_COLUMNS * sizeof(uint16_t))
        if frame == NULL or ask == NULL or rows == NULL:
            free(frame)
            free(ask)
            free(rows)
            with gil:
                raise MemoryError()
        if self.waiting:
            memcpy(frame, self.wait_frame, self.waiting * sizeof(int32_t))
            memcpy(ask, self.wait_ask, self.waiting * sizeof(int64_t))
            memcpy(rows, self.wait_rows, self.waiting * N_COLUMNS * sizeof(uint16_t))
        free(self.wait_frame)
        free(self.wait_ask)
        free(self.wait_rows)
        self.wait_frame = frame
        self.wait_ask = ask
        self.wait_rows = rows
        self.room = room
        return 0


cdef class CellTable:
    """A model's grid, its cache of known cells and its asks.

    features: columns of the record, strictly increasing; cuts: per feature a uint16 array,
    strictly increasing, each >= 1. threshold: verdict 1 if probability > threshold. cache_cells and
    max_asks are rounded up to powers of two; max_waiting bounds the packets that wait at a time.
    shed: when asks or waiting packets are full, give the packet up (live); else `assign` stops and
    says so (offline, where there is time). Raises ValueError for anything out of range.
    """

    cdef readonly bytes model_id
    cdef readonly Py_ssize_t key_bytes
    cdef readonly double threshold
    cdef readonly bint identity
    cdef Py_ssize_t words
    cdef bint shed
    cdef uint8_t model_index

    # grid
    cdef int n_features
    cdef uint8_t column[N_COLUMNS]
    cdef bint wide[N_COLUMNS]                      # two-byte code
    cdef uint8_t *codes                     # per feature a table over its domain, packed closely:
    cdef size_t table[N_COLUMNS]                   # where it begins; one byte a code, two if wide

    # cache
    cdef uint64_t set_mask
    cdef uint32_t *tags                     # (sets, WAYS): upper hash bits, 0 empty
    cdef uint64_t *keys                     # (sets, WAYS, words)
    cdef double *known                      # (sets, WAYS)
    cdef uint8_t *victim                    # (sets,) next way to evict

    # asks
    cdef int64_t ask_mask
    cdef int64_t ask_head                   # number of the next ask
    cdef int64_t ask_tail                   # lowest number still held
    cdef int64_t ask_sent                   # lowest number not yet handed out
    cdef uint64_t *ask_keys
    cdef uint64_t *ask_hash
    cdef uint16_t *ask_rows
    cdef uint8_t *ask_state
    cdef double *ask_probability
    cdef int64_t *bucket                    # number of the newest ask in the chain, -1 none
    cdef int64_t *chain                     # (asks,) next older ask, -1 none
    cdef int64_t bucket_mask

    cdef Py_ssize_t waiting                 # packets of the batches whose table this is
    cdef Py_ssize_t max_waiting
    cdef uint64_t seed[2]
    cdef uint64_t stats[N_STATS]
    cdef uint64_t parse_counters[N_COUNTERS]

    def __cinit__(self):
        self.codes = NULL
        self.tags = NULL
        self.keys = NULL
        self.known = NULL
        self.victim = NULL
        self.ask_keys = NULL
        self.ask_hash = NULL
        self.ask_rows = NULL
        self.ask_state = NULL
        self.ask_probability = NULL
        self.bucket = NULL
        self.chain = NULL

    def __init__(self, bytes model_id, features, cuts, *, double threshold=0.5,
                 Py_ssize_t cache_cells=65536, Py_ssize_t max_asks=16384,
                 Py_ssize_t max_waiting=65536, bint shed=False, int model_index=0):
        cdef Py_ssize_t i, j, v, at, n_sets
        cdef const uint16_t[::1] c
        features = tuple(features)
        if len(features) > N_COLUMNS or len(cuts) != len(features):
            raise ValueError("a grid has at most 68 features, and cuts for each")
        if list(features) != sorted(set(features)) or (features and not 0 <= min(features) <= max(features) < N_COLUMNS):
            raise ValueError("features must be strictly increasing indices below 68")
        if not (1 <= cache_cells <= 1 << 24 and 1 <= max_asks <= 1 << 22 and max_waiting >= 1):
            raise ValueError("cache_cells, max_asks or max_waiting out of range")
        if not 0 <= model_index <= 255:
            raise ValueError("a model's index is one byte")
        self.model_id = model_id
        self.model_index = model_index
        self.threshold = threshold
        self.shed = shed
        self.max_waiting = max_waiting
        self.identity = not features
        self.n_features = len(features)
        self.key_bytes = 0
        at = 0
        for i in range(self.n_features):
            self.wide[i] = len(cuts[i]) > 255
            self.table[i] = at
            at += domain_of(features[i]) * (2 if self.wide[i] else 1)
        self.codes = <uint8_t *>calloc(max(1, at), 1)
        if self.codes == NULL:
            raise MemoryError()
        for i in range(self.n_features):
            self.column[i] = features[i]
            c = np.ascontiguousarray(cuts[i])  # ValueError where it is no row of uint16
            self.key_bytes += 2 if self.wide[i] else 1
            at = 0
            for j in range(c.shape[0]):
                if not 1 <= c[j] < domain_of(self.column[i]) or (j and c[j] <= c[j - 1]):
                    raise ValueError("cuts must be strictly increasing, from 1 to domain - 1")
            for v in range(domain_of(self.column[i])):
                while at < c.shape[0] and c[at] <= v:
                    at += 1
                if self.wide[i]:
                    memcpy(self.codes + self.table[i] + 2 * v, &at, 2)
                else:
                    self.codes[self.table[i] + v] = <uint8_t>at
        if self.identity:
            self.key_bytes = N_FEATURES * sizeof(uint16_t)
        self.words = (self.key_bytes + 7) // 8

        n_sets = 1
        while n_sets * WAYS < cache_cells:
            n_sets *= 2
        if self.identity:
            n_sets = 1
        self.set_mask = n_sets - 1
        self.tags = <uint32_t *>calloc(n_sets * WAYS, sizeof(uint32_t))
        self.keys = <uint64_t *>calloc(n_sets * WAYS * self.words, sizeof(uint64_t))
        self.known = <double *>calloc(n_sets * WAYS, sizeof(double))
        self.victim = <uint8_t *>calloc(n_sets, 1)

        i = 1
        while i < max_asks:
            i *= 2
        self.ask_mask = i - 1
        self.bucket_mask = 2 * i - 1
        self.ask_keys = <uint64_t *>calloc(i * self.words, sizeof(uint64_t))
        self.ask_hash = <uint64_t *>calloc(i, sizeof(uint64_t))
        self.ask_rows = <uint16_t *>calloc(i * N_COLUMNS, sizeof(uint16_t))
        self.ask_state = <uint8_t *>calloc(i, 1)
        self.ask_probability = <double *>calloc(i, sizeof(double))
        self.chain = <int64_t *>malloc(i * sizeof(int64_t))
        self.bucket = <int64_t *>malloc(2 * i * sizeof(int64_t))
        if (self.tags == NULL or self.keys == NULL or self.known == NULL or self.victim == NULL
                or self.ask_keys == NULL or self.ask_hash == NULL or self.ask_rows == NULL
                or self.ask_state == NULL or self.ask_probability == NULL or self.chain == NULL
                or self.bucket == NULL):
            raise MemoryError()
        memset(self.bucket, 0xFF, 2 * i * sizeof(int64_t))  # -1 everywhere
        self.seed[0], self.seed[1] = np.frombuffer(os.urandom(16), dtype=np.uint64).tolist()

    def __dealloc__(self):
        free(self.codes)
        free(self.tags)
        free(self.keys)
        free(self.known)
        free(self.victim)
        free(self.ask_keys)
        free(self.ask_hash)
        free(self.ask_rows)
        free(self.ask_state)
        free(self.ask_probability)
        free(self.bucket)
        free(self.chain)

    # One packet --------------------------------------------------------------------------------

    cdef inline void _encode(self, const uint16_t *row, uint64_t *key) noexcept nogil:
        cdef uint8_t *k = <uint8_t *>key
        cdef int i
        key[self.words - 1] = 0
        if self.identity:
            memcpy(k, row, N_FEATURES * sizeof(uint16_t))
            return
        for i in range(self.n_features):
            if self.wide[i]:
                memcpy(k, self.codes + self.table[i] + 2 * row[self.column[i]], 2)
                k += 2
            else:
                k[0] = self.codes[self.table[i] + row[self.column[i]]]
                k += 1

    cdef inline uint64_t _hash(self, const uint64_t *key) noexcept nogil:
        # Pairs of words through a 128-bit product of secrets, as wyhash does it: without the seed
        # no two keys can be chosen that collide.
        cdef uint64_t h = self.seed[0]
        cdef Py_ssize_t i = 0
        while i + 1 < self.words:
            h = ids_mum(key[i] ^ self.seed[1], key[i + 1] ^ h)
            i += 2
        if i < self.words:
            h = ids_mum(key[i] ^ self.seed[1], h ^ 0x9E3779B97F4A7C15ULL)
        return ids_mum(h ^ self.seed[0], self.seed[1] ^ 0xD6E8FEB86659FD93ULL)

    cdef inline bint _same(self, const uint64_t *a, const uint64_t *b) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.words):
            if a[i] != b[i]:
                return False
        return True

    cdef inline bint _lookup(self, const uint64_t *key, uint64_t h, double *p) noexcept nogil:
        cdef uint64_t s = h & self.set_mask
        cdef uint32_t tag = <uint32_t>(h >> 32) | 1
        cdef const uint32_t *tags = self.tags + s * WAYS
        cdef int w
        for w in range(WAYS):
            if tags[w] == tag and self._same(self.keys + (s * WAYS + w) * self.words, key):
                p[0] = self.known[s * WAYS + w]
                return True
        return False

    cdef inline void _remember(self, const uint64_t *key, uint64_t h, double p) noexcept nogil:
        cdef uint64_t s = h & self.set_mask
        cdef uint32_t tag = <uint32_t>(h >> 32) | 1
        cdef uint32_t *tags = self.tags + s * WAYS
        cdef int w, at = -1
        for w in range(WAYS):
            if tags[w] == tag and self._same(self.keys + (s * WAYS + w) * self.words, key):
                return
            if tags[w] == 0 and at < 0:
                at = w
        if at < 0:
            at = self.victim[s]
            self.victim[s] = (at + 1) % WAYS
            self.stats[S_EVICTIONS] += 1
        tags[at] = tag
        memcpy(self.keys + (s * WAYS + at) * self.words, key, self.words * sizeof(uint64_t))
        self.known[s * WAYS + at] = p

    cdef inline int64_t _find_ask(self, const uint64_t *key, uint64_t h) noexcept nogil:
        cdef int64_t ask = self.bucket[h & self.bucket_mask]
        cdef int64_t at
        while ask >= 0:
            at = ask & self.ask_mask
            if (self.ask_hash[at] == h and self.ask_state[at] != A_FAILED
                    and self._same(self.ask_keys + at * self.words, key)):
                return ask
            ask = self.chain[at]
        return -1

    cdef inline int64_t _new_ask(self, const uint64_t *key, uint64_t h, const uint16_t *row) noexcept nogil:
        # -1: full.
        cdef int64_t ask = self.ask_head
        cdef int64_t at = ask & self.ask_mask
        if ask - self.ask_tail > self.ask_mask:
            return -1
        self.ask_head += 1
        self.ask_hash[at] = h
        self.ask_state[at] = A_NEW
        memcpy(self.ask_keys + at * self.words, key, self.words * sizeof(uint64_t))
        memcpy(self.ask_rows + at * N_COLUMNS, row, N_COLUMNS * sizeof(uint16_t))
        if not self.identity:  # else nobody looks for it, and equal packets would make one chain
            self.chain[at] = self.bucket[h & self.bucket_mask]
            self.bucket[h & self.bucket_mask] = ask
        self.stats[S_ASKS] += 1
        return ask

    cdef inline int64_t _place(self, const uint16_t *row, double *p, uint64_t *h, bint waits) noexcept nogil:
        # One packet: -2 known (p set), -1 no room, else the ask to wait for. A packet that waits
        # already is not held up by max_waiting: batches behind it must not starve the first one.
        cdef uint64_t key[MAX_WORDS]
        cdef int64_t ask
        self._encode(row, key)
        if self.identity:
            if self.waiting >= self.max_waiting and not waits:
                return -1
            h[0] = self._hash(key)
            return self._new_ask(key, h[0], row)
        h[0] = self._hash(key)
        if self._lookup(key, h[0], p):
            self.stats[S_HITS] += 1
            return -2
        ask = self._find_ask(key, h[0])
        if ask >= 0 and self.ask_state[ask & self.ask_mask] == A_ANSWERED:
            p[0] = self.ask_probability[ask & self.ask_mask]
            self.stats[S_HITS] += 1
            return -2
        if self.waiting >= self.max_waiting and not waits:
            return -1
        if ask >= 0:
            self.stats[S_JOINED] += 1
            return ask
        return self._new_ask(key, h[0], row)

    cdef inline void _judge(self, Assignment a, Py_ssize_t i, double p, uint64_t h) noexcept nogil:
        a.j.cells[i] = h
        a.j.outcomes[i] = O_JUDGED
        a.j.probabilities[i] = p
        a.j.verdicts[i] = p > self.threshold
        a.j.models[i] = self.model_index

    # One batch ---------------------------------------------------------------------------------

    def assign(self, Assignment a not None, const uint8_t[::1] data, const uint8_t[::1] host):
        """Parse and look up a batch's frames, from where the last call stopped.

        data: the batch's buffer; host: HostIdentity.packed(). Returns False if there was no room
        for another ask or waiting packet: hand out requests, take answers, call again. With `shed`
        it never does. Raises ValueError where a frame lies outside the buffer.
        """
        cdef const Frame *frames = a.j.frames
        cdef uint64_t size = data.shape[0]
        cdef uint8_t nothing = 0
        cdef const uint8_t *base = &data[0] if size else &nothing  # NULL + 0 is not defined in C
        cdef const Host *me
        cdef Py_ssize_t i, n = a.n
        cdef uint16_t row[N_COLUMNS]
        cdef double p = 0
        cdef uint64_t h = 0
        cdef int64_t ask
        cdef int what
        cdef bint full = False
        if host.shape[0] != sizeof(Host):
            raise ValueError("host is not a HostIdentity's bytes")
        me = <const Host *>&host[0]
        if me.n_macs > MAX_OWN_MACS or me.n_addresses > MAX_OWN_ADDRESSES \
                or me.n_routers > MAX_ROUTERS or me.n_nets > MAX_NETS:
            raise ValueError("host is not a HostIdentity's bytes")
        for i in range(a.assigned, n):
            if frames[i].offset > size or frames[i].caplen > size - frames[i].offset:
                raise ValueError("frame %d lies outside its buffer" % i)
        if a.assigned == 0:
            a.table = self
        elif a.table is not self or a.adopted != a.waiting:
            raise ValueError("the batch waits in another table: adopt it first")
        i = a.assigned
        with nogil:
            while i < n:
                if a.held:
                    memcpy(row, a.held_row, sizeof(row))
                    a.held = False
                else:
                    what = parse_frame(base, &frames[i], me, row, &a.j.senders[i],
                                       self.parse_counters)
                    if what != P_JUDGE:
                        a.j.outcomes[i] = what
                        i += 1
                        continue
                ask = self._place(row, &p, &h, False)
                if ask == -2:
                    self._judge(a, i, p, h)
                elif ask >= 0:
                    self._wait(a, i, ask, row)
                elif self.shed:
                    a.j.outcomes[i] = O_SHED
                    self.stats[S_SHED] += 1
                else:
                    # Kept, because parsing it again would count its damage twice.
                    full = True
                    a.held = True
                    memcpy(a.held_row, row, sizeof(row))
                    break
                i += 1
        a.assigned = i
        return not full

    cdef int _wait(self, Assignment a, Py_ssize_t i, int64_t ask, const uint16_t *row) except -1 nogil:
        a._reserve()
        a.wait_frame[a.waiting] = <int32_t>i
        a.wait_ask[a.waiting] = ask
        memcpy(a.wait_rows + a.waiting * N_COLUMNS, row, N_COLUMNS * sizeof(uint16_t))
        a.waiting += 1
        a.adopted += 1
        self.waiting += 1
        if a.oldest < 0 or ask < a.oldest:
            a.oldest = ask
        return 0

    def settle(self, Assignment a not None):
        """Give waiting packets whose ask has been answered their probability; return how many wait
        still. Packets whose ask failed become UNANSWERED. Packets not yet adopted stay as they are.
        """
        cdef Py_ssize_t i, kept = 0
        cdef int64_t at
        if a.table is not self:
            raise ValueError("the batch waits in another table")
        with nogil:
            a.oldest = -1
            for i in range(a.adopted):
                at = a.wait_ask[i] & self.ask_mask
                if self.ask_state[at] == A_ANSWERED:
                    self._judge(a, a.wait_frame[i], self.ask_probability[at], self.ask_hash[at])
                elif self.ask_state[at] == A_FAILED:
                    a.j.outcomes[a.wait_frame[i]] = O_UNANSWERED
                    a.j.models[a.wait_frame[i]] = self.model_index
                else:
                    if a.oldest < 0 or a.wait_ask[i] < a.oldest:
                        a.oldest = a.wait_ask[i]
                    a._move(i, kept)
                    kept += 1
            self.waiting -= a.adopted - kept
            if kept != a.adopted:
                for i in range(a.adopted, a.waiting):
                    a._move(i, kept + i - a.adopted)
                a.waiting -= a.adopted - kept
                a.adopted = kept
        return a.waiting

    def adopt(self, Assignment a not None):
        """Take a batch over from the table of another model: what still waits is encoded again.

        Returns False if there was no room for an ask (call again after answers); with `shed` never.
        Packets not looked at yet count as waiting here already, so that `max_waiting` holds up new
        ones; it does not hold up these.
        """
        cdef CellTable old
        cdef Py_ssize_t i, kept
        cdef int64_t ask
        cdef double p = 0
        cdef uint64_t h = 0
        cdef bint full = False
        if a.table is not self:
            if a.table is not None:
                old = <CellTable?>a.table
                old.waiting -= a.waiting
            self.waiting += a.waiting
            a.table = self
            a.adopted = 0
            a.oldest = -1
        # Entries below `adopted` wait here already; the others are looked at in turn.
        kept = a.adopted
        i = a.adopted
        while i < a.waiting:
            ask = self._place(a.wait_rows + i * N_COLUMNS, &p, &h, True)
            if ask == -2:
                self._judge(a, a.wait_frame[i], p, h)
                self.waiting -= 1
            elif ask >= 0:
                a._move(i, kept)
                a.wait_ask[kept] = ask
                kept += 1
                if a.oldest < 0 or ask < a.oldest:
                    a.oldest = ask
            elif self.shed:
                a.j.outcomes[a.wait_frame[i]] = O_SHED
                self.stats[S_SHED] += 1
                self.waiting -= 1
            else:
                full = True
                break
            i += 1
        a.adopted = kept
        while i < a.waiting:  # not yet looked at: close the gap that judged packets left
            a._move(i, kept)
            kept += 1
            i += 1
        a.waiting = kept
        return not full

    # Asks --------------------------------------------------------------------------------------

    @property
    def load(self):
        """How full it is of asks or of waiting packets, whichever is fuller: 0 .. 1."""
        cdef double asks = <double>(self.ask_head - self.ask_tail) / (self.ask_mask + 1)
        cdef double waiting = <double>self.waiting / self.max_waiting
        return min(1.0, max(asks, waiting))

    @property
    def unsent(self):
        """Number of asks not yet handed out."""
        return self.ask_head - self.ask_sent

    def request(self, Py_ssize_t max_rows):
        """Hand out the oldest unsent asks: (number of the first, cells (n, key_bytes) uint8,
        rows (n, 68) uint16), or None."""
        cdef Py_ssize_t i, n = min(max_rows, self.ask_head - self.ask_sent)
        cdef int64_t at, first = self.ask_sent
        cdef uint8_t[:, ::1] cells
        cdef uint16_t[:, ::1] rows
        if n <= 0:
            return None
        out_cells = np.empty((n, self.key_bytes), dtype=np.uint8)
        out_rows = np.empty((n, N_COLUMNS), dtype=np.uint16)
        cells = out_cells
        rows = out_rows
        for i in range(n):
            at = (first + i) & self.ask_mask
            memcpy(&cells[i, 0], self.ask_keys + at * self.words, self.key_bytes)
            memcpy(&rows[i, 0], self.ask_rows + at * N_COLUMNS, N_COLUMNS * sizeof(uint16_t))
            self.ask_state[at] = A_SENT
        self.ask_sent += n
        return first, out_cells, out_rows

    def answer(self, int64_t first, const double[::1] probabilities):
        """Enter the answers of the asks from number `first` on; they go into the cache too.

        A number that is no probability (NaN, outside [0, 1]) is no answer: its ask has failed.
        """
        cdef Py_ssize_t i
        cdef int64_t at
        self._check(first, probabilities.shape[0])
        for i in range(probabilities.shape[0]):
            at = (first + i) & self.ask_mask
            if not 0.0 <= probabilities[i] <= 1.0:
                self.ask_state[at] = A_FAILED
                continue
            self.ask_state[at] = A_ANSWERED
            self.ask_probability[at] = probabilities[i]
            if not self.identity:
                self._remember(self.ask_keys + at * self.words, self.ask_hash[at], probabilities[i])

    def fail(self, int64_t first, Py_ssize_t n):
        """Mark the asks from number `first` on as unanswered; their packets are UNANSWERED."""
        cdef Py_ssize_t i
        self._check(first, n)
        for i in range(n):
            self.ask_state[(first + i) & self.ask_mask] = A_FAILED

    cdef int _check(self, int64_t first, Py_ssize_t n) except -1:
        if not self.ask_tail <= first <= self.ask_sent or not 0 <= n <= self.ask_sent - first:
            raise ValueError("asks that are not under way")
        return 0

    def release(self, assignments):
        """Free the asks that none of the batches under way (in order) waits for any more."""
        cdef Assignment a
        cdef int64_t keep = self.ask_sent
        cdef int64_t at, ask
        for item in assignments:
            a = <Assignment?>item
            if a.table is self and a.waiting and a.oldest >= 0 and a.oldest < keep:
                keep = a.oldest
        while self.ask_tail < keep:
            at = self.ask_tail & self.ask_mask
            if self.ask_state[at] == A_SENT:
                break  # nobody waits, but the answer is still to come
            if self.identity:
                pass  # it is in no chain
            elif self.bucket[self.ask_hash[at] & self.bucket_mask] == self.ask_tail:
                self.bucket[self.ask_hash[at] & self.bucket_mask] = self.chain[at]
            else:
                ask = self.bucket[self.ask_hash[at] & self.bucket_mask]
                while self.chain[ask & self.ask_mask] != self.ask_tail:
                    ask = self.chain[ask & self.ask_mask]
                self.chain[ask & self.ask_mask] = self.chain[at]
            self.ask_state[at] = 0
            self.ask_tail += 1

    def counters(self):
        """Return what became of the packets' cells, by name (STAT_NAMES)."""
        return {name: self.stats[i] for i, name in enumerate(STAT_NAMES)}

    def parsed(self):
        """Return the parser's counters, in the order of _features.COUNTER_NAMES."""
        return [self.parse_counters[i] for i in range(N_COUNTERS)]

    def encode(self, const uint16_t[:, ::1] rows):
        """Return the cells (n, key_bytes) of packet records: (n, 68), or (n, 60) where no feature is of
        another group than `packet`.

        Raises ValueError where a record is none: of another width, or a value outside its domain.
        """
        cdef Py_ssize_t i
        cdef int f
        cdef uint64_t key[MAX_WORDS]
        cdef uint8_t[:, ::1] out
        if rows.shape[1] != N_COLUMNS and (rows.shape[1] != N_FEATURES or (
                self.n_features and self.column[self.n_features - 1] >= N_FEATURES)):
            raise ValueError("a packet record has 68 columns, 60 without addresses")
        cells = np.empty((rows.shape[0], self.key_bytes), dtype=np.uint8)
        out = cells
        for i in range(rows.shape[0]):
            for f in range(self.n_features):  # a table ends where the domain does
                if rows[i, self.column[f]] >= domain_of(self.column[f]):
                    raise ValueError("record %d has a value outside its feature's domain" % i)
            self._encode(&rows[i, 0], key)
            memcpy(&out[i, 0], key, self.key_bytes)
        return cells

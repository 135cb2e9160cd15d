"""Judged packets in, sums of evidence per sender out, and who crosses a bound.

Design:
 a) a packet weighs its log-odds, less the training prior's, clipped to +-clip and rounded once to
    an integer of 1/4096 nat. From there on everything is integers, so that a replay, another
    machine and another cut into batches give the same sums.
 b) each *cell* accuses at most as `cell_weight` packets of it would: a thousand equal packets are
    not a thousand witnesses. Of a sender's cells only accusing ones are kept, `cells_per_sender` of
    them; further ones share one entry that is capped like a cell.
 c) what ordinary packets bring is *credit*. It is bounded: whoever mixes his attack with any number
    of ordinary packets gains `-lower` nats and no more. score = accused + prior - credit. What a
    trigger adds is taken off that bound, and off what was gained before it: a change was seen, and
    neither what went before nor other work that goes on beside it may buy it back.
 d) everything is forgotten exponentially, in whole seconds by a table of factors; a cell that was
    used up may then weigh again.
 e) a batch is worked through in the order of its frames' numbers, however it lies in memory.
 f) the senders' table never grows: at its cap the weakest of a few candidates goes. Its hash is
    keyed with a secret. In a flood of forged senders every packet evicts one, so that must be
    cheap: a slot's cells are not cleared but outlived.

Sequential test with clipped log-likelihood ratios: Wald, Sequential Analysis (1947); the bounds are
calibrated (policy/bounds.json), because packets are not independent.
"""

import os

import numpy as np

from libc.math cimport floor, isnan, log
from libc.stdint cimport int64_t
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdlib cimport calloc, free
from judged cimport *
from packet cimport *
from sender cimport *

cdef extern from *:
    """
    static inline unsigned long long ids_mum(unsigned long long a, unsigned long long b) {
        __uint128_t r = (__uint128_t)a * b;
        return (unsigned long long)r ^ (unsigned long long)(r >> 64);
    }
    """
    uint64_t ids_mum(uint64_t a, uint64_t b) noexcept nogil

cdef enum:
    ONE_NAT = 4096
    LOGITS = 1024           # remembered conversions, direct-mapped; a power of two
    CANDIDATES = 8          # looked at when a sender has to go
    TOP_CELLS = 5           # named in a crossing
    MAX_CROSSINGS = 4096    # reported by one batch; others are told with their next packet

cdef enum:
    O_JUDGED = 0            # Outcome in types.py
    ANSWER = 1              # Standing in types.py
    FLOOD_SHIFT = 4

cdef enum:
    N_WEIGHED = 0           # packets that weighed on a sender or a flood
    N_ANSWERS = 1           # weighed nothing: answers
    N_FLOOD = 2             # of those weighed: on a flood's record
    N_NAMELESS = 3          # nobody to weigh on
    N_USED_UP = 4           # accusing, but their cell had no weight left
    N_SHARED = 5            # accusing, and past the sender's cells
    N_EVICTED = 6           # senders that had to go
    N_CROSSED = 7
    N_CLEARED = 8
    N_STATS = 9

STAT_NAMES = ("evidence_weighed", "evidence_answers", "evidence_flood", "evidence_nameless",
              "evidence_used_up", "evidence_shared", "evidence_evictions", "evidence_crossed",
              "evidence_cleared")

_SENDER = np.dtype([
    ("ifindex", "<u4"), ("side", "u1"), ("family", "u1"), ("mac", "u1", (6,)),
    ("address", "u1", (16,)),
])

cdef struct Cell:
    uint64_t hash           # of the cell
    int32_t value           # what it still accuses of, 1/4096 nat
    int32_t one             # the most that one packet of it weighs
    uint32_t packets
    uint32_t life           # its slot's when it was entered; of another one: the place is free

cdef struct Slot:
    # What every packet touches comes first.
    Sender key              # canonical
    int32_t next            # in its chain, or in the free list; -1 none
    int64_t tick            # second up to which everything is forgotten
    int64_t accused         # sum of the cells' values, and the shared one's
    int64_t prior           # of triggers
    int64_t credit
    int64_t gained          # accused and prior ever added since the last crossing; never forgotten
    int64_t peak            # highest score
    int64_t last_ns         # of its latest packet or trigger
    uint64_t packets        # weighed
    uint32_t n_cells
    uint8_t used            # the place is taken
    uint8_t recent          # touched since the clock's hand passed
    uint8_t cleared         # told so in this window
    uint8_t standing        # of its latest packet
    uint8_t address[16]     # of its latest packet
    uint8_t address_size
    uint32_t crossings
    uint32_t life           # counts who had this place, from 1, so that nobody clears their cells
    Cell shared             # further cells


cdef inline int64_t _second(int64_t ns) noexcept nogil:
    # Rounded down, also before 1970, whatever division is compiled to.
    return ns // 1000000000 if ns >= 0 else -1 - (-(ns + 1)) // 1000000000


cdef inline int32_t _weigh(double p, double prior, double clip) noexcept nogil:
    # Log-odds of p less the prior, in 1/4096 nat; NaN weighs nothing.
    cdef double x
    if isnan(p):
        return 0
    if p <= 0.0:
        x = -clip
    elif p >= 1.0:
        x = clip
    else:
        x = log(p / (1.0 - p)) - prior
        if x > clip:
            x = clip
        elif x < -clip:
            x = -clip
    return <int32_t>floor(x * ONE_NAT + 0.5)


def quantise(double probability, *, double prior_logit=0.0, double clip=3.0):
    """Return what a packet of this probability weighs, in 1/4096 nat."""
    return _weigh(probability, prior_logit, clip)


def canonical_senders(senders):
    """Return SENDER records in canonical form (see ext/sender.pxd), all zeros where nobody can be
    named. senders: (n,) SENDER."""
    cdef const Sender[::1] view = np.ascontiguousarray(senders)
    out = np.zeros(view.shape[0], dtype=_SENDER)
    cdef Sender[::1] v_out = out
    cdef Py_ssize_t i
    for i in range(view.shape[0]):
        canonical(&view[i], &v_out[i])
    return out


cdef class EvidenceTable:
    """Evidence per sender. clip, upper, lower in nats; lower <= 0, and 0 means no credit at all.

    cell_weight: packets of one cell that count. half_life_s: 0.1 .. 3600. prior_logit: of the
    model's training data. Raises ValueError for anything out of range. Not thread-safe.
    """

    cdef readonly double upper, lower
    cdef double clip, prior_logit
    cdef int64_t q_upper, q_lower, q_clip, max_credit, max_prior, weight
    cdef Py_ssize_t max_senders, max_cells, room
    cdef Slot *slots
    cdef Cell *cells        # (max_senders, room), open addressing
    cdef Cell *scratch      # (room,)
    cdef int32_t *heads     # chains of the hash
    cdef int32_t free_list, high    # first free place, and how many were ever used
    cdef Py_ssize_t n_senders, hand
    cdef uint64_t head_mask, cell_mask
    cdef uint64_t seed[3]
    cdef uint32_t *factors  # 2^32 * 2^(-k / half life); factors[0] is not used
    cdef int64_t horizon    # seconds after which nothing is left
    cdef uint64_t memo_bits[LOGITS]
    cdef int32_t memo_weight[LOGITS]
    cdef Sender floods[16]              # the record of each flood slot, zeros where there is none
    cdef Sender memo_seen               # the latest frame's sender as seen
    cdef int32_t memo_slot              # its place, -1 none
    cdef uint64_t stats[N_STATS]

    def __cinit__(self):
        self.slots = NULL
        self.cells = NULL
        self.scratch = NULL
        self.heads = NULL
        self.factors = NULL

    def __init__(self, *, Py_ssize_t max_senders=4096, Py_ssize_t cells_per_sender=64,
                 double clip=3.0, double cell_weight=3.0, double upper=20.0, double lower=-8.0,
                 double half_life_s=30.0, double prior_logit=0.0):
        cdef Py_ssize_t i
        if not (1 <= max_senders <= 1 << 22 and 1 <= cells_per_sender <= 4096):
            raise ValueError("max_senders or cells_per_sender out of range")
        if not (0.0 < clip <= 64.0 and 1.0 <= cell_weight <= 4096.0):
            raise ValueError("clip is in 0 .. 64, cell_weight in 1 .. 4096")
        if not (0.0 < upper <= 1e5 and -1e5 <= lower <= 0.0):
            raise ValueError("upper is in 0 .. 100,000, lower in -100,000 .. 0")
        if not 0.1 <= half_life_s <= 3600.0:
            raise ValueError("half_life_s is in 0.1 .. 3600")
        if not -64.0 <= prior_logit <= 64.0:
            raise ValueError("prior_logit is in -64 .. 64")
        self.clip = clip
        self.upper = upper
        self.lower = lower
        self.prior_logit = prior_logit
        self.q_clip = <int64_t>floor(clip * ONE_NAT + 0.5)
        self.q_upper = <int64_t>floor(upper * ONE_NAT + 0.5)
        self.q_lower = <int64_t>floor(lower * ONE_NAT + 0.5)
        # One packet more than `lower`, so that a trace of suspicion does not keep a sender from
        # being cleared.
        self.max_credit = self.q_clip - self.q_lower if self.q_lower < 0 else 0
        # A trigger and one packet do not decide; a trigger alone never does.
        self.max_prior = max(0, self.q_upper - self.q_clip - 1)
        self.weight = <int64_t>floor(cell_weight * ONE_NAT + 0.5)
        self.max_senders = max_senders
        self.max_cells = cells_per_sender
        self.room = 4
        while self.room * 4 < cells_per_sender * 5:
            self.room *= 2
        self.cell_mask = self.room - 1
        i = 1
        while i < max_senders:
            i *= 2
        self.head_mask = i - 1
        self.horizon = <int64_t>(32.0 * half_life_s) + 2
        self.slots = <Slot *>calloc(max_senders, sizeof(Slot))
        self.cells = <Cell *>calloc(max_senders * self.room, sizeof(Cell))
        self.scratch = <Cell *>calloc(self.room, sizeof(Cell))
        self.heads = <int32_t *>calloc(i, sizeof(int32_t))
        self.factors = <uint32_t *>calloc(self.horizon, sizeof(uint32_t))
        if (self.slots == NULL or self.cells == NULL or self.scratch == NULL or self.heads == NULL
                or self.factors == NULL):
            raise MemoryError()
        memset(self.heads, 0xFF, i * sizeof(int32_t))  # -1 everywhere
        for i in range(1, self.horizon):
            self.factors[i] = <uint32_t>min(4294967295, int(2.0 ** (32.0 - i / half_life_s) + 0.5))
        self.free_list = -1
        self.memo_slot = -1
        memset(self.floods, 0, sizeof(self.floods))
        for i in range(LOGITS):
            self.memo_weight[i] = _weigh(0.0, prior_logit, clip)  # what bits of 0 stand for
        self.seed[0], self.seed[1], self.seed[2] = np.frombuffer(os.urandom(24), np.uint64).tolist()

    def __dealloc__(self):
        free(self.slots)
        free(self.cells)
        free(self.scratch)
        free(self.heads)
        free(self.factors)

    # Senders -----------------------------------------------------------------------------------

    cdef inline uint64_t _bucket(self, const Sender *key) noexcept nogil:
        cdef uint64_t a, b, c
        cdef uint32_t d
        memcpy(&a, key, 8)
        memcpy(&b, <const uint8_t *>key + 8, 8)
        memcpy(&c, <const uint8_t *>key + 16, 8)
        memcpy(&d, <const uint8_t *>key + 24, 4)
        a = ids_mum(a ^ self.seed[0], b ^ self.seed[1])
        return ids_mum(c ^ a, d ^ self.seed[2]) & self.head_mask

    cdef inline int32_t _find(self, const Sender *key) noexcept nogil:
        return self._find_in(self._bucket(key), key)

    cdef inline int32_t _find_in(self, uint64_t bucket, const Sender *key) noexcept nogil:
        cdef int32_t at = self.heads[bucket]
        while at >= 0 and memcmp(&self.slots[at].key, key, sizeof(Sender)) != 0:
            at = self.slots[at].next
        return at

    cdef void _remove(self, int32_t which) noexcept nogil:
        cdef int32_t *link = &self.heads[self._bucket(&self.slots[which].key)]
        while link[0] != which:
            link = &self.slots[link[0]].next
        cdef uint32_t life = self.slots[which].life
        link[0] = self.slots[which].next
        memset(&self.slots[which], 0, sizeof(Slot))
        if life == <uint32_t>0xFFFFFFFF:  # counted round: nobody's cells may come back to life
            memset(self.cells + which * self.room, 0, self.room * sizeof(Cell))
            life = 0
        self.slots[which].life = life
        self.slots[which].next = self.free_list
        self.free_list = which
        self.n_senders -= 1
        self.memo_slot = -1

    cdef double _left(self, const Slot *s, int64_t tick) noexcept nogil:
        # What accuses a sender, forgotten up to `tick`, without changing it.
        cdef int64_t age = tick - s.tick
        cdef double sum = <double>(s.accused + s.prior)
        if age <= 0:
            return sum * 4294967296.0
        return sum * self.factors[age] if age < self.horizon else 0.0

    cdef void _evict(self, int64_t tick) noexcept nogil:
        # The weakest of a few behind the hand goes, the longest silent of equals; what was touched
        # since the hand passed last stays, unless all were.
        cdef int32_t worst = -1
        cdef double least = 0.0
        cdef double left
        cdef Slot *s
        cdef int i, turn
        for turn in range(2):
            for i in range(CANDIDATES):
                s = &self.slots[self.hand]
                if s.used:
                    if s.recent and turn == 0:
                        s.recent = False
                    else:
                        left = self._left(s, tick)
                        if (worst < 0 or left < least
                                or (left == least and s.last_ns < self.slots[worst].last_ns)):
                            worst = <int32_t>self.hand
                            least = left
                self.hand = self.hand + 1 if self.hand + 1 < self.max_senders else 0
            if worst >= 0:
                break
            # All were recent: the same ones again.
            self.hand = (self.hand - CANDIDATES) % self.max_senders
            if self.hand < 0:
                self.hand += self.max_senders
        if worst < 0:  # candidates overlap in a table smaller than their number
            worst = <int32_t>self.hand
        self._remove(worst)
        self.stats[N_EVICTED] += 1

    cdef int32_t _enter(self, const Sender *key, int64_t tick) noexcept nogil:
        # The place of a sender, made where there is none.
        cdef uint64_t bucket = self._bucket(key)
        cdef int32_t at = self._find_in(bucket, key)
        if at >= 0:
            return at
        if self.n_senders == self.max_senders:
            self._evict(tick)
        at = self.free_list
        if at >= 0:
            self.free_list = self.slots[at].next
        else:
            at = self.high
            self.high += 1
        self.slots[at].key = key[0]
        self.slots[at].used = True
        self.slots[at].life += 1
        self.slots[at].tick = tick
        self.slots[at].next = self.heads[bucket]
        self.heads[bucket] = at
        self.n_senders += 1
        return at

    # Forgetting --------------------------------------------------------------------------------

    cdef void _forget_until(self, int32_t which, int64_t tick) noexcept nogil:
        cdef Slot *s = &self.slots[which]
        cdef Cell *cells = self.cells + which * self.room
        cdef int64_t age = tick - s.tick
        cdef uint64_t factor
        cdef uint32_t kept = 0
        cdef Py_ssize_t i, at
        cdef int64_t sum = 0
        if age <= 0:
            # Frames of two interfaces may overtake each other; a clock that was set back is
            # followed.
            if -age > self.horizon:
                s.tick = tick
            return
        s.tick = tick
        factor = self.factors[age] if age < self.horizon else 0
        s.credit = <int64_t>((<uint64_t>s.credit * factor) >> 32)
        s.prior = <int64_t>((<uint64_t>s.prior * factor) >> 32)
        s.shared.value = <int32_t>((<uint64_t>s.shared.value * factor) >> 32)
        if s.shared.value == 0:
            memset(&s.shared, 0, sizeof(Cell))
        sum = s.shared.value
        if s.n_cells:
            for i in range(self.room):
                if cells[i].life == s.life:
                    cells[i].value = <int32_t>((<uint64_t>cells[i].value * factor) >> 32)
                    if cells[i].value:
                        sum += cells[i].value
                        kept += 1
            if kept < s.n_cells:
                self._repack(cells, s.life)
                s.n_cells = kept
        s.accused = sum

    cdef void _repack(self, Cell *cells, uint32_t life) noexcept nogil:
        # Leave out cells that are forgotten; with open addressing all others are put in anew.
        cdef Py_ssize_t i, n = 0
        cdef uint64_t at
        for i in range(self.room):
            if cells[i].life == life and cells[i].value:
                self.scratch[n] = cells[i]
                n += 1
        memset(cells, 0, self.room * sizeof(Cell))
        for i in range(n):
            at = self.scratch[i].hash & self.cell_mask
            while cells[at].life:
                at = (at + 1) & self.cell_mask
            cells[at] = self.scratch[i]

    # One packet --------------------------------------------------------------------------------

    cdef inline int32_t _weight_of(self, double p) noexcept nogil:
        cdef uint64_t bits, at
        memcpy(&bits, &p, 8)
        at = (bits * <uint64_t>0x9E3779B97F4A7C15) >> 54
        if self.memo_bits[at] != bits:
            self.memo_bits[at] = bits
            self.memo_weight[at] = _weigh(p, self.prior_logit, self.clip)
        return self.memo_weight[at]

    cdef inline void _accuse(self, int32_t which, uint64_t hash, int32_t one) noexcept nogil:
        cdef Slot *s = &self.slots[which]
        cdef Cell *cells = self.cells + which * self.room
        cdef Cell *cell
        cdef uint64_t at = hash & self.cell_mask
        cdef int64_t left
        while cells[at].life == s.life and cells[at].hash != hash:
            at = (at + 1) & self.cell_mask
        cell = &cells[at]
        if cell.life != s.life:
            if s.n_cells < self.max_cells:
                s.n_cells += 1
                memset(cell, 0, sizeof(Cell))
                cell.hash = hash
                cell.life = s.life
            else:
                cell = &s.shared
                self.stats[N_SHARED] += 1
        if one > cell.one:
            cell.one = one
        if cell.packets != <uint32_t>0xFFFFFFFF:
            cell.packets += 1
        left = ((cell.one * self.weight) >> 12) - cell.value
        if left < one:
            self.stats[N_USED_UP] += 1
            if left <= 0:
                return
            one = <int32_t>left
        cell.value += one
        s.accused += one
        s.gained += one

    cdef inline bint _as_before(self, const Sender *seen) noexcept nogil:
        # Whether this is the sender of the frame before. Of a MAC addresses do not matter: a flood
        # of forged ones from one device is looked up once.
        cdef uint64_t mac = 0, other = 0
        if seen.side == SIDE_LAN and self.memo_seen.side == SIDE_LAN:
            memcpy(&mac, seen.mac, 6)
            memcpy(&other, self.memo_seen.mac, 6)
            if mac or other:
                return mac == other and seen.ifindex == self.memo_seen.ifindex
        return memcmp(seen, &self.memo_seen, sizeof(Sender)) == 0

    cdef inline int64_t _score(self, const Slot *s) noexcept nogil:
        return s.accused + s.prior - s.credit

    cdef inline int64_t _most_credit(self, const Slot *s) noexcept nogil:
        # One packet's worth always, if any.
        return max(self.max_credit - s.prior, min(self.q_clip, self.max_credit))

    cdef object _report(self, int32_t which, int64_t ts, bint malicious):
        cdef Slot *s = &self.slots[which]
        return (
            (<uint8_t *>&s.key)[:sizeof(Sender)], ts, malicious, self._score(s) / <double>ONE_NAT,
            s.packets, tuple((hash, one, n) for hash, one, n, _ in self._top(which, TOP_CELLS)),
            s.standing, (<uint8_t *>s.address)[:s.address_size],
        )

    cdef list _top(self, int32_t which, Py_ssize_t n):
        cdef Cell *cells = self.cells + which * self.room
        cdef uint32_t life = self.slots[which].life
        cdef Py_ssize_t i
        found = [
            (cells[i].hash, cells[i].one / <double>ONE_NAT, cells[i].packets,
             cells[i].value / <double>ONE_NAT)
            for i in range(self.room) if cells[i].life == life
        ]
        found.sort(key=lambda cell: (-cell[3], -cell[2], cell[0]))
        return found[:n]

    cdef object _crossing(self, int32_t which, int64_t ts):
        # What a change of a sender's score has to tell; None mostly.
        cdef Slot *s = &self.slots[which]
        cdef int64_t score = self._score(s)
        if score >= self.q_upper and s.gained >= self.q_upper:
            s.gained = 0
            s.crossings += 1
            self.stats[N_CROSSED] += 1
            return self._report(which, ts, True)
        if self.q_lower < 0 and score <= self.q_lower and not s.cleared:
            s.cleared = True
            self.stats[N_CLEARED] += 1
            return self._report(which, ts, False)
        return None

    # Python's side -----------------------------------------------------------------------------

    def add(self, frames, senders, outcomes, probabilities, cells, floods):
        """Let a batch weigh and return who crossed a bound, in the order of the frames' numbers.

        frames: (n,) FRAME; senders: (n,) SENDER as seen; outcomes, probabilities, cells: (n,) as in
        JudgedBatch; floods: (16,) SENDER, the record of each flood slot, zeros where there is
        none. A crossing: (sender, timestamp_ns, malicious, score, packets, cells, standing,
        address); cells: (hash, log-odds of one packet, packets) of those that weigh most.
        """
        cdef const Frame[::1] v_frames = frames
        cdef const Sender[::1] v_senders = senders
        cdef const uint8_t[::1] v_outcomes = outcomes
        cdef const double[::1] v_p = probabilities
        cdef const uint64_t[::1] v_cells = cells
        cdef Py_ssize_t n = v_frames.shape[0]
        if not (v_senders.shape[0] == v_outcomes.shape[0] == v_p.shape[0] == v_cells.shape[0] == n):
            raise ValueError("a batch's arrays are of one length")
        self.set_floods(floods)
        if n == 0:
            return []
        return self._add(n, &v_frames[0], &v_senders[0], &v_outcomes[0], &v_p[0], &v_cells[0])

    def add_judged(self, batch):
        """As `add`, of a batch in one piece (_cells.Assignment: ext/judged.pxd) and of the floods
        that were set. Raises ValueError for a piece that is none."""
        cdef Py_buffer buffer
        cdef Judged judged
        cdef uint64_t n = 0
        PyObject_GetBuffer(batch, &buffer, PyBUF_SIMPLE)
        try:
            if buffer.len >= 8:
                memcpy(&n, buffer.buf, 8)
            if n > <uint64_t>buffer.len or <size_t>buffer.len != judged_bytes(<Py_ssize_t>n):
                raise ValueError("no judged batch: its length is another one's")
            judged_at(<uint8_t *>buffer.buf, <Py_ssize_t>n, &judged)
            return self._add(judged.n, judged.frames, judged.senders, judged.outcomes,
                             judged.probabilities, judged.cells)
        finally:
            PyBuffer_Release(&buffer)

    def set_floods(self, floods):
        """Say which FLOOD record each flood slot stands for: (16,) SENDER, zeros for none."""
        cdef const Sender[::1] v_floods = floods
        if v_floods.shape[0] != 16:
            raise ValueError("there are 16 flood slots")
        memcpy(self.floods, &v_floods[0], sizeof(self.floods))

    cdef list _add(self, Py_ssize_t n, const Frame *frames, const Sender *senders,
                   const uint8_t *outcomes, const double *probabilities, const uint64_t *hashes):
        cdef const int64_t[::1] order = None
        cdef int64_t[::1] numbers
        cdef Py_ssize_t i, k
        cdef int32_t which, one
        cdef int64_t tick, ts, score
        cdef uint8_t slot
        cdef Sender key
        cdef Slot *s
        cdef bint sorted_ = True
        cdef list crossings = []
        for i in range(1, n):
            if frames[i].number < frames[i - 1].number:
                sorted_ = False
                break
        if not sorted_:
            numbers = np.empty(n, np.int64)
            for i in range(n):
                numbers[i] = <int64_t>frames[i].number
            order = np.argsort(np.asarray(numbers).view(np.uint64), kind="stable").astype(np.int64)
        with nogil:
            for k in range(n):
                i = k if sorted_ else order[k]
                if outcomes[i] != O_JUDGED:
                    continue
                ts = frames[i].timestamp_ns
                tick = _second(ts)
                slot = frames[i].standing >> FLOOD_SHIFT
                if slot:
                    if self.floods[slot].side != SIDE_FLOOD:
                        self.stats[N_NAMELESS] += 1
                        continue
                    self.stats[N_FLOOD] += 1
                    which = self._enter(&self.floods[slot], tick)
                elif frames[i].standing & ANSWER:
                    self.stats[N_ANSWERS] += 1
                    continue
                elif self.memo_slot >= 0 and self._as_before(&senders[i]):
                    which = self.memo_slot
                else:
                    if not canonical(&senders[i], &key):
                        self.stats[N_NAMELESS] += 1
                        continue
                    which = self._enter(&key, tick)
                    self.memo_seen = senders[i]
                    self.memo_slot = which
                self.stats[N_WEIGHED] += 1
                s = &self.slots[which]
                if tick != s.tick:
                    self._forget_until(which, tick)
                s.recent = True
                s.last_ns = ts
                s.packets += 1
                s.standing = frames[i].standing
                if senders[i].family:
                    s.address_size = 4 if senders[i].family == 4 else 16
                    memcpy(s.address, senders[i].address, 16)
                one = self._weight_of(probabilities[i])
                if one > 0:
                    self._accuse(which, hashes[i], one)
                elif one < 0:
                    s.credit = min(s.credit - one, self._most_credit(s))
                score = self._score(s)
                if score > s.peak:
                    s.peak = score
                if score >= self.q_upper:
                    if s.gained < self.q_upper:
                        continue
                elif not (self.q_lower < 0 and score <= self.q_lower and not s.cleared):
                    continue
                with gil:
                    if len(crossings) < MAX_CROSSINGS:
                        crossings.append(self._crossing(which, ts))
        return crossings

    def notice(self, bytes sender, int64_t timestamp_ns, double logodds):
        """Let a trigger weigh on the sender (canonical SENDER bytes) that it names.

        All triggers together stay one packet and a bit below `upper`. Returns a crossing, as `add`
        does, where evidence was waiting for it; else None."""
        cdef Sender key
        cdef int64_t tick = _second(timestamp_ns)
        cdef int64_t before, weight
        cdef int32_t which
        cdef Slot *s
        if len(sender) != sizeof(Sender):
            raise ValueError("a sender is a SENDER record's bytes")
        if not 0.0 <= logodds <= 1e5:
            raise ValueError("a trigger's log-odds are in 0 .. 100,000")
        memcpy(&key, <const uint8_t *>sender, sizeof(Sender))
        which = self._enter(&key, tick)
        self._forget_until(which, tick)
        s = &self.slots[which]
        s.recent = True
        s.last_ns = max(s.last_ns, timestamp_ns)
        weight = <int64_t>floor(logodds * ONE_NAT + 0.5)
        before = s.prior
        s.prior = max(before, min(before + weight, self.max_prior))
        s.gained += s.prior - before
        s.credit = min(s.credit, self._most_credit(s))
        s.peak = max(s.peak, self._score(s))
        return self._crossing(which, timestamp_ns)

    def new_window(self):
        """Let every sender be cleared once more."""
        cdef Py_ssize_t i
        for i in range(self.high):
            self.slots[i].cleared = False

    def forget(self, bytes sender):
        """Begin anew with a sender; True if there was anything to forget."""
        cdef Sender key
        cdef int32_t which
        if len(sender) != sizeof(Sender):
            raise ValueError("a sender is a SENDER record's bytes")
        memcpy(&key, <const uint8_t *>sender, sizeof(Sender))
        which = self._find(&key)
        if which < 0:
            return False
        self._remove(which)
        return True

    def score(self, bytes sender):
        """Return what is known of a sender, as of its latest packet; None if nothing is.

        Nats: score, accused, prior, credit, gained, shared. Counts: packets, crossings. cells:
        (hash, log-odds of one packet, packets, what it accuses of), heaviest first."""
        cdef Sender key
        cdef int32_t which
        cdef Slot *s
        if len(sender) != sizeof(Sender):
            raise ValueError("a sender is a SENDER record's bytes")
        memcpy(&key, <const uint8_t *>sender, sizeof(Sender))
        which = self._find(&key)
        if which < 0:
            return None
        s = &self.slots[which]
        return {
            "score": self._score(s) / <double>ONE_NAT,
            "peak": s.peak / <double>ONE_NAT,
            "accused": s.accused / <double>ONE_NAT,
            "prior": s.prior / <double>ONE_NAT,
            "credit": s.credit / <double>ONE_NAT,
            "gained": s.gained / <double>ONE_NAT,
            "shared": s.shared.value / <double>ONE_NAT,
            "packets": s.packets,
            "crossings": s.crossings,
            "timestamp_ns": s.last_ns,
            "standing": s.standing,
            "address": (<uint8_t *>s.address)[:s.address_size],
            "cells": self._top(which, self.room),
        }

    def peaks(self):
        """Return every sender of the table: (n,) SENDER, (n,) the highest score it ever had, and
        (n,) how many packets weighed on it."""
        senders = np.zeros(self.n_senders, dtype=_SENDER)
        scores = np.zeros(self.n_senders)
        packets = np.zeros(self.n_senders, dtype=np.uint64)
        cdef Sender[::1] v_senders = senders
        cdef double[::1] v_scores = scores
        cdef uint64_t[::1] v_packets = packets
        cdef Py_ssize_t i, at = 0
        for i in range(self.high):
            if self.slots[i].used:
                v_senders[at] = self.slots[i].key
                v_scores[at] = self.slots[i].peak / <double>ONE_NAT
                v_packets[at] = self.slots[i].packets
                at += 1
        return senders, scores, packets

    def counters(self):
        """Return totals by name (STAT_NAMES), and how many senders are known now."""
        cdef int i
        totals = {name: self.stats[i] for i, name in enumerate(STAT_NAMES)}
        totals["evidence_senders"] = self.n_senders
        return totals

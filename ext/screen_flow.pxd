# Who spoke to whom, and who began: a bounded table of exchanges.
#
# Design:
#  a) One entry per exchange, found from either direction: the key puts the lower end first. The
#     hash is keyed with a secret, so that nobody steers the chains.
#  b) Every entry stands in one list, by its stage. What leaves a stage by time alone has the same
#     time-out as all others there, so a list's head is always the next one due: no wheel, no scan.
#  c) A full table gives up what has ended, then what has been idle, and only then (counted: an
#     overflow) the oldest attempt or exchange.

from libc.stdlib cimport calloc, free
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from packet cimport Sender
from screen_look cimport Ends

cdef extern from *:
    """
    static inline unsigned long long ids_mix(unsigned long long a, unsigned long long b) {
        __uint128_t r = (__uint128_t)a * b;
        return (unsigned long long)r ^ (unsigned long long)(r >> 64);
    }
    static inline void ids_fetch(const void *at) { __builtin_prefetch(at); }
    static const long long IDS_IDLE_NS = 60000000000LL;
    static const long long IDS_LINGER_NS = 3000000000LL;
    """
    uint64_t ids_mix(uint64_t a, uint64_t b) noexcept nogil
    void ids_fetch(const void *at) noexcept nogil
    const int64_t IDLE_NS "IDS_IDLE_NS"         # a UDP exchange without a frame for so long is over
    const int64_t LINGER_NS "IDS_LINGER_NS"     # what has ended is known for so long

cdef enum:
    # Stages, each a list in order of `since`
    G_PENDING = 0           # an attempt without an answer
    G_OPEN = 1              # answered; not yet known whether it was brief
    G_KEPT = 2              # TCP, for as long as there is room
    G_TALK = 3              # UDP, until it has been idle for IDLE_NS
    G_ENDED = 4             # failed or closed; known for LINGER_NS more
    G_FREE = 5
    N_STAGES = 6

cdef enum:
    # Flags of a flow
    W_LOW_BEGAN = 1         # the initiator is the lower end of the key
    W_SILENT = 2            # counts in no rule: our own, of a contained sender, of nobody
    W_CONTAINED = 4         # of a contained sender: vouches for nobody
    W_FLOOD = 8             # part of a named flood: no scan attempt
    W_PROBE = 16            # began without SYN
    W_ADOPTED = 32          # who began is not known
    W_ANSWERED = 64
    W_COMPLETED = 128       # the originator's ACK came
    W_RESOLVED = 256        # counted as failed, answered, brief or not
    W_RESET = 512           # refused: what comes next is a new attempt
    W_LOW_FIN = 1024
    W_HIGH_FIN = 2048
    W_SENT = 4096           # the initiator has sent payload
    W_SAMPLED = 8192        # began while the socket filter hid most of its packets
    W_LATE = 16384          # a probe with ACK: it may be the rest of what began before us

cdef struct Flow:
    uint64_t a0             # lower end's address
    uint64_t a1
    uint64_t b0             # higher end's
    uint64_t b1
    uint16_t aport
    uint16_t bport
    uint8_t family
    uint8_t proto
    uint16_t flags          # W_*
    int64_t since           # when it came to its stage, ns
    int64_t last            # its latest frame
    uint32_t isn            # initiator's initial sequence number
    uint32_t risn           # responder's
    uint16_t extra          # payload of the SYN
    uint16_t packets        # both ways, at most 65535
    uint32_t hash           # its chain
    int32_t chain           # next in the chain, -1 none
    int32_t before          # in the stage's list
    int32_t after
    uint8_t stage           # G_*
    Sender who              # canonical sender that began

cdef struct Flows:
    Flow *flow
    int32_t *heads          # first of each chain, -1 none
    uint32_t mask
    int32_t size
    int32_t fresh           # from here on none was ever used
    int32_t first[6]        # of each stage
    int32_t last[6]
    int32_t count[6]
    uint64_t seed[4]
    uint64_t overflow       # live ones given up


cdef inline int flows_init(Flows *t, int32_t size) except -1 nogil:
    # 0, or -1 without memory.
    cdef uint32_t chains = 1
    while chains < 2 * <uint32_t>size:  # so that what is not there mostly costs one look
        chains *= 2
    t.flow = <Flow *>calloc(size, sizeof(Flow))
    t.heads = <int32_t *>calloc(chains, sizeof(int32_t))
    if t.flow == NULL or t.heads == NULL:
        with gil:
            raise MemoryError()
    t.mask = chains - 1
    t.size = size
    flows_clear(t)
    return 0


cdef inline void flows_free(Flows *t) noexcept nogil:
    free(t.flow)
    free(t.heads)


cdef inline void flows_clear(Flows *t) noexcept nogil:
    cdef int i
    memset(t.heads, 0xFF, (<size_t>t.mask + 1) * sizeof(int32_t))
    for i in range(N_STAGES):
        t.first[i] = -1
        t.last[i] = -1
        t.count[i] = 0
    t.fresh = 0  # what was never used is not touched: a quiet network needs no room for floods


cdef inline void _append(Flows *t, int32_t i, uint8_t stage) noexcept nogil:
    cdef Flow *f = &t.flow[i]
    f.stage = stage
    f.before = t.last[stage]
    f.after = -1
    if t.last[stage] >= 0:
        t.flow[t.last[stage]].after = i
    else:
        t.first[stage] = i
    t.last[stage] = i
    t.count[stage] += 1


cdef inline void _unlink(Flows *t, int32_t i) noexcept nogil:
    cdef Flow *f = &t.flow[i]
    if f.before >= 0:
        t.flow[f.before].after = f.after
    else:
        t.first[f.stage] = f.after
    if f.after >= 0:
        t.flow[f.after].before = f.before
    else:
        t.last[f.stage] = f.before
    t.count[f.stage] -= 1


cdef inline void flow_move(Flows *t, int32_t i, uint8_t stage, int64_t now) noexcept nogil:
    # To the end of a stage's list. `now` never goes back, so lists stay in order.
    _unlink(t, i)
    t.flow[i].since = now
    _append(t, i, stage)


cdef inline bint _low_first(const Ends *e) noexcept nogil:
    # Is the frame's source the lower end?
    if e.s0 != e.d0:
        return e.s0 < e.d0
    if e.s1 != e.d1:
        return e.s1 < e.d1
    return e.sport <= e.dport


cdef inline uint32_t flow_hash(const Flows *t, const Ends *e) noexcept nogil:
    # The same for both directions. The ports meet no number that the frame's sender chooses: beside
    # an address, each change of theirs could be made up for by its prefix (IPv6 has 64 bits to
    # choose), whatever the secret, and all such exchanges would stand in one chain.
    cdef bint low = _low_first(e)
    cdef uint64_t a0 = e.s0 if low else e.d0
    cdef uint64_t a1 = e.s1 if low else e.d1
    cdef uint64_t b0 = e.d0 if low else e.s0
    cdef uint64_t b1 = e.d1 if low else e.s1
    cdef uint16_t ap = e.sport if low else e.dport
    cdef uint16_t bp = e.dport if low else e.sport
    cdef uint64_t h
    cdef uint64_t rest = <uint64_t>ap << 48 | <uint64_t>bp << 32 | <uint64_t>e.proto << 8 | e.family
    h = ids_mix(ids_mix(a0 ^ t.seed[0], b0 ^ t.seed[1]) ^ rest,
                ids_mix(a1 ^ t.seed[2], b1 ^ t.seed[3]) ^ t.seed[0])
    return <uint32_t>(h ^ (h >> 32))


cdef inline void flow_await(const Flows *t, uint32_t hash) noexcept nogil:
    # Have the chain's head in the processor's cache when it is asked for, some frames from now.
    ids_fetch(&t.heads[hash & t.mask])


cdef inline void flow_await_more(const Flows *t, uint32_t hash) noexcept nogil:
    # The head has come: now the exchange that it names, 136 bytes.
    cdef int32_t i = t.heads[hash & t.mask]
    if i >= 0:
        ids_fetch(&t.flow[i])
        ids_fetch(<const char *>&t.flow[i] + 64)


cdef inline int32_t flow_find(Flows *t, const Ends *e, uint32_t *hash) noexcept nogil:
    # Index of the exchange that a frame with these ends belongs to, -1 none. `hash` is set.
    cdef bint low = _low_first(e)
    cdef uint64_t a0 = e.s0 if low else e.d0
    cdef uint64_t a1 = e.s1 if low else e.d1
    cdef uint64_t b0 = e.d0 if low else e.s0
    cdef uint64_t b1 = e.d1 if low else e.s1
    cdef uint16_t ap = e.sport if low else e.dport
    cdef uint16_t bp = e.dport if low else e.sport
    cdef int32_t i
    cdef Flow *f
    hash[0] = flow_hash(t, e)
    i = t.heads[hash[0] & t.mask]
    while i >= 0:
        f = &t.flow[i]
        if (f.hash == hash[0] and f.a0 == a0 and f.b0 == b0 and f.aport == ap and f.bport == bp
                and f.a1 == a1 and f.b1 == b1 and f.proto == e.proto and f.family == e.family):
            return i
        i = f.chain
    return -1


cdef inline uint32_t longest_chain(const Flows *t) noexcept nogil:
    # Exchanges in the fullest chain.
    cdef uint32_t longest = 0, n, head
    cdef int32_t i
    for head in range(t.mask + 1):
        n = 0
        i = t.heads[head]
        while i >= 0:
            n += 1
            i = t.flow[i].chain
        longest = max(longest, n)
    return longest


cdef inline void flow_remove(Flows *t, int32_t i) noexcept nogil:
    cdef Flow *f = &t.flow[i]
    cdef int32_t *at = &t.heads[f.hash & t.mask]
    while at[0] != i:
        at = &t.flow[at[0]].chain
    at[0] = f.chain
    _unlink(t, i)
    _append(t, i, G_FREE)


cdef inline bint _give_up(Flows *t, int64_t now) noexcept nogil:
    # Make room for one; True if what went was live.
    cdef int32_t i, tries
    cdef int stage
    i = t.first[G_ENDED]
    if i >= 0:
        flow_remove(t, i)
        return False
    for stage in range(G_TALK, G_OPEN, -1):
        for tries in range(8):
            i = t.first[stage]
            if i < 0:
                break
            if t.flow[i].last + IDLE_NS <= now:
                flow_remove(t, i)
                return False
            if t.flow[i].last <= t.flow[i].since:
                break
            flow_move(t, i, stage, now)  # spoken since it came here: not the oldest any more
    # A flood of attempts may not push out what is established, nor the other way round.
    if t.count[G_PENDING] * 4 >= t.size:
        i = t.first[G_PENDING]
    else:
        i = t.first[G_OPEN]
        for stage in range(G_KEPT, G_ENDED):
            if t.first[stage] >= 0 and (i < 0 or t.flow[t.first[stage]].since < t.flow[i].since):
                i = t.first[stage]
        if i < 0:
            i = t.first[G_PENDING]
    flow_remove(t, i)
    t.overflow += 1
    return True


cdef inline int32_t flow_add(Flows *t, const Ends *e, uint32_t hash, uint8_t stage, int64_t now, bint *evicted) noexcept nogil:
    # A new exchange begun by the frame's source; the key must not be there yet. `evicted` is set
    # where a live one had to go.
    cdef bint low = _low_first(e)
    cdef int32_t i
    cdef Flow *f
    evicted[0] = False
    if t.first[G_FREE] < 0:
        if t.fresh < t.size:
            _append(t, t.fresh, G_FREE)
            t.fresh += 1
        else:
            evicted[0] = _give_up(t, now)
    i = t.last[G_FREE]  # the one freed last is still in the processor's cache
    f = &t.flow[i]
    _unlink(t, i)
    f.a0 = e.s0 if low else e.d0
    f.a1 = e.s1 if low else e.d1
    f.b0 = e.d0 if low else e.s0
    f.b1 = e.d1 if low else e.s1
    f.aport = e.sport if low else e.dport
    f.bport = e.dport if low else e.sport
    f.family = e.family
    f.proto = e.proto
    f.flags = W_LOW_BEGAN if low else 0
    f.since = now
    f.last = now
    f.isn = 0
    f.risn = 0
    f.extra = 0
    f.packets = 1
    f.hash = hash
    f.chain = t.heads[hash & t.mask]
    t.heads[hash & t.mask] = i
    memset(&f.who, 0, sizeof(Sender))
    _append(t, i, stage)
    return i


cdef inline bint from_initiator(const Flow *f, const Ends *e) noexcept nogil:
    return _low_first(e) == ((f.flags & W_LOW_BEGAN) != 0)

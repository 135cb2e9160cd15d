# What the rules count by key within a window, and who was told about what lately.
#
# Design:
#  a) One table per rule. A window that ends voids all of its entries at once, so that nothing is
#     evicted: a key that finds its table full is not counted in this window (and that is counted).
#  b) A table's entries are all of one size: the counters, then room for a small exact set or for
#     the heaviest senders.
#  c) The hold-down outlives the window, so it has a table of its own: keyed hashes of (rule, key).

from libc.stdlib cimport calloc, free
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from packet cimport Sender
from screen_flow cimport ids_mix

cdef enum:
    SET_ITEMS = 64          # distinct ports, hosts or targets kept per key
    MANY_PORTS = 16         # ports whose attempts are counted apart, per source
    HEAVY = 4               # senders kept per key (Misra and Gries 1982)
    HOLD_SETS = 1024
    HOLD_WAYS = 4

cdef struct Key:
    # By what a rule counts; what it does not count by is zero.
    Sender who              # canonical
    uint8_t family          # of `address`, 0 none
    uint8_t proto
    uint16_t port
    uint64_t a0             # address, as in Ends
    uint64_t a1

cdef struct Heavy:
    Sender who
    uint32_t count          # at most its true count; short of it by a fifth of all at most

cdef struct Tally:
    Key key
    int64_t first           # when the key was first counted in this window, ns
    int64_t held            # no event before this time, as far as is known here
    int64_t held_alone      # the same for events that convict by themselves
    uint64_t okay           # ports of the set that have answered once
    uint64_t sure           # items of the set that a whole TCP attempt has certainly failed at
    uint32_t hash
    int32_t chain           # -1 none
    uint32_t n              # distinct items, at most SET_ITEMS
    uint32_t total          # rule's count; see screen_rules.pxd
    uint32_t bad
    uint32_t beyond         # counted past SET_ITEMS, without telling items apart
    uint32_t beyond_bad
    uint32_t beyond_sure
    uint32_t part           # dos: of `total`, those in the sampled 1/16 of flows
    uint32_t part_bad       # dos: of them, completed
    uint32_t rest           # mirai: attempts on ports past MANY_PORTS
    uint32_t n_ports
    uint32_t items[1]       # the set, or HEAVY; as many as the table says

cdef struct Tallies:
    char *base              # NULL: the rule is off
    size_t stride
    int32_t *heads
    uint32_t mask
    int32_t size
    int32_t count
    int64_t window_ns
    int64_t window          # floor(time / window_ns) of what is in it
    uint64_t overflow       # keys that found no room
    uint64_t seed[2]


cdef inline int tallies_init(Tallies *t, int32_t size, int items, int64_t window_ns) except -1 nogil:
    cdef uint32_t chains = 1
    while chains < 4 * <uint32_t>size:  # so that what is not there mostly costs one look
        chains *= 2
    t.stride = (sizeof(Tally) + 4 * items + 7) // 8 * 8
    t.base = <char *>calloc(size, t.stride)
    t.heads = <int32_t *>calloc(chains, sizeof(int32_t))
    if t.base == NULL or t.heads == NULL:
        with gil:
            raise MemoryError()
    memset(t.heads, 0xFF, chains * sizeof(int32_t))
    t.mask = chains - 1
    t.size = size
    t.window_ns = window_ns
    return 0


cdef inline void tallies_free(Tallies *t) noexcept nogil:
    free(t.base)
    free(t.heads)


cdef inline Tally *tally_at(const Tallies *t, int32_t i) noexcept nogil:
    return <Tally *>(t.base + t.stride * i)


cdef inline void tallies_clear(Tallies *t) noexcept nogil:
    cdef int32_t i
    for i in range(t.count):
        t.heads[tally_at(t, i).hash & t.mask] = -1
    t.count = 0


cdef inline uint64_t hash_key(const Key *key, const uint64_t *seed, uint64_t salt) noexcept nogil:
    # Equal hashes are taken for equal keys by hold_down, so the salt is spread over all bits: as a
    # small number it could be made up for by another interface's index.
    cdef uint64_t w[4]
    cdef uint64_t h
    w[3] = 0
    memcpy(w, &key.who, sizeof(Sender))
    h = ids_mix(w[0] ^ (seed[0] + salt * <uint64_t>0x9E3779B97F4A7C15), w[1] ^ seed[1])
    h = ids_mix(h ^ w[2] ^ seed[1], w[3] ^ seed[0] ^ (<uint64_t>key.port << 48)
                ^ (<uint64_t>key.family << 40) ^ (<uint64_t>key.proto << 32))
    return ids_mix(h ^ key.a0 ^ seed[0], key.a1 ^ seed[1])


cdef inline bint _same_key(const Key *x, const Key *y) noexcept nogil:
    return (x.a0 == y.a0 and x.a1 == y.a1 and x.port == y.port and x.family == y.family
            and x.proto == y.proto and memcmp(&x.who, &y.who, sizeof(Sender)) == 0)


cdef inline Tally *tally_of(Tallies *t, const Key *key, int64_t now) noexcept nogil:
    # The key's counters in this window; NULL where the table is full.
    cdef uint64_t h = hash_key(key, t.seed, 0)
    cdef uint32_t hash = <uint32_t>(h ^ (h >> 32))
    cdef int32_t i = t.heads[hash & t.mask]
    cdef Tally *tally
    while i >= 0:
        tally = tally_at(t, i)
        if tally.hash == hash and _same_key(&tally.key, key):
            return tally
        i = tally.chain
    if t.count == t.size:
        t.overflow += 1
        return NULL
    i = t.count
    t.count += 1
    tally = tally_at(t, i)
    memset(tally, 0, t.stride)
    tally.key = key[0]
    tally.first = now
    tally.hash = hash
    tally.chain = t.heads[hash & t.mask]
    t.heads[hash & t.mask] = i
    return tally


cdef inline uint32_t set_add(Tally *tally, uint32_t item) noexcept nogil:
    # Put an item into the set; its place, SET_ITEMS where there is none left.
    cdef uint32_t i
    for i in range(tally.n):
        if tally.items[i] == item:
            return i
    if tally.n == SET_ITEMS:
        return SET_ITEMS
    tally.items[tally.n] = item
    tally.n += 1
    return tally.n - 1


cdef inline void heavy_add(Tally *tally, const Sender *who) noexcept nogil:
    # Misra-Gries: a sender with more than a fifth of the counts is in the list at the end.
    cdef Heavy *heavy = <Heavy *>tally.items
    cdef int i
    cdef int free_one = -1
    for i in range(HEAVY):
        if heavy[i].count == 0:
            free_one = i
        elif memcmp(&heavy[i].who, who, sizeof(Sender)) == 0:
            heavy[i].count += 1
            return
    if free_one >= 0:
        heavy[free_one].who = who[0]
        heavy[free_one].count = 1
        return
    for i in range(HEAVY):
        heavy[i].count -= 1


cdef inline bint heavy_most(const Tally *tally, Sender *who) noexcept nogil:
    # True, and who, where one sender certainly accounts for more than half of `total`.
    cdef const Heavy *heavy = <const Heavy *>tally.items
    cdef int i
    for i in range(HEAVY):
        if 2 * <uint64_t>heavy[i].count > tally.total:
            who[0] = heavy[i].who
            return True
    return False


cdef inline void port_add(Tally *tally, uint32_t port) noexcept nogil:
    # One more attempt on a port; the pairs (port, attempts) lie behind the set.
    cdef uint32_t *ports = tally.items + SET_ITEMS
    cdef uint32_t i
    for i in range(tally.n_ports):
        if ports[2 * i] == port:
            ports[2 * i + 1] += 1
            return
    if tally.n_ports == MANY_PORTS:
        tally.rest += 1
        return
    ports[2 * tally.n_ports] = port
    ports[2 * tally.n_ports + 1] = 1
    tally.n_ports += 1


cdef inline uint32_t top_ports(const Tally *tally, int most) noexcept nogil:
    # Attempts on the `most` ports with the most of them.
    cdef const uint32_t *ports = tally.items + SET_ITEMS
    cdef uint32_t taken = 0
    cdef uint32_t best, i
    cdef uint32_t at = 0
    cdef uint32_t sum = 0
    cdef int k
    for k in range(most):
        best = 0
        for i in range(tally.n_ports):
            if not (taken >> i) & 1 and ports[2 * i + 1] > best:
                best = ports[2 * i + 1]
                at = i
        if best == 0:
            break
        taken |= <uint32_t>1 << at
        sum += best
    return sum


cdef struct Hold:
    uint64_t key            # keyed hash of (rule, key), 0 free
    int64_t until           # ns


cdef inline int64_t hold_down(Hold *holds, const Key *key, const uint64_t *seed, uint64_t rule,
                              int64_t now, int64_t hold_ns) noexcept nogil:
    # The time until which (rule, key) is held down; 0 where it was not: it is from now on.
    cdef uint64_t h = hash_key(key, seed, rule + 1) | 1
    cdef Hold *row = holds + ((h >> 32) & (HOLD_SETS - 1)) * HOLD_WAYS
    cdef int i
    cdef int oldest = 0
    for i in range(HOLD_WAYS):
        if row[i].key == h:
            if row[i].until > now:
                return row[i].until
            row[i].until = now + hold_ns
            return 0
        if row[i].until < row[oldest].until:
            oldest = i
    row[oldest].key = h
    row[oldest].until = now + hold_ns
    return 0

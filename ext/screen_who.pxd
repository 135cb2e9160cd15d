# Senders that are known: devices on the protected side, peers beyond that have proven themselves,
# and the sets of those who are contained or suspected.
#
# A frame looks into several of these, so all use one keyed hash of its sender (hash_who with
# State.seed), made once.

from libc.stdlib cimport calloc, free
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from packet cimport Sender
from screen_flow cimport IDLE_NS, ids_mix

cdef extern from *:
    """
    static const long long IDS_STANDING_NS = 3600000000000LL;
    """
    const int64_t STANDING_NS "IDS_STANDING_NS"     # what is proven holds for so long

cdef enum:
    # Standing in types.py
    ANSWER = 1
    PROVEN = 2
    CALLED = 4
    SUSPECT = 8

cdef struct Known:
    Sender who              # canonical
    uint8_t family          # of the address seen last, 0 none
    uint8_t standing        # PROVEN, CALLED
    uint8_t touched         # seen since the evicting hand came by
    uint64_t a0             # address seen last, as in Ends
    uint64_t a1
    int64_t last            # its latest frame or proof, ns
    uint32_t hash
    int32_t chain           # -1 none

cdef struct Knowns:
    Known *known
    int32_t *heads
    uint32_t mask
    int32_t size
    int32_t count
    int32_t hand            # next one that may have to go
    uint64_t overflow       # live ones given up

cdef struct Set:
    # Canonical senders; open addressing, at most half full.
    Sender *item
    uint8_t *used
    uint32_t mask
    uint32_t count
    uint64_t overflow       # that found no room


cdef inline uint64_t hash_who(const Sender *who, const uint64_t *seed) noexcept nogil:
    cdef uint64_t w[4]
    cdef uint64_t h
    w[3] = 0
    memcpy(w, who, sizeof(Sender))
    h = ids_mix(w[0] ^ seed[0], w[1] ^ seed[1])
    return ids_mix(h ^ w[2] ^ seed[1], w[3] ^ seed[0])


cdef inline int knowns_init(Knowns *t, int32_t size) except -1 nogil:
    cdef uint32_t chains = 1
    while chains < 4 * <uint32_t>size:  # so that what is not there mostly costs one look
        chains *= 2
    t.known = <Known *>calloc(size, sizeof(Known))
    t.heads = <int32_t *>calloc(chains, sizeof(int32_t))
    if t.known == NULL or t.heads == NULL:
        with gil:
            raise MemoryError()
    memset(t.heads, 0xFF, chains * sizeof(int32_t))
    t.mask = chains - 1
    t.size = size
    return 0


cdef inline void knowns_free(Knowns *t) noexcept nogil:
    free(t.known)
    free(t.heads)


cdef inline Known *known_find(const Knowns *t, const Sender *who, uint64_t h) noexcept nogil:
    # NULL where it is not known.
    cdef uint32_t hash = <uint32_t>h
    cdef int32_t i = t.heads[hash & t.mask]
    while i >= 0:
        if t.known[i].hash == hash and memcmp(&t.known[i].who, who, sizeof(Sender)) == 0:
            return &t.known[i]
        i = t.known[i].chain
    return NULL


cdef inline Known *known_add(Knowns *t, const Sender *who, uint64_t h, int64_t now, bint *evicted) noexcept nogil:
    # The place of one that is not known yet; `evicted` is set where a live one had to go.
    cdef uint32_t hash = <uint32_t>h
    cdef int32_t i, tries
    cdef int32_t *at
    cdef Known *k
    evicted[0] = False
    if t.count < t.size:
        i = t.count
        t.count += 1
    else:
        for tries in range(16):
            i = t.hand
            t.hand = (t.hand + 1) % t.size
            if not t.known[i].touched:
                break
            t.known[i].touched = 0
        k = &t.known[i]
        if k.last + IDLE_NS > now:
            evicted[0] = True
            t.overflow += 1
        at = &t.heads[k.hash & t.mask]
        while at[0] != i:
            at = &t.known[at[0]].chain
        at[0] = k.chain
    k = &t.known[i]
    memset(k, 0, sizeof(Known))
    k.who = who[0]
    k.last = now
    k.hash = hash
    k.chain = t.heads[hash & t.mask]
    t.heads[hash & t.mask] = i
    return k


cdef inline int set_init(Set *s, uint32_t items) except -1 nogil:
    cdef uint32_t places = 2
    while places < 2 * items:
        places *= 2
    s.item = <Sender *>calloc(places, sizeof(Sender))
    s.used = <uint8_t *>calloc(places, 1)
    if s.item == NULL or s.used == NULL:
        with gil:
            raise MemoryError()
    s.mask = places - 1
    s.count = 0
    return 0


cdef inline void set_free(Set *s) noexcept nogil:
    free(s.item)
    free(s.used)
    s.item = NULL
    s.used = NULL


cdef inline uint32_t _place(const Set *s, const Sender *who, uint64_t h) noexcept nogil:
    # Where it is, or where it would be.
    cdef uint32_t at = <uint32_t>(h >> 20) & s.mask
    while s.used[at] and memcmp(&s.item[at], who, sizeof(Sender)) != 0:
        at = (at + 1) & s.mask
    return at


cdef inline bint set_has(const Set *s, const Sender *who, uint64_t h) noexcept nogil:
    return s.count != 0 and s.used[_place(s, who, h)]


cdef inline bint set_put(Set *s, const Sender *who, uint64_t h) noexcept nogil:
    # False where there is no room.
    cdef uint32_t at = _place(s, who, h)
    if s.used[at]:
        return True
    if 2 * (s.count + 1) > s.mask + 1:
        s.overflow += 1
        return False
    s.item[at] = who[0]
    s.used[at] = 1
    s.count += 1
    return True


cdef inline void set_clear(Set *s) noexcept nogil:
    if s.count:
        memset(s.used, 0, <size_t>s.mask + 1)
    s.count = 0

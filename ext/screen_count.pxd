# One more of something that a rule counts, and whether that is enough: to look closer, or to convict.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from packet cimport Sender
from screen_look cimport TH_ACK, TH_FIN, TH_RST, TH_SYN
from screen_state cimport *
from screen_tally cimport *


cdef inline bint hits(uint32_t limit, uint32_t n) noexcept nogil:
    return limit != 0 and n >= limit


cdef inline void count_most(State *s, int table, int rule, uint32_t limit, uint32_t alone, const Key *key, const Sender *who) noexcept nogil:
    # One more of something that a victim gets; who: NULL where the sender cannot be named.
    cdef Tally *tally = count(s, table, key)
    if tally == NULL:
        return
    tally.total += 1
    if who != NULL:
        heavy_add(tally, who)
    if hits(limit, tally.total):
        fire_most(s, rule, key, tally, hits(alone, tally.total))


cdef inline void count_own(State *s, int table, int rule, uint32_t limit, uint32_t alone, const Key *key, bint worse) noexcept nogil:
    # One more of something that a sender does; `alone` of the worse kind convict it.
    cdef Tally *tally = count(s, table, key)
    cdef Fired *f = NULL
    if tally == NULL:
        return
    tally.total += 1
    tally.bad += worse
    if hits(alone, tally.bad):
        f = fire_alone(s, rule, CUE_COUNT, key, &key.who, tally)
    elif hits(limit, tally.total):
        f = fire(s, rule, CUE_COUNT, key, &key.who, tally)
    if f != NULL:
        f.a = tally.total


cdef inline void count_flags(State *s, uint8_t flags, const Sender *who) noexcept nogil:
    # TCP that no system sends: a SYN that also ends, and what neither begins, ends nor acknowledges
    # (null, FIN alone, "Christmas tree"): without ACK it is dropped (RFC 9293, 3.10.7.4).
    cdef Key key
    if s.tables[T_FLAGS].base == NULL:
        return
    if flags & (TH_SYN | TH_FIN) != TH_SYN | TH_FIN and flags & (TH_SYN | TH_RST | TH_ACK):
        return
    memset(&key, 0, sizeof(Key))
    key.who = who[0]
    count_own(s, T_FLAGS, R_FLAGS, s.limits.flags, 0, &key, False)


cdef inline void count_target(State *s, uint64_t target, const Sender *who) noexcept nogil:
    # One more address that a MAC asks for.
    cdef Key key
    cdef Tally *tally
    cdef Fired *f
    if s.tables[T_ARP_TARGETS].base == NULL:
        return
    memset(&key, 0, sizeof(Key))
    key.who = who[0]
    tally = count(s, T_ARP_TARGETS, &key)
    if tally == NULL:
        return
    set_add(tally, <uint32_t>target)
    if hits(s.limits.arp_targets, tally.n):
        f = fire(s, R_MIRAI, CUE_TARGETS, &key, &key.who, tally)
        if f != NULL:
            f.a = tally.n
    if hits(s.limits.arp_sweep, tally.n):
        f = fire_alone(s, R_ARP_SWEEP, CUE_TARGETS, &key, &key.who, tally)
        if f != NULL:
            f.a = tally.n

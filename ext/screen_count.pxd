# One more of something that a rule counts, and whether that is enough: to look closer, or to convict.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from packet cimport Sender
from screen_look cimport TH_ACK, TH_FIN, TH_RST, TH_SYN
from screen_state cimport *
from screen_tally cimport *


cdef extern from *:
    """
    #define ids_bits(set) ((unsigned int)__builtin_popcountll(set))
    """
    uint32_t bits "ids_bits"(uint64_t set) noexcept nogil   # how many are set


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
    count_own(s, T_FLAGS, R_FLAGS, s.limits.flags, s.limits.flags_alone, &key, True)


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


cdef inline void count_ports(State *s, int table, const Key *key, uint32_t item, bint failed, bint certain) noexcept nogil:
    # A port that has answered once is no failure any more. Past SET_ITEMS ports are not told apart.
    # certain: seen from its beginning to its end, so that its failing may convict.
    cdef Tally *tally = count(s, table, key)
    cdef uint32_t at, ports, bad, sure
    cdef bint fast = table == T_PORTS
    cdef uint32_t limit = s.limits.ports if fast else s.limits.slow_ports
    cdef uint32_t alone = s.limits.ports_alone if fast else s.limits.slow_ports_alone
    cdef int rule = R_PORT_SCAN if fast else R_SLOW_SCAN
    cdef Fired *f
    if tally == NULL:
        return
    at = set_add(tally, item)
    if at == SET_ITEMS:
        tally.beyond += 1
        tally.beyond_bad += failed
        tally.beyond_sure += certain
    elif not failed:
        tally.okay |= <uint64_t>1 << at
    elif certain:
        tally.sure |= <uint64_t>1 << at
    ports = tally.n + tally.beyond
    if not hits(limit, tally.n):
        return
    bad = tally.n + tally.beyond_bad - bits(tally.okay)
    if bad < s.limits.failed_ratio * ports:
        return
    sure = bits(tally.sure & ~tally.okay) + tally.beyond_sure
    if hits(alone, sure):
        f = fire_alone(s, rule, CUE_SURE, key, &key.who, tally)
        if f != NULL:
            f.a = sure
            f.b = ports
        return
    f = fire(s, rule, CUE_COUNT, key, &key.who, tally)
    if f != NULL:
        f.a = ports
        f.b = bad


cdef inline void count_hosts(State *s, int table, const Key *key, uint32_t host, uint32_t port, bint bad, bint certain) noexcept nogil:
    cdef Tally *tally = count(s, table, key)
    cdef bint fast = table == T_HOSTS
    cdef uint32_t limit = s.limits.hosts if fast else s.limits.slow_hosts
    cdef uint32_t alone = s.limits.hosts_alone if fast else s.limits.slow_hosts_alone
    cdef int rule = R_MIRAI if fast else R_SLOW_SCAN
    cdef uint32_t at, sure
    cdef Fired *f
    if tally == NULL:
        return
    at = set_add(tally, host)
    if certain and at < SET_ITEMS:
        tally.sure |= <uint64_t>1 << at
    elif certain:  # some host of the first ones may have answered: that lets nobody off
        tally.beyond_sure += 1
    port_add(tally, port)
    tally.total += 1
    tally.bad += bad
    if not hits(limit, tally.n) or tally.bad < s.limits.brief_ratio * tally.total:
        return
    if top_ports(tally, s.limits.top_ports) < s.limits.top_ports_ratio * tally.total:
        return
    sure = min(bits(tally.sure) + tally.beyond_sure, tally.n)
    if hits(alone, sure):
        f = fire_alone(s, rule, CUE_SURE, key, &key.who, tally)
        if f != NULL:
            f.a = sure
            f.b = tally.n
        return
    f = fire(s, rule, CUE_HOSTS, key, &key.who, tally)
    if f != NULL:
        f.a = tally.n
        f.b = tally.bad

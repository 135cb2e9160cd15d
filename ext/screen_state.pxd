# All that the screen remembers, and how a rule fires.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from packet cimport Host, Sender
from screen_flow cimport Flows
from screen_tally cimport Hold, Key, Tallies, Tally, heavy_most, hold_down, tally_of
from screen_who cimport Knowns, Set, hash_who, set_put
from sender cimport SIDE_FLOOD

cdef extern from *:
    """
    static const long long IDS_DOUBT_NS = 64000000000LL;
    """
    # As long as Linux sends a SYN-ACK again that nobody acknowledges (tcp(7), tcp_synack_retries).
    const int64_t DOUBT_NS "IDS_DOUBT_NS"

cdef enum:
    # Rules; the order is RULES in screen.pyx.
    R_DOS = 0
    R_PORT_SCAN = 1
    R_MIRAI = 2
    R_ARP_SPOOF = 3
    R_OVERFLOW = 4
    R_SLOW_SCAN = 5
    R_CONNECTION_RATE = 6
    R_UDP_RATE = 7
    R_ICMP_RATE = 8
    R_IDLE = 9
    R_UNSOLICITED = 10
    R_FAILED = 11
    R_REPEATED = 12
    R_UDP_EXCHANGES = 13
    R_ARP_SWEEP = 14
    R_ARP_INSISTENCE = 15
    R_FLAGS = 16

cdef enum:
    # Tables of tallies; the order is TABLES in screen.pyx. One rule may count in several.
    T_DOS = 0
    T_PORTS = 1
    T_HOSTS = 2
    T_ECHO = 3
    T_ARP_TARGETS = 4
    T_ARP_REPLIES = 5
    T_SLOW_PORTS = 6
    T_SLOW_HOSTS = 7
    T_CONNECTIONS = 8
    T_UDP = 9
    T_ICMP = 10
    T_IDLE = 11
    T_UNSOLICITED = 12
    T_FAILED = 13
    T_REPEATED = 14
    T_SLOW_REPEATED = 15
    T_UDP_EXCHANGES = 16
    T_INSISTENCE = 17
    T_FLAGS = 18
    N_TABLES = 19
    # Tables that are none of tallies, in the same list of names.
    T_FLOWS = 19
    T_DEVICES = 20
    T_PEERS = 21
    T_BINDINGS = 22
    T_SUSPECTS = 23

cdef enum:
    # What a rule has to say about itself; see _detail in screen.pyx.
    CUE_COUNT = 0
    CUE_ECHO = 1
    CUE_TARGETS = 2
    CUE_UNASKED = 3
    CUE_CHANGES = 4
    CUE_CHANGED = 5         # a MAC against a learned binding
    CUE_CONTESTED = 6       # and the bound one still shows up
    CUE_CONFIGURED = 7
    CUE_GATEWAY = 8         # an address of ours
    CUE_FORGED = 9          # another Ethernet source than the ARP packet says
    CUE_HOSTS = 10
    CUE_DISPUTED = 11       # against a binding that rests on an unsolicited reply
    CUE_INSISTS = 12
    CUE_SURE = 13

cdef enum:
    MAX_FIRED = 1024        # events of one call
    MAX_SLOTS = 15
    ALONE = 64              # added to R_* where what convicts by itself is held down

cdef struct Fired:
    uint8_t rule            # R_*
    uint8_t cue             # CUE_*
    bint named              # `sender` says who
    bint decisive
    int64_t timestamp_ns
    int64_t first           # when counting began
    int32_t frame           # index in the batch
    Sender sender
    Key key
    uint32_t a              # counts, by rule
    uint32_t b
    uint8_t mac[6]          # the claimed one
    uint8_t bound[6]

cdef struct Slot:
    # A flood that has a number; it is the index + 1.
    uint8_t family
    uint16_t port
    uint64_t a0
    uint64_t a1

cdef struct Binding:
    uint64_t address        # IPv4, as in Ends
    uint8_t mac[6]
    uint8_t rival[6]        # who claims the address as well
    uint8_t latest[6]       # of the latest claim
    uint8_t source          # B_*
    bint firm               # not only from replies that nobody asked for
    bint disputed           # it was taken from one that was not firm: nothing of it is certain
    bint contested          # there is a rival
    uint32_t ifindex
    int64_t last            # when the bound MAC was last seen with it
    int64_t lease_ns
    int64_t rival_last      # the rival's latest claim
    int64_t owner_after     # the bound MAC's first sign of life after that, 0 none
    bint accusable          # a later sign of life of the bound MAC convicts `culprit`
    Sender culprit          # who made that claim
    int64_t window          # of `changes`
    uint32_t changes
    uint32_t hash
    int32_t chain

cdef struct Bindings:
    Binding *binding
    int32_t *heads
    uint32_t mask
    int32_t size
    int32_t count
    int32_t hand
    uint32_t contested
    uint64_t overflow
    uint64_t seed[2]

cdef struct Limits:
    # config.Trigger in the units of the tables; 0 in a count: the rule is off.
    int64_t window_ns
    int64_t slow_ns
    int64_t no_answer_ns
    int64_t brief_ns
    int64_t hold_ns
    bint overflow           # a full table is an event
    uint32_t syns
    double handshake_ratio
    uint32_t ports
    double failed_ratio
    uint32_t hosts
    int top_ports
    double top_ports_ratio
    double brief_ratio
    uint32_t brief_packets
    uint32_t echo_hosts
    uint32_t arp_targets
    uint32_t unsolicited
    uint32_t mac_changes
    uint32_t slow_ports
    uint32_t slow_hosts
    uint32_t connections
    uint32_t udp
    uint32_t icmp
    uint32_t idle
    uint32_t unasked
    uint32_t failed
    uint32_t repeated
    uint32_t slow_repeated
    uint32_t udp_exchanges
    uint32_t arp_sweep
    uint32_t insistence
    uint32_t flags
    # From so many on the rule alone convicts; 0: never.
    uint32_t ports_alone
    uint32_t hosts_alone
    uint32_t slow_ports_alone
    uint32_t slow_hosts_alone
    uint32_t repeated_alone
    uint32_t slow_repeated_alone
    uint32_t udp_exchanges_alone
    uint32_t icmp_alone
    uint32_t flags_alone
    uint32_t unasked_alone
    uint32_t failed_alone

cdef struct State:
    Limits limits
    Flows flows
    Tallies tables[19]
    Hold *holds
    uint64_t seed[2]
    Knowns devices          # LAN
    Knowns peers            # WAN, those who have proven something
    Set suspects            # named in the present window
    Set contained
    bint contained_floods   # some of them are floods
    Bindings bindings
    Slot slots[15]
    int n_slots
    int64_t clock           # latest packet time, ns; -1 before the first
    int64_t sure_from       # until then frames were missed, or exchanges forgotten: see `doubt`
    int64_t window          # floor(clock / window_ns)
    int64_t next_roll       # when the next window of any length begins
    bint sampling           # the closed window's socket filter is in force
    bint sampled            # it was, at some time of this window
    int32_t frame           # index of the frame at hand
    const Host *host
    Fired *fired
    int32_t n_fired
    uint64_t lost           # events past MAX_FIRED
    uint64_t jumps          # times that the clock was set back
    uint64_t slots_full
    uint64_t malformed_arp


cdef inline bint doubtful(const State *s) noexcept nogil:
    # What belongs to nothing may belong to what was missed or forgotten: it accuses nobody now.
    return s.clock < s.sure_from


cdef inline void doubt(State *s, int64_t t) noexcept nogil:
    s.sure_from = t + DOUBT_NS


cdef inline void name_sender(State *s, const Sender *who) noexcept nogil:
    cdef uint64_t before = s.suspects.overflow
    if who.side == SIDE_FLOOD:
        return
    if not set_put(&s.suspects, who, hash_who(who, s.seed)) and before == 0:
        overflow(s, T_SUSPECTS)


cdef inline void overflow(State *s, int table) noexcept nogil:
    cdef Key key
    if not s.limits.overflow:
        return
    memset(&key, 0, sizeof(Key))
    key.port = <uint16_t>table
    fire(s, R_OVERFLOW, CUE_COUNT, &key, NULL, NULL)


cdef inline Fired *fire(State *s, int rule, int cue, const Key *key, const Sender *who, Tally *tally) noexcept nogil:
    # The event to be filled in further, NULL where (rule, key) is held down or there is no room.
    # `who` may be NULL: nobody is named. A named sender is a suspect from this frame on.
    cdef int64_t until
    if tally != NULL and tally.held > s.clock:
        return NULL
    until = hold_down(s.holds, key, s.seed, rule, s.clock, s.limits.hold_ns)
    if tally != NULL:
        tally.held = until if until else s.clock + s.limits.hold_ns
    if until:
        return NULL
    return _tell(s, rule, cue, key, who, tally)


cdef inline Fired *fire_alone(State *s, int rule, int cue, const Key *key, const Sender *who, Tally *tally) noexcept nogil:
    # The same for what convicts by itself: it is not held down by what does not.
    cdef int64_t until
    cdef Fired *f
    if tally.held_alone > s.clock:
        return NULL
    until = hold_down(s.holds, key, s.seed, rule + ALONE, s.clock, s.limits.hold_ns)
    tally.held_alone = until if until else s.clock + s.limits.hold_ns
    if until:
        return NULL
    f = _tell(s, rule, cue, key, who, tally)
    if f != NULL:
        f.decisive = True
    return f


cdef inline Fired *_tell(State *s, int rule, int cue, const Key *key, const Sender *who, Tally *tally) noexcept nogil:
    cdef Fired *f
    if who != NULL:
        name_sender(s, who)
    if s.n_fired == MAX_FIRED:
        s.lost += 1
        return NULL
    f = &s.fired[s.n_fired]
    s.n_fired += 1
    memset(f, 0, sizeof(Fired))
    f.rule = <uint8_t>rule
    f.cue = <uint8_t>cue
    f.timestamp_ns = s.clock
    f.first = tally.first if tally != NULL else s.clock
    f.frame = s.frame
    f.key = key[0]
    if who != NULL:
        f.named = True
        f.sender = who[0]
    return f


cdef inline Tally *count(State *s, int table, const Key *key) noexcept nogil:
    # The key's counters; NULL where the rule is off or its table full.
    cdef Tally *tally
    if s.tables[table].base == NULL:
        return NULL
    tally = tally_of(&s.tables[table], key, s.clock)
    if tally == NULL:
        overflow(s, table)
    return tally


cdef inline void fire_most(State *s, int rule, const Key *key, Tally *tally, bint alone) noexcept nogil:
    # A rule about a victim: names the sender of more than half of it, if there is one.
    cdef Sender most
    cdef Fired *f
    if alone and heavy_most(tally, &most):
        f = fire_alone(s, rule, CUE_COUNT, key, &most, tally)
        if f != NULL:
            f.a = tally.total
        return
    if tally.held > s.clock:
        return
    if heavy_most(tally, &most):
        f = fire(s, rule, CUE_COUNT, key, &most, tally)
    else:
        f = fire(s, rule, CUE_COUNT, key, NULL, tally)
    if f != NULL:
        f.a = tally.total

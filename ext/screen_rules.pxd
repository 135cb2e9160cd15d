# The rules over exchanges: what an attempt came to, and what that adds up to (docs/triggers.md).
#
# An attempt counts in the window in which its fate is known. Time moves only in `advance`, which
# first lets every time-out that is due happen at its own time, in order: so neither the size of a
# batch nor how often `expire` is called changes what fires.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memset

from packet cimport Sender
from screen_count cimport *
from screen_flow cimport *
from screen_look cimport *
from screen_state cimport *
from screen_tally cimport *
from screen_who cimport *
from sender cimport SIDE_LAN, SIDE_WAN

cdef extern from *:
    """
    static const long long IDS_BACK_NS = 10000000000LL;
    static const long long IDS_LATEST_NS = 4000000000000000000LL;
    static const long long IDS_NEVER_NS = 8000000000000000000LL;
    """
    const int64_t BACK_NS "IDS_BACK_NS"         # further back than that, the clock was set
    const int64_t LATEST_NS "IDS_LATEST_NS"     # so that sums of times stay in range
    const int64_t NEVER_NS "IDS_NEVER_NS"

cdef struct Who:
    # The frame's sender, as the rules see it.
    Sender sender           # canonical; zeros where nobody can be named
    uint64_t hash           # of `sender`: hash_who
    bint named
    bint own                # sent by the gateway itself
    bint contained
    bint counts             # none of these: the rules count it
    uint8_t grant           # PROVEN, CALLED: what this frame shows about its sender
    bint shown              # this frame's own exchange shows that its address is not forged


# --- what an attempt came to ----------------------------------------------------------------------

cdef inline void responder_of(const Flow *f, Key *key) noexcept nogil:
    # The address and port that were tried.
    key.family = f.family
    if f.flags & W_LOW_BEGAN:
        key.a0 = f.b0
        key.a1 = f.b1
        key.port = f.bport
    else:
        key.a0 = f.a0
        key.a1 = f.a1
        key.port = f.aport


cdef inline uint32_t host_item(const State *s, const Key *key) noexcept nogil:
    # A host as a set's item: IPv4 as it is, IPv6 by a keyed hash.
    if key.family == 4:
        return <uint32_t>key.a0
    return <uint32_t>(ids_mix(key.a0 ^ s.seed[0], key.a1 ^ s.seed[1]) >> 16)


cdef inline bint _counted(const State *s, const Flow *f) noexcept nogil:
    return (not f.flags & (W_SILENT | W_FLOOD) and (f.proto == PROTO_TCP or f.proto == PROTO_UDP)
            and not (s.contained.count
                     and set_has(&s.contained, &f.who, hash_who(&f.who, s.seed))))


cdef inline bint uncertain(const State *s, const Flow *f) noexcept nogil:
    # Its answer may be among what was missed; that it was refused is seen.
    return not f.flags & W_RESET and doubtful(s)


cdef inline bint whole(const State *s, const Flow *f) noexcept nogil:
    # Was this attempt seen from its beginning to its end, so that its failing may convict? UDP's
    # answers may have stayed in the kernel, and an ACK may belong to what began before us.
    return f.proto == PROTO_TCP and not f.flags & (W_LATE | W_ANSWERED) and not uncertain(s, f)


cdef inline void count_port(State *s, const Flow *f, bint failed) noexcept nogil:
    # The attempt has failed, or was answered: what that is for the scan of one host.
    cdef Key key
    cdef uint32_t item
    if not _counted(s, f):
        return
    memset(&key, 0, sizeof(Key))
    responder_of(f, &key)
    item = (<uint32_t>f.proto << 16) | key.port
    key.port = 0
    key.who = f.who
    count_ports(s, T_PORTS, &key, item, failed, failed and whole(s, f))
    if not (failed and uncertain(s, f)):
        count_ports(s, T_SLOW_PORTS, &key, item, failed, failed and whole(s, f))


cdef inline void resolve(State *s, Flow *f, bint bad) noexcept nogil:
    # The attempt's fate is known: what it is for the sweep over hosts. Once per attempt.
    cdef Key key, host
    cdef uint32_t port
    f.flags |= W_RESOLVED
    if not _counted(s, f):
        return
    memset(&host, 0, sizeof(Key))
    responder_of(f, &host)
    memset(&key, 0, sizeof(Key))
    key.who = f.who
    port = (<uint32_t>f.proto << 16) | host.port
    count_hosts(s, T_HOSTS, &key, host_item(s, &host), port, bad, bad and whole(s, f))
    if not (bad and uncertain(s, f)):
        count_hosts(s, T_SLOW_HOSTS, &key, host_item(s, &host), port, bad, bad and whole(s, f))


cdef inline void fail(State *s, int32_t i) noexcept nogil:
    # A pending attempt has failed: it was refused (W_RESET is set by the caller), or nobody answered.
    cdef Flow *f = &s.flows.flow[i]
    cdef Key key
    count_port(s, f, True)
    if s.tables[T_FAILED].base != NULL and _counted(s, f) and not uncertain(s, f):
        memset(&key, 0, sizeof(Key))
        responder_of(f, &key)
        key.proto = f.proto
        key.who = f.who
        # Whoever is refused may be a device without back-off; nobody's silence slows a flood down.
        count_own(s, T_FAILED, R_FAILED, s.limits.failed, s.limits.failed_alone, &key,
                  not f.flags & W_RESET)
    resolve(s, f, True)
    flow_move(&s.flows, i, G_ENDED, s.clock)


cdef inline void _judge_open(State *s, int32_t i) noexcept nogil:
    # Answered brief_ns ago and still open: few packets make it brief, unless most were hidden.
    cdef Flow *f = &s.flows.flow[i]
    cdef Key key
    cdef bint hidden = s.sampled or f.flags & W_SAMPLED
    resolve(s, f, not hidden and f.packets <= s.limits.brief_packets)
    flow_move(&s.flows, i, G_KEPT, s.clock)
    if s.tables[T_IDLE].base != NULL and not hidden and not f.flags & W_SENT and _counted(s, f):
        memset(&key, 0, sizeof(Key))
        responder_of(f, &key)
        key.port = 0
        key.who = f.who
        count_own(s, T_IDLE, R_IDLE, s.limits.idle, 0, &key, False)


# --- time -----------------------------------------------------------------------------------------

cdef inline void _set_clock(State *s, int64_t t) noexcept nogil:
    # Windows that end before t end.
    cdef int i
    cdef int64_t window
    cdef Tallies *table
    s.clock = t
    if t < s.next_roll:
        return
    window = t // s.limits.window_ns
    if window != s.window:
        s.window = window
        s.sampled = s.sampling
    s.next_roll = (window + 1) * s.limits.window_ns
    window = (t // s.limits.slow_ns + 1) * s.limits.slow_ns
    if window < s.next_roll:
        s.next_roll = window
    for i in range(N_TABLES):
        table = &s.tables[i]
        if table.base != NULL:
            window = t // table.window_ns
            if window != table.window:
                tallies_clear(table)
                table.window = window


cdef inline void forget(State *s, int64_t t) noexcept nogil:
    # The clock was set back: nothing that was timed means anything now. Who is who stays known.
    cdef int32_t i
    s.jumps += 1
    doubt(s, t)
    flows_clear(&s.flows)
    memset(s.holds, 0, HOLD_SETS * HOLD_WAYS * sizeof(Hold))
    for i in range(N_TABLES):
        if s.tables[i].base != NULL:
            tallies_clear(&s.tables[i])
            s.tables[i].window = -1
    for i in range(s.devices.count):
        s.devices.known[i].last = t
    for i in range(s.peers.count):
        if s.peers.known[i].last + STANDING_NS <= s.clock:
            s.peers.known[i].standing = 0
        s.peers.known[i].last = t
    for i in range(s.bindings.count):
        s.bindings.binding[i].last = t
        s.bindings.binding[i].rival_last = t
        s.bindings.binding[i].owner_after = 0
        s.bindings.binding[i].accusable = False
        s.bindings.binding[i].window = -1
    s.next_roll = 0
    _set_clock(s, t)


cdef inline void advance(State *s, int64_t t) noexcept nogil:
    # Packet time is t: never back (frames of several ports are a little out of order), except where
    # the clock itself was set back.
    cdef Flows *flows = &s.flows
    cdef Flow *f
    cdef int64_t pending, opened
    cdef int32_t i
    if t < 0:
        t = 0
    elif t > LATEST_NS:
        t = LATEST_NS
    if s.clock < 0:
        _set_clock(s, t)
        return
    if t <= s.clock:
        if t < s.clock - BACK_NS:
            forget(s, t)
        return
    while True:
        pending = NEVER_NS
        opened = NEVER_NS
        i = flows.first[G_PENDING]
        if i >= 0:
            pending = flows.flow[i].since + s.limits.no_answer_ns
        i = flows.first[G_OPEN]
        if i >= 0:
            opened = flows.flow[i].since + s.limits.brief_ns
        if pending > t and opened > t:
            break
        if pending <= opened:
            _set_clock(s, pending)
            fail(s, flows.first[G_PENDING])
        else:
            _set_clock(s, opened)
            _judge_open(s, flows.first[G_OPEN])
    _set_clock(s, t)
    i = flows.first[G_ENDED]
    while i >= 0 and flows.flow[i].since + LINGER_NS <= t:
        flow_remove(flows, i)
        i = flows.first[G_ENDED]
    i = flows.first[G_TALK]
    while i >= 0 and flows.flow[i].since + IDLE_NS <= t:
        f = &flows.flow[i]
        if f.last + IDLE_NS <= t:
            flow_remove(flows, i)
        else:
            flow_move(flows, i, G_TALK, t)
        i = flows.first[G_TALK]


# --- exchanges ------------------------------------------------------------------------------------

cdef inline int32_t begin(State *s, const Ends *ends, uint32_t hash, uint8_t stage, const Who *by) noexcept nogil:
    # A new exchange, begun by the frame's sender. What a contained sender begins has already ended:
    # its answers are known as such, and it pushes nothing out.
    cdef bint evicted = False
    cdef int32_t i
    cdef Flow *f
    i = flow_add(&s.flows, ends, hash, G_ENDED if by.contained else stage, s.clock, &evicted)
    f = &s.flows.flow[i]
    f.who = by.sender
    if not by.counts or not by.named:
        f.flags |= W_SILENT
    if by.contained:
        f.flags |= W_CONTAINED
    if s.sampling:
        f.flags |= W_SAMPLED
    if evicted:
        doubt(s, s.clock)
        overflow(s, T_FLOWS)
    return i


cdef inline uint8_t standing_of(State *s, const Sender *who, uint64_t h, uint8_t grant) noexcept nogil:
    # What a sender beyond us has shown about itself, this frame's `grant` included.
    cdef bint evicted = False
    cdef Known *k
    if who.side != SIDE_WAN:
        return 0
    k = known_find(&s.peers, who, h)
    if k == NULL:
        if not grant:
            return 0
        k = known_add(&s.peers, who, h, s.clock, &evicted)
        if evicted:
            overflow(s, T_PEERS)
    k.touched = 1
    if k.last + STANDING_NS <= s.clock:
        k.standing = 0
    if grant:
        k.standing |= grant
        k.last = s.clock
    return k.standing


cdef inline void vouch(Flow *f, Who *by, uint8_t proof) noexcept nogil:
    # The frame's sender answers an exchange: that shows `proof`, and that a device has called it.
    if f.flags & W_CONTAINED:
        return
    by.grant |= proof
    if f.who.side == SIDE_LAN and not f.flags & W_SILENT:
        by.grant |= CALLED


cdef inline bint forged(const Flow *f, const Who *by) noexcept nogil:
    # Sent in the other end's name by the very one who began: whoever answers himself could pass for
    # answered, and all that he sends next for an answer. No exchange has one sender at both ends.
    return by.named and memcmp(&f.who, &by.sender, sizeof(Sender)) == 0


cdef inline void _repeated(State *s, const Flow *f) noexcept nogil:
    # One more connection to this port that came about: requests, guesses of a password, held ones.
    cdef Key key
    if (s.tables[T_REPEATED].base == NULL and s.tables[T_SLOW_REPEATED].base == NULL) or (
            not _counted(s, f)):
        return
    memset(&key, 0, sizeof(Key))
    responder_of(f, &key)
    key.proto = f.proto
    key.who = f.who
    count_own(s, T_REPEATED, R_REPEATED, s.limits.repeated, s.limits.repeated_alone, &key, True)
    count_own(s, T_SLOW_REPEATED, R_REPEATED, s.limits.slow_repeated,
              s.limits.slow_repeated_alone, &key, True)


cdef inline void answered(State *s, int32_t i) noexcept nogil:
    # An attempt has its answer.
    cdef Flow *f = &s.flows.flow[i]
    cdef bint tcp = f.proto == PROTO_TCP
    f.flags |= W_ANSWERED
    count_port(s, f, False)
    if tcp:
        _repeated(s, f)
    if f.flags & W_CONTAINED:
        return
    if f.flags & W_RESOLVED:  # came late: it was counted as failed already
        flow_move(&s.flows, i, G_KEPT if tcp else G_TALK, s.clock)
    elif tcp:
        flow_move(&s.flows, i, G_OPEN, s.clock)
    else:
        resolve(s, f, False)
        flow_move(&s.flows, i, G_TALK, s.clock)


cdef inline void seen(State *s, Flow *f) noexcept nogil:
    f.last = s.clock
    if f.packets < 65535:
        f.packets += 1

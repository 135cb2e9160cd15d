# The rules frame by frame: TCP, UDP and ICMP, and what each frame's standing is.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from packet cimport Sender
from screen_count cimport *
from screen_flow cimport *
from screen_look cimport *
from screen_rules cimport *
from screen_state cimport *
from screen_tally cimport *
from screen_who cimport *
from sender cimport SIDE_FLOOD, SIDE_WAN


cdef inline bint in_sample(const Ends *e) noexcept nogil:
    # The sixteenth of all flows whose bare ACKs pass the closed window's filter: the same rule as
    # trigger/filter.py. Bit 0 is left out: Linux gives connecting sockets ports of one parity.
    return ((<uint32_t>e.sport + e.dport) & 0x1E) == 0


cdef inline void victim_of(const Ends *e, Key *key) noexcept nogil:
    memset(key, 0, sizeof(Key))
    key.family = e.family
    key.a0 = e.d0
    key.a1 = e.d1


cdef inline uint8_t slot_of(const State *s, const Ends *e) noexcept nogil:
    # Number of the flood of SYNs to this address and port, 0 none.
    cdef int i
    for i in range(s.n_slots):
        if (s.slots[i].a0 == e.d0 and s.slots[i].port == e.dport and s.slots[i].a1 == e.d1
                and s.slots[i].family == e.family):
            return <uint8_t>(i + 1)
    return 0


cdef inline void _dos(State *s, const Ends *e, const Who *by) noexcept nogil:
    # One more SYN to an address and port.
    cdef Key key
    cdef Tally *tally
    cdef Slot *slot
    cdef Sender most
    cdef Fired *f
    cdef uint32_t syns, done
    if s.tables[T_DOS].base == NULL:
        return
    victim_of(e, &key)
    key.port = e.dport
    tally = count(s, T_DOS, &key)
    if tally == NULL:
        return
    tally.total += 1
    tally.part += in_sample(e)
    if by.named:
        heavy_add(tally, &by.sender)
    if not hits(s.limits.syns, tally.total):
        return
    syns = tally.part if s.sampled else tally.total
    done = tally.part_bad if s.sampled else tally.bad
    if syns and done >= s.limits.handshake_ratio * syns:
        return
    if tally.held > s.clock:
        return
    if heavy_most(tally, &most):
        f = fire(s, R_DOS, CUE_COUNT, &key, &most, tally)
    else:
        memset(&most, 0, sizeof(Sender))
        most.side = SIDE_FLOOD
        most.family = e.family
        most.ifindex = e.dport
        write_address(e.d0, e.d1, most.address)
        f = fire(s, R_DOS, CUE_COUNT, &key, &most, tally)
        if f != NULL and slot_of(s, e) == 0:
            if s.n_slots == MAX_SLOTS:
                s.slots_full += 1
            else:
                slot = &s.slots[s.n_slots]
                slot.family = e.family
                slot.port = e.dport
                slot.a0 = e.d0
                slot.a1 = e.d1
                s.n_slots += 1
    if f != NULL:
        f.a = tally.total
        f.b = tally.bad


cdef inline void _completed(State *s, const Ends *e) noexcept nogil:
    # A handshake to an address and port was completed, by the frame's sender.
    cdef Key key
    cdef Tally *tally
    if s.tables[T_DOS].base == NULL:
        return
    victim_of(e, &key)
    key.port = e.dport
    tally = count(s, T_DOS, &key)
    if tally != NULL:
        tally.bad += 1
        tally.part_bad += in_sample(e)


cdef inline void _connection(State *s, const Who *by) noexcept nogil:
    cdef Key key
    if s.tables[T_CONNECTIONS].base == NULL or not by.counts or not by.named:
        return
    memset(&key, 0, sizeof(Key))
    key.who = by.sender
    count_own(s, T_CONNECTIONS, R_CONNECTION_RATE, s.limits.connections, 0, &key, False)


cdef inline void _udp_exchange(State *s, const Who *by) noexcept nogil:
    cdef Key key
    if s.tables[T_UDP_EXCHANGES].base == NULL or not by.counts or not by.named:
        return
    memset(&key, 0, sizeof(Key))
    key.who = by.sender
    count_own(s, T_UDP_EXCHANGES, R_UDP_EXCHANGES, s.limits.udp_exchanges,
              s.limits.udp_exchanges_alone, &key, True)


cdef inline void _unasked(State *s, const Ends *e, const Who *by) noexcept nogil:
    # An answer that belongs to nothing.
    cdef Key key
    if s.tables[T_UNSOLICITED].base != NULL and by.counts and not doubtful(s):
        victim_of(e, &key)
        count_most(s, T_UNSOLICITED, R_UNSOLICITED, s.limits.unasked, s.limits.unasked_alone,
                   &key, &by.sender if by.named else NULL)


cdef inline bint _acknowledges(const Flow *f, const Look *look) noexcept nogil:
    # Does this answer the SYN? It may acknowledge what the SYN brought along (RFC 9293, 3.10.7.3).
    return look.flags & TH_ACK and <uint32_t>(look.ack - f.isn - 1) <= f.extra


cdef inline void _close(State *s, int32_t i, const Look *look, bint began) noexcept nogil:
    # FIN or RST in an answered exchange. Closed while it still counted as new: it was brief.
    cdef Flow *f = &s.flows.flow[i]
    if not look.flags & (TH_FIN | TH_RST) or f.stage == G_ENDED:
        return
    if f.stage == G_OPEN:
        resolve(s, f, True)
    if look.flags & TH_RST:
        f.flags |= W_RESET
    else:
        f.flags |= W_LOW_FIN if began == ((f.flags & W_LOW_BEGAN) != 0) else W_HIGH_FIN
    if look.flags & TH_RST or (f.flags & W_LOW_FIN and f.flags & W_HIGH_FIN):
        flow_move(&s.flows, i, G_ENDED, s.clock)
    elif f.stage == G_OPEN:
        flow_move(&s.flows, i, G_KEPT, s.clock)


cdef inline void _syn(State *s, const Look *look, int32_t i, uint32_t hash, const Who *by, uint8_t *standing) noexcept nogil:
    # A SYN alone. Sent again, it is the same attempt; on anything else it begins a new one.
    cdef Flow *f
    cdef uint8_t slot
    cdef const Ends *e = &look.ends
    if by.counts:
        _dos(s, e, by)
    if i >= 0:
        f = &s.flows.flow[i]
        if (from_initiator(f, e) and not f.flags & (W_PROBE | W_ADOPTED | W_RESET)
                and (f.isn == look.seq or not f.flags & W_ANSWERED)):
            seen(s, f)
            f.isn = look.seq
            f.extra = look.payload
        else:
            flow_remove(&s.flows, i)
            i = -1
    if i < 0:
        i = begin(s, e, hash, G_PENDING, by)
        f = &s.flows.flow[i]
        f.isn = look.seq
        f.extra = look.payload
        _connection(s, by)
    if s.n_slots and by.sender.side == SIDE_WAN and by.counts and by.named:
        slot = slot_of(s, e)
        if slot and not standing_of(s, &by.sender, by.hash, 0) & PROVEN:
            s.flows.flow[i].flags |= W_FLOOD
            standing[0] |= slot << 4


cdef inline void on_tcp(State *s, const Look *look, Who *by, uint8_t *standing) noexcept nogil:
    cdef const Ends *e = &look.ends
    cdef uint32_t hash = 0
    cdef uint8_t flags = look.flags
    cdef bint began
    cdef int32_t i
    cdef Flow *f
    if look.group:  # no TCP goes there
        return
    if by.counts and by.named:
        count_flags(s, flags, &by.sender)
    # A SYN-ACK or a RST is somebody's answer whatever is known of the exchange, which may have been
    # lost or forgotten in a flood: a victim's answers must never accuse the victim.
    if flags & TH_RST or flags & (TH_SYN | TH_ACK) == (TH_SYN | TH_ACK):
        standing[0] |= ANSWER
    i = flow_find(&s.flows, e, &hash)
    if flags & (TH_SYN | TH_ACK | TH_RST | TH_FIN) == TH_SYN:
        _syn(s, look, i, hash, by, standing)
        return
    if i < 0:
        if flags & (TH_RST | TH_SYN):
            _unasked(s, e, by)
        elif not flags & TH_ACK or (look.payload == 0 and not flags & (TH_PSH | TH_URG)
                                    and not doubtful(s)):
            i = begin(s, e, hash, G_PENDING, by)
            s.flows.flow[i].flags |= W_PROBE | (W_LATE if flags & TH_ACK else 0)
        elif not by.contained:
            i = begin(s, e, hash, G_KEPT, by)
            s.flows.flow[i].flags |= W_ADOPTED | W_SILENT | W_RESOLVED
        return
    f = &s.flows.flow[i]
    began = from_initiator(f, e)
    if not began and forged(f, by):
        return
    seen(s, f)
    if f.flags & W_PROBE:
        if began:
            return
        if flags & TH_RST:
            standing[0] |= ANSWER
            f.flags |= W_RESET
            if f.stage == G_PENDING:
                fail(s, i)
        else:  # somebody talks here after all: who began is not known
            f.flags = (f.flags & ~W_PROBE) | W_ADOPTED
            if f.stage == G_PENDING:
                count_port(s, f, False)
                resolve(s, f, False)
                flow_move(&s.flows, i, G_KEPT, s.clock)
            f.flags |= W_SILENT
        return
    if f.flags & W_ADOPTED:
        _close(s, i, look, began)
        return
    if began:
        if look.payload:
            f.flags |= W_SENT
        if not f.flags & W_ANSWERED:
            return
        if (not f.flags & W_COMPLETED and flags & (TH_ACK | TH_SYN | TH_RST) == TH_ACK
                and look.ack == <uint32_t>(f.risn + 1)):
            f.flags |= W_COMPLETED
            if not f.flags & W_SILENT:
                _completed(s, e)
            by.grant |= PROVEN
        by.shown = f.flags & W_COMPLETED != 0
    elif not f.flags & W_ANSWERED:
        if not _acknowledges(f, look):
            return
        if flags & TH_RST:
            standing[0] |= ANSWER
            f.flags |= W_RESET
            if f.stage == G_PENDING:
                fail(s, i)
            return
        if not flags & TH_SYN:
            return
        standing[0] |= ANSWER
        f.risn = look.seq
        vouch(f, by, PROVEN)
        by.shown = True
        answered(s, i)
        return
    else:
        standing[0] |= ANSWER
        vouch(f, by, PROVEN)
        by.shown = True
        if flags & TH_SYN and not f.flags & W_COMPLETED:
            f.risn = look.seq
    _close(s, i, look, began)


cdef inline bint _everyone_asked(State *s, const Look *look) noexcept nogil:
    # Has the one whom this is for asked a whole network from that port lately (mDNS, SSDP)?
    cdef Ends asked
    cdef uint32_t hash = 0
    cdef int32_t i
    memset(&asked, 0, sizeof(Ends))
    asked.s0 = look.ends.d0
    asked.s1 = look.ends.d1
    asked.sport = look.ends.dport
    asked.family = look.ends.family
    asked.proto = PROTO_UDP
    i = flow_find(&s.flows, &asked, &hash)
    return i >= 0 and s.flows.flow[i].last + IDLE_NS > s.clock


cdef inline void _ask_everyone(State *s, const Look *look, const Who *by) noexcept nogil:
    cdef Ends asked = look.ends
    cdef uint32_t hash = 0
    cdef int32_t i
    if by.contained:
        return
    asked.d0 = 0
    asked.d1 = 0
    asked.dport = 0
    i = flow_find(&s.flows, &asked, &hash)
    if i < 0:
        i = begin(s, &asked, hash, G_TALK, by)
        s.flows.flow[i].flags |= W_ADOPTED | W_SILENT | W_RESOLVED
    s.flows.flow[i].last = s.clock


cdef inline void on_udp(State *s, const Look *look, Who *by, uint8_t *standing) noexcept nogil:
    cdef const Ends *e = &look.ends
    cdef Key key
    cdef uint32_t hash = 0
    cdef int32_t i
    cdef Flow *f
    if s.tables[T_UDP].base != NULL and by.counts:
        victim_of(e, &key)
        count_most(s, T_UDP, R_UDP_RATE, s.limits.udp, 0, &key,
                   &by.sender if by.named else NULL)
    if look.group:
        _ask_everyone(s, look, by)
        return
    i = flow_find(&s.flows, e, &hash)
    if i >= 0:
        f = &s.flows.flow[i]
        if ((f.stage == G_TALK and f.last + IDLE_NS <= s.clock)
                or (f.flags & W_RESET and from_initiator(f, e))):
            flow_remove(&s.flows, i)
            i = -1
    if i < 0:
        if _everyone_asked(s, look):
            i = begin(s, e, hash, G_TALK, by)
            s.flows.flow[i].flags |= W_ADOPTED | W_SILENT | W_RESOLVED
        else:
            begin(s, e, hash, G_PENDING, by)
            _connection(s, by)
            _udp_exchange(s, by)
        return
    if not from_initiator(f, e) and forged(f, by):
        return
    seen(s, f)
    if f.flags & W_ADOPTED or from_initiator(f, e):
        return
    standing[0] |= ANSWER
    vouch(f, by, 0)
    if not f.flags & W_ANSWERED:
        answered(s, i)


cdef inline void on_icmp(State *s, const Look *look, const Who *by, uint8_t *standing) noexcept nogil:
    cdef const Ends *e = &look.ends
    cdef Key key, host
    cdef uint32_t hash = 0
    cdef int32_t i
    cdef Tally *tally
    cdef Fired *fired
    cdef Flow *f
    # Answers are the victims': of whom a scan by UDP asks for what it has not got, for one.
    if (s.tables[T_ICMP].base != NULL and by.counts and look.kind != K_ECHO_REPLY
            and look.kind != K_ICMP_ERROR):
        victim_of(e, &key)
        count_most(s, T_ICMP, R_ICMP_RATE, s.limits.icmp, s.limits.icmp_alone, &key,
                   &by.sender if by.named else NULL)
    if look.kind == K_ECHO and not look.group:
        i = flow_find(&s.flows, e, &hash)
        if i >= 0 and not from_initiator(&s.flows.flow[i], e):
            flow_remove(&s.flows, i)
            i = -1
        if i < 0:
            i = begin(s, e, hash, G_ENDED, by)
        else:
            flow_move(&s.flows, i, G_ENDED, s.clock)
        if by.counts and by.named and s.tables[T_ECHO].base != NULL:
            memset(&key, 0, sizeof(Key))
            key.who = by.sender
            tally = count(s, T_ECHO, &key)
            if tally != NULL:
                victim_of(e, &host)
                set_add(tally, host_item(s, &host))
                if hits(s.limits.echo_hosts, tally.n):
                    fired = fire(s, R_MIRAI, CUE_ECHO, &key, &key.who, tally)
                    if fired != NULL:
                        fired.a = tally.n
    elif look.kind == K_ECHO_REPLY:
        standing[0] |= ANSWER
        i = flow_find(&s.flows, e, &hash)
        if i < 0 or from_initiator(&s.flows.flow[i], e):
            _unasked(s, e, by)
    elif look.kind == K_ICMP_ERROR:
        standing[0] |= ANSWER
        i = flow_find(&s.flows, &look.quoted, &hash)
        if i < 0 or look.quoted.s0 != e.d0 or look.quoted.s1 != e.d1:
            return
        f = &s.flows.flow[i]
        if not from_initiator(f, &look.quoted) or f.flags & W_ADOPTED:
            return
        if look.unreachable and f.stage == G_PENDING:
            f.flags |= W_RESET
            fail(s, i)

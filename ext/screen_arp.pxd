# Which MAC belongs to which IPv4 address, and who says otherwise (docs/triggers.md, arp_spoof).
#
# A binding is not handed over to who claims it: the MAC that held it keeps it until its lease is
# over. So the one that is named is always the newcomer, and decisively only while the old MAC is
# still there, which a device that has changed its MAC is not. What rests on an unsolicited reply
# alone may be a forger's that was here before us: it gives way to a claim of another kind, and
# then nobody is accused decisively.

from libc.stdlib cimport calloc, free
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from packet cimport Sender, _own_address, _own_mac
from screen_count cimport count_target, hits
from screen_flow cimport *
from screen_look cimport Ends, Look, dhcp_ack
from screen_rules cimport Who, begin
from screen_state cimport *
from screen_tally cimport *
from screen_who cimport ANSWER
from sender cimport any_byte

cdef extern from *:
    """
    static const long long IDS_LEASE_NS = 3600000000000LL;
    static const long long IDS_ALIVE_NS = 60000000000LL;
    static const long long IDS_SOON_NS = 500000000LL;
    static const long long IDS_INSISTS_NS = 10000000000LL;
    """
    const int64_t LEASE_NS "IDS_LEASE_NS"       # of a binding that DHCP says nothing about
    const int64_t ALIVE_NS "IDS_ALIVE_NS"       # a sign of life counts for so long
    const int64_t SOON_NS "IDS_SOON_NS"         # what was under way at a claim has arrived by then
    const int64_t INSISTS_NS "IDS_INSISTS_NS"   # no announcement takes so long

cdef enum:
    # Where a binding comes from; the order is SOURCES in screen.pyx.
    B_ARP = 0
    B_DHCP = 1
    B_CONFIGURED = 2


cdef inline int bindings_init(Bindings *t, int32_t size) except -1 nogil:
    cdef uint32_t chains = 1
    while chains < 4 * <uint32_t>size:  # so that what is not there mostly costs one look
        chains *= 2
    t.binding = <Binding *>calloc(size, sizeof(Binding))
    t.heads = <int32_t *>calloc(chains, sizeof(int32_t))
    if t.binding == NULL or t.heads == NULL:
        with gil:
            raise MemoryError()
    memset(t.heads, 0xFF, chains * sizeof(int32_t))
    t.mask = chains - 1
    t.size = size
    return 0


cdef inline void bindings_free(Bindings *t) noexcept nogil:
    free(t.binding)
    free(t.heads)


cdef inline bint binding_holds(const Binding *b, int64_t now) noexcept nogil:
    return b.source == B_CONFIGURED or b.last + b.lease_ns > now


cdef inline uint32_t _hash(const Bindings *t, uint64_t address) noexcept nogil:
    cdef uint64_t h = ids_mix(address ^ t.seed[0], t.seed[1])
    return <uint32_t>(h ^ (h >> 32))


cdef inline Binding *binding_find(const Bindings *t, uint64_t address) noexcept nogil:
    # NULL where nothing was ever bound; one whose lease is over is returned too.
    cdef uint32_t hash = _hash(t, address)
    cdef int32_t i = t.heads[hash & t.mask]
    while i >= 0:
        if t.binding[i].address == address:
            return &t.binding[i]
        i = t.binding[i].chain
    return NULL


cdef inline void _drop_rival(State *s, Binding *b) noexcept nogil:
    if b.contested:
        b.contested = False
        s.bindings.contested -= 1


cdef inline void bind(State *s, uint64_t address, const uint8_t *mac, uint32_t ifindex, uint8_t source) noexcept nogil:
    # Give an address to a MAC, whoever had it before.
    cdef Bindings *t = &s.bindings
    cdef Binding *b = binding_find(t, address)
    cdef int32_t i = -1
    cdef int32_t tries, at
    cdef int32_t *link
    if b == NULL:
        if t.count < t.size:
            i = t.count
            t.count += 1
        else:
            for tries in range(min(t.size, 16)):  # the one unseen for longest, of a few
                at = t.hand
                t.hand = (t.hand + 1) % t.size
                if t.binding[at].source != B_CONFIGURED and (
                        i < 0 or t.binding[at].last < t.binding[i].last):
                    i = at
            if i < 0:
                t.overflow += 1
                overflow(s, T_BINDINGS)
                return
            b = &t.binding[i]
            _drop_rival(s, b)
            if binding_holds(b, s.clock):
                t.overflow += 1
                overflow(s, T_BINDINGS)
            link = &t.heads[b.hash & t.mask]
            while link[0] != i:
                link = &t.binding[link[0]].chain
            link[0] = b.chain
        b = &t.binding[i]
        memset(b, 0, sizeof(Binding))
        b.address = address
        b.hash = _hash(t, address)
        b.chain = t.heads[b.hash & t.mask]
        t.heads[b.hash & t.mask] = i
    _drop_rival(s, b)
    b.window = -1  # its changes of hands begin anew
    memcpy(b.mac, mac, 6)
    memcpy(b.latest, mac, 6)
    b.ifindex = ifindex
    b.source = source
    b.last = s.clock
    b.lease_ns = LEASE_NS
    b.owner_after = 0
    b.accusable = False
    b.firm = True
    b.disputed = False


cdef inline void _still_used(State *s, Binding *b) noexcept nogil:
    # The bound MAC goes on although another one has taken its address: no exchange of cards.
    cdef Key key
    cdef Fired *f
    b.accusable = False
    memset(&key, 0, sizeof(Key))
    key.family = 4
    key.a0 = b.address
    key.proto = 1
    f = fire(s, R_ARP_SPOOF, CUE_CONTESTED, &key, &b.culprit, NULL)
    if f != NULL:
        memcpy(f.mac, b.rival, 6)
        memcpy(f.bound, b.mac, 6)
        f.decisive = True


cdef inline void _alive(State *s, Binding *b, uint32_t ifindex) noexcept nogil:
    # The bound MAC was seen with its address.
    b.last = s.clock
    if b.ifindex == 0:
        b.ifindex = ifindex
    if b.contested and b.owner_after == 0:
        b.owner_after = s.clock
    if (b.contested and b.accusable and b.rival_last + SOON_NS <= s.clock
            and b.rival_last + ALIVE_NS > s.clock):  # later on a card may have been changed back
        _still_used(s, b)


cdef inline void on_ipv4(State *s, const Ends *e, const uint8_t *mac, uint32_t ifindex) noexcept nogil:
    # A frame with that source, on the protected side: a sign of life where an address is contested.
    cdef Binding *b
    if s.bindings.contested == 0:
        return
    b = binding_find(&s.bindings, e.s0)
    if b != NULL and b.contested and memcmp(b.mac, mac, 6) == 0:
        _alive(s, b, ifindex)


cdef inline void on_dhcp(State *s, const Look *look, const Who *by, uint32_t ifindex) noexcept nogil:
    # A lease. Only our own server may give away an address that somebody holds: anybody can forge
    # another's.
    cdef uint64_t address = 0
    cdef uint8_t mac[6]
    cdef uint32_t lease_s = 0
    cdef Binding *b
    cdef bint same
    if not dhcp_ack(look, &address, mac, &lease_s):
        return
    b = binding_find(&s.bindings, address)
    if b != NULL and b.source == B_CONFIGURED:
        return
    same = b != NULL and memcmp(b.mac, mac, 6) == 0
    if b != NULL and not same and not by.own and binding_holds(b, s.clock):
        return
    if not same:
        bind(s, address, mac, ifindex, B_DHCP)
        b = binding_find(&s.bindings, address)
        if b == NULL:
            return
    b.source = B_DHCP
    b.firm = True
    b.last = s.clock
    if lease_s:
        b.lease_ns = <int64_t>lease_s * 1000000000


cdef inline Fired *_claimed(State *s, int cue, const Look *look, const Sender *culprit, const uint8_t *bound) noexcept nogil:
    # An event about an address; `culprit` NULL where nobody can be named.
    cdef Key key
    cdef Fired *f
    if culprit != NULL and not any_byte(culprit.mac, 6):
        culprit = NULL
    memset(&key, 0, sizeof(Key))
    key.family = 4
    key.a0 = look.ends.s0
    if cue == CUE_CONFIGURED or cue == CUE_GATEWAY or cue == CUE_CONTESTED or cue == CUE_FORGED:
        key.proto = 1  # what is decisive is not held down by what was not
    f = fire(s, R_ARP_SPOOF, cue, &key, culprit, NULL)
    if f != NULL:
        memcpy(f.mac, look.sha, 6)
        if bound != NULL:
            memcpy(f.bound, bound, 6)
        f.decisive = key.proto == 1 and culprit != NULL
    return f


cdef inline void _contradicts(State *s, Binding *b, const Look *look, const Who *by, const uint8_t *ethernet, bint unasked) noexcept nogil:
    # A claim for a bound address by another MAC.
    cdef bint mine = memcmp(ethernet, look.sha, 6) == 0
    cdef bint first = not b.contested or memcmp(b.rival, look.sha, 6) != 0
    cdef bint alive = b.contested and b.owner_after != 0 and b.owner_after + ALIVE_NS > s.clock
    # Sent in the name of the very MAC that it takes the address from: that one is the victim.
    cdef bint in_name = memcmp(ethernet, b.mac, 6) == 0
    cdef bint certain = b.firm and not b.disputed
    cdef uint8_t before[6]
    if not b.firm and mine and not unasked:
        memcpy(before, b.mac, 6)
        bind(s, b.address, look.sha, b.ifindex, B_ARP)
        b.disputed = True
        b.contested = True
        s.bindings.contested += 1
        memcpy(b.rival, before, 6)
        b.rival_last = s.clock
        _claimed(s, CUE_DISPUTED, look, NULL, before)
        return
    if not b.contested:
        s.bindings.contested += 1
        b.contested = True
    memcpy(b.rival, look.sha, 6)
    b.rival_last = s.clock
    b.owner_after = 0
    b.accusable = False
    if in_name:
        _claimed(s, CUE_CHANGED, look, NULL, b.mac)
    elif b.source == B_CONFIGURED:
        _claimed(s, CUE_CONFIGURED, look, &by.sender, b.mac)
    elif not b.firm:
        if first or unasked:
            _claimed(s, CUE_DISPUTED, look, NULL, b.mac)
    elif not mine and certain:
        _claimed(s, CUE_FORGED, look, &by.sender, b.mac)
    elif alive and not first and unasked and certain:
        _claimed(s, CUE_CONTESTED, look, &by.sender, b.mac)
    elif first or unasked:
        _claimed(s, CUE_CHANGED, look, &by.sender, b.mac)
        b.accusable = unasked and certain and by.counts and by.named and any_byte(by.sender.mac, 6)
        b.culprit = by.sender


cdef inline void _flips(State *s, Binding *b, const Look *look, const Who *by) noexcept nogil:
    # How often an address changes hands in a window.
    cdef Fired *f
    cdef bint culprit = b.firm and memcmp(look.sha, b.mac, 6) != 0
    if memcmp(b.latest, look.sha, 6) == 0:
        return
    memcpy(b.latest, look.sha, 6)
    if b.window != s.window:
        b.window = s.window
        b.changes = 0
    b.changes += 1
    if hits(s.limits.mac_changes, b.changes):
        f = _claimed(s, CUE_CHANGES, look, &by.sender if culprit else NULL, b.mac)
        if f != NULL:
            f.a = b.changes


cdef inline void write_binding(uint64_t address, uint8_t *out) noexcept nogil:
    memset(out, 0, 16)
    memcpy(out, &address, 4)


cdef inline void _claim(State *s, const Look *look, const Who *by, const uint8_t *ethernet, uint32_t ifindex, bint unasked) noexcept nogil:
    # An ARP packet says that an address is at a MAC.
    cdef uint8_t address[16]
    cdef Binding *b
    write_binding(look.ends.s0, address)
    if _own_address(s.host, 4, address) and s.host.n_macs:
        if not _own_mac(s.host, look.sha):
            _claimed(s, CUE_GATEWAY, look, &by.sender, NULL)
        return
    b = binding_find(&s.bindings, look.ends.s0)
    if b == NULL or not binding_holds(b, s.clock):
        if memcmp(ethernet, look.sha, 6) == 0:  # else it speaks for another: nothing to learn
            bind(s, look.ends.s0, look.sha, ifindex, B_ARP)
            b = binding_find(&s.bindings, look.ends.s0)
            if b != NULL:
                b.firm = not unasked
        return
    if memcmp(b.mac, look.sha, 6) == 0:
        if memcmp(ethernet, look.sha, 6) == 0:
            _alive(s, b, ifindex)
            b.firm = b.firm or not unasked
    else:
        _contradicts(s, b, look, by, ethernet, unasked)
    _flips(s, b, look, by)


cdef inline void _insists(State *s, const Look *look, const Who *by) noexcept nogil:
    # One more reply that nobody asked for, from the MAC that it gives. Who tells of a new card or
    # takes over from another does so for seconds, who poisons caches has to go on.
    cdef Key key
    cdef Tally *tally
    cdef Binding *b
    cdef Fired *f
    memset(&key, 0, sizeof(Key))
    key.who = by.sender
    tally = count(s, T_INSISTENCE, &key)
    if tally == NULL:
        return
    tally.total += 1
    set_add(tally, <uint32_t>look.ends.s0)
    b = binding_find(&s.bindings, look.ends.s0)
    tally.bad += b != NULL and (b.contested or b.disputed or memcmp(b.mac, look.sha, 6) != 0)
    if (hits(s.limits.insistence, tally.total) and (tally.bad or tally.n > 1)
            and tally.first + INSISTS_NS <= s.clock):
        f = fire_alone(s, R_ARP_INSISTENCE, CUE_INSISTS, &key, &key.who, tally)
        if f != NULL:
            f.a = tally.total
            f.b = tally.n


cdef inline bint any_claim(const uint8_t *mac) noexcept nogil:
    # A MAC that can be somebody's: neither zero nor a group's.
    return not mac[0] & 1 and (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]) != 0


cdef inline void on_arp(State *s, const Look *look, const Who *by, const uint8_t *ethernet, uint32_t ifindex, uint8_t *standing) noexcept nogil:
    # `ethernet`: the frame's own source MAC. `look.ends`: sender's address s, target's address d.
    cdef Key key
    cdef Tally *tally
    cdef Fired *f
    cdef uint32_t hash = 0
    cdef int32_t i
    cdef bint unasked = False
    i = flow_find(&s.flows, &look.ends, &hash)
    if look.op == 1 and look.ends.s0 != look.ends.d0:
        if i < 0:
            begin(s, &look.ends, hash, G_ENDED, by)
        else:
            flow_move(&s.flows, i, G_ENDED, s.clock)
        if by.counts and by.named:
            count_target(s, look.ends.d0, &by.sender)
    elif look.op == 2:
        unasked = i < 0
        if not unasked:
            standing[0] |= ANSWER
    elif look.op != 1:
        return
    if not by.counts or s.limits.unsolicited == 0:
        return
    if look.ends.s0 and any_claim(look.sha):
        _claim(s, look, by, ethernet, ifindex, unasked)
    if unasked and by.named and memcmp(ethernet, look.sha, 6) == 0:
        _insists(s, look, by)
    if unasked and by.named:
        memset(&key, 0, sizeof(Key))
        key.who = by.sender
        tally = count(s, T_ARP_REPLIES, &key)
        if tally == NULL:
            return
        tally.total += 1
        if hits(s.limits.unsolicited, tally.total):
            f = fire(s, R_ARP_SPOOF, CUE_UNASKED, &key, &key.who, tally)
            if f != NULL:
                f.a = tally.total

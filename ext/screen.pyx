"""Frames in, marks and events out: the prescreener that sees every frame (docs/triggers.md).

Design:
 a) one C function per frame, no Python object, no allocation: parse, who sent it, which exchange it
    belongs to, what that adds up to. Every table is bounded; what does not fit is counted, and is
    itself an event.
 b) time is the frames' own. Time-outs happen in order before the frame that is later than they
    are, so the same frames give the same events in batches of any size.
 c) the parts: screen_look.pxd (what a frame says), screen_flow.pxd (exchanges), screen_tally.pxd
    (counts per key and window), screen_who.pxd (senders), screen_state.pxd (how a rule fires),
    screen_rules.pxd, screen_tcp.pxd and screen_arp.pxd (the rules).
"""

import os

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdlib cimport calloc, free

from packet cimport *
from screen_arp cimport *
from screen_count cimport count_flags
from screen_flow cimport *
from screen_look cimport *
from screen_rules cimport *
from screen_state cimport *
from screen_tally cimport *
from screen_tcp cimport *
from screen_text cimport detail_of, key_of
from screen_who cimport *
from sender cimport SIDE_FLOOD, SIDE_LAN, SIDE_WAN, any_byte, canonical

cdef enum:
    AHEAD = 8               # frames between asking for memory and looking at it

cdef enum:
    # Outcome in types.py, beside P_*
    O_WAITING = 6
    O_CONTAINED = 8

RULES = (
    "dos", "port_scan", "mirai", "arp_spoof", "overflow", "slow_scan", "connection_rate",
    "udp_rate", "icmp_rate", "idle_connections", "unsolicited_answers", "failed_connections",
    "repeated_connections", "udp_exchanges", "arp_sweep", "arp_insistence",
    "impossible_flags",
)
TABLES = (
    "dos", "port_scan", "mirai", "mirai_echo", "mirai_arp", "arp_replies", "slow_ports",
    "slow_hosts", "connection_rate", "udp_rate", "icmp_rate", "idle_connections",
    "unsolicited_answers", "failed_connections", "repeated_connections", "slow_repeated",
    "udp_exchanges", "arp_insistence", "impossible_flags", "flows", "devices", "peers", "bindings",
    "suspects",
)
SOURCES = ("arp", "dhcp", "configured")
SETTINGS = (
    "window_ns", "slow_window_ns", "no_answer_ns", "brief_ns", "hold_down_ns", "overflow",
    "dos_syns", "dos_handshake_ratio", "scan_ports", "scan_failed_ratio",
    "mirai_hosts", "mirai_top_ports", "mirai_top_ports_ratio", "mirai_failed_or_brief_ratio",
    "mirai_brief_packets", "mirai_echo_hosts", "mirai_arp_targets",
    "arp_unsolicited", "arp_mac_changes", "slow_ports", "slow_hosts",
    "connection_rate", "udp_rate", "icmp_rate", "idle_connections", "unsolicited_answers",
    "failed_connections", "repeated_connections", "slow_repeated", "udp_exchanges", "arp_sweep",
    "arp_insistence", "impossible_flags", "scan_alone", "mirai_alone", "slow_ports_alone",
    "slow_hosts_alone", "flags_alone", "repeated_alone", "slow_repeated_alone",
    "udp_exchanges_alone", "icmp_alone", "unsolicited_alone", "failed_alone",
    "max_flows", "max_keys", "max_senders", "max_bindings",
)
MAX_SUSPECTS = 4096


cdef void _screen_one(State *s, const uint8_t *data, Frame *frame, uint64_t *counters,
                      uint8_t *mark) noexcept nogil:
    cdef uint16_t row[N_COLUMNS]
    cdef Sender seen
    cdef Sender flood
    cdef Look look
    cdef Who by
    cdef const uint8_t *ethernet
    cdef uint8_t standing = 0
    cdef int outcome
    advance(s, frame.timestamp_ns)
    frame.standing = 0
    outcome = parse_frame(data, frame, s.host, row, &seen, counters)
    if outcome == P_UNPARSABLE or outcome == P_ECHO:
        mark[0] = <uint8_t>outcome
        return
    by.named = canonical(&seen, &by.sender)
    if row[F_IS_ARP] and by.sender.family:
        # Without a MAC only the claimed address would be left, and that may be the victim's.
        by.named = False
        memset(&by.sender, 0, sizeof(Sender))
    by.own = outcome == P_OWN
    by.hash = hash_who(&by.sender, s.seed)
    by.contained = not by.own and by.named and set_has(&s.contained, &by.sender, by.hash)
    by.grant = 0
    by.shown = False
    look_at(data + frame.offset, frame.caplen, frame.linktype, frame.direction, row, &look)
    if (s.contained_floods and not by.own and not by.contained and look.kind == K_TCP
            and by.named and seen.side == SIDE_WAN
            and look.flags & (TH_SYN | TH_ACK | TH_RST | TH_FIN) == TH_SYN):
        # Whoever it claims to be from: behind a SYN proxy it is the proxy's, not the sender's.
        memset(&flood, 0, sizeof(Sender))
        flood.side = SIDE_FLOOD
        flood.family = look.ends.family
        flood.ifindex = look.ends.dport
        write_address(look.ends.d0, look.ends.d1, flood.address)
        by.contained = set_has(&s.contained, &flood, hash_who(&flood, s.seed))
    by.counts = not by.own and not by.contained
    if by.named and by.sender.side == SIDE_LAN and not by.own:
        _device(s, &by.sender, by.hash, &seen)
    if look.kind == K_TCP:
        on_tcp(s, &look, &by, &standing)
    elif look.kind == K_UDP:
        on_udp(s, &look, &by, &standing)
        if look.ends.sport == 67 and by.sender.side == SIDE_LAN and not by.contained:
            on_dhcp(s, &look, &by, frame.ifindex)
    elif look.kind == K_ARP:
        ethernet = &seen.mac[0]
        if not any_byte(ethernet, 6):  # a link whose header does not show it
            ethernet = &look.sha[0]
        on_arp(s, &look, &by, ethernet, frame.ifindex, &standing)
        # All ARP is one record to a forest: it speaks neither for nor against anybody. Weighed, it
        # gave whoever sweeps a network by ARP first the credit of an ordinary device.
        standing |= ANSWER
    elif look.kind == K_STUB:
        # A first fragment without the flags hides a scan from who does not put it together (RFC
        # 1858): as odd as flags that nobody sends.
        if by.counts and by.named and not look.group:
            count_flags(s, 0, &by.sender)
    elif look.kind != K_OTHER:
        on_icmp(s, &look, &by, &standing)
    if by.own:
        mark[0] = P_OWN
        return
    if s.bindings.contested and by.counts and seen.side == SIDE_LAN and look.ends.family == 4 and (
            look.kind != K_ARP):
        on_ipv4(s, &look.ends, seen.mac, frame.ifindex)
    if by.named:
        standing |= standing_of(s, &by.sender, by.hash, by.grant)
        if not by.shown:  # anybody may write a proven address into a packet that begins something
            standing &= ~PROVEN
        if set_has(&s.suspects, &by.sender, by.hash):
            standing |= SUSPECT
    frame.standing = standing
    mark[0] = O_CONTAINED if by.contained else O_WAITING


cdef inline uint32_t _await(State *s, const uint8_t *data, const Frame *frame) noexcept nogil:
    # Let the memory come meanwhile that a frame will be looked up in, some frames from now: in a
    # flood of new exchanges that is what a frame waits for. A guess that changes nothing; what is
    # not TCP or UDP in plain IPv4 behind Ethernet is not guessed.
    cdef const uint8_t *p = data + frame.offset + 14
    cdef Ends ends
    cdef uint32_t hash
    if frame.linktype != 1 or frame.caplen < 14 + 24 or be16(p - 2) != ETH_IPV4 or p[0] != 0x45:
        return 0
    ends.family = 4
    ends.proto = p[9]
    read_address(p + 12, 4, &ends.s0, &ends.s1)
    read_address(p + 16, 4, &ends.d0, &ends.d1)
    ends.sport = be16(p + 20)
    ends.dport = be16(p + 22)
    hash = flow_hash(&s.flows, &ends)
    flow_await(&s.flows, hash)
    return hash


cdef inline void _device(State *s, const Sender *who, uint64_t h, const Sender *seen) noexcept nogil:
    # A device on the protected side is there, with the address that it shows.
    cdef bint evicted = False
    cdef Known *k = known_find(&s.devices, who, h)
    if k == NULL:
        k = known_add(&s.devices, who, h, s.clock, &evicted)
        if evicted:
            overflow(s, T_DEVICES)
    k.last = s.clock
    k.touched = 1
    if seen.family and any_byte(seen.address, 16):
        k.family = seen.family
        memcpy(&k.a0, seen.address, 8)
        memcpy(&k.a1, seen.address + 8, 8)


cdef class Screen:
    """Counts every frame into the rules' tables, says who is who, and tells what fired.

    settings: every name of SETTINGS with its number: times in ns, counts, ratios; a count of 0
    turns its rule off. bindings: (IPv4, MAC) pairs of bytes that never change.
    Not for several threads at once: `screen` runs without the GIL.
    Raises ValueError for an unknown, missing or impossible setting.
    """

    cdef State s
    cdef Host host
    cdef uint64_t parsed[N_COUNTERS]         # packet.pxd wants them; the pipeline counts its own

    def __cinit__(self):
        memset(&self.s, 0, sizeof(State))
        memset(&self.host, 0, sizeof(Host))
        memset(self.parsed, 0, sizeof(self.parsed))
        self.s.clock = -1
        self.s.window = -1

    def __init__(self, settings, *, bindings=()):
        cdef State *s = &self.s
        cdef Limits *l = &s.limits
        cdef bytes address, mac
        cdef uint64_t packed
        cdef bytes secret
        if s.fired != NULL:
            raise ValueError("a screen is set up once")
        if set(settings) != set(SETTINGS):
            odd = sorted(set(settings) ^ set(SETTINGS))
            raise ValueError(f"settings unknown or missing: {', '.join(odd)}")
        _check(settings)
        l.window_ns = settings["window_ns"]
        l.slow_ns = settings["slow_window_ns"]
        l.no_answer_ns = settings["no_answer_ns"]
        l.brief_ns = settings["brief_ns"]
        l.hold_ns = settings["hold_down_ns"]
        l.overflow = settings["overflow"]
        l.syns = settings["dos_syns"]
        l.handshake_ratio = settings["dos_handshake_ratio"]
        l.ports = settings["scan_ports"]
        l.failed_ratio = settings["scan_failed_ratio"]
        l.hosts = settings["mirai_hosts"]
        l.top_ports = settings["mirai_top_ports"]
        l.top_ports_ratio = settings["mirai_top_ports_ratio"]
        l.brief_ratio = settings["mirai_failed_or_brief_ratio"]
        l.brief_packets = settings["mirai_brief_packets"]
        l.echo_hosts = settings["mirai_echo_hosts"]
        l.arp_targets = settings["mirai_arp_targets"]
        l.unsolicited = settings["arp_unsolicited"]
        l.mac_changes = settings["arp_mac_changes"]
        l.slow_ports = settings["slow_ports"]
        l.slow_hosts = settings["slow_hosts"]
        l.connections = settings["connection_rate"]
        l.udp = settings["udp_rate"]
        l.icmp = settings["icmp_rate"]
        l.idle = settings["idle_connections"]
        l.unasked = settings["unsolicited_answers"]
        l.failed = settings["failed_connections"]
        l.repeated = settings["repeated_connections"]
        l.slow_repeated = settings["slow_repeated"]
        l.udp_exchanges = settings["udp_exchanges"]
        l.arp_sweep = settings["arp_sweep"]
        l.insistence = settings["arp_insistence"]
        l.flags = settings["impossible_flags"]
        l.ports_alone = settings["scan_alone"]
        l.hosts_alone = settings["mirai_alone"]
        l.slow_ports_alone = settings["slow_ports_alone"]
        l.slow_hosts_alone = settings["slow_hosts_alone"]
        l.flags_alone = settings["flags_alone"]
        l.repeated_alone = settings["repeated_alone"]
        l.slow_repeated_alone = settings["slow_repeated_alone"]
        l.udp_exchanges_alone = settings["udp_exchanges_alone"]
        l.icmp_alone = settings["icmp_alone"]
        l.unasked_alone = settings["unsolicited_alone"]
        l.failed_alone = settings["failed_alone"]
        s.fired = <Fired *>calloc(MAX_FIRED, sizeof(Fired))
        s.holds = <Hold *>calloc(HOLD_SETS * HOLD_WAYS, sizeof(Hold))
        if s.fired == NULL or s.holds == NULL:
            raise MemoryError()
        secret = os.urandom(sizeof(s.seed) * (4 + N_TABLES))
        self._seeds(<const uint8_t *>secret)
        flows_init(&s.flows, settings["max_flows"])
        knowns_init(&s.devices, settings["max_senders"])
        knowns_init(&s.peers, settings["max_senders"])
        set_init(&s.suspects, MAX_SUSPECTS)
        set_init(&s.contained, 1)
        bindings_init(&s.bindings, settings["max_bindings"])
        self._tables(settings["max_keys"])
        for address, mac in bindings:
            if len(address) != 4 or len(mac) != 6:
                raise ValueError("a binding is an IPv4 address of 4 bytes and a MAC of 6")
            packed = 0
            memcpy(&packed, <const uint8_t *>address, 4)
            bind(s, packed, <const uint8_t *>mac, 0, B_CONFIGURED)
        if s.bindings.overflow:
            raise ValueError("more configured bindings than max_bindings")

    cdef void _seeds(self, const uint8_t *secret) noexcept:
        cdef State *s = &self.s
        cdef int i
        memcpy(s.seed, secret, 16)
        memcpy(s.flows.seed, secret + 16, 32)
        memcpy(s.bindings.seed, secret + 48, 16)
        for i in range(N_TABLES):
            memcpy(s.tables[i].seed, secret + 64 + 16 * i, 16)

    cdef int _tables(self, int32_t size) except -1:
        # A rule that is off has no table.
        cdef Limits *l = &self.s.limits
        cdef Tallies *t = self.s.tables
        cdef int heavy = HEAVY * sizeof(Heavy) // 4
        cdef int hosts = SET_ITEMS + 2 * MANY_PORTS
        cdef int i
        wanted = (
            (T_DOS, l.syns, heavy), (T_PORTS, l.ports, SET_ITEMS), (T_HOSTS, l.hosts, hosts),
            (T_ECHO, l.echo_hosts, SET_ITEMS), (T_ARP_TARGETS, l.arp_targets or l.arp_sweep, SET_ITEMS),
            (T_ARP_REPLIES, l.unsolicited, 1), (T_SLOW_PORTS, l.slow_ports, SET_ITEMS),
            (T_SLOW_HOSTS, l.slow_hosts, hosts), (T_CONNECTIONS, l.connections, 1),
            (T_UDP, l.udp, heavy), (T_ICMP, l.icmp, heavy), (T_IDLE, l.idle, 1),
            (T_UNSOLICITED, l.unasked, heavy), (T_FAILED, l.failed, 1),
            (T_REPEATED, l.repeated, 1), (T_SLOW_REPEATED, l.slow_repeated, 1),
            (T_UDP_EXCHANGES, l.udp_exchanges, 1), (T_INSISTENCE, l.insistence, SET_ITEMS),
            (T_FLAGS, l.flags, 1),
        )
        for i, limit, items in wanted:
            if limit:
                slow = i in (T_SLOW_PORTS, T_SLOW_HOSTS, T_SLOW_REPEATED, T_INSISTENCE)
                tallies_init(&t[i], size, items, l.slow_ns if slow else l.window_ns)
        return 0

    def __dealloc__(self):
        cdef int i
        free(self.s.fired)
        free(self.s.holds)
        flows_free(&self.s.flows)
        knowns_free(&self.s.devices)
        knowns_free(&self.s.peers)
        set_free(&self.s.suspects)
        set_free(&self.s.contained)
        bindings_free(&self.s.bindings)
        for i in range(N_TABLES):
            tallies_free(&self.s.tables[i])

    def screen(self, const uint8_t[::1] data, frames, bytes host, uint8_t[::1] marks):
        """Count a batch; return its events in order.

        data: the buffer; frames: (n,) FRAME, whose `standing` is set; host: HostIdentity.packed();
        marks: (n,) of Outcome, written: UNPARSABLE, OWN, ECHO, CONTAINED or WAITING. An event is
        (rule, key, timestamp_ns, frame index, sender or None, detail, decisive). Raises ValueError
        where a frame lies outside the buffer or an array is too short.
        """
        cdef Py_buffer buffer
        if <size_t>len(host) != sizeof(Host):
            raise ValueError("host is a HostIdentity's packed bytes")
        memcpy(&self.host, <const uint8_t *>host, sizeof(Host))
        self.s.host = &self.host
        # Not as a memoryview of records: that would compare every field of their dtype each time.
        PyObject_GetBuffer(frames, &buffer, PyBUF_WRITABLE)
        try:
            if buffer.itemsize != sizeof(Frame):
                raise ValueError("frames are FRAME records")
            self._screen(data, <Frame *>buffer.buf, buffer.len // sizeof(Frame), marks)
        finally:
            PyBuffer_Release(&buffer)
        return self._events()

    cdef int _screen(self, const uint8_t[::1] data, Frame *frames, Py_ssize_t n,
                     uint8_t[::1] marks) except -1:
        cdef Py_ssize_t i
        cdef uint64_t size = data.shape[0]
        cdef uint8_t nothing = 0
        cdef const uint8_t *base = &data[0] if size else &nothing
        cdef State *s = &self.s
        cdef uint32_t hash[AHEAD]           # of the exchanges of the frames to come
        if marks.shape[0] < n:
            raise ValueError("marks are fewer than the frames")
        for i in range(n):
            if frames[i].offset > size or frames[i].caplen > size - frames[i].offset:
                raise ValueError("frame %d lies outside its buffer" % i)
        with nogil:
            for i in range(min(n, AHEAD)):
                hash[i] = _await(s, base, &frames[i])
            for i in range(n):
                if i + AHEAD // 2 < n:
                    flow_await_more(&s.flows, hash[(i + AHEAD // 2) % AHEAD])
                if i + AHEAD < n:
                    hash[i % AHEAD] = _await(s, base, &frames[i + AHEAD])
                if i + 2 * AHEAD < n:
                    ids_fetch(base + frames[i + 2 * AHEAD].offset)
                s.frame = <int32_t>i
                _screen_one(s, base, &frames[i], self.parsed, &marks[i])
        return 0

    def expire(self, int64_t now_ns):
        """Let what is due by packet time `now_ns` happen though no frame came; return its events.

        A time before the latest frame's changes nothing."""
        self.s.frame = 0
        if self.s.clock >= 0 and now_ns > self.s.clock:
            with nogil:
                advance(&self.s, now_ns)
        return self._events()

    cdef list _events(self):
        cdef int32_t i
        if self.s.n_fired == 0:
            return []
        found = [_event(&self.s.fired[i]) for i in range(self.s.n_fired)]
        self.s.n_fired = 0
        return found

    def contain(self, const Sender[::1] senders):
        """Replace the set of contained senders: canonical SENDER records, floods among them."""
        cdef Set fresh
        cdef Py_ssize_t i
        cdef bint floods = False
        memset(&fresh, 0, sizeof(Set))
        set_init(&fresh, <uint32_t>max(1, senders.shape[0]))
        for i in range(senders.shape[0]):
            set_put(&fresh, &senders[i], hash_who(&senders[i], self.s.seed))
            floods = floods or senders[i].side == SIDE_FLOOD
        set_free(&self.s.contained)
        self.s.contained = fresh
        self.s.contained_floods = floods

    def name(self, bytes sender):
        """Make a sender a suspect until the window closes (a trigger outside has named it)."""
        cdef Sender who = _sender(sender)
        name_sender(&self.s, &who)

    def open_window(self):
        """The scrutiny window opens: whom the rules have named so far stays a suspect."""

    def close_window(self):
        """The scrutiny window closes: nobody is a suspect, no flood has a number any more."""
        set_clear(&self.s.suspects)
        self.s.n_slots = 0

    def set_sampling(self, bint on):
        """Say whether the closed window's socket filter hides most bare ACKs and all payload.

        While it does, and to the end of the window in which it last did, the handshake ratio is
        that of the flows whose ACKs pass, and nothing is concluded from packets not seen."""
        self.s.sampling = on
        if on:
            self.s.sampled = True

    def doubt(self):
        """Say that frames were lost before they came here.

        For 64 s then, as after exchanges had to be forgotten, what belongs to nothing and what
        nobody answers counts for the published rules alone."""
        if self.s.clock >= 0:
            doubt(&self.s, self.s.clock)

    def floods(self):
        """Return the floods of this window: [(number 1 .. 15, FLOOD record)]."""
        cdef Sender record
        cdef int i
        found = []
        for i in range(self.s.n_slots):
            memset(&record, 0, sizeof(Sender))
            record.side = SIDE_FLOOD
            record.family = self.s.slots[i].family
            record.ifindex = self.s.slots[i].port
            write_address(self.s.slots[i].a0, self.s.slots[i].a1, record.address)
            found.append((i + 1, (<const uint8_t *>&record)[:sizeof(Sender)]))
        return found

    def bindings(self):
        """Return [(IPv4, MAC, interface index, ns since last seen, source)] of what holds."""
        cdef int32_t i
        return [self._binding(&self.s.bindings.binding[i]) for i in range(self.s.bindings.count)
                if binding_holds(&self.s.bindings.binding[i], self.s.clock)]

    def binding_of(self, bytes address):
        """Return one of `bindings` by its IPv4 address of 4 bytes, None where there is none."""
        cdef uint64_t packed = 0
        cdef Binding *b
        if len(address) != 4:
            return None
        memcpy(&packed, <const uint8_t *>address, 4)
        b = binding_find(&self.s.bindings, packed)
        if b == NULL or not binding_holds(b, self.s.clock):
            return None
        return self._binding(b)

    cdef tuple _binding(self, const Binding *b):
        return ((<const uint8_t *>&b.address)[:4], b.mac[:6], b.ifindex,
                max(0, self.s.clock - b.last), SOURCES[b.source])

    def peers(self, bytes sender):
        """Return the standing of a sender beyond us: PROVEN | CALLED, 0 where nothing is known."""
        cdef Sender who = _sender(sender)
        cdef Known *k = known_find(&self.s.peers, &who, hash_who(&who, self.s.seed))
        if k == NULL or k.last + STANDING_NS <= self.s.clock:
            return 0
        return k.standing

    def devices(self):
        """Return [(SENDER record, time last seen in ns, latest address)] of the protected side.

        The address has 4 or 16 bytes, or none where it showed none yet."""
        cdef int32_t i
        cdef Known *k
        cdef uint8_t address[16]
        found = []
        for i in range(self.s.devices.count):
            k = &self.s.devices.known[i]
            write_address(k.a0, k.a1, address)
            size = 0 if k.family == 0 else 4 if k.family == 4 else 16
            found.append(((<const uint8_t *>&k.who)[:sizeof(Sender)], k.last, address[:size]))
        return found

    def longest_chain(self):
        """Return the most exchanges that one look-up may have to pass by: a few, whatever comes.

        It looks at the whole table."""
        return longest_chain(&self.s.flows)

    def counters(self):
        """Return totals and present sizes by name."""
        cdef State *s = &self.s
        cdef int i
        found = {
            "flows": s.flows.fresh - s.flows.count[G_FREE],
            "attempts_pending": s.flows.count[G_PENDING],
            "devices": s.devices.count,
            "peers": s.peers.count,
            "bindings": s.bindings.count,
            "suspects": s.suspects.count,
            "contained": s.contained.count,
            "floods": s.n_slots,
            "floods_unnumbered": s.slots_full,
            "events_lost": s.lost,
            "clock_set_back": s.jumps,
            "overflow_flows": s.flows.overflow,
            "overflow_devices": s.devices.overflow,
            "overflow_peers": s.peers.overflow,
            "overflow_bindings": s.bindings.overflow,
            "overflow_suspects": s.suspects.overflow,
        }
        for i in range(N_TABLES):
            if s.tables[i].base != NULL:
                found["keys_" + TABLES[i]] = s.tables[i].count
                found["overflow_" + TABLES[i]] = s.tables[i].overflow
        return found


cdef _check(settings):
    # Ranges that the tables rely on.
    for name, value in settings.items():
        # Without a hold-down each count is told: what measures how high they get wants that.
        if name.endswith("_ns") and name != "hold_down_ns" and not 1_000_000 <= value <= 10**15:
            raise ValueError(f"{name} must lie between 1 ms and 10^6 s")
        if name == "hold_down_ns" and not 0 <= value <= 10**15:
            raise ValueError(f"{name} must lie between 0 and 10^6 s")
        if name.endswith("_ratio") and not 0 <= value <= 1:
            raise ValueError(f"{name} must lie in 0 .. 1")
        if name.startswith("max_") and not 16 <= value <= 1 << 22:
            raise ValueError(f"{name} must lie in 16 .. {1 << 22}")
        if not name.endswith(("_ns", "_ratio")) and not 0 <= value < 1 << 31:
            raise ValueError(f"{name} must be 0 or more")
    for name in ("scan_ports", "mirai_hosts", "mirai_echo_hosts", "mirai_arp_targets",
                 "slow_ports", "slow_hosts", "arp_sweep", "mirai_alone", "slow_hosts_alone"):
        if settings[name] > SET_ITEMS:
            raise ValueError(f"{name} is at most {SET_ITEMS}: so many are told apart per key")


cdef Sender _sender(bytes record) except *:
    cdef Sender who
    if <size_t>len(record) != sizeof(Sender):
        raise ValueError("a SENDER record has %d bytes" % sizeof(Sender))
    memcpy(&who, <const uint8_t *>record, sizeof(Sender))
    return who


cdef tuple _event(const Fired *f):
    sender = (<const uint8_t *>&f.sender)[:sizeof(Sender)] if f.named else None
    return (RULES[f.rule], key_of(f, TABLES), f.timestamp_ns, f.frame, sender,
            detail_of(f, TABLES), bool(f.decisive))

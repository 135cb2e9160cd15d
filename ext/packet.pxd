# From the bytes of a frame to the packet record: 68 unsigned integers (docs/features.md), the 60 of
# the group `packet` and the addresses' octets of the group `header`.
#
# Design:
#  a) one frame, one C function, no Python, no allocation: parse_frame finds the layer-3 packet,
#     parse_l3 reads it. The layer-3-only path (NFQUEUE) calls the same parse_l3.
#  b) every read is guarded by the number of captured bytes; what the packet's own length fields
#     say only ever makes the readable part shorter. Reading a layer-4 field past the packet's end
#     would read link padding.
#  c) malformed input costs a counter. parse_frame returns whether the frame can be judged.
#
# Header-only, because Cython does not share extension types' C functions between modules without
# an import of one by the other; _features and _cells both inline this file.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset, memcmp

cdef enum:
    N_FEATURES = 60         # of the group `packet`
    N_COLUMNS = 68          # of the record, all groups
    # columns of the record that the code names
    F_SRC_PORT = 0
    F_DST_PORT = 1
    F_PROTO = 2
    F_HEADER_LENGTH = 3
    F_LENGTH = 4
    F_TTL = 5
    F_TCP_FLAGS = 6
    F_PAYLOAD_LEN = 7
    F_PAYLOAD_0 = 8
    F_SYN = 40
    F_ACK = 41
    F_FIN = 42
    F_RST = 43
    F_PSH = 44
    F_URG = 45
    F_ECE = 46
    F_CWR = 47
    F_IS_TCP = 48
    F_IS_UDP = 49
    F_IS_ICMP = 50
    F_IS_ARP = 51
    F_IS_DNS = 52
    F_IS_DHCP = 53
    F_IS_HTTP = 54
    F_IS_HTTPS = 55
    F_IS_SSH = 56
    F_IS_SMTP = 57
    F_IS_IRC = 58
    F_IS_TELNET = 59
    F_SRC_OCTET_0 = 60
    F_DST_OCTET_0 = 64
    PAYLOAD_BYTES = 32
    MAX_EXTENSIONS = 8

cdef enum:
    # Named counters; the order is COUNTER_NAMES in features.pyx.
    C_FRAMES = 0
    C_TRUNCATED_L2 = 1
    C_OTHER_L2 = 2
    C_BAD_VERSION = 3
    C_TRUNCATED_L3 = 4
    C_BAD_IHL = 5
    C_TRUNCATED_L4 = 6
    C_BAD_DATA_OFFSET = 7
    C_TOO_MANY_EXTENSIONS = 8
    N_COUNTERS = 9

cdef enum:
    # What parse_frame says of a frame; the first three are Outcome in types.py.
    P_JUDGE = 0
    P_UNPARSABLE = 1
    P_OWN = 2
    P_ECHO = 3

cdef enum:
    # PACKET_* of packet(7)
    DIR_OUTGOING = 4
    DIR_UNKNOWN = 255

cdef enum:
    ETH_IPV4 = 0x0800
    ETH_ARP = 0x0806
    ETH_VLAN = 0x8100
    ETH_IPV6 = 0x86DD
    ETH_QINQ = 0x88A8

cdef enum:
    MAX_OWN_MACS = 64
    MAX_OWN_ADDRESSES = 512
    MAX_ROUTERS = 16
    MAX_NETS = 64

cdef packed struct Frame:
    uint64_t offset         # of the frame's first byte in the batch's buffer
    uint32_t caplen         # captured bytes
    uint32_t wirelen        # bytes on the wire
    int64_t timestamp_ns    # since the epoch
    uint64_t number         # 1-based
    uint32_t ifindex        # 0 in a capture file
    uint16_t linktype       # LINKTYPE_*
    uint8_t direction       # PACKET_* or DIR_UNKNOWN
    uint8_t standing        # of its sender, set by the screen: Standing in types.py

cdef packed struct Sender:
    uint32_t ifindex        # ingress interface
    uint8_t side            # 0 protected side, 1 beyond our own forwarding
    uint8_t family          # 4, 6, 0 none
    uint8_t mac[6]          # zeros where the link type has none
    uint8_t address[16]     # IPv4 in the first four bytes

cdef struct Net:
    # An on-link network of a captured interface.
    uint32_t ifindex
    uint8_t family
    uint8_t prefix          # leading bits that count
    uint8_t address[16]     # zeros past the prefix

cdef struct Host:
    # The gateway itself, as seen from the captured interfaces.
    uint32_t n_macs         # at most MAX_OWN_MACS
    uint32_t n_addresses    # at most MAX_OWN_ADDRESSES
    uint8_t all_ports       # every port of the bridge is captured: outgoing foreign frames are echoes
    uint8_t macs[64][6]
    uint8_t families[512]
    uint8_t addresses[512][16]
    uint32_t n_routers      # at most MAX_ROUTERS: who forwards for others on the protected side
    uint8_t routers[16][6]
    uint32_t n_nets         # at most MAX_NETS
    Net nets[64]


cdef inline int domain_of(int feature) noexcept nogil:
    # Number of different values of a column; the widths of the schema.
    if feature == F_SRC_PORT or feature == F_DST_PORT or feature == F_HEADER_LENGTH:
        return 65536
    if feature == F_LENGTH or feature == F_PAYLOAD_LEN:
        return 65536
    return 2 if F_SYN <= feature < F_SRC_OCTET_0 else 256


cdef inline uint16_t be16(const uint8_t *p) noexcept nogil:
    return <uint16_t>((p[0] << 8) | p[1])


cdef inline bint _own_mac(const Host *host, const uint8_t *mac) noexcept nogil:
    cdef uint32_t i
    for i in range(host.n_macs):
        if memcmp(host.macs[i], mac, 6) == 0:
            return True
    return False


cdef inline bint _own_address(const Host *host, uint8_t family, const uint8_t *addr) noexcept nogil:
    cdef uint32_t i
    cdef size_t n = 4 if family == 4 else 16
    for i in range(host.n_addresses):
        if host.families[i] == family and memcmp(host.addresses[i], addr, n) == 0:
            return True
    return False


cdef inline bint _never_routed(const Sender *sender) noexcept nogil:
    # No router forwards from the unspecified address or from IPv6 link-local (RFC 4291 2.5): sent
    # with our MAC it is ours, a probe for a duplicate or a lease (RFC 4862, RFC 2131). IPv4's
    # 169.254/16 is not in this list: Linux does forward it.
    cdef int i
    if sender.family == 6 and sender.address[0] == 0xFE and (sender.address[1] & 0xC0) == 0x80:
        return True
    for i in range(16):
        if sender.address[i]:
            return False
    return True


cdef inline bint _from_router(const Host *host, const uint8_t *mac) noexcept nogil:
    cdef uint32_t i
    for i in range(host.n_routers):
        if memcmp(host.routers[i], mac, 6) == 0:
            return True
    return False


cdef inline bint _inside(const Net *net, const uint8_t *address) noexcept nogil:
    cdef int whole = net.prefix >> 3
    cdef uint8_t mask = <uint8_t>(0xFF00 >> (net.prefix & 7))
    if memcmp(net.address, address, whole) != 0:
        return False
    return (net.prefix & 7) == 0 or (address[whole] & mask) == net.address[whole]


cdef inline bint _seen_before(const Host *host, const Sender *sender, uint32_t out) noexcept nogil:
    # Routed out of one captured interface, from the network of another one: it was seen there.
    cdef uint32_t i
    cdef const Net *net
    for i in range(host.n_nets):
        net = &host.nets[i]
        if net.family == sender.family and net.ifindex != out and _inside(net, sender.address):
            return True
    return False


cdef inline void _payload(const uint8_t *p, uint32_t start, uint32_t end, uint16_t *row) noexcept nogil:
    # Bytes start .. end of the packet, at most 32; the row is zero already.
    cdef int n, i
    if start >= end:
        return
    n = PAYLOAD_BYTES if end - start >= 32 else <int>(end - start)
    if n == PAYLOAD_BYTES:
        for i in range(PAYLOAD_BYTES):  # constant count: the compiler widens it in registers
            row[F_PAYLOAD_0 + i] = p[start + i]
    else:
        for i in range(n):
            row[F_PAYLOAD_0 + i] = p[start + i]


cdef inline void _services(uint16_t *row, bint tcp, uint16_t s, uint16_t d) noexcept nogil:
    # Port-based indicators. Both ports are looked at: the answer belongs to the service as well.
    if s == 53 or d == 53 or s == 5353 or d == 5353:
        row[F_IS_DNS] = 1
    if tcp:
        row[F_IS_HTTP] = s == 80 or d == 80 or s == 8080 or d == 8080
        row[F_IS_HTTPS] = s == 443 or d == 443 or s == 8443 or d == 8443
        row[F_IS_SSH] = s == 22 or d == 22
        row[F_IS_SMTP] = (s == 25 or d == 25 or s == 465 or d == 465 or s == 587 or d == 587)
        row[F_IS_IRC] = ((6660 <= s <= 6669) or (6660 <= d <= 6669) or s == 6697 or d == 6697)
        row[F_IS_TELNET] = s == 23 or d == 23 or s == 2323 or d == 2323
    else:
        row[F_IS_DHCP] = (s == 67 or s == 68 or s == 546 or s == 547
                          or d == 67 or d == 68 or d == 546 or d == 547)


cdef inline void _layer4(const uint8_t *p, uint32_t l3, uint32_t end, bint has_header,
                         uint16_t *row, uint64_t *counters) noexcept nogil:
    # p[l3:end] is what the packet has after its layer-3 header and was captured. Sets ports,
    # flags, header_length, payload; payload_len follows from the lengths. A layer-4 header whose
    # length cannot be known counts as 0 bytes and leaves the payload bytes 0.
    cdef uint32_t avail = end - l3 if end > l3 else 0
    cdef const uint8_t *t = p + l3
    cdef uint16_t proto = row[F_PROTO]
    cdef uint32_t header = 0
    cdef bint located = True
    cdef uint8_t flags
    cdef uint32_t total

    if proto == 6:
        row[F_IS_TCP] = 1
    elif proto == 17:
        row[F_IS_UDP] = 1
    elif proto == 1 or proto == 58:
        row[F_IS_ICMP] = 1

    if has_header and proto == 6:
        if avail < 20:
            counters[C_TRUNCATED_L4] += 1
        if avail >= 4:
            row[F_SRC_PORT] = be16(t)
            row[F_DST_PORT] = be16(t + 2)
            _services(row, True, row[F_SRC_PORT], row[F_DST_PORT])
        if avail >= 13:
            header = (t[12] >> 4) * 4
            if header < 20:
                counters[C_BAD_DATA_OFFSET] += 1
                header = 0
                located = False
            elif avail >= 20 and avail < header:
                counters[C_TRUNCATED_L4] += 1
        else:
            located = False
        if avail >= 14:
            flags = t[13]
            row[F_TCP_FLAGS] = flags
            row[F_FIN] = flags & 1
            row[F_SYN] = (flags >> 1) & 1
            row[F_RST] = (flags >> 2) & 1
            row[F_PSH] = (flags >> 3) & 1
            row[F_ACK] = (flags >> 4) & 1
            row[F_URG] = (flags >> 5) & 1
            row[F_ECE] = (flags >> 6) & 1
            row[F_CWR] = flags >> 7
    elif has_header and proto == 17:
        header = 8
        if avail < 8:
            counters[C_TRUNCATED_L4] += 1
        if avail >= 4:
            row[F_SRC_PORT] = be16(t)
            row[F_DST_PORT] = be16(t + 2)
            _services(row, False, row[F_SRC_PORT], row[F_DST_PORT])
    elif has_header and (proto == 1 or proto == 58):
        header = 8
        if avail < 8:
            counters[C_TRUNCATED_L4] += 1

    total = row[F_HEADER_LENGTH] + header
    row[F_HEADER_LENGTH] = 65535 if total > 65535 else <uint16_t>total
    row[F_PAYLOAD_LEN] = row[F_LENGTH] - row[F_HEADER_LENGTH] if row[F_LENGTH] > row[F_HEADER_LENGTH] else 0
    if located:
        _payload(p, l3 + header, end, row)


cdef inline void _ipv4(const uint8_t *p, uint32_t cap, uint16_t *row, uint64_t *counters) noexcept nogil:
    cdef uint32_t ihl, length, end
    cdef uint8_t octets[8]
    cdef int i
    ihl = (p[0] & 15) * 4
    if cap >= 4:
        length = be16(p + 2)
        if length == 0:  # segmentation offload: the kernel fills it in later
            length = 65535 if cap > 65535 else cap
        row[F_LENGTH] = <uint16_t>length
    else:
        length = 0
    if cap >= 9:
        row[F_TTL] = p[8]
    if cap >= 10:
        row[F_PROTO] = p[9]
    if cap >= 20:
        memcpy(octets, p + 12, 8)  # apart from the row, so that the compiler widens all at once
        for i in range(8):
            row[F_SRC_OCTET_0 + i] = octets[i]
    elif cap >= 16:
        for i in range(4):
            row[F_SRC_OCTET_0 + i] = p[12 + i]
    if ihl < 20:
        counters[C_BAD_IHL] += 1
        row[F_PAYLOAD_LEN] = row[F_LENGTH]
        _layer4(p, 0, 0, False, row, counters)
        return
    row[F_HEADER_LENGTH] = <uint16_t>ihl
    end = cap if cap < length else length
    if end < ihl:
        counters[C_TRUNCATED_L3] += 1
        _layer4(p, 0, 0, False, row, counters)
        return
    _layer4(p, ihl, end, (be16(p + 6) & 0x1FFF) == 0, row, counters)


cdef inline void _ipv6(const uint8_t *p, uint32_t cap, uint16_t *row, uint64_t *counters) noexcept nogil:
    cdef uint32_t length, end, at, size
    cdef uint32_t walked = 0
    cdef uint8_t nxt
    cdef bint first = True
    if cap >= 6:
        length = 40 + be16(p + 4)
        row[F_LENGTH] = 65535 if length > 65535 else <uint16_t>length
    else:
        length = 0
    if cap >= 8:
        row[F_TTL] = p[7]
    row[F_HEADER_LENGTH] = 40
    if cap < 40:
        counters[C_TRUNCATED_L3] += 1
        if cap >= 7 and not _is_extension(p[6]):
            row[F_PROTO] = p[6]
        _layer4(p, 0, 0, False, row, counters)
        return
    end = cap if cap < length else length
    at = 40
    nxt = p[6]
    while first and _is_extension(nxt):
        if walked == MAX_EXTENSIONS:
            counters[C_TOO_MANY_EXTENSIONS] += 1
            row[F_HEADER_LENGTH] = 65535 if at > 65535 else <uint16_t>at
            _layer4(p, 0, 0, False, row, counters)
            return
        # An extension header that does not lie wholly inside the packet ends the walk.
        size = 8
        if at + 8 <= end:
            if nxt == 51:
                size = (p[at + 1] + 2) * 4
            elif nxt != 44:
                size = (p[at + 1] + 1) * 8
        if at + size > end:
            counters[C_TRUNCATED_L3] += 1
            row[F_HEADER_LENGTH] = 65535 if at > 65535 else <uint16_t>at
            _layer4(p, 0, 0, False, row, counters)
            return
        if nxt == 44 and (be16(p + at + 2) & 0xFFF8) != 0:
            first = False
        nxt = p[at]
        at += size
        walked += 1
    if _is_extension(nxt):  # of a fragment that is not the first: what follows is data
        nxt = 0
    row[F_PROTO] = nxt
    row[F_HEADER_LENGTH] = 65535 if at > 65535 else <uint16_t>at
    _layer4(p, at, end, first, row, counters)


cdef inline bint _is_extension(uint8_t nxt) noexcept nogil:
    # hop-by-hop, routing, fragment, AH, destination options (RFC 8200, RFC 4302)
    return nxt == 0 or nxt == 43 or nxt == 44 or nxt == 51 or nxt == 60


cdef inline void _clear(uint16_t *row) noexcept nogil:
    # Zero all 68 columns. In one memset gcc makes a string instruction of these 136 bytes, 13 ns;
    # in pieces of a register it is 3.
    memset(row, 0, 16)
    memset(row + 8, 0, 16)
    memset(row + 16, 0, 16)
    memset(row + 24, 0, 16)
    memset(row + 32, 0, 16)
    memset(row + 40, 0, 16)
    memset(row + 48, 0, 16)
    memset(row + 56, 0, 16)
    memset(row + 64, 0, 8)


cdef inline int parse_l3(const uint8_t *p, uint32_t cap, uint16_t ethertype, uint16_t *row,
                         uint64_t *counters) noexcept nogil:
    # Fill the row from a layer-3 packet. ethertype 0: told by the version nibble (raw IP).
    # Returns P_JUDGE or P_UNPARSABLE.
    cdef uint8_t version
    _clear(row)
    if ethertype == ETH_ARP:
        row[F_HEADER_LENGTH] = 28
        row[F_LENGTH] = 28
        row[F_IS_ARP] = 1
        if cap < 28:
            counters[C_TRUNCATED_L3] += 1
        return P_JUDGE
    if ethertype != 0 and ethertype != ETH_IPV4 and ethertype != ETH_IPV6:
        counters[C_OTHER_L2] += 1
        return P_UNPARSABLE
    if cap == 0:
        counters[C_TRUNCATED_L2] += 1
        return P_UNPARSABLE
    version = p[0] >> 4
    if version == 4 and ethertype != ETH_IPV6:
        _ipv4(p, cap, row, counters)
        return P_JUDGE
    if version == 6 and ethertype != ETH_IPV4:
        _ipv6(p, cap, row, counters)
        return P_JUDGE
    counters[C_BAD_VERSION] += 1
    return P_UNPARSABLE


cdef inline void ttl_on_arrival(const uint8_t *p, uint32_t cap, uint16_t *row) noexcept nogil:
    # We forwarded this IP packet and took one off its TTL: give that back. A TTL that was not
    # captured stays 0.
    cdef uint32_t at = 8 if (p[0] >> 4) == 4 else 7
    if cap > at and row[F_TTL] < 255:
        row[F_TTL] += 1


cdef inline int find_l3(const uint8_t *f, uint32_t cap, uint16_t linktype, uint32_t *start,
                        uint16_t *ethertype, const uint8_t **mac, uint8_t *direction,
                        uint64_t *counters) noexcept nogil:
    # Where the layer-3 packet begins and what it is; the source MAC where the link has one, and
    # the direction where the link header tells it (Linux cooked). P_JUDGE or P_UNPARSABLE.
    cdef uint32_t at
    cdef uint16_t t
    cdef uint32_t af
    cdef int tags = 0
    mac[0] = NULL
    if linktype == 1:
        if cap < 14:
            counters[C_TRUNCATED_L2] += 1
            return P_UNPARSABLE
        mac[0] = f + 6
        t = be16(f + 12)
        at = 14
    elif linktype == 101 or linktype == 12 or linktype == 228 or linktype == 229:
        start[0] = 0
        ethertype[0] = ETH_IPV4 if linktype == 228 else (ETH_IPV6 if linktype == 229 else 0)
        return P_JUDGE
    elif linktype == 113:
        if cap < 16:
            counters[C_TRUNCATED_L2] += 1
            return P_UNPARSABLE
        if be16(f) <= 4:
            direction[0] = f[1]
        if be16(f + 4) == 6:
            mac[0] = f + 6
        t = be16(f + 14)
        at = 16
    elif linktype == 276:
        if cap < 20:
            counters[C_TRUNCATED_L2] += 1
            return P_UNPARSABLE
        if f[10] <= 4:
            direction[0] = f[10]
        if f[11] == 6:
            mac[0] = f + 12
        t = be16(f)
        at = 20
    elif linktype == 0 or linktype == 108:
        if cap < 4:
            counters[C_TRUNCATED_L2] += 1
            return P_UNPARSABLE
        # 0 is written in the byte order of the host that captured; address families are small.
        af = (<uint32_t>be16(f) << 16) | be16(f + 2)
        if linktype == 0 and af > 0xFFFF:
            af = (<uint32_t>f[3] << 24) | (<uint32_t>f[2] << 16) | (<uint32_t>f[1] << 8) | f[0]
        start[0] = 4
        if af == 2:
            ethertype[0] = ETH_IPV4
        elif af == 10 or af == 24 or af == 28 or af == 30:
            ethertype[0] = ETH_IPV6
        else:
            counters[C_OTHER_L2] += 1
            return P_UNPARSABLE
        return P_JUDGE
    else:
        counters[C_OTHER_L2] += 1
        return P_UNPARSABLE
    while (t == ETH_VLAN or t == ETH_QINQ) and tags < 2:
        if cap < at + 4:
            counters[C_TRUNCATED_L2] += 1
            return P_UNPARSABLE
        t = be16(f + at + 2)
        at += 4
        tags += 1
    start[0] = at
    if t != ETH_IPV4 and t != ETH_IPV6 and t != ETH_ARP:
        counters[C_OTHER_L2] += 1
        return P_UNPARSABLE
    ethertype[0] = t
    return P_JUDGE


cdef inline int parse_frame(const uint8_t *data, const Frame *frame, const Host *host,
                            uint16_t *row, Sender *sender, uint64_t *counters) noexcept nogil:
    # One frame: the row, who sent it, and what to do with it (P_*). The caller has checked that
    # the frame lies inside the buffer.
    cdef const uint8_t *f = data + frame.offset
    cdef const uint8_t *mac = NULL
    cdef const uint8_t *p
    cdef uint32_t start = 0
    cdef uint32_t cap
    cdef uint16_t ethertype = 0
    cdef uint8_t direction = frame.direction
    cdef bint ours
    counters[C_FRAMES] += 1
    memset(sender, 0, sizeof(Sender))
    sender.ifindex = frame.ifindex
    if find_l3(f, frame.caplen, frame.linktype, &start, &ethertype, &mac, &direction, counters):
        if mac != NULL:
            memcpy(sender.mac, mac, 6)
        return P_UNPARSABLE
    p = f + start
    cap = frame.caplen - start
    if mac != NULL:
        memcpy(sender.mac, mac, 6)
    if parse_l3(p, cap, ethertype, row, counters):
        return P_UNPARSABLE
    if row[F_IS_ARP]:
        if cap >= 18:
            sender.family = 4
            memcpy(sender.address, p + 14, 4)
    elif (p[0] >> 4) == 4:
        if cap >= 16:
            sender.family = 4
            memcpy(sender.address, p + 12, 4)
    elif cap >= 24:
        sender.family = 6
        memcpy(sender.address, p + 8, 16)

    # What a router on the protected side forwards comes from beyond it: its MAC names nobody.
    if (host.n_routers and mac != NULL and sender.family and not row[F_IS_ARP]
            and not _never_routed(sender) and _from_router(host, mac)):
        sender.side = 1
    if host.n_macs == 0 and host.n_addresses == 0 and not host.all_ports:
        return P_JUDGE
    # Who put the frame on the wire? A frame that arrives with our own MAC is forged, not ours.
    if direction != DIR_OUTGOING and direction != DIR_UNKNOWN:
        return P_JUDGE
    if mac != NULL:
        ours = _own_mac(host, mac)
    else:
        ours = direction == DIR_OUTGOING
    if ours:
        if row[F_IS_ARP] or (sender.family and (
                _never_routed(sender) or _own_address(host, sender.family, sender.address))):
            return P_OWN
        if sender.family and _seen_before(host, sender, frame.ifindex):
            return P_ECHO
        sender.side = 1
        ttl_on_arrival(p, cap, row)
        return P_JUDGE
    if direction == DIR_OUTGOING and host.all_ports:
        return P_ECHO
    return P_JUDGE

# What the rules need of a frame beside its record: addresses as numbers, TCP's sequence numbers,
# what an ICMP error quotes, an ARP packet's claim, a DHCP answer's lease.
#
# As in packet.pxd, every read is guarded by the captured bytes and by the packet's own end.

from packet cimport *

cdef enum:
    K_OTHER = 0             # nothing that a rule counts
    K_TCP = 1
    K_UDP = 2
    K_ECHO = 3              # ICMP echo request (RFC 792, RFC 4443)
    K_ECHO_REPLY = 4
    K_ICMP_ERROR = 5
    K_ICMP = 6              # any other ICMP
    K_ARP = 7
    K_STUB = 8              # TCP that ends before its flags

cdef enum:
    TH_FIN = 1
    TH_SYN = 2
    TH_RST = 4
    TH_PSH = 8
    TH_ACK = 16
    TH_URG = 32

cdef enum:
    PROTO_ICMP = 1
    PROTO_TCP = 6
    PROTO_UDP = 17
    PROTO_ICMPV6 = 58
    PROTO_ARP = 254         # no IP protocol: who asked for whom, kept among the flows

cdef struct Ends:
    # Both ends of an exchange, as one frame shows them.
    uint64_t s0             # source address: IPv4 in the low half of s0, IPv6 in s0 and s1
    uint64_t s1
    uint64_t d0             # destination address
    uint64_t d1
    uint16_t sport          # 0 where there are no ports; echo: the identifier, at both ends
    uint16_t dport
    uint8_t family          # 4 or 6
    uint8_t proto           # PROTO_*

cdef struct Look:
    Ends ends
    Ends quoted             # of an ICMP error: the packet that it is about
    uint8_t kind            # K_*
    uint8_t flags           # TCP's, without ECE and CWR
    bint group              # to a multicast or broadcast address
    bint unreachable        # ICMP error: what was tried has failed
    uint32_t seq            # TCP
    uint32_t ack
    uint16_t payload        # bytes after TCP's or UDP's header, by the lengths
    uint16_t op             # ARP: 1 request, 2 reply
    uint8_t sha[6]          # ARP: the claimed MAC
    const uint8_t *body     # first byte after the UDP header
    uint32_t body_bytes     # of it captured


cdef inline uint32_t be32(const uint8_t *p) noexcept nogil:
    return (<uint32_t>be16(p) << 16) | be16(p + 2)


cdef inline void read_address(const uint8_t *p, uint8_t family, uint64_t *a0, uint64_t *a1) noexcept nogil:
    # The bytes as they stand, whatever the machine's order: only equality and any order matter.
    a0[0] = 0
    a1[0] = 0
    if family == 4:
        memcpy(a0, p, 4)
    else:
        memcpy(a0, p, 8)
        memcpy(a1, p + 8, 8)


cdef inline void write_address(uint64_t a0, uint64_t a1, uint8_t *out) noexcept nogil:
    # 16 bytes, IPv4 in the first four.
    memcpy(out, &a0, 8)
    memcpy(out + 8, &a1, 8)


cdef inline uint32_t layer4_of(const uint8_t *p, uint32_t cap, uint32_t *end, uint8_t *proto) noexcept nogil:
    # Where layer 4 begins, and the end of what of the packet was captured; 0 where there is none
    # to read: damaged, or a fragment that is not the first. The walk is packet.pxd's, but it ends
    # with the packet only: whoever receives it does not stop at the ninth extension header either.
    cdef uint32_t at, size, length
    cdef uint8_t nxt
    if cap < 20:
        return 0
    if (p[0] >> 4) == 4:
        at = (p[0] & 15) * 4
        length = be16(p + 2)
        end[0] = cap if length == 0 or cap < length else length
        proto[0] = p[9]
        if at < 20 or end[0] < at or be16(p + 6) & 0x1FFF:
            return 0
        return at
    if cap < 40:
        return 0
    length = 40 + be16(p + 4)
    end[0] = cap if cap < length else length
    at = 40
    nxt = p[6]
    while _is_extension(nxt):
        if at + 8 > end[0]:
            return 0
        size = 8
        if nxt == 51:
            size = (p[at + 1] + 2) * 4
        elif nxt != 44:
            size = (p[at + 1] + 1) * 8
        if at + size > end[0] or (nxt == 44 and be16(p + at + 2) & 0xFFF8):
            return 0
        nxt = p[at]
        at += size
    proto[0] = nxt
    return at


cdef inline bint _all_there(const uint8_t *p, uint32_t cap) noexcept nogil:
    # Was all captured that the packet says it has? A length of 0 (offload) says nothing.
    cdef uint32_t length
    if (p[0] >> 4) == 4:
        length = be16(p + 2)
        return 0 < length <= cap
    length = be16(p + 4)
    return length > 0 and 40 + length <= cap


cdef inline bint _group_address(const uint8_t *p, uint8_t family) noexcept nogil:
    if family == 6:
        return p[0] == 0xFF
    return p[0] >= 224  # multicast, reserved, 255.255.255.255


cdef inline void _icmp(const uint8_t *p, uint32_t at, uint32_t end, Look *look) noexcept nogil:
    # Echo by identifier; an error by the packet that it quotes (its IP header and 8 bytes).
    cdef const uint8_t *t = p + at
    cdef const uint8_t *q
    cdef uint32_t inner_end = 0
    cdef uint32_t inner
    cdef uint8_t proto = 0
    cdef uint8_t family = look.ends.family
    cdef uint8_t echo = 8 if family == 4 else 128
    cdef uint8_t reply = 0 if family == 4 else 129
    look.kind = K_ICMP
    if end - at < 8:
        return
    if t[0] == echo or t[0] == reply:
        look.kind = K_ECHO if t[0] == echo else K_ECHO_REPLY
        look.ends.sport = be16(t + 4)
        look.ends.dport = look.ends.sport
        return
    if family == 4:
        if t[0] != 3 and t[0] != 11:
            return
        look.unreachable = t[0] == 3
    else:
        if t[0] < 1 or t[0] > 3:
            return
        look.unreachable = t[0] == 1
    q = t + 8
    if end - at < 8 + 20 or (q[0] >> 4) != family:
        return
    inner = layer4_of(q, end - at - 8, &inner_end, &proto)
    if inner == 0 or inner + 8 > inner_end:
        return
    look.quoted.family = family
    look.quoted.proto = proto
    if family == 4:
        read_address(q + 12, 4, &look.quoted.s0, &look.quoted.s1)
        read_address(q + 16, 4, &look.quoted.d0, &look.quoted.d1)
    else:
        read_address(q + 8, 6, &look.quoted.s0, &look.quoted.s1)
        read_address(q + 24, 6, &look.quoted.d0, &look.quoted.d1)
    if proto == PROTO_TCP or proto == PROTO_UDP:
        look.quoted.sport = be16(q + inner)
        look.quoted.dport = be16(q + inner + 2)
    elif proto == PROTO_ICMP or proto == PROTO_ICMPV6:
        look.quoted.sport = be16(q + inner + 4)
        look.quoted.dport = look.quoted.sport
    else:
        return
    look.kind = K_ICMP_ERROR


cdef inline void look_at(const uint8_t *f, uint32_t caplen, uint16_t linktype, uint8_t direction,
                         const uint16_t *row, Look *look) noexcept nogil:
    # Fill `look` for a frame that parse_frame could read; `row` is its record.
    cdef uint64_t ignored[N_COUNTERS]
    cdef const uint8_t *mac = NULL
    cdef const uint8_t *p
    cdef uint32_t start = 0
    cdef uint32_t cap, at
    cdef uint32_t end = 0
    cdef uint16_t ethertype = 0
    cdef uint8_t proto = 0
    memset(look, 0, sizeof(Look))
    if find_l3(f, caplen, linktype, &start, &ethertype, &mac, &direction, ignored) != P_JUDGE:
        return
    p = f + start
    cap = caplen - start
    if row[F_IS_ARP]:
        # Ethernet and IPv4 only (RFC 826).
        if cap < 28 or be16(p) != 1 or be16(p + 2) != ETH_IPV4 or p[4] != 6 or p[5] != 4:
            return
        look.kind = K_ARP
        look.op = be16(p + 6)
        memcpy(look.sha, p + 8, 6)
        look.ends.family = 4
        look.ends.proto = PROTO_ARP
        # As if who asks had port 1: so that two who ask for each other are two exchanges.
        look.ends.sport = look.op == 1
        look.ends.dport = look.op == 2
        read_address(p + 14, 4, &look.ends.s0, &look.ends.s1)
        read_address(p + 24, 4, &look.ends.d0, &look.ends.d1)
        return
    at = layer4_of(p, cap, &end, &proto)
    if at == 0:
        return
    look.ends.proto = proto
    if (p[0] >> 4) == 4:
        look.ends.family = 4
        read_address(p + 12, 4, &look.ends.s0, &look.ends.s1)
        read_address(p + 16, 4, &look.ends.d0, &look.ends.d1)
        look.group = _group_address(p + 16, 4)
    else:
        look.ends.family = 6
        read_address(p + 8, 6, &look.ends.s0, &look.ends.s1)
        read_address(p + 24, 6, &look.ends.d0, &look.ends.d1)
        look.group = _group_address(p + 24, 6)
    # A directed broadcast has an ordinary address, but no ordinary frame.
    if (linktype == 1 and f[0] & 1) or direction == 1 or direction == 2:
        look.group = True
    if proto == PROTO_TCP:
        if end - at < 14:
            if _all_there(p, cap):  # no link is so narrow that it would have to be cut there
                look.kind = K_STUB
            return
        look.kind = K_TCP
        look.ends.sport = be16(p + at)
        look.ends.dport = be16(p + at + 2)
        look.seq = be32(p + at + 4)
        look.ack = be32(p + at + 8)
        look.flags = p[at + 13] & 0x3F
        look.payload = row[F_PAYLOAD_LEN]
    elif proto == PROTO_UDP:
        if end - at < 8:
            return
        look.kind = K_UDP
        look.ends.sport = be16(p + at)
        look.ends.dport = be16(p + at + 2)
        look.payload = row[F_PAYLOAD_LEN]
        look.body = p + at + 8
        look.body_bytes = end - at - 8
    elif ((proto == PROTO_ICMP and look.ends.family == 4)
          or (proto == PROTO_ICMPV6 and look.ends.family == 6)):
        _icmp(p, at, end, look)


cdef inline bint dhcp_ack(const Look *look, uint64_t *address, uint8_t *mac, uint32_t *lease_s) noexcept nogil:
    # True for a DHCP ACK to an Ethernet client that got an address (RFC 2131, RFC 2132): its
    # address, MAC and lease time in seconds, 0 where it states none.
    cdef const uint8_t *b = look.body
    cdef uint32_t n = look.body_bytes
    cdef uint32_t at = 240
    cdef uint8_t size
    cdef bint acknowledged = False
    if look.kind != K_UDP or look.ends.family != 4 or look.ends.sport != 67 or n < 240:
        return False
    if b[0] != 2 or b[1] != 1 or b[2] != 6 or be32(b + 236) != 0x63825363:
        return False
    lease_s[0] = 0
    while at < n and b[at] != 255:
        if b[at] == 0:
            at += 1
            continue
        if at + 2 > n:
            break
        size = b[at + 1]
        if at + 2 + size > n:
            break
        if b[at] == 53 and size == 1:
            acknowledged = b[at + 2] == 5
        elif b[at] == 51 and size == 4:
            lease_s[0] = be32(b + at + 2)
        at += 2 + size
    if not acknowledged or be32(b + 16) == 0:
        return False
    address[0] = 0
    memcpy(address, b + 16, 4)
    memcpy(mac, b + 28, 6)
    return True

# What a held packet looks like: the frame that a ring would show, and the TCP connection it is of.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from nfqueue_held cimport Held, Slot, bytes_of
from nfqueue_message cimport Packet
from packet cimport DIR_OUTGOING, Frame

cdef enum:
    ETHERNET = 14
    MAX_PORTS = 4096
    KEY_MOST = 36                   # bytes of a connection's key
    TCP = 6                         # IPPROTO_TCP

cdef struct Port:
    uint32_t met                    # interface at which routed packets are met
    uint32_t shown                  # captured interface that their frames show
    uint8_t mac[6]                  # our own there
    uint8_t ethernet                # it has Ethernet headers
    uint8_t bridged                 # the caller finds the port by its sender's MAC

cdef struct Ports:
    Port *rows                      # by `met`, increasing
    uint32_t n
    bint bridged                    # one of them is


cdef inline Port *port_of(Ports *ports, uint32_t met) noexcept nogil:
    cdef uint32_t low = 0, high = ports.n, middle
    while low < high:
        middle = (low + high) >> 1
        if ports.rows[middle].met < met:
            low = middle + 1
        else:
            high = middle
    if low < ports.n and ports.rows[low].met == met:
        return &ports.rows[low]
    return NULL


cdef inline bint show(
    Held *h, Slot *s, Packet *p, Ports *ports, Frame *f
) noexcept nogil:
    # Writes the slot's bytes, behind the Ethernet header that a ring would show, and its frame.
    # Returns whether it came in at a bridge. p.size: 1 .. what a slot has room for.
    cdef Port *port = port_of(ports, p.indev)
    cdef const uint8_t *payload = p.payload
    cdef uint8_t *to = bytes_of(h, s)
    cdef uint32_t own, hop, start = 0, size = p.size
    cdef bint six = payload[0] >= 0x60
    s.incoming = port != NULL
    if port == NULL:
        port = port_of(ports, p.outdev)
    s.port = port.shown if port != NULL else p.indev
    f.linktype = 101
    if port == NULL or port.ethernet:
        f.linktype = 1
        start = ETHERNET
        memset(to, 0, 12)
        if s.incoming:
            memcpy(to, port.mac, 6)
            memcpy(to + 6, s.hw, 6)
        elif port != NULL:
            memcpy(to + 6, port.mac, 6)
        to[12] = 0x86 if six else 0x08
        to[13] = 0xDD if six else 0x00
    memcpy(to + start, payload, size)
    s.start = <uint8_t>start
    s.size = size
    hop = 7 if six else 8
    if s.incoming and hop < size and to[start + hop] < 255:
        to[start + hop] += 1  # forwarding has taken one off already
        s.lifted = <uint8_t>hop
    own = size
    if size >= 6 and payload[0] >> 4 == 6:
        own = 40 + (<uint32_t>payload[4] << 8 | payload[5])
    elif size >= 4:
        own = <uint32_t>payload[2] << 8 | payload[3]
    if own < size:
        own = size  # what was copied may be shorter, never longer
    f.offset = <uint64_t>(to - h.data)
    f.caplen = start + size
    f.wirelen = start + own
    f.timestamp_ns = p.stamp_ns
    f.number = s.number
    f.ifindex = s.port
    f.direction = 0 if s.incoming else DIR_OUTGOING
    f.standing = 0
    return s.incoming and port.bridged


cdef inline int connection_of(Held *h, Slot *s, uint8_t *key) noexcept nogil:
    # Returns the bytes written to key: 12, KEY_MOST or 0. capture.held.connection says the same.
    cdef const uint8_t *ip
    cdef uint32_t at, ends, octets
    cdef int order
    if s == NULL or s.size < 20:
        return 0
    ip = bytes_of(h, s) + s.start
    if ip[0] >> 4 == 4:
        at, ends, octets = (ip[0] & 15) * 4, 12, 4
        if ip[9] != TCP or at < 20 or ip[6] & 0x1F or ip[7]:
            return 0
    else:
        at, ends, octets = 40, 8, 16
        if s.size < 40 or ip[6] != TCP:
            return 0
    if s.size < at + 14:
        return 0
    order = memcmp(ip + ends, ip + ends + octets, octets)
    if order == 0:
        order = memcmp(ip + at, ip + at + 2, 2)
    if order > 0:
        memcpy(key, ip + ends + octets, octets)
        memcpy(key + octets, ip + at + 2, 2)
        memcpy(key + octets + 2, ip + ends, octets)
        memcpy(key + 2 * octets + 2, ip + at, 2)
    else:
        memcpy(key, ip + ends, octets)
        memcpy(key + octets, ip + at, 2)
        memcpy(key + octets + 2, ip + ends + octets, octets)
        memcpy(key + 2 * octets + 2, ip + at + 2, 2)
    return 2 * octets + 4

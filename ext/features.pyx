"""Frames in, packet records out: (n, 68) uint16 with the GIL released."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from packet cimport *

cdef enum:
    # Indices into PROTOCOLS
    T_OTHER = 0
    T_ARP = 1
    T_ICMP = 2
    T_TCP = 3
    T_UDP = 4
    T_OTHER_IP = 5
    N_PROTOCOLS = 6

PROTOCOLS = ("other", "arp", "icmp", "tcp", "udp", "other_ip")

COUNTER_NAMES = (
    "frames", "truncated_l2", "other_l2", "bad_version", "truncated_l3", "bad_ihl",
    "truncated_l4", "bad_data_offset", "too_many_extensions",
)


cdef class HostIdentity:
    """The gateway's own MACs and addresses, so that its frames are known and TTLs are put right.

    macs: iterable of 6-byte strings; addresses: iterable of 4- or 16-byte strings (packed).
    all_ports: every port of the bridge is captured, so a foreign frame going out was already seen.
    routers: MACs of those who forward for others on the protected side (on a bridge, the way out):
    what they send comes from beyond, and its sender is its address. networks: (interface index,
    packed address, prefix length) of each on-link network of a captured interface, so that what is
    routed from one captured interface to another counts once.
    Raises ValueError for a wrong length or too many entries (64 MACs, 512 addresses, 16 routers,
    64 networks).
    """

    def __init__(self, macs=(), addresses=(), *, bint all_ports=False, routers=(), networks=()):
        cdef bytes item
        cdef Net *net
        cdef int bit
        memset(&self.host, 0, sizeof(Host))
        for item in macs:
            if len(item) != 6 or self.host.n_macs == MAX_OWN_MACS:
                raise ValueError("a MAC has 6 bytes, and a gateway at most 64 of them")
            memcpy(self.host.macs[self.host.n_macs], <const uint8_t *>item, 6)
            self.host.n_macs += 1
        for item in addresses:
            if len(item) not in (4, 16) or self.host.n_addresses == MAX_OWN_ADDRESSES:
                raise ValueError("an address has 4 or 16 bytes, and a gateway at most 512 of them")
            self.host.families[self.host.n_addresses] = 4 if len(item) == 4 else 6
            memcpy(self.host.addresses[self.host.n_addresses], <const uint8_t *>item, len(item))
            self.host.n_addresses += 1
        self.host.all_ports = all_ports
        for item in routers:
            if len(item) != 6 or self.host.n_routers == MAX_ROUTERS:
                raise ValueError("a MAC has 6 bytes, and there are at most 16 routers")
            memcpy(self.host.routers[self.host.n_routers], <const uint8_t *>item, 6)
            self.host.n_routers += 1
        for index, item, prefix in networks:
            if len(item) not in (4, 16) or not 0 <= prefix <= 8 * len(item):
                raise ValueError("a network has 4 or 16 bytes and a prefix inside them")
            if self.host.n_nets == MAX_NETS:
                raise ValueError("at most 64 networks")
            net = &self.host.nets[self.host.n_nets]
            net.ifindex = index
            net.family = 4 if len(item) == 4 else 6
            net.prefix = prefix
            memcpy(net.address, <const uint8_t *>item, len(item))
            for bit in range(prefix, 8 * <int>len(item)):
                net.address[bit >> 3] &= ~(0x80 >> (bit & 7))
            self.host.n_nets += 1

    def packed(self):
        """Return the C struct's bytes, which is how other compiled modules take it."""
        return (<const uint8_t *>&self.host)[:sizeof(Host)]

    cdef Host host


def extract(const uint8_t[::1] data, const Frame[::1] frames, HostIdentity host,
            uint16_t[:, ::1] rows, Sender[::1] senders, uint8_t[::1] outcomes,
            uint64_t[::1] counters):
    """Parse every frame of a batch.

    data: the buffer; frames: (n,) FRAME. Written: rows (n, 68), or (n, 60) where the group `packet`
    is enough; senders (n,); outcomes (n,) with the values of Outcome (JUDGED for a row that holds a
    packet; the row is zeros otherwise); counters (9,), added to, named by COUNTER_NAMES. Raises ValueError where a frame lies outside
    the buffer or an array is too short: a source's bug, not a packet's doing.
    """
    cdef Py_ssize_t i, n = frames.shape[0]
    cdef uint64_t size = data.shape[0]
    cdef uint8_t nothing = 0
    cdef const uint8_t *base = &data[0] if size else &nothing  # NULL + 0 is not defined in C
    cdef const Frame *f
    cdef uint16_t row[N_COLUMNS]
    cdef Py_ssize_t width = rows.shape[1]
    cdef bint whole = width == N_COLUMNS
    if rows.shape[0] < n or not (whole or width == N_FEATURES) or senders.shape[0] < n or outcomes.shape[0] < n:
        raise ValueError("output arrays are smaller than the batch")
    if counters.shape[0] < N_COUNTERS:
        raise ValueError("counters need %d places" % N_COUNTERS)
    for i in range(n):
        f = &frames[i]
        if f.offset > size or f.caplen > size - f.offset:
            raise ValueError("frame %d lies outside its buffer" % i)
    if n == 0:
        return
    with nogil:
        for i in range(n):
            outcomes[i] = parse_frame(base, &frames[i], &host.host, &rows[i, 0] if whole else row,
                                      &senders[i], &counters[0])
            if outcomes[i] != P_JUDGE:
                memset(&rows[i, 0], 0, width * sizeof(uint16_t))
            elif not whole:
                memcpy(&rows[i, 0], row, width * sizeof(uint16_t))


def extract_l3(const uint8_t[::1] packet, uint16_t ethertype, uint16_t[::1] row,
               uint64_t[::1] counters, *, bint forwarded=False):
    """Parse one layer-3 packet, as NFQUEUE hands it over; True if it can be judged.

    ethertype: 0x0800, 0x86DD, 0x0806, or 0 to go by the version nibble. forwarded: the hook lies
    behind our own forwarding (FORWARD, POSTROUTING), so one is added to the TTL. row: (68,) or (60,).
    """
    cdef uint16_t whole[N_COLUMNS]
    cdef uint8_t dummy = 0
    cdef const uint8_t *p = &packet[0] if packet.shape[0] else &dummy
    if row.shape[0] not in (N_FEATURES, N_COLUMNS) or counters.shape[0] < N_COUNTERS:
        raise ValueError("row needs 60 or 68 places and counters %d" % N_COUNTERS)
    counters[C_FRAMES] += 1
    cdef bint can = parse_l3(p, <uint32_t>packet.shape[0], ethertype, whole, &counters[0]) == P_JUDGE
    if can and forwarded and not whole[F_IS_ARP]:
        ttl_on_arrival(p, <uint32_t>packet.shape[0], whole)
    memcpy(&row[0], whole, row.shape[0] * sizeof(uint16_t))
    return can


cdef class Protocols:
    """Packets and bytes on the wire by protocol; for people who look on, not for verdicts.

    From a frame's first bytes alone, so that it costs next to nothing: what is cut before its
    protocol is "other", and IPv6 counts by the header that follows its own.
    """

    cdef uint64_t packets[N_PROTOCOLS]
    cdef uint64_t bytes[N_PROTOCOLS]

    def __cinit__(self):
        memset(self.packets, 0, sizeof(self.packets))
        memset(self.bytes, 0, sizeof(self.bytes))

    def count(self, const uint8_t[::1] data, frames):
        """Count a batch: data, the buffer; frames: (n,) FRAME, in one piece.

        Raises ValueError where a frame lies outside the buffer."""
        cdef Py_buffer buffer
        cdef const Frame *f
        cdef uint64_t size = data.shape[0]
        cdef Py_ssize_t i
        cdef int kind
        PyObject_GetBuffer(frames, &buffer, PyBUF_SIMPLE)
        try:
            if buffer.itemsize != sizeof(Frame):
                raise ValueError("frames are FRAME records")
            f = <const Frame *>buffer.buf
            for i in range(buffer.len // <Py_ssize_t>sizeof(Frame)):
                if f.offset > size or f.caplen > size - f.offset:
                    raise ValueError("frame %d lies outside its buffer" % i)
                kind = protocol_of(&data[0] + f.offset, f.caplen, f.linktype) if size else T_OTHER
                self.packets[kind] += 1
                self.bytes[kind] += f.wirelen
                f += 1
        finally:
            PyBuffer_Release(&buffer)

    def totals(self):
        """Return (packets, bytes), each a list in the order of PROTOCOLS."""
        return ([self.packets[i] for i in range(N_PROTOCOLS)],
                [self.bytes[i] for i in range(N_PROTOCOLS)])


cdef int protocol_of(const uint8_t *f, uint32_t cap, uint16_t linktype) noexcept nogil:
    # IEEE 802.3 and 802.1Q, RFC 791 and RFC 8200 headers; other links begin with the IP header.
    cdef uint32_t at = 0
    cdef uint16_t ethertype = 0
    cdef uint8_t number
    if linktype == 1:
        at = 14
        if cap < at:
            return T_OTHER
        ethertype = be16(f + 12)
        if ethertype == ETH_VLAN:
            at = 18
            if cap < at:
                return T_OTHER
            ethertype = be16(f + 16)
        if ethertype == ETH_ARP:
            return T_ARP
    if cap < at + 10:
        return T_OTHER
    if (f[at] >> 4) == 4 and (at == 0 or ethertype == ETH_IPV4):
        number = f[at + 9]
    elif (f[at] >> 4) == 6 and (at == 0 or ethertype == ETH_IPV6):
        number = f[at + 6]
    else:
        return T_OTHER
    if number == 6:
        return T_TCP
    if number == 17:
        return T_UDP
    return T_ICMP if number == 1 or number == 58 else T_OTHER_IP

# One message of a netfilter queue to what it says of a packet, and a verdict to a message.
#
# linux/netfilter/nfnetlink_queue.h, linux/netlink.h. Lengths come from the kernel, but every one is
# checked; what is not whole keeps what was read of it, so that the packet can have its word.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    #include <arpa/inet.h>
    #include <endian.h>
    """
    uint16_t htons(uint16_t) nogil
    uint16_t ntohs(uint16_t) nogil
    uint32_t htonl(uint32_t) nogil
    uint32_t ntohl(uint32_t) nogil
    uint64_t be64toh(uint64_t) nogil

cdef enum:
    M_ERROR = 2                     # NLMSG_ERROR
    M_PACKET = 0x300                # NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET
    M_VERDICT = 0x301
    M_VERDICT_BATCH = 0x303
    A_PACKET_HDR = 1
    A_VERDICT_HDR = 2
    A_MARK = 3
    A_TIMESTAMP = 4
    A_INDEV = 5
    A_OUTDEV = 6
    A_HWADDR = 9
    A_PAYLOAD = 10
    A_TYPE_MASK = 0x3FFF
    REQUEST = 1                     # NLM_F_REQUEST
    HEAD = 20                       # struct nlmsghdr and struct nfgenmsg
    VERDICT_MOST = 40               # bytes of a verdict

cdef enum:
    # What a message is
    I_PACKET = 0
    I_REFUSAL = 1                   # of a verdict: its packet is gone
    I_NOTHING = 2                   # an agreement
    I_MALFORMED = 3                 # or of somebody else

cdef struct Packet:
    uint32_t id                     # in network byte order
    uint32_t mark
    int64_t stamp_ns                # since the epoch; 0: the kernel has noted none
    uint32_t indev                  # interface indices, 0 none
    uint32_t outdev
    const uint8_t *hw               # 8 bytes of the sender's address, or NULL
    const uint8_t *payload          # from the IP header on, or NULL
    uint32_t size                   # of the payload
    uint8_t whole                   # 0: the message was cut


cdef inline uint16_t _u16(const uint8_t *p) noexcept nogil:
    cdef uint16_t value
    memcpy(&value, p, 2)
    return value


cdef inline uint32_t _u32(const uint8_t *p) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, p, 4)
    return value


cdef inline uint64_t _be64(const uint8_t *p) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, p, 8)
    return be64toh(value)


cdef inline int read_message(
    const uint8_t *m, uint32_t size, uint16_t queue, Packet *p
) noexcept nogil:
    # m: the message's `size` bytes, into which p.hw and p.payload point. Returns I_*.
    cdef uint32_t at = HEAD, length, kind
    cdef const uint8_t *value
    cdef int64_t seconds
    cdef bint has_id = False
    memset(p, 0, sizeof(Packet))
    if size < 16:
        return I_MALFORMED
    kind = _u16(m + 4)
    if kind == M_ERROR and size >= HEAD:
        return I_REFUSAL if <int32_t>_u32(m + 16) != 0 else I_NOTHING
    if kind != M_PACKET or size < HEAD or ntohs(_u16(m + 18)) != queue:
        return I_MALFORMED
    p.whole = _u32(m) <= size
    if p.whole:
        size = _u32(m)
    while at + 4 <= size:
        length = _u16(m + at)
        kind = _u16(m + at + 2) & A_TYPE_MASK
        if length < 4 or length > size - at:
            p.whole = False
            break
        value = m + at + 4
        at += (length + 3) & ~3
        length -= 4
        if kind == A_PACKET_HDR and length >= 7:
            p.id = _u32(value)
            has_id = True
        elif kind == A_MARK and length >= 4:
            p.mark = ntohl(_u32(value))
        elif kind == A_TIMESTAMP and length >= 16:
            seconds = <int64_t>_be64(value)
            if seconds > 0 and seconds >> 33 == 0:  # nanoseconds fit
                p.stamp_ns = seconds * 1000000000 + <int64_t>(_be64(value + 8) % 1000000) * 1000
        elif kind == A_INDEV and length >= 4:
            p.indev = ntohl(_u32(value))
        elif kind == A_OUTDEV and length >= 4:
            p.outdev = ntohl(_u32(value))
        elif kind == A_HWADDR and length >= 12:
            p.hw = value + 4
        elif kind == A_PAYLOAD:
            p.payload = value
            p.size = length
    return I_PACKET if has_id else I_MALFORMED


cdef inline uint32_t write_verdict(
    uint8_t *m, uint16_t queue, bint batch, uint32_t id, bint drop, bint remark, uint32_t mark
) noexcept nogil:
    # m: room for VERDICT_MOST bytes. Returns how many were written. id: as in Packet; batch: for
    # every packet that is held up to it.
    cdef uint32_t length = VERDICT_MOST if remark else VERDICT_MOST - 8, word = htonl(0 if drop else 1)
    cdef uint16_t kind = M_VERDICT_BATCH if batch else M_VERDICT, to = htons(queue)
    cdef uint16_t flags = REQUEST, what = A_VERDICT_HDR, size = 12
    memset(m, 0, length)
    memcpy(m, &length, 4)           # struct nlmsghdr
    memcpy(m + 4, &kind, 2)
    memcpy(m + 6, &flags, 2)
    memcpy(m + 18, &to, 2)          # struct nfgenmsg
    memcpy(m + 20, &size, 2)
    memcpy(m + 22, &what, 2)
    memcpy(m + 24, &word, 4)        # NF_ACCEPT is 1, NF_DROP 0
    memcpy(m + 28, &id, 4)
    if remark:
        size = 8
        what = A_MARK
        mark = htonl(mark)
        memcpy(m + 32, &size, 2)
        memcpy(m + 34, &what, 2)
        memcpy(m + 36, &mark, 4)
    return length

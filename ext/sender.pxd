# Who a frame's sender is, in one form for all tables: the canonical SENDER record.
#
#   LAN with a MAC      ifindex, side 0, mac              its addresses come and go
#   LAN without MACs    ifindex, side 0, family, address  tunnels, raw IP
#   WAN                 side 1, family, address           IPv6 cut to its /64
#   FLOOD               side 2, family, address of the victim, ifindex = its TCP port
#
# Everything else in the record is zero, so that equal bytes mean the same sender. Header-only, like
# packet.pxd.

from libc.stdint cimport uint8_t
from libc.string cimport memcpy, memset

from packet cimport Sender

cdef enum:
    SIDE_LAN = 0
    SIDE_WAN = 1
    SIDE_FLOOD = 2


cdef inline bint any_byte(const uint8_t *p, int n) noexcept nogil:
    # True if one of n bytes is not zero.
    cdef int i
    cdef uint8_t seen = 0
    for i in range(n):
        seen |= p[i]
    return seen != 0


cdef inline bint canonical(const Sender *seen, Sender *out) noexcept nogil:
    # Fill `out`, which must not be `seen`; False (and zeros) where nobody can be named: neither a
    # MAC on the protected side nor an address. The unspecified address names nobody.
    cdef int size = 4 if seen.family == 4 else 16
    memset(out, 0, sizeof(Sender))
    if seen.side == SIDE_LAN and any_byte(seen.mac, 6):
        out.ifindex = seen.ifindex
        memcpy(out.mac, seen.mac, 6)
        return True
    if (seen.family != 4 and seen.family != 6) or not any_byte(seen.address, size):
        return False
    out.side = seen.side
    out.family = seen.family
    memcpy(out.address, seen.address, size)
    if seen.side != SIDE_WAN:
        out.ifindex = seen.ifindex
    elif seen.family == 6:
        memset(out.address + 8, 0, 8)
    return True

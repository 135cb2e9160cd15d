# Packets that the kernel holds, in the order in which they came: a slot for each, until its word.
#
#  a) A packet's number grows with every packet and has its slot in the low bits, so that the look-up
#     of a verdict is an index and a comparison.
#  b) Slots are used last in, first out, so that few stay warm.
#  c) Where another thread reads (`keep`), a slot whose word is sent is used again only after
#     `take_back`: whoever was shown the packet has its bytes as long as without a thread.
#  d) Nothing here locks; who shares it has a lock (nfqueue_thread.pxd).

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from nfqueue_message cimport Packet

cdef enum:
    SLOT_BITS = 17                  # of a number: which slot
    MAX_SLOTS = 131072
    NOBODY = -1

cdef enum:
    # What is said about a packet
    W_NONE = 0
    W_GO = 1
    W_DROP = 2

cdef struct Slot:
    uint64_t number                 # 0: never used; a free one keeps that of its last packet
    int64_t stamp_ns                # since the epoch
    uint32_t id                     # the kernel's, in network byte order
    uint32_t mark                   # the packet's
    uint32_t wanted                 # mark that it shall have
    uint32_t indev                  # interface index
    uint32_t port                   # interface index that the frame shows
    uint32_t size                   # copied bytes from the IP header on
    uint8_t hw[8]                   # of its sender, as in struct nfqnl_msg_packet_hw
    uint8_t has_hw
    uint8_t incoming
    uint8_t start                   # of the IP header in the slot's bytes
    uint8_t lifted                  # offset in the packet of the TTL that has one more; 0 none
    uint8_t word                    # W_*
    uint8_t remark                  # `wanted` is to be set
    uint8_t shown                   # its frame was handed over
    int32_t before                  # neighbours in the order of arrival, NOBODY at the ends
    int32_t behind

cdef struct Held:
    Slot *slots
    uint8_t *data                   # n_slots * stride
    uint32_t n_slots
    uint32_t stride                 # bytes between two slots' frames
    uint64_t first                  # numbers are above it
    uint64_t sequence               # packets numbered so far
    int32_t oldest
    int32_t newest
    int32_t *spare                  # free slots, the last used at the end
    uint32_t n_spare
    bint keep
    int32_t *left                   # with `keep`: slots whose word is sent since `take_back`
    uint32_t n_left
    uint32_t n_said                 # slots with a word that is not sent yet
    uint64_t received               # accepted + dropped + held
    uint64_t accepted
    uint64_t dropped


cdef inline bint make_held(Held *h, uint32_t n_slots, uint32_t stride, uint64_t first) noexcept:
    # Returns whether there was memory; `free_held` in either case.
    cdef uint32_t i
    h.n_slots = h.n_spare = n_slots
    h.stride = stride
    h.first = first
    h.oldest = h.newest = NOBODY
    h.slots = <Slot *>calloc(n_slots, sizeof(Slot))
    # Not touched before it is used: what a long queue might need costs nothing until then.
    h.data = <uint8_t *>calloc(n_slots, stride)
    h.spare = <int32_t *>malloc(n_slots * sizeof(int32_t))
    h.left = <int32_t *>malloc(n_slots * sizeof(int32_t))
    if h.slots == NULL or h.data == NULL or h.spare == NULL or h.left == NULL:
        return False
    for i in range(n_slots):
        h.spare[i] = <int32_t>(n_slots - 1 - i)
    return True


cdef inline void free_held(Held *h) noexcept:
    free(h.slots)
    free(h.data)
    free(h.spare)
    free(h.left)


cdef inline uint32_t n_held(Held *h) noexcept nogil:
    return h.n_slots - h.n_spare - h.n_left - h.n_said


cdef inline Slot *hold(Held *h, Packet *p) noexcept nogil:
    # At least one slot is free. What the frame shows is not set: nfqueue_shown.pxd.
    cdef int32_t place
    cdef Slot *s
    h.n_spare -= 1
    place = h.spare[h.n_spare]
    s = &h.slots[place]
    memset(s, 0, sizeof(Slot))
    h.sequence += 1
    h.received += 1
    s.number = h.first + (h.sequence << SLOT_BITS | <uint64_t>place)
    s.stamp_ns = p.stamp_ns
    s.id = p.id
    s.mark = p.mark
    s.indev = p.indev
    if p.hw != NULL:
        memcpy(s.hw, p.hw, 8)
        s.has_hw = True
    s.shown = not h.keep
    s.before = h.newest
    s.behind = NOBODY
    if h.newest == NOBODY:
        h.oldest = place
    else:
        h.slots[h.newest].behind = place
    h.newest = place
    return s


cdef inline uint8_t *bytes_of(Held *h, Slot *s) noexcept nogil:
    # Where the slot's frame begins.
    return h.data + <size_t>(s - h.slots) * h.stride


cdef inline Slot *slot_of(Held *h, uint64_t number) noexcept nogil:
    # A packet that is held, or has had its word since the last read; NULL of others.
    cdef uint64_t place
    if number <= h.first:
        return NULL
    place = (number - h.first) & (MAX_SLOTS - 1)
    if place >= h.n_slots or h.slots[place].number != number:
        return NULL
    return &h.slots[place]


cdef inline Slot *find_held(Held *h, uint64_t number) noexcept nogil:
    cdef Slot *s = slot_of(h, number)
    return s if s != NULL and s.word == W_NONE else NULL


cdef inline void say_of(Held *h, Slot *s, uint8_t word) noexcept nogil:
    # Of a held one; the kernel does not know yet.
    s.word = word
    h.n_said += 1
    if word == W_DROP:
        h.dropped += 1
    else:
        h.accepted += 1


cdef inline bint said_alike(Slot *one, Slot *other) noexcept nogil:
    return one.word == other.word and one.remark == other.remark and one.wanted == other.wanted


cdef inline int32_t leave(Held *h, int32_t place) noexcept nogil:
    # Frees a slot whose word is written; returns the one behind it.
    cdef Slot *s = &h.slots[place]
    cdef int32_t behind = s.behind
    if s.before == NOBODY:
        h.oldest = behind
    else:
        h.slots[s.before].behind = behind
    if behind == NOBODY:
        h.newest = s.before
    else:
        h.slots[behind].before = s.before
    # Nobody looks at what was never shown, and perhaps nobody comes to take it back.
    if h.keep and s.shown:
        h.left[h.n_left] = place
        h.n_left += 1
    else:
        h.spare[h.n_spare] = place
        h.n_spare += 1
    h.n_said -= 1
    return behind


cdef inline void take_back(Held *h) noexcept nogil:
    # What was let go before the present batch is free again.
    memcpy(h.spare + h.n_spare, h.left, h.n_left * sizeof(int32_t))
    h.n_spare += h.n_left
    h.n_left = 0

"""Frames of network interfaces from one AF_PACKET TPACKET_V3 ring in, FRAME records out."""

# Design (Documentation/networking/packet_mmap.rst of the kernel; packet(7)):
#  a) The kernel fills blocks of a ring that is mapped into our memory and hands over one block at a
#     time. `take` turns the headers of the blocks at hand into FRAME records, whose offsets point
#     into the mapping: no copy, no Python object per frame. Blocks go back to the kernel when
#     frames are asked for again, so what was taken stays valid until then.
#  b) The socket is created without a protocol, so nothing arrives before `bind` and every frame
#     passed the filter that was attached before it.
#  c) The mapping outlives `close` for as long as somebody holds a view of it: the memory stays,
#     only nothing new comes.
#  d) Headers come from the kernel, not from the network, but every offset is checked all the same.
#  e) Bound to interface 0 the ring takes in what every interface of the namespace receives and
#     sends, and each header says which one it was. Places in the ring are given under one lock of
#     the kernel's, before a received frame goes on to bridge or routing, so an answer stands behind
#     what it answers, whatever ports and processors the two have passed. Which interfaces are meant
#     is for the socket filter to say (capture/port_filter.py); the table of `know` only names them.

from cpython.buffer cimport (
    PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from packet cimport DIR_OUTGOING, DIR_UNKNOWN, Frame

cdef extern from *:
    """
    #include <arpa/inet.h>
    #include <errno.h>
    #include <linux/filter.h>
    #include <linux/if_ether.h>
    #include <linux/if_packet.h>
    #include <string.h>
    #include <sys/mman.h>
    #include <sys/socket.h>
    #include <unistd.h>

    #ifndef PACKET_IGNORE_OUTGOING
    #define PACKET_IGNORE_OUTGOING 23
    #endif

    /* The kernel writes the block first and its status last, and so do we on the way back. */
    static inline unsigned ids_block_status(struct tpacket_block_desc *b) {
        return __atomic_load_n(&b->hdr.bh1.block_status, __ATOMIC_ACQUIRE);
    }
    static inline void ids_block_release(struct tpacket_block_desc *b) {
        b->hdr.bh1.num_pkts = 0; /* so that a block the kernel has not opened yet counts as empty */
        __atomic_store_n(&b->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    }
    static inline unsigned ids_block_packets(struct tpacket_block_desc *b) {
        return __atomic_load_n(&b->hdr.bh1.num_pkts, __ATOMIC_ACQUIRE);
    }
    static inline int ids_bind(int fd, struct sockaddr_ll *where) {
        return bind(fd, (struct sockaddr *)where, sizeof(*where));
    }
    static inline int ids_getsockname(int fd, struct sockaddr_ll *where) {
        socklen_t size = sizeof(*where);
        return getsockname(fd, (struct sockaddr *)where, &size);
    }
    /* Offset of the link-layer address behind a frame's header. */
    #define IDS_SLL_OFFSET TPACKET_ALIGN(sizeof(struct tpacket3_hdr))
    """
    ctypedef unsigned int socklen_t
    ctypedef struct bd1 "struct tpacket_hdr_v1":
        uint32_t num_pkts
        uint32_t offset_to_first_pkt
    ctypedef union bdu "union tpacket_bd_header_u":
        bd1 bh1
    ctypedef struct Block "struct tpacket_block_desc":
        bdu hdr
    ctypedef struct Header "struct tpacket3_hdr":
        uint32_t tp_next_offset
        uint32_t tp_sec
        uint32_t tp_nsec
        uint32_t tp_snaplen
        uint32_t tp_len
        uint16_t tp_mac
    ctypedef struct LinkAddress "struct sockaddr_ll":
        unsigned short sll_family
        uint16_t sll_protocol
        int sll_ifindex
        unsigned short sll_hatype
        uint8_t sll_pkttype
    ctypedef struct Request "struct tpacket_req3":
        unsigned int tp_block_size
        unsigned int tp_block_nr
        unsigned int tp_frame_size
        unsigned int tp_frame_nr
        unsigned int tp_retire_blk_tov
    ctypedef struct Membership "struct packet_mreq":
        int mr_ifindex
        unsigned short mr_type
    ctypedef struct Statistics "struct tpacket_stats_v3":
        unsigned int tp_packets
        unsigned int tp_drops
        unsigned int tp_freeze_q_cnt
    ctypedef struct Instruction "struct sock_filter":
        uint16_t code
        uint8_t jt
        uint8_t jf
        uint32_t k
    ctypedef struct Program "struct sock_fprog":
        unsigned short len
        Instruction *filter
    int AF_PACKET, SOCK_RAW, SOCK_CLOEXEC, SOL_SOCKET, SOL_PACKET, SO_ERROR, SO_ATTACH_FILTER
    int SO_DETACH_FILTER
    int PACKET_VERSION, PACKET_RX_RING, PACKET_STATISTICS, PACKET_ADD_MEMBERSHIP
    int PACKET_IGNORE_OUTGOING, PACKET_MR_PROMISC, TPACKET_V3, TP_STATUS_USER
    int ETH_P_ALL, IDS_SLL_OFFSET
    int PROT_READ, PROT_WRITE, MAP_SHARED
    void *MAP_FAILED
    int socket(int, int, int) nogil
    int ids_bind(int, LinkAddress *) nogil
    int ids_getsockname(int, LinkAddress *) nogil
    int setsockopt(int, int, int, const void *, socklen_t) nogil
    int getsockopt(int, int, int, void *, socklen_t *) nogil
    int close(int) nogil
    uint16_t htons(uint16_t) nogil
    void *mmap(void *, size_t, int, int, int, long) nogil
    int munmap(void *, size_t) nogil
    char *strerror(int)
    long sysconf(int) nogil
    int _SC_PAGESIZE
    unsigned ids_block_status(Block *) nogil
    void ids_block_release(Block *) nogil
    unsigned ids_block_packets(Block *) nogil

cdef enum:
    SLOT_BYTES = 2048               # what the kernel wants a frame's slot to be; V3 packs them closer
    BLOCK_MAX = 4194304
    RING_MAX = 1073741824
    MAX_INSTRUCTIONS = 4096         # BPF_MAXINSNS
    MAX_KNOWN = 512                 # interfaces in the table of `know`, former ones among them
    QUIET_PROTOCOL = 0x88B5         # IEEE 802 local experimental: see `stop`


cdef struct Known:
    int ifindex                     # as in the frames' headers
    uint32_t port                   # number that the caller has given it
    uint16_t linktype               # LINKTYPE_* that FRAME records get
    bint copies                     # a frame's direction there says nothing


cdef int _fail(str what) except -1:
    cdef int number = errno
    raise OSError(number, f"{what}: {strerror(number).decode()}")


cdef class Ring:
    """A receive ring on one interface or on all of them.

    block_bytes: a multiple of the page size, at most 4 MiB; a frame larger than a block is cut.
    blocks: 2 or more; the ring is at most 1 GiB. retire_ms: a block that is not full is handed
    over after this time, 1 .. 1000. Raises ValueError for a size out of bounds, OSError with
    errno EPERM without CAP_NET_RAW, ENOMEM where the kernel has no memory for the ring.
    Use one thread for `take`; `close` may come from another.
    """

    cdef int fd                     # -1 when closed
    cdef uint8_t *base              # the mapping; NULL when unmapped
    cdef size_t size                # its bytes
    cdef uint32_t block_bytes
    cdef uint32_t blocks
    cdef uint32_t current           # block that is read, or will be
    cdef uint32_t remaining         # frames of it not yet taken
    cdef uint64_t next_at           # offset of the next one in the block
    cdef bint holding               # the current block is ours
    cdef uint32_t spent             # blocks before it that are read, but not given back yet
    cdef bint busy                  # `take` is running, perhaps without the GIL
    cdef int exports                # views that exist
    cdef bint bound
    cdef uint32_t bound_to          # interface index, 0: all
    cdef Known known[MAX_KNOWN]
    cdef uint32_t n_known
    cdef uint32_t latest            # place of the frame before in `known`
    cdef uint64_t by_port[MAX_KNOWN]  # frames delivered
    cdef uint64_t delivered
    cdef uint64_t malformed         # headers that point outside their block or name no known port
    cdef uint64_t left              # frames in the ring when it was closed
    cdef uint64_t packets           # PACKET_STATISTICS, added up
    cdef uint64_t drops
    cdef uint64_t freezes

    def __cinit__(self, *, uint32_t block_bytes=1 << 18, uint32_t blocks=64, uint32_t retire_ms=10):
        cdef Request request
        cdef int version = TPACKET_V3
        cdef void *base
        cdef long page = sysconf(_SC_PAGESIZE)
        self.fd = -1
        if block_bytes == 0 or block_bytes % page or block_bytes > BLOCK_MAX:
            raise ValueError(f"block_bytes must be a multiple of {page}, at most {BLOCK_MAX}")
        if blocks < 2 or <uint64_t>blocks * block_bytes > RING_MAX:
            raise ValueError(f"blocks must be 2 or more, and the ring at most {RING_MAX} bytes")
        if not 1 <= retire_ms <= 1000:
            raise ValueError("retire_ms must lie in 1 .. 1000")
        self.fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)
        if self.fd < 0:
            _fail("packet socket")
        memset(&request, 0, sizeof(request))
        request.tp_block_size = block_bytes
        request.tp_block_nr = blocks
        request.tp_frame_size = SLOT_BYTES
        request.tp_frame_nr = (block_bytes // SLOT_BYTES) * blocks
        request.tp_retire_blk_tov = retire_ms
        if setsockopt(self.fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) < 0:
            _fail("TPACKET_V3")
        if setsockopt(self.fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof(request)) < 0:
            _fail(f"ring of {blocks} blocks of {block_bytes} bytes")
        self.size = <size_t>blocks * block_bytes
        base = mmap(NULL, self.size, PROT_READ | PROT_WRITE, MAP_SHARED, self.fd, 0)
        if base == MAP_FAILED:
            _fail(f"mapping a ring of {self.size} bytes")
        self.base = <uint8_t *>base
        self.block_bytes = block_bytes
        self.blocks = blocks

    def __dealloc__(self):
        if self.fd >= 0:
            close(self.fd)
        if self.base != NULL:
            munmap(self.base, self.size)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.base == NULL:
            raise ValueError("the ring is closed")
        PyBuffer_FillInfo(buffer, self, self.base, self.size, True, flags & ~PyBUF_WRITABLE)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.exports -= 1
        self._unmap()

    cdef void _unmap(self) noexcept:
        if self.fd < 0 and self.exports == 0 and not self.busy and self.base != NULL:
            munmap(self.base, self.size)
            self.base = NULL

    cdef int _open(self) except -1:
        if self.fd < 0:
            raise ValueError("the ring is closed")
        return 0

    def fileno(self):
        """Return the socket's descriptor, readable when a block is ready; -1 when closed."""
        return self.fd

    @property
    def attached(self):
        """False once the interface of `bind` has been deleted; one that is down is attached."""
        cdef LinkAddress where
        self._open()
        memset(&where, 0, sizeof(where))
        return ids_getsockname(self.fd, &where) == 0 and where.sll_ifindex == <int>self.bound_to

    def know(self, ports):
        """Say which interfaces frames may come from: a list of (ifindex, port, linktype, copies).

        port: number under 512 by which `delivered_at` counts. copies: frames there have no direction.
        The list replaces the one before. A frame of any other interface counts as malformed.
        Raises ValueError for more than 512 of them.
        """
        cdef uint32_t i = 0
        ports = list(ports)
        if len(ports) > MAX_KNOWN or any(not 0 <= port < MAX_KNOWN for _, port, _, _ in ports):
            raise ValueError(f"a ring knows at most {MAX_KNOWN} interfaces")
        for ifindex, port, linktype, copies in ports:
            self.known[i].ifindex = ifindex
            self.known[i].port = port
            self.known[i].linktype = linktype
            self.known[i].copies = copies
            i += 1
        self.n_known = i
        self.latest = 0

    def attach_filter(self, instructions):
        """Attach a classic BPF program: a list of (code, jt, jf, k); an empty one detaches.

        Frames that it refuses are neither delivered nor in the kernel's counts. Raises ValueError
        for more than 4,096 instructions, OSError (EINVAL) for a program the kernel refuses.
        """
        cdef Instruction program[MAX_INSTRUCTIONS]
        cdef Program wanted
        cdef int dummy = 0
        cdef Py_ssize_t i = 0
        self._open()
        instructions = list(instructions)
        if len(instructions) > MAX_INSTRUCTIONS:
            raise ValueError(f"a filter has at most {MAX_INSTRUCTIONS} instructions")
        for code, jt, jf, k in instructions:
            program[i].code = code
            program[i].jt = jt
            program[i].jf = jf
            program[i].k = k
            i += 1
        if i == 0:
            setsockopt(self.fd, SOL_SOCKET, SO_DETACH_FILTER, &dummy, sizeof(dummy))
            return
        wanted.len = <unsigned short>i
        wanted.filter = program
        if setsockopt(self.fd, SOL_SOCKET, SO_ATTACH_FILTER, &wanted, sizeof(wanted)) < 0:
            _fail("socket filter")

    def ignore_outgoing(self):
        """Leave out what the interface sends: on loopback every frame would come twice."""
        cdef int one = 1
        self._open()
        if setsockopt(self.fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) < 0:
            _fail("ignoring outgoing frames")

    def bind(self, uint32_t ifindex):
        """Receive from an interface from now on, 0: from all; the ring keeps what it holds.

        Raises OSError with errno ENODEV for no such interface. One that is down is bound all the
        same (`take_error` then says ENETDOWN), and the ring starts to fill when it comes up.
        """
        cdef LinkAddress where
        self._open()
        memset(&where, 0, sizeof(where))
        where.sll_family = <unsigned short>AF_PACKET
        where.sll_protocol = htons(<uint16_t>ETH_P_ALL)
        where.sll_ifindex = <int>ifindex
        if ids_bind(self.fd, &where) < 0:
            _fail(f"interface {ifindex}")
        self.bound = True
        self.bound_to = ifindex

    def promiscuous(self, uint32_t ifindex):
        """Have an interface show frames for others too, until it is deleted or the ring closed."""
        cdef Membership membership
        self._open()
        memset(&membership, 0, sizeof(membership))
        membership.mr_ifindex = <int>ifindex
        membership.mr_type = <unsigned short>PACKET_MR_PROMISC
        if setsockopt(self.fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership,
                      sizeof(membership)) < 0:
            _fail(f"promiscuous mode of interface {ifindex}")

    def take_error(self):
        """Return and clear the socket's pending error number (ENETDOWN), 0 if there is none."""
        cdef int error = 0
        cdef socklen_t size = sizeof(error)
        self._open()
        getsockopt(self.fd, SOL_SOCKET, SO_ERROR, &error, &size)
        return error

    def take(self, frames, uint64_t number=0):
        """Return how many records were written; 0 if the kernel has handed over nothing yet.

        frames: (m,) FRAME, m > 0, offsets into the ring's buffer; `number` is that of the frame
        before. Never waits. Gives back what the last call took, so its frames are void now.
        """
        cdef Py_buffer buffer
        cdef Py_ssize_t room, n = 0
        self._open()
        # Not as a memoryview of records: that would compare every field of their dtype each time.
        PyObject_GetBuffer(frames, &buffer, PyBUF_WRITABLE)
        try:
            room = buffer.len // <Py_ssize_t>sizeof(Frame)
            if room == 0 or buffer.itemsize != sizeof(Frame):
                raise ValueError("frames needs at least one place, each a FRAME record")
            self.busy = True
            with nogil:
                n = self._take(<Frame *>buffer.buf, room, number)
            self.busy = False
        finally:
            PyBuffer_Release(&buffer)
        self.delivered += n
        if self.fd < 0:  # closed meanwhile
            self._leave()
        return n

    cdef Py_ssize_t _take(self, Frame *out, Py_ssize_t room, uint64_t number) noexcept nogil:
        cdef uint8_t *start
        cdef Block *block
        cdef Header *h
        cdef LinkAddress *link
        cdef Frame *f
        cdef Py_ssize_t n = 0
        cdef uint64_t at = self.next_at
        cdef uint64_t block_bytes = self.block_bytes
        cdef uint64_t origin
        cdef uint32_t remaining
        cdef Known *port
        self._give_back()
        while n < room:
            if self.holding and self.remaining == 0:
                self._step()
                if n == 0:
                    self._give_back()  # nothing of it was handed out
            block = <Block *>(self.base + <size_t>self.current * self.block_bytes)
            if not self.holding:
                # Never more than half of the ring: the kernel has to put frames somewhere.
                if self.spent >= self.blocks // 2 or not ids_block_status(block) & TP_STATUS_USER:
                    break
                self.holding = True
                self.remaining = block.hdr.bh1.num_pkts
                at = block.hdr.bh1.offset_to_first_pkt
            origin = <uint64_t>self.current * self.block_bytes
            start = self.base + origin
            remaining = self.remaining
            while n < room and remaining:
                if at > block_bytes or block_bytes - at < <uint64_t>IDS_SLL_OFFSET + sizeof(LinkAddress):
                    self.malformed += remaining
                    remaining = 0
                    break
                h = <Header *>(start + at)
                link = <LinkAddress *>(start + at + IDS_SLL_OFFSET)
                port = self._of(link.sll_ifindex)
                remaining -= 1
                if (port == NULL or h.tp_mac > block_bytes - at
                        or h.tp_snaplen > block_bytes - at - h.tp_mac):
                    self.malformed += 1
                else:
                    f = out + n
                    n += 1
                    number += 1
                    f.offset = origin + at + h.tp_mac
                    f.caplen = h.tp_snaplen
                    f.wirelen = h.tp_len
                    f.timestamp_ns = <int64_t>h.tp_sec * 1000000000 + h.tp_nsec
                    f.number = number
                    f.ifindex = <uint32_t>port.ifindex
                    f.linktype = port.linktype
                    f.direction = link.sll_pkttype
                    if port.copies or f.direction > DIR_OUTGOING:
                        f.direction = DIR_UNKNOWN
                    self.by_port[port.port] += 1
                    f.standing = 0
                if h.tp_next_offset == 0 and remaining:  # else one frame would come for ever
                    self.malformed += remaining
                    remaining = 0
                at += h.tp_next_offset
            self.remaining = remaining
            self.next_at = at
        return n

    cdef void _step(self) noexcept nogil:
        # The block at hand is read; it goes back to the kernel when its frames are void.
        self.spent += 1
        self.holding = False
        self.current += 1
        if self.current == self.blocks:
            self.current = 0

    cdef void _give_back(self) noexcept nogil:
        # In the order in which the kernel has filled them.
        cdef uint32_t at
        if self.holding and self.remaining == 0:
            self._step()
        while self.spent:
            at = (self.current + self.blocks - self.spent) % self.blocks
            ids_block_release(<Block *>(self.base + <size_t>at * self.block_bytes))
            self.spent -= 1

    cdef Known *_of(self, int ifindex) noexcept nogil:
        # Ports in use stand first, and frames come in runs of one port.
        cdef uint32_t i = self.latest
        if i < self.n_known and self.known[i].ifindex == ifindex:
            return &self.known[i]
        for i in range(self.n_known):
            if self.known[i].ifindex == ifindex:
                self.latest = i
                return &self.known[i]
        return NULL

    def delivered_at(self, uint32_t port):
        """Return how many frames of a port (its number in `know`) were delivered."""
        return self.by_port[port] if port < MAX_KNOWN else 0

    def statistics(self):
        """Return totals: delivered, kernel_packets (drops included), kernel_drops, freezes,
        in_ring (handed over by the kernel's count, not yet taken), malformed.

        kernel_packets = delivered + malformed + in_ring + kernel_drops at every instant; once the
        ring is closed, in_ring is what was counted in the blocks.
        """
        if self.fd >= 0:
            self._read_statistics(self.fd)
            waiting = self.packets - self.drops - self.delivered - self.malformed
        else:
            waiting = self.left
        return {
            "delivered": self.delivered,
            "kernel_packets": self.packets,
            "kernel_drops": self.drops,
            "in_ring": waiting,
            "freezes": self.freezes,
            "malformed": self.malformed,
        }

    cdef void _read_statistics(self, int fd) noexcept:
        # Reading resets the kernel's counters.
        cdef Statistics stats
        cdef socklen_t size = sizeof(stats)
        memset(&stats, 0, sizeof(stats))
        if getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size) == 0:
            self.packets += stats.tp_packets
            self.drops += stats.tp_drops
            self.freezes += stats.tp_freeze_q_cnt

    def stop(self):
        """Receive nothing more; what is in the ring can still be taken.

        The kernel hands over its open block within `retire_ms`; `drained` tells when all is taken.
        """
        self._open()
        self._quiet(self.fd)

    cdef void _quiet(self, int fd) noexcept:
        cdef LinkAddress where
        cdef Instruction refuse
        cdef Program program
        refuse.code = 6  # BPF_RET | BPF_K: keep 0 bytes
        refuse.jt = 0
        refuse.jf = 0
        refuse.k = 0
        program.len = 1
        program.filter = &refuse
        setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program))
        # Changing the protocol makes the kernel wait until no frame is on its way to this ring any
        # more. It fails where the interface is gone: then nothing is lost.
        if self.bound:
            memset(&where, 0, sizeof(where))
            where.sll_family = <unsigned short>AF_PACKET
            where.sll_protocol = htons(QUIET_PROTOCOL)
            where.sll_ifindex = <int>self.bound_to
            with nogil:
                ids_bind(fd, &where)

    @property
    def drained(self):
        """True if neither the block at hand nor the one the kernel fills holds a frame to take."""
        if self.base == NULL:
            return True
        if self.holding and self.remaining:
            return False
        return self._count(self.current + 1 if self.holding else self.current) == 0

    cdef uint64_t _count(self, uint32_t first) noexcept:
        # Frames in the blocks from `first` on that are handed over, and in the one that is open.
        cdef uint64_t total = 0
        cdef uint32_t i
        cdef uint32_t n = self.blocks - self.spent - (1 if self.holding else 0)
        cdef Block *block
        for i in range(n):
            block = <Block *>(self.base + <size_t>((first + i) % self.blocks) * self.block_bytes)
            total += ids_block_packets(block)
            if not ids_block_status(block) & TP_STATUS_USER:
                break
        return total

    cdef void _leave(self) noexcept:
        if self.base != NULL:
            self.left = self._count(self.current + 1 if self.holding else self.current)
            if self.holding:
                self.left += self.remaining
        self._unmap()

    def close(self):
        """Stop, count what is left and leave; safe to call twice, also while views exist.

        The memory is unmapped when the last view (and `take` in another thread) is done.
        """
        cdef int fd = self.fd
        if fd < 0:
            return
        self.fd = -1
        self._quiet(fd)
        self._read_statistics(fd)
        close(fd)
        if not self.busy:
            self._leave()

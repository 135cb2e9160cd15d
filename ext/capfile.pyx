"""Bytes of a pcap or pcapng file in, FRAME records out; no I/O and no Python object per packet."""

# Design:
#  a) The caller owns the bytes: `split` looks at one chunk, writes records whose offsets point into
#     it and says how many bytes it is done with. The caller moves the rest to the front of the next
#     chunk. What was learnt (byte order, interfaces, running number) stays here.
#  b) Nothing that a file says is believed: a frame is at most MAX_FRAME bytes, a block at most
#     MAX_BLOCK; of a block only the part that matters has to fit into the chunk, the rest is
#     skipped, so a chunk of MIN_CHUNK bytes always suffices to go on.
#  c) A record that makes no sense ends the file: behind it there is nothing to synchronise on.
#     That is a counter, never an exception.
#
# Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from packet cimport DIR_OUTGOING, DIR_UNKNOWN, Frame

cdef enum:
    MAX_FRAME_BYTES = 262144        # libpcap's own limit
    MAX_BLOCK_BYTES = 16777216      # pcapng block; wireshark's limit
    MAX_OPTION_BYTES = 4096         # of a block's options that are looked at
    MAX_INTERFACES = 4096           # per section of a pcapng file

cdef enum:
    FORMAT_UNKNOWN = 0
    FORMAT_PCAP = 1
    FORMAT_PCAPNG = 2
    FORMAT_FOREIGN = 3              # neither

cdef enum:
    BLOCK_SECTION = 0x0A0D0D0A      # reads the same in both byte orders
    BLOCK_INTERFACE = 1
    BLOCK_PACKET = 2                # obsolete
    BLOCK_SIMPLE = 3
    BLOCK_ENHANCED = 6

cdef enum:
    # Why nothing more is delivered.
    END_NOT_YET = 0
    END_BAD_RECORD = 1
    END_TRUNCATED = 2
    END_CLEAN = 3

MAX_FRAME = MAX_FRAME_BYTES
MAX_BLOCK = MAX_BLOCK_BYTES
MIN_CHUNK = 2 * MAX_FRAME_BYTES
"""A chunk of this many bytes always lets `split` go on."""

cdef struct Interface:
    uint16_t linktype               # LINKTYPE_*
    uint32_t snaplen                # 0: no limit
    uint64_t multiply               # ticks -> ns: ticks * multiply / divide ...
    uint64_t divide
    uint8_t shift                   # ... or, if not 255, ticks are 2**-shift seconds
    uint64_t offset_ns              # added; wraps like a signed number


cdef inline uint16_t load16(const uint8_t *p, bint swap) noexcept nogil:
    cdef uint16_t v
    memcpy(&v, p, 2)
    return <uint16_t>((v >> 8) | (v << 8)) if swap else v


cdef inline uint32_t load32(const uint8_t *p, bint swap) noexcept nogil:
    cdef uint32_t v
    memcpy(&v, p, 4)
    if swap:
        v = (v >> 24) | ((v >> 8) & 0xFF00) | ((v << 8) & 0xFF0000) | (v << 24)
    return v


cdef inline uint32_t padded(uint32_t n) noexcept nogil:
    return (n + 3) & <uint32_t>0xFFFFFFFC


cdef inline int64_t to_ns(const Interface *face, uint64_t ticks) noexcept nogil:
    # Unsigned throughout: nonsense wraps, it does not overflow.
    cdef uint64_t seconds, part
    cdef uint32_t n = face.shift
    if n == 255:
        return <int64_t>(ticks * face.multiply // face.divide + face.offset_ns)
    if n < 64:
        seconds = ticks >> n
        part = ticks & ((<uint64_t>1 << n) - 1)
    else:
        seconds = 0
        part = ticks
    if n > 34:  # 34 bits of fraction times 10**9 still fit into 64
        part = part >> (n - 34) if n - 34 < 64 else 0
        n = 34
    return <int64_t>(seconds * 1000000000 + ((part * 1000000000) >> n) + face.offset_ns)


cdef class Splitter:
    """Cut a capture file into frames, chunk by chunk.

    Feed chunks that begin where the last call's `consumed` ended; call `finish` once the input
    has ended. `ended` becomes True when no further frame can come.
    """

    cdef int format
    cdef bint swap                  # the file's byte order is not ours
    cdef bint old_lengths           # pcap before 2.4 may have the two lengths interchanged
    cdef uint32_t nanos             # ns in a pcap file's unit of time
    cdef uint32_t n_faces
    cdef uint32_t room              # places allocated in faces
    cdef Interface *faces           # of the running section; [0] for pcap
    cdef uint64_t skip              # bytes still to be passed over
    cdef int64_t last_ns            # time of the frame before
    cdef int end                    # END_*
    cdef uint64_t number            # of the last frame
    cdef uint64_t delivered
    cdef uint64_t bad_record
    cdef uint64_t truncated
    cdef uint64_t unknown_interface
    cdef uint64_t skipped_blocks

    def __cinit__(self):
        self.faces = NULL
        self.room = 0

    def __dealloc__(self):
        free(self.faces)

    @property
    def recognised(self):
        """True: pcap or pcapng; False: something else; None: more bytes are needed."""
        if self.format == FORMAT_UNKNOWN:
            return None
        return self.format != FORMAT_FOREIGN

    @property
    def ended(self):
        """True if no further frame will come, whatever follows."""
        return self.end != END_NOT_YET

    @property
    def frames(self):
        """Number of the last frame, which is how many the file had so far."""
        return self.number

    def counters(self):
        """Return totals by name."""
        return {
            "delivered": self.delivered,
            "truncated_file": self.truncated,
            "bad_record": self.bad_record,
            "unknown_interface": self.unknown_interface,
            "skipped_blocks": self.skipped_blocks,
        }

    def recognise(self, const uint8_t[::1] chunk):
        """Tell the format by the file's first bytes; return how many are done with.

        0 until 24 bytes (pcap) or 12 (pcapng) are there; `recognised` has the result. `split` does
        this as well. Raises MemoryError.
        """
        cdef uint64_t at = 0
        if self.format == FORMAT_UNKNOWN and chunk.shape[0]:
            if self._recognise(&chunk[0], chunk.shape[0], &at) < 0:
                raise MemoryError
        return at

    def split(self, const uint8_t[::1] chunk, Frame[::1] frames):
        """Return (n, consumed): frames written, bytes of the chunk that are done with.

        frames: (m,) FRAME, m > 0; offsets count from the chunk's first byte. n == m means that the
        chunk may hold more; otherwise more bytes are needed (or `ended` is True).
        Raises ValueError if there is no place for a frame, MemoryError if memory runs out.
        """
        cdef uint64_t size = chunk.shape[0]
        cdef uint64_t at = 0
        cdef Py_ssize_t n = 0, room = frames.shape[0]
        cdef const uint8_t *p
        cdef int memory = 0
        if room == 0:
            raise ValueError("frames needs at least one place")
        if size == 0:
            return 0, 0
        p = &chunk[0]
        with nogil:
            if self.format == FORMAT_UNKNOWN:
                memory = self._recognise(p, size, &at)
            if memory == 0 and self.end == END_NOT_YET:
                if self.format == FORMAT_PCAP:
                    n = self._pcap(p, size, &at, &frames[0], room)
                elif self.format == FORMAT_PCAPNG:
                    n = self._pcapng(p, size, &at, &frames[0], room)
                    memory = n < 0
        if memory != 0:
            raise MemoryError
        return n, at

    def finish(self, uint64_t left):
        """Take note that the input has ended with `left` bytes not consumed."""
        if self.end == END_NOT_YET:
            self.end = END_CLEAN
            if left or self.skip:
                self.truncated += 1
                self.end = END_TRUNCATED

    cdef int _add_interface(self, const Interface *face) noexcept nogil:
        # 0, or -1 without memory. Past the cap an interface is not stored: its frames are counted.
        cdef Interface *grown
        if self.n_faces == MAX_INTERFACES:
            return 0
        if self.n_faces == self.room:
            grown = <Interface *>realloc(self.faces, (self.room * 2 + 8) * sizeof(Interface))
            if grown == NULL:
                return -1
            self.faces = grown
            self.room = self.room * 2 + 8
        self.faces[self.n_faces] = face[0]
        self.n_faces += 1
        return 0

    cdef int _recognise(self, const uint8_t *p, uint64_t size, uint64_t *at) noexcept nogil:
        # Reads pcap's 24-byte header, or finds a section header. 0, or -1 without memory.
        cdef uint32_t magic
        cdef Interface face
        if size < 4:
            return 0
        magic = load32(p, False)
        if magic == BLOCK_SECTION:
            if size >= 12:
                magic = load32(p + 8, False)
                if magic == <uint32_t>0x1A2B3C4D or magic == <uint32_t>0x4D3C2B1A:
                    self.format = FORMAT_PCAPNG
                else:
                    self.format = FORMAT_FOREIGN
            return 0
        self.swap = magic == <uint32_t>0xD4C3B2A1 or magic == <uint32_t>0x4D3CB2A1
        if magic == <uint32_t>0xA1B2C3D4 or magic == <uint32_t>0xD4C3B2A1:
            self.nanos = 1000
        elif magic == <uint32_t>0xA1B23C4D or magic == <uint32_t>0x4D3CB2A1:
            self.nanos = 1
        else:
            self.format = FORMAT_FOREIGN
            return 0
        if size < 24:
            return 0
        if load16(p + 4, self.swap) != 2:
            self.format = FORMAT_FOREIGN
            return 0
        self.old_lengths = load16(p + 6, self.swap) < 4
        memset(&face, 0, sizeof(Interface))
        face.linktype = <uint16_t>load32(p + 20, self.swap)  # the rest of the field is about FCS
        self.format = FORMAT_PCAP
        at[0] = 24
        return self._add_interface(&face)

    cdef Py_ssize_t _pcap(self, const uint8_t *p, uint64_t size, uint64_t *pos, Frame *out,
                          Py_ssize_t room) noexcept nogil:
        cdef Py_ssize_t n = 0
        cdef uint64_t at = pos[0]
        cdef uint64_t number = self.number
        cdef bint swap = self.swap
        cdef bint old_lengths = self.old_lengths
        cdef uint64_t nanos = self.nanos
        cdef uint16_t linktype = self.faces[0].linktype
        cdef uint32_t caplen, wirelen, other
        cdef Frame *f
        while n < room and size - at >= 16:
            caplen = load32(p + at + 8, swap)
            wirelen = load32(p + at + 12, swap)
            if old_lengths and caplen > wirelen:
                other = caplen
                caplen = wirelen
                wirelen = other
            if caplen > MAX_FRAME_BYTES:
                self.bad_record += 1
                self.end = END_BAD_RECORD
                break
            if size - at - 16 < caplen:
                break
            number += 1
            f = out + n
            f.offset = at + 16
            f.caplen = caplen
            f.wirelen = wirelen
            f.timestamp_ns = (<int64_t>load32(p + at, swap) * 1000000000
                              + <int64_t>(load32(p + at + 4, swap) * nanos))
            f.number = number
            f.ifindex = 0
            f.linktype = linktype
            f.direction = DIR_UNKNOWN
            f.standing = 0
            n += 1
            at += 16 + caplen
        self.number = number
        self.delivered += n
        pos[0] = at
        return n

    cdef Py_ssize_t _pcapng(self, const uint8_t *p, uint64_t size, uint64_t *pos, Frame *out,
                            Py_ssize_t room) noexcept nogil:
        # As _pcap; -1 without memory.
        cdef Py_ssize_t n = 0
        cdef uint64_t at = pos[0]
        cdef uint64_t left
        cdef uint32_t kind, length, need
        cdef const uint8_t *b
        cdef int got
        while n < room:
            left = size - at
            if self.skip:
                if self.skip > left:
                    self.skip -= left
                    at = size
                    break
                at += self.skip
                left -= self.skip
                self.skip = 0
            if left < 12:
                break
            b = p + at
            kind = load32(b, self.swap)
            if kind == BLOCK_SECTION and not self._section(b):
                break
            length = load32(b + 4, self.swap)
            # A block that is no multiple of four is padded by nobody: a nonsense length.
            if length < 12 or length > MAX_BLOCK_BYTES or length & 3:
                self.bad_record += 1
                self.end = END_BAD_RECORD
                break
            need = self._needed(b, left, kind, length)
            if need == 0 or left < need:
                break
            if need == length and load32(b + length - 4, self.swap) != length:
                self.bad_record += 1
                self.end = END_BAD_RECORD
                break
            if kind == BLOCK_INTERFACE:
                if self._interface(b, length, need) < 0:
                    n = -1
                    break
            elif kind == BLOCK_ENHANCED or kind == BLOCK_SIMPLE or kind == BLOCK_PACKET:
                got = self._packet(b, at, kind, length, need, out + n)
                if self.end != END_NOT_YET:
                    break
                n += got
            elif kind != BLOCK_SECTION:
                self.skipped_blocks += 1
            at += need
            self.skip = length - need
        if n > 0:
            self.delivered += n
        pos[0] = at
        return n

    cdef bint _section(self, const uint8_t *b) noexcept nogil:
        # A new section: its own byte order, its own interfaces.
        cdef uint32_t magic = load32(b + 8, False)
        if magic != <uint32_t>0x1A2B3C4D and magic != <uint32_t>0x4D3C2B1A:
            self.bad_record += 1
            self.end = END_BAD_RECORD
            return False
        self.swap = magic == <uint32_t>0x4D3C2B1A
        self.n_faces = 0
        return True

    cdef uint32_t _needed(self, const uint8_t *b, uint64_t left, uint32_t kind,
                          uint32_t length) noexcept nogil:
        # Bytes of the block that have to be at hand; 0: not even enough to tell, or a nonsense
        # record (then `end` is set).
        cdef uint32_t head, caplen, need
        if kind == BLOCK_INTERFACE:
            head = 16
            caplen = 0
        elif kind == BLOCK_ENHANCED or kind == BLOCK_PACKET:
            head = 28
            if left < 28:
                return 28 if length >= 32 else self._nonsense()
            caplen = load32(b + 20, self.swap)
        elif kind == BLOCK_SIMPLE:
            if length < 16:
                return self._nonsense()
            head = 12
            caplen = length - 16
            if caplen > padded(MAX_FRAME_BYTES):
                return self._nonsense()
        else:
            return 12
        if caplen > padded(MAX_FRAME_BYTES) or length < head + padded(caplen) + 4:
            return self._nonsense()
        need = head + padded(caplen) + MAX_OPTION_BYTES
        return length if length <= need else need

    cdef uint32_t _nonsense(self) noexcept nogil:
        self.bad_record += 1
        self.end = END_BAD_RECORD
        return 0

    cdef int _interface(self, const uint8_t *b, uint32_t length, uint32_t need) noexcept nogil:
        cdef Interface face
        cdef uint32_t at = 16
        cdef uint32_t end = need - 4 if need == length else need
        cdef uint32_t code, n, i
        cdef uint8_t resolution
        memset(&face, 0, sizeof(Interface))
        face.linktype = load16(b + 8, self.swap)
        face.snaplen = load32(b + 12, self.swap)
        face.multiply = 1000  # microseconds unless said otherwise
        face.divide = 1
        face.shift = 255
        while at + 4 <= end:
            code = load16(b + at, self.swap)
            n = load16(b + at + 2, self.swap)
            at += 4
            if code == 0 or n > end - at:
                break
            if code == 9 and n >= 1:  # if_tsresol
                resolution = b[at]
                if resolution & 0x80:
                    face.shift = resolution & 0x7F
                else:
                    face.shift = 255
                    face.multiply = 1
                    face.divide = 1
                    for i in range(resolution, 9):
                        face.multiply *= 10
                    # 10**19 is the largest power in 64 bits; finer ticks are all 0 ns
                    for i in range(9, resolution if resolution < 28 else 28):
                        face.divide *= 10
            elif code == 14 and n >= 8:  # if_tsoffset, seconds
                if self.swap:
                    face.offset_ns = load32(b + at, True)
                    face.offset_ns = (face.offset_ns << 32) | load32(b + at + 4, True)
                else:
                    memcpy(&face.offset_ns, b + at, 8)
                face.offset_ns *= 1000000000
            at += padded(n)
        return self._add_interface(&face)

    cdef int _packet(self, const uint8_t *b, uint64_t at, uint32_t kind, uint32_t length,
                     uint32_t need, Frame *f) noexcept nogil:
        # One packet block: 1 if a frame was written, 0 if it has no known interface.
        cdef uint32_t face = 0
        cdef uint32_t head = 28
        cdef uint32_t caplen, wirelen, end, option, code, n
        cdef uint64_t ticks
        cdef const Interface *where
        if kind == BLOCK_ENHANCED:
            face = load32(b + 8, self.swap)
        elif kind == BLOCK_PACKET:
            face = load16(b + 8, self.swap)
        if kind == BLOCK_SIMPLE:
            head = 12
            wirelen = load32(b + 8, self.swap)
            caplen = length - 16
            if self.n_faces and self.faces[0].snaplen and caplen > self.faces[0].snaplen:
                caplen = self.faces[0].snaplen
            if caplen > wirelen:
                caplen = wirelen
        else:
            caplen = load32(b + 20, self.swap)
            wirelen = load32(b + 24, self.swap)
        if caplen > MAX_FRAME_BYTES:
            self._nonsense()
            return 0
        self.number += 1
        if face >= self.n_faces:
            self.unknown_interface += 1
            return 0
        where = self.faces + face
        if kind != BLOCK_SIMPLE:  # which has no time of its own: that of the frame before
            ticks = load32(b + 12, self.swap)
            ticks = (ticks << 32) | load32(b + 16, self.swap)
            self.last_ns = to_ns(where, ticks)
        f.offset = at + head
        f.caplen = caplen
        f.wirelen = wirelen
        f.timestamp_ns = self.last_ns
        f.number = self.number
        f.ifindex = 0
        f.linktype = where.linktype
        f.direction = DIR_UNKNOWN
        f.standing = 0
        if kind == BLOCK_SIMPLE:
            return 1
        option = head + padded(caplen)
        end = need - 4 if need == length else need
        while option + 4 <= end:
            code = load16(b + option, self.swap)
            n = load16(b + option + 2, self.swap)
            option += 4
            if code == 0 or n > end - option:
                break
            if code == 2 and n == 4:  # epb_flags, pack_flags: the lowest two bits are 2 for outbound
                if load32(b + option, self.swap) & 3 == 2:
                    f.direction = DIR_OUTGOING
                break
            option += padded(n)
        return 1

"""Messages of a netfilter queue in, FRAME records of held packets out; their verdicts back."""

# Design (linux/netfilter/nfnetlink_queue.h; net/netfilter/nfnetlink_queue.c of the kernel):
#  a) The socket belongs to the caller, bound and configured; this reads and answers it.
#  b) Each packet is copied once, into a slot that it keeps until its verdict: behind the Ethernet
#     header that a ring would show.
#  c) A batch in which nothing is wrong is answered in one call, before anybody else looks at it: where
#     packets come singly, what is done before the answer is what each of them waits. Its bytes stay
#     until the next read.
#  d) The parts: nfqueue_message.pxd (what a message says), nfqueue_held.pxd (slots, their order and
#     words), nfqueue_shown.pxd (a packet's frame), nfqueue_line.pxd (the socket), nfqueue_thread.pxd
#     (reading and answering beside who judges). This file is what may be asked of them.

from libc.errno cimport errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, strerror

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
)

from judged cimport Judged, judged_at, judged_bytes
from nfqueue_held cimport (
    MAX_SLOTS, NOBODY, W_DROP, W_GO, W_NONE, Held, Slot, bytes_of, find_held, free_held, hold,
    make_held, n_held, say_of, slot_of
)
from nfqueue_line cimport (
    MOST, Line, free_line, gather, make_line, message_of, receive, send_words
)
from nfqueue_message cimport I_MALFORMED, I_PACKET, I_REFUSAL, Packet, read_message
from nfqueue_shown cimport ETHERNET, KEY_MOST, MAX_PORTS, Port, Ports, connection_of, show
from nfqueue_thread cimport (
    Shared, answer, free_shared, give_back, give_up, make_ready, place_of, pthread_mutex_init,
    pthread_mutex_lock, pthread_mutex_unlock, signal, take_in, taken
)
from packet cimport Frame

cdef enum:
    ROOM = 512                      # bytes of a message beside its packet, at most; about 150 are usual
    MAX_COPY = 65535 - ROOM

cdef enum:
    # Outcome in types.py
    JUDGED = 0
    WAITING = 6


cdef Py_ssize_t _piece(object given, Py_buffer *out, size_t itemsize, int flags) except -1:
    # Not as a memoryview of records: that would compare every field of their dtype each time.
    PyObject_GetBuffer(given, out, flags)
    if <size_t>out.itemsize != itemsize:
        PyBuffer_Release(out)
        raise ValueError("items of %d bytes" % itemsize)
    return out.len // <Py_ssize_t>itemsize


def summary(frames, outcomes, verdicts=None):
    """Return (others, malicious, standing, first) of a batch: how many frames are neither WAITING
    nor JUDGED, how many are judged malicious, what any of them has in its standing (Outcome and
    Standing in types.py), and the first one's number, 0 without any. Each in one piece. Raises
    ValueError where the arrays are not of one length."""
    cdef Py_buffer framed, ended, voted
    cdef const Frame *f
    cdef const uint8_t *outcome
    cdef const uint8_t *verdict = NULL
    cdef Py_ssize_t i, n, others = 0, malicious = 0
    cdef uint8_t standing = 0
    cdef uint64_t first
    cdef bint alike
    n = _piece(frames, &framed, sizeof(Frame), PyBUF_SIMPLE)
    try:
        alike = _piece(outcomes, &ended, 1, PyBUF_SIMPLE) == n
        try:
            if verdicts is not None:
                alike &= _piece(verdicts, &voted, 1, PyBUF_SIMPLE) == n
                verdict = <const uint8_t *>voted.buf
            try:
                if not alike:
                    raise ValueError("frames, outcomes and verdicts must have one length")
                f = <const Frame *>framed.buf
                outcome = <const uint8_t *>ended.buf
                for i in range(n):
                    standing |= f[i].standing
                    if outcome[i] == JUDGED:
                        malicious += verdict != NULL and verdict[i] == 1
                    elif outcome[i] != WAITING:
                        others += 1
                first = f[0].number if n else 0
            finally:
                if verdict != NULL:
                    PyBuffer_Release(&voted)
        finally:
            PyBuffer_Release(&ended)
    finally:
        PyBuffer_Release(&framed)
    return others, malicious, standing, first


cdef class HeldPackets:
    """Packets that the kernel holds in a queue, each until its word; a buffer with their frames.

    fd: a netlink socket bound to the queue; it stays the caller's, who keeps it open longer than
    this is used. queue: its number. copy_bytes: what the kernel was told to copy of each packet.
    length: packets it holds at most. first: numbers are above it. Raises ValueError. For one
    thread; another one may run `serve`.
    """

    cdef Held held
    cdef Line line
    cdef Ports ports
    cdef Shared shared
    cdef bint threaded
    cdef uint32_t copy_bytes
    cdef readonly uint64_t untimed
    cdef readonly uint64_t malformed
    cdef readonly uint64_t refused

    def __cinit__(
        self, int fd, *, uint16_t queue, uint32_t copy_bytes, uint32_t length, uint32_t most=128,
        uint64_t first=0
    ):
        cdef uint32_t stride = (ETHERNET + copy_bytes + 63) & ~63
        # Before anything can fail: what is freed must have been made.
        pthread_mutex_init(&self.shared.lock, NULL)
        self.shared.work_fd = self.shared.tell_fd = -1
        if not 1 <= copy_bytes <= MAX_COPY:
            raise ValueError(f"copy_bytes must lie in 1 .. {MAX_COPY}")
        if not 1 <= most <= MOST:
            raise ValueError(f"most must lie in 1 .. {MOST}")
        if not 1 <= length <= MAX_SLOTS - MOST:
            raise ValueError(f"length must lie in 1 .. {MAX_SLOTS - MOST}")
        self.line.fd = fd
        self.line.queue = queue
        self.copy_bytes = copy_bytes
        if not (
            make_held(&self.held, length + most, stride, first)
            and make_line(&self.line, most, (ROOM + copy_bytes + 63) & ~63)
        ):
            raise MemoryError(f"{length + most} packets of {copy_bytes} bytes")

    def __dealloc__(self):
        free_shared(&self.shared)
        free_held(&self.held)
        free_line(&self.line)
        free(self.ports.rows)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(
            buffer, self, self.held.data, <Py_ssize_t>self.held.n_slots * self.held.stride, True,
            flags & ~PyBUF_WRITABLE
        )

    @property
    def received(self):
        return self.held.received

    @property
    def accepted(self):
        return self.held.accepted

    @property
    def dropped(self):
        return self.held.dropped

    @property
    def lost_messages(self):
        return self.line.lost_messages

    @property
    def unsent(self):
        return self.line.unsent

    @property
    def verdict_messages(self):
        return self.line.verdict_messages

    def set_ports(self, ports):
        """Say which interfaces are captured: (met, shown, mac, ethernet, bridged) of each, as in
        capture.inline. What is met at none of them is shown as it is. Raises ValueError."""
        cdef Ports made
        cdef Port *row
        cdef const uint8_t[::1] six
        rows = sorted(ports)
        if len(rows) > MAX_PORTS:
            raise ValueError(f"at most {MAX_PORTS} interfaces")
        made.n = 0
        made.bridged = False
        made.rows = <Port *>calloc(len(rows) + 1, sizeof(Port))
        if made.rows == NULL:
            raise MemoryError("interfaces")
        try:
            for met, shown, mac, ethernet, bridged in rows:
                six = mac
                if six.shape[0] != 6:
                    raise ValueError("a MAC has 6 bytes")
                row = &made.rows[made.n]
                row.met = met
                row.shown = shown
                memcpy(row.mac, &six[0], 6)
                row.ethernet = bool(ethernet)
                row.bridged = bool(bridged)
                made.bridged |= row.bridged
                made.n += 1
        except BaseException:
            free(made.rows)
            raise
        pthread_mutex_lock(&self.shared.lock)
        free(self.ports.rows)
        self.ports = made
        pthread_mutex_unlock(&self.shared.lock)

    # Packets in --------------------------------------------------------------------------------

    def read(self, frames, int64_t now_ns):
        """Return (messages read, frames written, of those shown at a bridge); never waits.

        frames: (m,) FRAME, m >= most; offsets into this buffer, valid until the packet has its
        word. now_ns: since the epoch, for packets that the kernel gives no time. Raises OSError
        for what no retry can mend.
        """
        cdef Py_buffer places
        cdef int got = 0, error = 0
        cdef uint32_t n = 0, bridged = 0, room = min(self.line.most, self.held.n_spare)
        cdef Py_ssize_t offered = _piece(frames, &places, sizeof(Frame), PyBUF_WRITABLE)
        try:
            if offered < self.line.most:
                raise ValueError("frames needs a place for each message of a read")
            # Without a free slot the kernel keeps the packets, as its queue's length says.
            if room and self.line.fd >= 0:
                with nogil:
                    got = receive(&self.line, room)
                    error = errno
                    n = self._take(got, <Frame *>places.buf, now_ns, &bridged)
        finally:
            PyBuffer_Release(&places)
        if got == -2:
            raise OSError(error, f"packet queue: {strerror(error).decode()}")
        return (got if got >= 0 else 1), n, bridged

    def put(self, const uint8_t[::1] message, Frame[::1] frames, int64_t now_ns):
        """Take one message that the caller has read; return (frames written, shown at a bridge)."""
        cdef uint32_t n = 0, bridged = 0
        if frames.shape[0] < 1:
            raise ValueError("frames needs a place")
        if message.shape[0] and self.held.n_spare:  # before `serve` begins
            n = self._take_one(
                &message[0], <uint32_t>message.shape[0], &frames[0], now_ns, &bridged
            )
        return n, bridged

    cdef uint32_t _take(
        self, int got, Frame *frames, int64_t now_ns, uint32_t *bridged
    ) noexcept nogil:
        # Holds what `receive` has read; returns how many frames were written. NULL for frames: as
        # they are to be taken.
        cdef const uint8_t *m
        cdef Frame *f
        cdef uint32_t n = 0
        cdef int i
        for i in range(got):
            m = message_of(&self.line, i)
            if m == NULL:
                self.malformed += 1
                continue
            f = &frames[n] if frames != NULL else place_of(&self.shared, &self.held, n)
            n += self._take_one(m, self.line.messages[i].msg_len, f, now_ns, bridged)
        return n

    cdef uint32_t _take_one(
        self, const uint8_t *m, uint32_t size, Frame *f, int64_t now_ns, uint32_t *bridged
    ) noexcept nogil:
        # Returns how many frames were written, 0 or 1; at least one slot is free.
        cdef Packet p
        cdef Slot *s
        cdef int what = read_message(m, size, self.line.queue, &p)
        if what != I_PACKET:
            self.refused += what == I_REFUSAL
            self.malformed += what == I_MALFORMED
            return 0
        if p.stamp_ns == 0:
            p.stamp_ns = now_ns
            self.untimed += 1
        if p.size > self.copy_bytes:
            p.size = self.copy_bytes
        s = hold(&self.held, &p)
        if not p.whole or p.size == 0:  # nothing to be judged, and nobody shall wait for it
            self.malformed += 1
            say_of(&self.held, s, W_GO)
            return 0
        bridged[0] += show(&self.held, s, &p, &self.ports, f)
        return 1

    # With a thread of its own --------------------------------------------------------------------

    def begin(self, int work_fd, int tell_fd):
        """Prepare for `serve` in another thread, which then reads and answers. work_fd, tell_fd:
        eventfds that stay the caller's; the latter can be read as long as there are frames."""
        if not make_ready(&self.shared, self.held.n_slots):
            raise MemoryError(f"{self.held.n_slots} packets")
        self.shared.work_fd, self.shared.tell_fd = work_fd, tell_fd
        self.shared.quitting = False
        self.held.keep = self.threaded = True

    def serve(self):
        """Read and answer until `end`."""
        cdef int got
        cdef uint32_t n, bridged = 0
        with nogil:
            while answer(&self.shared, &self.line, &self.held):
                got = take_in(&self.shared, &self.line, &self.held)
                if got == -2:
                    give_up(&self.shared)
                    break
                pthread_mutex_lock(&self.shared.lock)
                n = self._take(got, NULL, 0, &bridged)
                self.shared.n_ready += n
                if n:
                    signal(self.shared.tell_fd)
                pthread_mutex_unlock(&self.shared.lock)

    def end(self):
        """Let `serve` return soon, what was said until now sent."""
        self.shared.quitting = True
        signal(self.shared.work_fd)

    def alone(self):
        """Go on without a thread, whose `serve` has returned."""
        pthread_mutex_lock(&self.shared.lock)
        give_back(&self.shared, &self.held)
        self.held.keep = self.threaded = False
        pthread_mutex_unlock(&self.shared.lock)

    def take(self, frames, int64_t now_ns):
        """Return (frames written, some were met at a bridge) of what the thread has read; as
        `read`. Raises OSError: the thread has ended by itself."""
        cdef Py_buffer places
        cdef uint32_t n
        cdef bint bridged
        cdef Py_ssize_t room = _piece(frames, &places, sizeof(Frame), PyBUF_WRITABLE)
        try:
            pthread_mutex_lock(&self.shared.lock)
            n = taken(&self.shared, &self.held, <Frame *>places.buf, room, now_ns)
            bridged = self.ports.bridged
            pthread_mutex_unlock(&self.shared.lock)
        finally:
            PyBuffer_Release(&places)
        if n == 0 and self.shared.failed:
            error = self.shared.failed
            raise OSError(error, f"packet queue: {strerror(error).decode()}")
        return n, bridged

    # What is held ------------------------------------------------------------------------------

    def __len__(self):
        cdef uint32_t n
        pthread_mutex_lock(&self.shared.lock)
        n = n_held(&self.held)
        pthread_mutex_unlock(&self.shared.lock)
        return n

    def __contains__(self, uint64_t number):
        return find_held(&self.held, number) != NULL

    def numbers(self):
        """Return the numbers of held packets, the oldest first."""
        return self._numbers(2**63 - 1, True)

    def overdue(self, int64_t before_ns):
        """Return the numbers of the oldest packets that are shown and held, up to the first one
        that has come later than `before_ns`."""
        return self._numbers(before_ns, False)

    def books(self):
        """Return (received, accepted, dropped, held) of one instant: the first is the others'
        sum."""
        pthread_mutex_lock(&self.shared.lock)
        found = (
            self.held.received, self.held.accepted, self.held.dropped, n_held(&self.held)
        )
        pthread_mutex_unlock(&self.shared.lock)
        return found

    cdef list _numbers(self, int64_t before_ns, bint unshown):
        cdef int32_t place
        cdef Slot *s
        found = []
        pthread_mutex_lock(&self.shared.lock)
        place = self.held.oldest
        while place != NOBODY:
            s = &self.held.slots[place]
            if s.word == W_NONE:
                if s.stamp_ns > before_ns or not (s.shown or unshown):
                    break
                found.append(s.number)
            place = s.behind
        pthread_mutex_unlock(&self.shared.lock)
        return found

    def about(self, uint64_t number):
        """Return (payload as it was at the hook, timestamp in ns, incoming, port, indev, mark,
        hardware address or None) of a held packet; None: it is not held."""
        cdef Slot *s = find_held(&self.held, number)
        if s == NULL:
            return None
        return (
            self.payload(number), s.stamp_ns, bool(s.incoming), s.port, s.indev, s.mark,
            s.hw[:8] if s.has_hw else None,
        )

    def payload(self, uint64_t number):
        """Return the bytes, as `about`, of a packet that is held or had its word since the last
        read; b"" of others."""
        cdef Slot *s = slot_of(&self.held, number)
        cdef uint8_t *start
        if s == NULL:
            return b""
        start = bytes_of(&self.held, s) + s.start
        payload = bytearray(start[:s.size])
        if s.lifted:
            payload[s.lifted] -= 1
        return bytes(payload)

    def indev(self, uint64_t number):
        """Return the interface index at which a held packet came in; 0: it is not held."""
        cdef Slot *s = find_held(&self.held, number)
        return s.indev if s != NULL else 0

    def show_at(self, uint64_t number, uint32_t port):
        """Show a held packet at another interface, from whoever knows the bridge."""
        cdef Slot *s = find_held(&self.held, number)
        if s != NULL:
            s.port = port

    def connections(self, const uint64_t[:] numbers):
        """Return the TCP connection of each packet that is held, or had its word since the last
        read, as capture.held.connection says it; b"" where there is none."""
        cdef Py_ssize_t i
        cdef uint8_t key[KEY_MOST]
        cdef int octets
        found = []
        for i in range(numbers.shape[0]):
            octets = connection_of(&self.held, slot_of(&self.held, numbers[i]), key)
            found.append(key[:octets])
        return found

    # Verdicts out ------------------------------------------------------------------------------

    def say(self, const uint64_t[:] numbers, int64_t[::1] stamps, *, bint drop=False, mark=None):
        """Note the word about held packets, for `flush`; return how many there were, their
        timestamps in `stamps` (at least as long). mark: what the kernel shall mark them with.
        Those that have had their word are passed over."""
        cdef Py_ssize_t i, n = 0, count = numbers.shape[0]
        cdef Slot *s
        cdef uint32_t wanted = 0
        cdef bint remark = mark is not None
        if stamps.shape[0] < count:
            raise ValueError("stamps needs a place for each number")
        if remark:
            wanted = mark
        with nogil:
            pthread_mutex_lock(&self.shared.lock)
            for i in range(count):
                s = find_held(&self.held, numbers[i])
                if s == NULL:
                    continue
                s.remark = remark
                s.wanted = wanted
                stamps[n] = s.stamp_ns
                n += 1
                say_of(&self.held, s, W_DROP if drop else W_GO)
            pthread_mutex_unlock(&self.shared.lock)
        return n

    def pass_clean(self, piece, int64_t[::1] stamps, uint8_t named):
        """Let a judged batch go on, at once, if each of its packets was judged, none malicious,
        and none has a bit of `named` in its standing; return (how many had no word yet, what any
        has in its standing), the timestamps in `stamps`; (-1, 0): not this batch, nothing was done.

        piece: a batch in one piece of memory (judged.pxd), of packets held here. Raises ValueError.
        """
        cdef Py_buffer given
        cdef Judged j
        cdef Slot *s
        cdef Py_ssize_t i, count, n = 0
        cdef uint8_t standing = 0
        cdef uint64_t many
        _piece(piece, &given, 1, PyBUF_SIMPLE)
        try:
            if given.len < 8:
                raise ValueError("a judged batch is longer")
            many = (<uint64_t *>given.buf)[0]
            count = <Py_ssize_t>many
            if many > MAX_SLOTS or <size_t>given.len < judged_bytes(count):
                raise ValueError("a judged batch is longer")
            judged_at(<uint8_t *>given.buf, count, &j)
            # Before anything else is asked of it: a ring's batch may be far longer than a queue's.
            for i in range(count):
                standing |= j.frames[i].standing
                if (
                    j.outcomes[i] != JUDGED or j.verdicts[i] or standing & named
                    or j.frames[i].number <= self.held.first
                ):
                    return -1, 0
            if stamps.shape[0] < count:
                raise ValueError("stamps needs a place for each packet")
            with nogil:
                pthread_mutex_lock(&self.shared.lock)
                for i in range(count):
                    s = find_held(&self.held, j.frames[i].number)
                    if s == NULL:
                        continue
                    stamps[n] = s.stamp_ns
                    n += 1
                    say_of(&self.held, s, W_GO)
                pthread_mutex_unlock(&self.shared.lock)
                self._flush()
        finally:
            PyBuffer_Release(&given)
        return n, standing

    def flush(self):
        """Tell the kernel what was said since the last time. What it has no memory for is counted
        (`unsent`): it stays in the queue."""
        if self.held.n_said:
            with nogil:
                self._flush()

    cdef void _flush(self) noexcept nogil:
        cdef uint32_t size
        if self.held.n_said == 0:
            return
        if self.threaded:
            signal(self.shared.work_fd)
            return
        size = gather(&self.line, &self.held)
        if size:
            send_words(&self.line, size)

    def close(self):
        """Read and answer nothing any more."""
        self.line.fd = -1

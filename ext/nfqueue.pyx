"""Messages of a netfilter queue in, FRAME records of held packets out; their verdicts back."""

# Design (linux/netfilter/nfnetlink_queue.h; net/netfilter/nfnetlink_queue.c of the kernel):
#  a) The socket belongs to the caller, bound and configured; this reads and answers it. One system
#     call reads what waits, up to `most` messages (recvmmsg; netlink gives one packet a message).
#  b) Each packet is copied once, into a slot that it keeps until its verdict: behind the Ethernet
#     header that a ring would show. Slots are used last in, first out, so that few stay warm.
#  c) A packet's number grows with every packet and has its slot in the low bits, so that the look-up
#     of a verdict is an index and a comparison.
#  d) NFQNL_MSG_VERDICT_BATCH speaks for every packet that the kernel holds up to an id. It is sent
#     for the oldest ones that share their word, as long as no undecided one is among them; all
#     others have a message each. Many messages go in one send, in the order of the packets.
#  e) A batch in which nothing is wrong is answered in one call, before anybody else looks at it: where
#     packets come singly, what is done before the answer is what each of them waits. Its bytes stay
#     until the next read.
#  f) With a thread of its own (`serve`), that one reads and answers, without Python's lock, and the
#     caller takes frames and says words: nearly all that a packet costs is to get it from the kernel
#     and to give it back, and so many queues can be served on as many processors by one who judges.
#     A lock covers slots, lists and words; system calls are made outside of it. A slot whose word is
#     sent is used again only after the next `take`, so that its bytes stay as long as without.
#  g) nfqueue_message.pxd says what a message is; of another sender than the kernel none is read.

from libc.errno cimport errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset, strerror

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
)

from judged cimport Judged, judged_at, judged_bytes
from nfqueue_message cimport (
    I_MALFORMED, I_PACKET, I_REFUSAL, VERDICT_MOST, Packet, read_message, write_verdict
)
from packet cimport DIR_OUTGOING, Frame

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <linux/netlink.h>
    #include <poll.h>
    #include <pthread.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <unistd.h>
    """
    ctypedef struct Mutex "pthread_mutex_t":
        pass
    int pthread_mutex_init(Mutex *, const void *) nogil
    int pthread_mutex_destroy(Mutex *) nogil
    int pthread_mutex_lock(Mutex *) nogil
    int pthread_mutex_unlock(Mutex *) nogil
    ctypedef struct Awaited "struct pollfd":
        int fd
        short events
        short revents
    int poll(Awaited *, unsigned long, int) nogil
    ssize_t read(int, void *, size_t) nogil
    ssize_t write(int, const void *, size_t) nogil
    short POLLIN
    ctypedef struct Vector "struct iovec":
        void *iov_base
        size_t iov_len
    ctypedef struct Header "struct msghdr":
        void *msg_name
        unsigned int msg_namelen
        Vector *msg_iov
        size_t msg_iovlen
        int msg_flags
    ctypedef struct Message "struct mmsghdr":
        Header msg_hdr
        unsigned int msg_len
    ctypedef struct Address "struct sockaddr_nl":
        uint32_t nl_pid
    int MSG_DONTWAIT, EAGAIN, EINTR, ENOBUFS, ENOMEM
    int recvmmsg(int, Message *, unsigned int, int, void *) nogil
    ssize_t send(int, const void *, size_t, int) nogil

cdef enum:
    MOST = 1024                     # messages of one read
    ROOM = 512                      # bytes of a message beside its packet, at most; about 150 are usual
    ETHERNET = 14
    SLOT_BITS = 17                  # of a number: which slot
    MAX_SLOTS = 131072
    MAX_PORTS = 4096
    MAX_COPY = 65535 - ROOM
    CHUNK = 32768                   # bytes of one send, well inside a socket's usual buffer
    TRIES = 16                      # of a send that finds no memory
    NOBODY = -1
    TCP = 6                         # IPPROTO_TCP

cdef enum:
    # Outcome in types.py
    JUDGED = 0
    WAITING = 6

cdef enum:
    # What is said about a packet
    W_NONE = 0
    W_GO = 1
    W_DROP = 2

cdef struct Port:
    uint32_t met                    # interface at which routed packets are met
    uint32_t shown                  # captured interface that their frames show
    uint8_t mac[6]                  # our own there
    uint8_t ethernet                # it has Ethernet headers
    uint8_t bridged                 # the caller finds the port by its sender's MAC

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

    cdef int fd
    cdef uint16_t queue
    cdef uint32_t copy_bytes
    cdef uint64_t first
    cdef uint64_t sequence          # packets numbered so far
    cdef uint32_t n_slots
    cdef uint32_t stride            # bytes between two slots' frames
    cdef Slot *slots
    cdef uint8_t *data              # n_slots * stride
    cdef int32_t *spare             # free slots, the last used at the end
    cdef uint32_t n_spare
    cdef int32_t oldest
    cdef int32_t newest
    cdef uint32_t n_said            # slots with a word that is not sent yet
    cdef Port *ports                # by `met`, increasing
    cdef uint32_t n_ports
    cdef uint32_t buffer_bytes      # room of one message
    cdef uint32_t most              # messages of one read
    cdef uint8_t *inbox             # most * buffer_bytes
    cdef Message *messages
    cdef Vector *vectors
    cdef Address *senders
    cdef uint8_t outbox[CHUNK]
    cdef Mutex lock                 # held wherever both threads may be; free of cost with one
    cdef bint threaded
    cdef bint quitting
    cdef bint starving              # the thread reads no more until a slot is free
    cdef int work_fd                # eventfd: there is something to send, or to end
    cdef int tell_fd                # eventfd: there are frames
    cdef int failed                 # errno that ended the thread
    cdef Frame *ready               # n_slots, a ring: read by the thread, not taken yet
    cdef uint32_t ready_at
    cdef uint32_t n_ready
    cdef int32_t *left              # slots whose word is sent since the last `take`
    cdef uint32_t n_left
    cdef readonly uint64_t received
    cdef readonly uint64_t accepted
    cdef readonly uint64_t dropped
    cdef readonly uint64_t untimed
    cdef readonly uint64_t lost_messages
    cdef readonly uint64_t malformed
    cdef readonly uint64_t refused
    cdef readonly uint64_t unsent
    cdef readonly uint64_t verdict_messages

    def __cinit__(
        self, int fd, *, uint16_t queue, uint32_t copy_bytes, uint32_t length, uint32_t most=128,
        uint64_t first=0
    ):
        cdef uint32_t i
        if not 1 <= copy_bytes <= MAX_COPY:
            raise ValueError(f"copy_bytes must lie in 1 .. {MAX_COPY}")
        if not 1 <= most <= MOST:
            raise ValueError(f"most must lie in 1 .. {MOST}")
        if not 1 <= length <= MAX_SLOTS - MOST:
            raise ValueError(f"length must lie in 1 .. {MAX_SLOTS - MOST}")
        pthread_mutex_init(&self.lock, NULL)
        self.work_fd = self.tell_fd = -1
        self.fd = fd
        self.queue = queue
        self.copy_bytes = copy_bytes
        self.first = first
        self.most = most
        self.n_slots = length + most
        self.stride = (ETHERNET + copy_bytes + 63) & ~63
        self.buffer_bytes = (ROOM + copy_bytes + 63) & ~63
        self.oldest = self.newest = NOBODY
        self.slots = <Slot *>calloc(self.n_slots, sizeof(Slot))
        # Not touched before it is used: what a long queue might need costs nothing until then.
        self.data = <uint8_t *>calloc(self.n_slots, self.stride)
        self.spare = <int32_t *>malloc(self.n_slots * sizeof(int32_t))
        self.inbox = <uint8_t *>malloc(<size_t>most * self.buffer_bytes)
        self.messages = <Message *>calloc(most, sizeof(Message))
        self.vectors = <Vector *>calloc(most, sizeof(Vector))
        self.senders = <Address *>calloc(most, sizeof(Address))
        if (
            self.slots == NULL or self.data == NULL or self.spare == NULL or self.inbox == NULL
            or self.messages == NULL or self.vectors == NULL or self.senders == NULL
        ):
            raise MemoryError(f"{self.n_slots} packets of {copy_bytes} bytes")
        for i in range(self.n_slots):
            self.spare[i] = <int32_t>(self.n_slots - 1 - i)
        self.n_spare = self.n_slots
        for i in range(most):
            self.vectors[i].iov_base = self.inbox + <size_t>i * self.buffer_bytes
            self.vectors[i].iov_len = self.buffer_bytes
            self.messages[i].msg_hdr.msg_iov = &self.vectors[i]
            self.messages[i].msg_hdr.msg_iovlen = 1
            self.messages[i].msg_hdr.msg_name = &self.senders[i]

    def __dealloc__(self):
        pthread_mutex_destroy(&self.lock)
        free(self.ready)
        free(self.left)
        free(self.slots)
        free(self.data)
        free(self.spare)
        free(self.inbox)
        free(self.messages)
        free(self.vectors)
        free(self.senders)
        free(self.ports)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(
            buffer, self, self.data, <Py_ssize_t>self.n_slots * self.stride, True,
            flags & ~PyBUF_WRITABLE
        )

    def set_ports(self, ports):
        """Say which interfaces are captured: (met, shown, mac, ethernet, bridged) of each, as in
        capture.inline. What is met at none of them is shown as it is. Raises ValueError."""
        cdef Port *found
        cdef uint32_t i = 0
        cdef const uint8_t[::1] six
        rows = sorted(ports)
        if len(rows) > MAX_PORTS:
            raise ValueError(f"at most {MAX_PORTS} interfaces")
        found = <Port *>calloc(len(rows) + 1, sizeof(Port))
        if found == NULL:
            raise MemoryError("interfaces")
        try:
            for met, shown, mac, ethernet, bridged in rows:
                six = mac
                if six.shape[0] != 6:
                    raise ValueError("a MAC has 6 bytes")
                found[i].met = met
                found[i].shown = shown
                memcpy(found[i].mac, &six[0], 6)
                found[i].ethernet = bool(ethernet)
                found[i].bridged = bool(bridged)
                i += 1
        except BaseException:
            free(found)
            raise
        pthread_mutex_lock(&self.lock)
        free(self.ports)
        self.ports = found
        self.n_ports = i
        pthread_mutex_unlock(&self.lock)

    # Packets in --------------------------------------------------------------------------------

    def read(self, frames, int64_t now_ns):
        """Return (messages read, frames written, of those shown at a bridge); never waits.

        frames: (m,) FRAME, m >= most; offsets into this buffer, valid until the packet has its
        word. now_ns: since the epoch, for packets that the kernel gives no time.
        """
        cdef Py_buffer places
        cdef int got
        cdef Py_ssize_t n = 0
        cdef uint32_t bridged = 0
        cdef Py_ssize_t room = _piece(frames, &places, sizeof(Frame), PyBUF_WRITABLE)
        try:
            if room < self.most:
                raise ValueError("frames needs a place for each message of a read")
            got = self._read(<Frame *>places.buf, now_ns, &n, &bridged)
        finally:
            PyBuffer_Release(&places)
        return got, n, bridged

    cdef int _read(
        self, Frame *frames, int64_t now_ns, Py_ssize_t *n, uint32_t *bridged
    ) except -1:
        # Returns how many messages came.
        cdef int got, i, error = 0
        cdef uint32_t room = self.most
        if room > self.n_spare:
            room = self.n_spare  # the kernel keeps the rest, as its queue's length says
        if room == 0 or self.fd < 0:
            return 0
        with nogil:
            for i in range(<int>room):
                self.messages[i].msg_hdr.msg_namelen = sizeof(Address)
            got = recvmmsg(self.fd, self.messages, room, MSG_DONTWAIT, NULL)
            if got < 0:
                error = errno
            for i in range(got):
                if self._foreign(i):
                    continue
                n[0] += self._parse(
                    self.inbox + <size_t>i * self.buffer_bytes, self.messages[i].msg_len,
                    &frames[n[0]], now_ns, bridged
                )
        if got < 0:
            if error == ENOBUFS:
                self.lost_messages += 1
                return 1
            if error == EINTR:
                return 1
            if error != EAGAIN:
                raise OSError(error, f"packet queue: {strerror(error).decode()}")
            got = 0
        return got

    def put(self, const uint8_t[::1] message, Frame[::1] frames, int64_t now_ns):
        """Take one message that the caller has read; return (frames written, shown at a bridge)."""
        cdef uint32_t bridged = 0
        cdef Py_ssize_t n = 0
        if frames.shape[0] < 1:
            raise ValueError("frames needs a place")
        if message.shape[0] and self.n_spare:  # before `serve` begins
            n = self._parse(
                &message[0], <uint32_t>message.shape[0], &frames[0], now_ns, &bridged
            )
        return n, bridged

    # With a thread of its own --------------------------------------------------------------------

    def begin(self, int work_fd, int tell_fd):
        """Prepare for `serve` in another thread, which then reads and answers. work_fd, tell_fd:
        eventfds that stay the caller's; the latter can be read as long as there are frames."""
        if self.ready == NULL:
            self.ready = <Frame *>malloc(self.n_slots * sizeof(Frame))
            self.left = <int32_t *>malloc(self.n_slots * sizeof(int32_t))
            if self.ready == NULL or self.left == NULL:
                raise MemoryError(f"{self.n_slots} packets")
        self.work_fd, self.tell_fd = work_fd, tell_fd
        self.quitting = False
        self.threaded = True

    def serve(self):
        """Read and answer until `end`."""
        with nogil:
            self._serve()

    def end(self):
        """Let `serve` return soon, what was said until now sent."""
        self.quitting = True
        self._signal(self.work_fd)

    def alone(self):
        """Go on without a thread, whose `serve` has returned."""
        pthread_mutex_lock(&self.lock)
        self._take_back()
        self.threaded = False
        pthread_mutex_unlock(&self.lock)

    def take(self, frames, int64_t now_ns):
        """Return (frames written, some were met at a bridge) of what the thread has read; as
        `read`. Raises OSError: the thread has ended by itself."""
        cdef Py_buffer places
        cdef Frame *to
        cdef Slot *s
        cdef uint32_t n = 0, i
        cdef uint64_t token
        cdef bint bridged = False
        cdef Py_ssize_t room = _piece(frames, &places, sizeof(Frame), PyBUF_WRITABLE)
        try:
            to = <Frame *>places.buf
            pthread_mutex_lock(&self.lock)
            self._take_back()
            while n < room and self.n_ready:
                to[n] = self.ready[self.ready_at]
                s = self._seen(to[n].number)
                s.shown = True
                self.ready_at += 1
                if self.ready_at == self.n_slots:
                    self.ready_at = 0
                self.n_ready -= 1
                if to[n].timestamp_ns == 0:
                    to[n].timestamp_ns = now_ns
                    s.stamp_ns = now_ns
                n += 1
            if self.n_ready == 0 and not self.failed:
                read(self.tell_fd, &token, 8)
            for i in range(self.n_ports):
                bridged |= self.ports[i].bridged
            pthread_mutex_unlock(&self.lock)
        finally:
            PyBuffer_Release(&places)
        if n == 0 and self.failed:
            raise OSError(self.failed, f"packet queue: {strerror(self.failed).decode()}")
        return n, bridged

    cdef void _take_back(self) noexcept nogil:
        # What was let go before the present batch is free again.
        memcpy(self.spare + self.n_spare, self.left, self.n_left * sizeof(int32_t))
        self.n_spare += self.n_left
        self.n_left = 0
        if self.starving and self.n_spare:
            self.starving = False
            self._signal(self.work_fd)

    cdef void _signal(self, int fd) noexcept nogil:
        cdef uint64_t one = 1
        write(fd, &one, 8)

    cdef void _serve(self) noexcept nogil:
        cdef Awaited awaited[2]
        cdef uint64_t token
        cdef uint32_t room, size, bridged = 0
        cdef int got, i, error, n
        cdef bint more, quitting
        while True:
            # The order: what `end` comes after is sent still.
            quitting = self.quitting
            more = True
            while more:
                pthread_mutex_lock(&self.lock)
                size = self._gather()
                more = self.n_said > 0
                pthread_mutex_unlock(&self.lock)
                if size:
                    self._send(size)
            if quitting:
                return
            pthread_mutex_lock(&self.lock)
            room = min(self.most, self.n_spare)
            self.starving = room == 0
            pthread_mutex_unlock(&self.lock)
            awaited[0].fd = self.work_fd
            awaited[1].fd = self.fd if room else -1
            for i in range(2):
                awaited[i].events = POLLIN
                awaited[i].revents = 0
            if poll(awaited, 2, -1) < 0:
                continue  # a signal
            if awaited[0].revents:
                read(self.work_fd, &token, 8)
            if not awaited[1].revents:
                continue
            for i in range(<int>room):
                self.messages[i].msg_hdr.msg_namelen = sizeof(Address)
            got = recvmmsg(self.fd, self.messages, room, MSG_DONTWAIT, NULL)
            if got < 0:
                error = errno
                if error == ENOBUFS:
                    self.lost_messages += 1
                elif error != EINTR and error != EAGAIN:
                    pthread_mutex_lock(&self.lock)
                    self.failed = error
                    self._signal(self.tell_fd)
                    pthread_mutex_unlock(&self.lock)
                    return
                continue
            pthread_mutex_lock(&self.lock)
            n = 0
            for i in range(got):
                if self._foreign(i):
                    continue
                n += self._parse(
                    self.inbox + <size_t>i * self.buffer_bytes, self.messages[i].msg_len,
                    &self.ready[(self.ready_at + self.n_ready + n) % self.n_slots], 0, &bridged
                )
            self.n_ready += n
            if n:
                self._signal(self.tell_fd)
            pthread_mutex_unlock(&self.lock)

    cdef bint _foreign(self, int i) noexcept nogil:
        # Whether a message is of another sender than the kernel.
        if self.messages[i].msg_hdr.msg_namelen < sizeof(Address) or self.senders[i].nl_pid == 0:
            return False
        self.malformed += 1
        return True

    cdef int _parse(
        self, const uint8_t *m, uint32_t size, Frame *f, int64_t now_ns, uint32_t *bridged
    ) noexcept nogil:
        # Returns how many frames were written, 0 or 1; at least one slot is free.
        cdef Packet p
        cdef int what = read_message(m, size, self.queue, &p)
        if what != I_PACKET:
            self.refused += what == I_REFUSAL
            self.malformed += what == I_MALFORMED
            return 0
        if p.stamp_ns == 0:
            p.stamp_ns = now_ns
            self.untimed += 1
        if p.size > self.copy_bytes:
            p.size = self.copy_bytes
        return self._hold(&p, f, bridged)

    cdef int _hold(self, Packet *p, Frame *f, uint32_t *bridged) noexcept nogil:
        cdef Slot *s
        cdef Port *port
        cdef uint8_t *to
        cdef const uint8_t *payload = p.payload
        cdef uint32_t own, hop, start = 0, size = p.size
        cdef int32_t place
        cdef bint six
        self.n_spare -= 1
        place = self.spare[self.n_spare]
        s = &self.slots[place]
        memset(s, 0, sizeof(Slot))
        self.sequence += 1
        self.received += 1
        s.number = self.first + (self.sequence << SLOT_BITS | <uint64_t>place)
        s.stamp_ns = p.stamp_ns
        s.id = p.id
        s.mark = p.mark
        s.indev = p.indev
        if p.hw != NULL:
            memcpy(s.hw, p.hw, 8)
            s.has_hw = True
        s.shown = not self.threaded
        s.before = self.newest
        s.behind = NOBODY
        if self.newest == NOBODY:
            self.oldest = place
        else:
            self.slots[self.newest].behind = place
        self.newest = place
        if not p.whole or size == 0:  # nothing to be judged, and nobody shall wait for it
            self.malformed += 1
            s.word = W_GO
            self.n_said += 1
            self.accepted += 1
            return 0
        port = self._port(p.indev)
        s.incoming = port != NULL
        if port == NULL:
            port = self._port(p.outdev)
        s.port = port.shown if port != NULL else p.indev
        to = self.data + <size_t>place * self.stride
        six = payload[0] >= 0x60
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
        f.offset = <uint64_t>place * self.stride
        f.caplen = start + size
        f.wirelen = start + own
        f.timestamp_ns = p.stamp_ns
        f.number = s.number
        f.ifindex = s.port
        f.direction = 0 if s.incoming else DIR_OUTGOING
        f.standing = 0
        if s.incoming and port.bridged:
            bridged[0] += 1
        return 1

    cdef Port *_port(self, uint32_t met) noexcept nogil:
        cdef uint32_t low = 0, high = self.n_ports, middle
        while low < high:
            middle = (low + high) >> 1
            if self.ports[middle].met < met:
                low = middle + 1
            else:
                high = middle
        if low < self.n_ports and self.ports[low].met == met:
            return &self.ports[low]
        return NULL

    # What is held ------------------------------------------------------------------------------

    cdef Slot *_find(self, uint64_t number) noexcept nogil:
        cdef Slot *s = self._seen(number)
        return s if s != NULL and s.word == W_NONE else NULL

    cdef Slot *_seen(self, uint64_t number) noexcept nogil:
        # A packet that is held, or has had its word since the last read.
        cdef uint64_t place
        if number <= self.first:
            return NULL
        place = (number - self.first) & (MAX_SLOTS - 1)
        if place >= self.n_slots or self.slots[place].number != number:
            return NULL
        return &self.slots[place]

    def __len__(self):
        return self.n_slots - self.n_spare - self.n_left - self.n_said

    def __contains__(self, uint64_t number):
        return self._find(number) != NULL

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
        pthread_mutex_lock(&self.lock)
        found = self.received, self.accepted, self.dropped, len(self)
        pthread_mutex_unlock(&self.lock)
        return found

    cdef list _numbers(self, int64_t before_ns, bint unshown):
        cdef int32_t place
        found = []
        pthread_mutex_lock(&self.lock)
        place = self.oldest
        while place != NOBODY:
            if self.slots[place].word == W_NONE:
                if self.slots[place].stamp_ns > before_ns or not (self.slots[place].shown or unshown):
                    break
                found.append(self.slots[place].number)
            place = self.slots[place].behind
        pthread_mutex_unlock(&self.lock)
        return found

    def about(self, uint64_t number):
        """Return (payload as it was at the hook, timestamp in ns, incoming, port, indev, mark,
        hardware address or None) of a held packet; None: it is not held."""
        cdef Slot *s = self._find(number)
        if s == NULL:
            return None
        return (
            self.payload(number), s.stamp_ns, bool(s.incoming), s.port, s.indev, s.mark,
            s.hw[:8] if s.has_hw else None,
        )

    def payload(self, uint64_t number):
        """Return the bytes, as `about`, of a packet that is held or had its word since the last
        read; b"" of others."""
        cdef Slot *s = self._seen(number)
        cdef uint8_t *start
        if s == NULL:
            return b""
        start = self.data + <size_t>(s - self.slots) * self.stride + s.start
        payload = bytearray(start[:s.size])
        if s.lifted:
            payload[s.lifted] -= 1
        return bytes(payload)

    def indev(self, uint64_t number):
        """Return the interface index at which a held packet came in; 0: it is not held."""
        cdef Slot *s = self._find(number)
        return s.indev if s != NULL else 0

    def show_at(self, uint64_t number, uint32_t port):
        """Show a held packet at another interface, from whoever knows the bridge."""
        cdef Slot *s = self._find(number)
        if s != NULL:
            s.port = port

    def connections(self, const uint64_t[:] numbers):
        """Return the TCP connection of each packet that is held, or had its word since the last
        read, as capture.held.connection says it; b"" where there is none."""
        cdef Py_ssize_t i
        cdef uint8_t key[36]
        cdef int octets
        found = []
        for i in range(numbers.shape[0]):
            octets = self._connection(self._seen(numbers[i]), key)
            found.append(key[:octets])
        return found

    cdef int _connection(self, Slot *s, uint8_t *key) noexcept nogil:
        # Returns the bytes written to key: 12, 36 or 0.
        cdef const uint8_t *ip
        cdef uint32_t at, ends, octets
        cdef int order
        if s == NULL or s.size < 20:
            return 0
        ip = self.data + <size_t>(s - self.slots) * self.stride + s.start
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
            pthread_mutex_lock(&self.lock)
            for i in range(count):
                s = self._find(numbers[i])
                if s == NULL:
                    continue
                s.word = W_DROP if drop else W_GO
                s.remark = remark
                s.wanted = wanted
                stamps[n] = s.stamp_ns
                n += 1
            self.n_said += <uint32_t>n
            if drop:
                self.dropped += n
            else:
                self.accepted += n
            pthread_mutex_unlock(&self.lock)
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
            if stamps.shape[0] < count:
                raise ValueError("stamps needs a place for each packet")
            for i in range(count):
                standing |= j.frames[i].standing
                if (
                    j.outcomes[i] != JUDGED or j.verdicts[i] or standing & named
                    or j.frames[i].number <= self.first
                ):
                    return -1, 0
            with nogil:
                pthread_mutex_lock(&self.lock)
                for i in range(count):
                    s = self._find(j.frames[i].number)
                    if s == NULL:
                        continue
                    s.word = W_GO
                    stamps[n] = s.stamp_ns
                    n += 1
                self.n_said += <uint32_t>n
                self.accepted += n
                pthread_mutex_unlock(&self.lock)
                self._flush()
        finally:
            PyBuffer_Release(&given)
        return n, standing

    def flush(self):
        """Tell the kernel what was said since the last time. What it has no memory for is counted
        (`unsent`): it stays in the queue."""
        if self.n_said:
            with nogil:
                self._flush()

    cdef void _flush(self) noexcept nogil:
        cdef uint32_t size
        if self.n_said == 0:
            return
        if self.threaded:
            self._signal(self.work_fd)
            return
        size = self._gather()
        if size:
            self._send(size)

    cdef uint32_t _gather(self) noexcept nogil:
        # Writes what was said into the outbox; returns how much of it is not sent yet.
        cdef int32_t place = self.oldest, next, run
        cdef uint32_t size = 0, together
        cdef Slot *s
        cdef Slot *last
        # The oldest ones, as long as each has its word: one message for all that share it.
        while place != NOBODY and self.slots[place].word != W_NONE:
            s = &self.slots[place]
            last = s
            together = 1
            while last.behind != NOBODY and self._alike(s, &self.slots[last.behind]):
                last = &self.slots[last.behind]
                together += 1
            size = self._write(size, last, together > 1)
            next = last.behind
            run = place
            while run != next:
                run = self._leave(run)
            place = next
        # Between those, others wait still: a message each.
        while self.n_said and place != NOBODY:
            if self.slots[place].word == W_NONE:
                place = self.slots[place].behind
                continue
            size = self._write(size, &self.slots[place], False)
            place = self._leave(place)
        return size

    cdef bint _alike(self, Slot *one, Slot *other) noexcept nogil:
        return (
            one.word == other.word and one.remark == other.remark and one.wanted == other.wanted
        )

    cdef int32_t _leave(self, int32_t place) noexcept nogil:
        # Frees a slot whose word is written; returns the one behind it.
        cdef Slot *s = &self.slots[place]
        cdef int32_t behind = s.behind
        if s.before == NOBODY:
            self.oldest = behind
        else:
            self.slots[s.before].behind = behind
        if behind == NOBODY:
            self.newest = s.before
        else:
            self.slots[behind].before = s.before
        if self.threaded:
            self.left[self.n_left] = place
            self.n_left += 1
        else:
            self.spare[self.n_spare] = place
            self.n_spare += 1
        self.n_said -= 1
        return behind

    cdef uint32_t _write(self, uint32_t at, Slot *s, bint batch) noexcept nogil:
        if at + VERDICT_MOST > CHUNK:
            self._send(at)
            at = 0
        self.verdict_messages += 1
        return at + write_verdict(
            self.outbox + at, self.queue, batch, s.id, s.word == W_DROP, s.remark, s.wanted
        )

    cdef void _send(self, uint32_t size) noexcept nogil:
        cdef int tries
        for tries in range(TRIES):
            if self.fd < 0 or send(self.fd, self.outbox, size, 0) >= 0:
                return
            if errno != EINTR and errno != ENOMEM and errno != ENOBUFS:
                break
        self.unsent += 1

    def close(self):
        """Read and answer nothing any more."""
        self.fd = -1

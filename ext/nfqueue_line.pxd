# The queue's netlink socket: many messages in by one system call, many words out by one.
#
#  a) One call reads what waits, up to `most` messages (recvmmsg; netlink gives one packet a message).
#  b) NFQNL_MSG_VERDICT_BATCH speaks for every packet that the kernel holds up to an id. It is sent
#     for the oldest ones that share their word, as long as no undecided one is among them; all
#     others have a message each. Many messages go in one send, in the order of the packets.
#  c) Of another sender than the kernel nothing is read.

from libc.errno cimport errno
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from nfqueue_held cimport NOBODY, W_DROP, W_NONE, Held, Slot, leave, said_alike
from nfqueue_message cimport VERDICT_MOST, write_verdict

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <linux/netlink.h>
    #include <sys/socket.h>
    """
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
    CHUNK = 32768                   # bytes of one send, well inside a socket's usual buffer
    TRIES = 16                      # of a send that finds no memory

cdef struct Line:
    int fd
    uint16_t queue
    uint32_t buffer_bytes           # room of one message
    uint32_t most                   # messages of one read
    uint8_t *inbox                  # most * buffer_bytes
    Message *messages
    Vector *vectors
    Address *senders
    uint8_t outbox[CHUNK]
    uint64_t lost_messages
    uint64_t unsent
    uint64_t verdict_messages


cdef inline bint make_line(Line *line, uint32_t most, uint32_t buffer_bytes) noexcept:
    # Returns whether there was memory; `free_line` in either case.
    cdef uint32_t i
    line.most = most
    line.buffer_bytes = buffer_bytes
    line.inbox = <uint8_t *>malloc(<size_t>most * buffer_bytes)
    line.messages = <Message *>calloc(most, sizeof(Message))
    line.vectors = <Vector *>calloc(most, sizeof(Vector))
    line.senders = <Address *>calloc(most, sizeof(Address))
    if (
        line.inbox == NULL or line.messages == NULL or line.vectors == NULL
        or line.senders == NULL
    ):
        return False
    for i in range(most):
        line.vectors[i].iov_base = line.inbox + <size_t>i * buffer_bytes
        line.vectors[i].iov_len = buffer_bytes
        line.messages[i].msg_hdr.msg_iov = &line.vectors[i]
        line.messages[i].msg_hdr.msg_iovlen = 1
        line.messages[i].msg_hdr.msg_name = &line.senders[i]
    return True


cdef inline void free_line(Line *line) noexcept:
    free(line.inbox)
    free(line.messages)
    free(line.vectors)
    free(line.senders)


cdef inline int receive(Line *line, uint32_t room) noexcept nogil:
    # Reads up to `room` messages, 1 .. most. Returns how many there are, 0 where none waits; -1:
    # nothing was read, but there may be something; -2: errno says why nothing can be.
    cdef uint32_t i
    cdef int got
    for i in range(room):
        line.messages[i].msg_hdr.msg_namelen = sizeof(Address)
    got = recvmmsg(line.fd, line.messages, room, MSG_DONTWAIT, NULL)
    if got >= 0:
        return got
    if errno == EAGAIN:
        return 0
    if errno == ENOBUFS:
        line.lost_messages += 1
        return -1
    return -1 if errno == EINTR else -2


cdef inline const uint8_t *message_of(Line *line, int i) noexcept nogil:
    # One of those just received, messages[i].msg_len bytes; NULL: it is not the kernel's.
    if line.messages[i].msg_hdr.msg_namelen >= sizeof(Address) and line.senders[i].nl_pid != 0:
        return NULL
    return line.inbox + <size_t>i * line.buffer_bytes


cdef inline void send_words(Line *line, uint32_t size) noexcept nogil:
    # Sends what `gather` has left in the outbox.
    cdef int tries
    for tries in range(TRIES):
        if line.fd < 0 or send(line.fd, line.outbox, size, 0) >= 0:
            return
        if errno != EINTR and errno != ENOMEM and errno != ENOBUFS:
            break
    line.unsent += 1


cdef inline uint32_t add_word(Line *line, uint32_t at, Slot *s, bint batch) noexcept nogil:
    if at + VERDICT_MOST > CHUNK:
        send_words(line, at)
        at = 0
    line.verdict_messages += 1
    return at + write_verdict(
        line.outbox + at, line.queue, batch, s.id, s.word == W_DROP, s.remark, s.wanted
    )


cdef inline uint32_t gather(Line *line, Held *h) noexcept nogil:
    # Writes what was said into the outbox; returns how many of its bytes are not sent yet.
    cdef int32_t place = h.oldest, next, run
    cdef uint32_t size = 0, together
    cdef Slot *s
    cdef Slot *last
    # The oldest ones, as long as each has its word: one message for all that share it.
    while place != NOBODY and h.slots[place].word != W_NONE:
        s = &h.slots[place]
        last = s
        together = 1
        while last.behind != NOBODY and said_alike(s, &h.slots[last.behind]):
            last = &h.slots[last.behind]
            together += 1
        size = add_word(line, size, last, together > 1)
        next = last.behind
        run = place
        while run != next:
            run = leave(h, run)
        place = next
    # Between those, others wait still: a message each.
    while h.n_said and place != NOBODY:
        if h.slots[place].word == W_NONE:
            place = h.slots[place].behind
            continue
        size = add_word(line, size, &h.slots[place], False)
        place = leave(h, place)
    return size

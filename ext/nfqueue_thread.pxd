# A thread that reads and answers one queue, without Python's lock, beside who judges its packets.
#
# Nearly all that a packet costs is to get it from the kernel and to give it back, and so many queues
# can be served on as many processors by one who judges: he takes frames and says words. The lock
# covers slots, lists and words; system calls are made outside of it, but for a send in the midst of
# more words than one holds.

from libc.errno cimport errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from nfqueue_held cimport W_NONE, Held, Slot, slot_of, take_back
from nfqueue_line cimport Line, gather, receive, send_words
from packet cimport Frame

cdef extern from *:
    """
    #include <poll.h>
    #include <pthread.h>
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

cdef struct Shared:
    Mutex lock                      # held wherever both threads may be; free of cost with one
    bint quitting
    bint starving                   # the thread reads no more until there is room
    int work_fd                     # eventfd: there is something to send, or to end
    int tell_fd                     # eventfd: there are frames
    int failed                      # errno that ended the thread
    Frame *ready                    # n_slots, a ring: read by the thread, not taken yet
    uint32_t ready_at
    uint32_t n_ready


cdef inline void signal(int fd) noexcept nogil:
    cdef uint64_t one = 1
    write(fd, &one, 8)


cdef inline void quiet(int fd) noexcept nogil:
    cdef uint64_t token
    read(fd, &token, 8)


cdef inline bint make_ready(Shared *t, uint32_t n_slots) noexcept:
    # Returns whether there was memory.
    if t.ready == NULL:
        t.ready = <Frame *>malloc(n_slots * sizeof(Frame))
    return t.ready != NULL


cdef inline void free_shared(Shared *t) noexcept:
    pthread_mutex_destroy(&t.lock)
    free(t.ready)


cdef inline Frame *place_of(Shared *t, Held *h, uint32_t beyond) noexcept nogil:
    # Where a frame goes that is so many beyond those that wait to be taken.
    return &t.ready[(t.ready_at + t.n_ready + beyond) % h.n_slots]


cdef inline void give_back(Shared *t, Held *h) noexcept nogil:
    # With the lock.
    take_back(h)
    if t.starving and h.n_spare:
        t.starving = False
        signal(t.work_fd)


cdef inline uint32_t taken(
    Shared *t, Held *h, Frame *to, Py_ssize_t room, int64_t now_ns
) noexcept nogil:
    # Moves frames that the thread has read to whoever judges; returns how many. With the lock.
    cdef uint32_t n = 0
    cdef Slot *s
    give_back(t, h)
    while n < room and t.n_ready:
        to[n] = t.ready[t.ready_at]
        t.ready_at = (t.ready_at + 1) % h.n_slots
        t.n_ready -= 1
        s = slot_of(h, to[n].number)
        if s == NULL or s.word != W_NONE:
            continue  # it had its word unseen
        s.shown = True
        if to[n].timestamp_ns == 0:
            to[n].timestamp_ns = now_ns
            s.stamp_ns = now_ns
        n += 1
    if t.n_ready == 0 and not t.failed:
        quiet(t.tell_fd)
    return n


cdef inline uint32_t room_of(Shared *t, Line *line, Held *h) noexcept nogil:
    # How many messages may be read: as many as slots are free. A packet that had its word unseen
    # has a place among those to be taken, but no slot any more.
    return min(line.most, h.n_spare, h.n_slots - t.n_ready)


cdef inline bint answer(Shared *t, Line *line, Held *h) noexcept nogil:
    # Sends what was said, and waits until there is something to be read; returns whether to go on.
    cdef Awaited awaited[2]
    cdef uint32_t size
    cdef int i
    cdef bint quitting, more
    while True:
        # The order: what `end` comes after is sent still.
        quitting = t.quitting
        more = True
        while more:
            pthread_mutex_lock(&t.lock)
            size = gather(line, h)
            more = h.n_said > 0
            t.starving = room_of(t, line, h) == 0
            if t.starving and h.n_left:
                signal(t.tell_fd)  # who takes nothing now gives those back at least
            pthread_mutex_unlock(&t.lock)
            if size:
                send_words(line, size)
        if quitting:
            return False
        awaited[0].fd = t.work_fd
        awaited[1].fd = -1 if t.starving else line.fd
        for i in range(2):
            awaited[i].events = POLLIN
            awaited[i].revents = 0
        if poll(awaited, 2, -1) < 0:
            continue  # a signal
        if awaited[0].revents:
            quiet(t.work_fd)
        if awaited[1].revents:
            return True


cdef inline int take_in(Shared *t, Line *line, Held *h) noexcept nogil:
    # Reads what waits; as `receive`.
    cdef uint32_t room
    pthread_mutex_lock(&t.lock)
    room = room_of(t, line, h)
    pthread_mutex_unlock(&t.lock)
    return receive(line, room) if room else 0


cdef inline void give_up(Shared *t) noexcept nogil:
    # The thread cannot go on: errno says why.
    cdef int error = errno
    pthread_mutex_lock(&t.lock)
    t.failed = error
    signal(t.tell_fd)
    pthread_mutex_unlock(&t.lock)

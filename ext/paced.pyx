# Frames and a rate in, paced frames on a socket out: the benchmark's generator.
#
# sendmmsg(2) takes the kernel 1.6 us a frame of 54 bytes; asking the clock, counting and calling it
# from Python took as long again and more. The frames' headers are made once, so a call is an address.

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, nanosleep, timespec

cdef extern from * nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <sys/socket.h>
    #include <sys/uio.h>
    """
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    int sendmmsg(int fd, mmsghdr *messages, unsigned int n, int flags)

cdef enum:
    PAUSE_NS = 20_000    # nothing is due yet: shorter than the kernel's own slack of 50 us

BATCH = 64               # frames a call at most: a burst, to whoever receives them


cdef int64_t _now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec


cdef class Paced:
    """Frames as the kernel wants them, to be sent again and again.

    data: all frames' bytes. ends: (n,), where each ends, ascending, the last within data. Both are
    kept. Raises ValueError for others, and for no frames.
    """

    cdef readonly Py_ssize_t n
    cdef readonly uint64_t packets      # frames handed to the socket
    cdef readonly uint64_t refused      # of these, frames it would not take: offered and lost
    cdef readonly uint64_t given_up     # frames that were due, not sent: too far behind
    cdef readonly uint64_t bytes
    cdef Py_ssize_t position
    cdef mmsghdr *headers
    cdef iovec *vectors
    cdef const uint8_t[::1] data

    def __cinit__(self, const uint8_t[::1] data, const int64_t[::1] ends):
        cdef Py_ssize_t i
        cdef int64_t begin = 0
        self.n = ends.shape[0]
        if self.n == 0:
            raise ValueError("there are no frames")
        self.data = data
        self.headers = <mmsghdr *>calloc(self.n, sizeof(mmsghdr))
        self.vectors = <iovec *>calloc(self.n, sizeof(iovec))
        if self.headers == NULL or self.vectors == NULL:
            raise MemoryError
        for i in range(self.n):
            if ends[i] <= begin or ends[i] > data.shape[0]:
                raise ValueError(f"frame {i} ends at {ends[i]}")
            self.vectors[i].iov_base = <void *>&data[begin]
            self.vectors[i].iov_len = <size_t>(ends[i] - begin)
            self.headers[i].msg_hdr.msg_iov = &self.vectors[i]
            self.headers[i].msg_hdr.msg_iovlen = 1
            begin = ends[i]

    def __dealloc__(self):
        free(self.headers)
        free(self.vectors)

    def send(self, int fd, double pps, int64_t start_ns, uint64_t until, uint64_t arrears):
        """Send what is due at a rate since `start_ns` (CLOCK_MONOTONIC) until so many frames in all
        are sent or given up, for at most a tenth of a second; True: that is done.

        More than `arrears` frames late, the excess is given up: a burst is not the rate.
        """
        cdef bint done
        with nogil:
            done = self._send(fd, pps, start_ns, until, arrears)
        return done

    cdef bint _send(
        self, int fd, double pps, int64_t start_ns, uint64_t until, uint64_t arrears
    ) noexcept nogil:
        cdef timespec pause
        cdef int64_t now = _now_ns()
        cdef int64_t end = now + 100000000
        cdef uint64_t done = self.packets + self.given_up
        cdef uint64_t due
        cdef int took, i
        pause.tv_sec = 0
        pause.tv_nsec = PAUSE_NS
        while done < until and now < end:
            due = <uint64_t>(<double>(now - start_ns) * pps / 1e9) if now > start_ns else 0
            due = min(due, until)
            if due <= done:
                nanosleep(&pause, NULL)
                now = _now_ns()
                continue
            due -= done
            if due > arrears:
                self.given_up += due - arrears
                done += due - arrears
                due = arrears
            due = min(due, <uint64_t>64, <uint64_t>(self.n - self.position))
            took = sendmmsg(fd, self.headers + self.position, <unsigned int>due, 0)
            if took <= 0:
                if errno == EINTR:
                    return False
                took = 1  # ENOBUFS: the other end's queue is full
                self.refused += 1
            for i in range(took):
                self.bytes += self.vectors[self.position + i].iov_len
            self.packets += <uint64_t>took
            done += <uint64_t>took
            self.position += took
            if self.position == self.n:
                self.position = 0
            now = _now_ns()
        return done >= until

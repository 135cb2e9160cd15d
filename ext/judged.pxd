# One judged batch in one piece of memory: how _cells hands it to _evidence without a Python object
# per column.
#
#   uint64 n | Frame[n] | double probability[n] | uint64 cell[n] | Sender[n] | outcome[n] | verdict[n]
#   | model[n]
#
# The columns are types.py's JudgedBatch. In an order that keeps 8-byte numbers on 8-byte places:
# a Frame has 40 bytes, a Sender 28. Header-only, like packet.pxd.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t

from packet cimport Frame, Sender

cdef struct Judged:
    Py_ssize_t n
    Frame *frames
    double *probabilities   # NaN where the outcome is not JUDGED
    uint64_t *cells         # keyed hash of the packet's cell
    Sender *senders
    uint8_t *outcomes       # Outcome in types.py
    uint8_t *verdicts
    uint8_t *models         # index into the pipeline's list of model ids


cdef inline size_t judged_bytes(Py_ssize_t n) noexcept nogil:
    return 8 + <size_t>n * (sizeof(Frame) + sizeof(double) + sizeof(uint64_t) + sizeof(Sender) + 3)


cdef inline void judged_at(uint8_t *memory, Py_ssize_t n, Judged *out) noexcept nogil:
    # Where the columns of n packets lie; the memory has judged_bytes(n), aligned to 8.
    out.n = n
    out.frames = <Frame *>(memory + 8)
    out.probabilities = <double *>(out.frames + n)
    out.cells = <uint64_t *>(out.probabilities + n)
    out.senders = <Sender *>(out.cells + n)
    out.outcomes = <uint8_t *>(out.senders + n)
    out.verdicts = out.outcomes + n
    out.models = out.verdicts + n

"""Cells in, exact probabilities out: a random forest on codes, with the GIL released."""

# Design:
#  a) trees come in as preorder arrays (left child = next node), so "children after their parent,
#     inside their own tree, each with one parent" is checked in one pass, and no cycle can be told.
#  b) a node is 8 bytes and the left child is next to it, so the 50 trees of a shipped model are
#     100 KB and half of all steps stay in the cache line. Cells are taken one after the other,
#     trees inside: the branches of one cell's trees foretell each other. Measured on 20,000
#     different cells (us a cell at 256): this walk 0.50; trees outside, cells inside 1.3-1.8; eight
#     cells interleaved without branches 0.60; bit masks per code (QuickScorer, Lucchese et al.,
#     SIGIR 2015, fully tabulated: 1.6 MB) 1.1-1.3.
#  c) leaf values are added per cell in tree order as float64 and divided once by the number of
#     trees: RandomForestClassifier.predict_proba with n_jobs=1, to the last bit.
#  d) nothing read from a cell is used as an index: a code above a feature's last cut (a hostile
#     peer's) lies to the right of every node, as the last code does.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free

import numpy as np

cdef extern from "<stdlib.h>" nogil:
    void *aligned_alloc(size_t alignment, size_t size)

cdef enum:
    LEAF = 255              # node_feature of a leaf
    N_COLUMNS = 60          # columns of a packet record
    MAX_FEATURES = 60
    MAX_TREES = 1024
    MAX_NODES = 1 << 22

ARRAYS = {
    "features": "<u1",      # columns of the record, strictly increasing
    "cut_counts": "<u4",    # per feature: number of cuts
    "cuts": "<u2",          # per feature strictly increasing, from 1; feature after feature
    "tree_starts": "<u4",   # first node of every tree, and the number of nodes
    "node_feature": "<u1",  # index into features, or 255: a leaf
    "node_code": "<u2",     # left if code <= this; 0 in a leaf
    "node_right": "<u4",    # right child, counted from its tree's first node; 0 in a leaf
    "leaves": "<f8",        # P(malicious) of every leaf, in the order of the nodes
}

cdef struct Node:
    uint32_t right          # absolute index of the right child; of the value in a leaf
    uint16_t code           # left if code <= this
    uint8_t feature         # index into the model's features, or LEAF
    uint8_t reserved


cdef class Forest:
    """A validated forest and the grid it judges on.

    arrays: mapping with exactly the names and dtypes of ARRAYS, one-dimensional and contiguous.
    Raises ValueError, with what is wrong, for anything that is not a forest.
    """

    cdef readonly uint32_t n_features
    cdef readonly uint32_t n_trees
    cdef readonly uint32_t n_nodes
    cdef readonly uint32_t n_leaves
    cdef readonly uint32_t key_bytes    # bytes of a cell
    cdef object kept                    # the arrays that the pointers below lie in
    cdef const uint16_t *cuts
    cdef const uint32_t *tree_starts
    cdef const double *leaves
    cdef Node *nodes
    cdef uint32_t cut_starts[MAX_FEATURES + 1]
    cdef uint32_t last_code[MAX_FEATURES]   # number of cuts = highest code
    cdef uint8_t columns[MAX_FEATURES]
    cdef uint8_t wide[MAX_FEATURES]     # code takes two bytes of the key

    def __cinit__(self):
        self.nodes = NULL

    def __dealloc__(self):
        free(self.nodes)

    def __init__(self, arrays):
        if self.kept is not None:
            raise ValueError("a forest is built once")
        self.kept = _checked_arrays(arrays)
        self._take_grid(self.kept["features"], self.kept["cut_counts"], self.kept["cuts"])
        self._take_trees(self.kept["tree_starts"], self.kept["node_feature"],
                         self.kept["node_code"], self.kept["node_right"], self.kept["leaves"])

    cdef _take_grid(self, const uint8_t[::1] features, const uint32_t[::1] counts,
                    const uint16_t[::1] cuts):
        cdef uint32_t i, k
        cdef uint64_t total = 0
        if features.shape[0] > MAX_FEATURES or features.shape[0] != counts.shape[0]:
            raise ValueError("at most %d features, each with its number of cuts" % MAX_FEATURES)
        self.n_features = <uint32_t>features.shape[0]
        self.key_bytes = 0
        for i in range(self.n_features):
            if features[i] >= N_COLUMNS or (i and features[i] <= features[i - 1]):
                raise ValueError("features must be columns of the record, strictly increasing")
            if counts[i] > 65535:
                raise ValueError("feature %d has more cuts than values" % features[i])
            self.columns[i] = features[i]
            self.cut_starts[i] = <uint32_t>total
            self.last_code[i] = counts[i]
            self.wide[i] = counts[i] > 255
            self.key_bytes += 2 if self.wide[i] else 1
            total += counts[i]
        self.cut_starts[self.n_features] = <uint32_t>total
        if total != <uint64_t>cuts.shape[0]:
            raise ValueError("cuts and their numbers disagree")
        for i in range(self.n_features):
            for k in range(self.cut_starts[i], self.cut_starts[i + 1]):
                if cuts[k] == 0 or (k > self.cut_starts[i] and cuts[k] <= cuts[k - 1]):
                    raise ValueError("cuts of feature %d are not strictly increasing from 1"
                                     % features[i])
        self.cuts = &cuts[0] if total else NULL

    cdef _take_trees(self, const uint32_t[::1] starts, const uint8_t[::1] feature,
                     const uint16_t[::1] code, const uint32_t[::1] right, const double[::1] leaves):
        cdef uint32_t t, i, start, end, top, child, found = 0
        cdef Py_ssize_t n_trees = starts.shape[0] - 1
        cdef Py_ssize_t n = feature.shape[0]
        cdef uint32_t[::1] ends
        cdef uint32_t depth
        if n_trees < 1 or n_trees > MAX_TREES:
            raise ValueError("a forest has 1 to %d trees" % MAX_TREES)
        if n < 1 or n > MAX_NODES or code.shape[0] != n or right.shape[0] != n:
            raise ValueError("a forest has 1 to %d nodes, each with feature, code and child" % MAX_NODES)
        if starts[0] != 0 or starts[n_trees] != n:
            raise ValueError("trees do not cover the nodes")
        for t in range(<uint32_t>n_trees):
            if starts[t + 1] <= starts[t] or starts[t + 1] > n:
                raise ValueError("tree %d has no nodes" % t)
        self.nodes = <Node *>aligned_alloc(64, (n * sizeof(Node) + 63) // 64 * 64)
        if self.nodes == NULL:
            raise MemoryError()
        self.n_nodes = <uint32_t>n
        # ends[0..depth-1]: where the subtrees end that are still to come, the next one on top.
        ends = np.empty(n + 1, np.uint32)
        for t in range(<uint32_t>n_trees):
            start = starts[t]
            end = starts[t + 1]
            ends[0] = end
            depth = 1
            for i in range(start, end):
                if depth == 0:
                    raise ValueError("node %d belongs to no parent" % i)
                top = ends[depth - 1]
                self.nodes[i].feature = feature[i]
                self.nodes[i].code = code[i]
                self.nodes[i].reserved = 0
                if feature[i] == LEAF:
                    if i + 1 != top or code[i] or right[i]:
                        raise ValueError("node %d is no proper leaf" % i)
                    self.nodes[i].right = found
                    found += 1
                    depth -= 1
                    continue
                if feature[i] >= self.n_features or code[i] >= self.last_code[feature[i]]:
                    raise ValueError("node %d asks for a feature or code out of range" % i)
                if right[i] >= end - start:
                    raise ValueError("node %d has a child outside its tree" % i)
                child = start + right[i]
                if child <= i + 1 or child >= top:
                    raise ValueError("node %d has a child out of place" % i)
                self.nodes[i].right = child
                ends[depth] = child
                depth += 1
            if depth:
                raise ValueError("tree %d is not complete" % t)
        if found != <uint64_t>leaves.shape[0]:
            raise ValueError("the trees have %d leaves, but %d values are given" % (found, leaves.shape[0]))
        for i in range(found):
            if not (0.0 <= leaves[i] <= 1.0):
                raise ValueError("leaf %d is not a probability" % i)
        self.n_leaves = found
        self.leaves = &leaves[0]
        self.tree_starts = &starts[0]
        # Last: without trees nothing is evaluated.
        self.n_trees = <uint32_t>n_trees

    def evaluate(self, const uint8_t[:, ::1] cells, double[::1] out):
        """Write P(malicious) of each cell.

        cells: (n, key_bytes); per feature one byte, or two (little-endian) where it has more than
        255 cuts. out: (n,). Raises ValueError for other shapes; never for a cell's content.
        """
        cdef Py_ssize_t i, n = cells.shape[0]
        cdef uint16_t codes[MAX_FEATURES]
        if self.n_trees == 0:
            raise ValueError("the forest was not built")
        if out.shape[0] != n or (n and cells.shape[1] != self.key_bytes):
            raise ValueError("cells must be (n, %d) and out (n,)" % self.key_bytes)
        if n == 0:
            return
        with nogil:
            for i in range(n):
                self._unpack(&cells[i, 0] if self.key_bytes else NULL, codes)
                out[i] = self._judge(codes)

    def evaluate_rows(self, const uint16_t[:, ::1] rows, double[::1] out):
        """Write P(malicious) of each packet record; rows: (n, 60), out: (n,)."""
        cdef Py_ssize_t i, n = rows.shape[0]
        cdef uint16_t codes[MAX_FEATURES]
        if self.n_trees == 0:
            raise ValueError("the forest was not built")
        if out.shape[0] != n or rows.shape[1] != N_COLUMNS:
            raise ValueError("rows must be (n, %d) and out (n,)" % N_COLUMNS)
        with nogil:
            for i in range(n):
                self._encode(&rows[i, 0], codes)
                out[i] = self._judge(codes)

    cdef void _unpack(self, const uint8_t *cell, uint16_t *codes) noexcept nogil:
        cdef uint32_t f, code
        for f in range(self.n_features):
            code = cell[0]
            cell += 1
            if self.wide[f]:
                code |= <uint32_t>cell[0] << 8
                cell += 1
            codes[f] = <uint16_t>code

    cdef void _encode(self, const uint16_t *row, uint16_t *codes) noexcept nogil:
        # Number of cuts <= value, by bisection.
        cdef uint32_t f, low, high, middle
        cdef const uint16_t *cuts
        cdef uint16_t value
        for f in range(self.n_features):
            value = row[self.columns[f]]
            cuts = self.cuts + self.cut_starts[f]
            low = 0
            high = self.last_code[f]
            while low < high:
                middle = (low + high) >> 1
                if cuts[middle] <= value:
                    low = middle + 1
                else:
                    high = middle
            codes[f] = <uint16_t>low

    cdef double _judge(self, const uint16_t *codes) noexcept nogil:
        cdef uint32_t t
        cdef const Node *node
        cdef double total = 0.0
        for t in range(self.n_trees):
            node = self.nodes + self.tree_starts[t]
            while node.feature != LEAF:
                node = node + 1 if codes[node.feature] <= node.code else self.nodes + node.right
            total += self.leaves[node.right]
        return total / self.n_trees


def _checked_arrays(arrays):
    # Names, dtypes and shapes; structure is checked where the pointers are taken.
    if set(arrays) != set(ARRAYS):
        raise ValueError("arrays are missing or unknown: "
                         + ", ".join(sorted(set(arrays) ^ set(ARRAYS))))
    kept = {}
    for name, dtype in ARRAYS.items():
        array = arrays[name]
        if not isinstance(array, np.ndarray) or array.dtype != np.dtype(dtype) or array.ndim != 1:
            raise ValueError("array %s must be one-dimensional %s" % (name, dtype))
        # A copy, so that nobody changes what has been checked.
        kept[name] = array.copy()
        kept[name].flags.writeable = False
    return kept

"""Cells in, exact probabilities out: a random forest on codes, with the GIL released."""

# Design:
#  a) trees come in as preorder arrays (left child = next node), so "children after their parent,
#     inside their own tree, each with one parent" is checked in one pass, and no cycle can be told.
#  b) they are evaluated without walking (QuickScorer, Lucchese et al., SIGIR 2015, taken to its
#     end): a tree's leaves are bits; a node whose test fails clears the leaves of its left subtree;
#     the lowest bit left is the exit leaf. Codes are small, so for every feature and code the AND
#     of all failing nodes is tabulated: a cell costs one AND per feature and tree, whatever it
#     holds, without branches and without waiting for one node before the next.
#  c) eight words make a block, so one AND handles 8 trees of <= 64 leaves, 4 of <= 128, 2 of <= 256
#     or 1 of <= 512. Where the tables would be too large, trees are walked instead.
#  d) leaf values are added per cell in tree order as float64 and divided once by the number of
#     trees: RandomForestClassifier.predict_proba with n_jobs=1, to the last bit.
#  e) codes above a feature's last cut (a hostile peer's) count as the last one; nothing read from a
#     cell is used as an index unclamped.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free

import numpy as np

cdef extern from "<stdlib.h>" nogil:
    void *aligned_alloc(size_t alignment, size_t size)

cdef extern from "forest_masks.h" nogil:
    void ids_and_lines(const uint64_t *const *rows, uint32_t n, uint64_t at, uint64_t *out)
    uint32_t ids_lowest_bit(uint64_t word)

cdef enum:
    LEAF = 255              # node_feature of a leaf
    N_COLUMNS = 60          # columns of a packet record
    MAX_FEATURES = 60
    MAX_TREES = 1024
    MAX_NODES = 1 << 22
    BLOCK = 8               # words of one AND: a cache line
    MAX_WORDS = 8           # words of one tree's mask: 512 leaves

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
    mask_bytes: largest size of the tables of (b); above it trees are walked (0: always).
    Raises ValueError, with what is wrong, for anything that is not a forest.
    """

    cdef readonly uint32_t n_features
    cdef readonly uint32_t n_trees
    cdef readonly uint32_t n_nodes
    cdef readonly uint32_t n_leaves
    cdef readonly uint32_t key_bytes    # bytes of a cell
    cdef readonly uint32_t words        # words of a tree's mask; 0: trees are walked
    cdef readonly uint64_t table_bytes  # size of the mask tables
    cdef object kept                    # the arrays that the pointers below lie in
    cdef const uint16_t *cuts
    cdef const uint32_t *tree_starts
    cdef const double *leaves
    cdef Node *nodes                    # for walking
    cdef uint64_t *masks                # [feature][code][block][8]
    cdef uint64_t mask_starts[MAX_FEATURES]   # first word of a feature's table
    cdef uint64_t row_words             # words of one code's row: blocks * 8
    cdef uint32_t cut_starts[MAX_FEATURES + 1]
    cdef uint32_t last_code[MAX_FEATURES]     # number of cuts = highest code
    cdef uint8_t columns[MAX_FEATURES]
    cdef uint8_t wide[MAX_FEATURES]     # code takes two bytes of the key

    def __cinit__(self):
        self.nodes = NULL
        self.masks = NULL

    def __dealloc__(self):
        free(self.nodes)
        free(self.masks)

    def __init__(self, arrays, *, uint64_t mask_bytes=48 << 20):
        if self.kept is not None:
            raise ValueError("a forest is built once")
        self.kept = _checked_arrays(arrays)
        self._take_grid(self.kept["features"], self.kept["cut_counts"], self.kept["cuts"])
        self._take_trees(self.kept["tree_starts"], self.kept["node_feature"],
                         self.kept["node_code"], self.kept["node_right"], self.kept["leaves"])
        self._build_masks(mask_bytes)

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
        self.n_trees = <uint32_t>n_trees
        self.n_nodes = <uint32_t>n
        # ends[0..depth-1]: where the subtrees end that are still to come, the next one on top.
        ends = np.empty(n + 1, np.uint32)
        for t in range(self.n_trees):
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

    cdef _build_masks(self, uint64_t limit):
        cdef uint32_t t, f, i, j, words, most = 0
        cdef uint64_t blocks, total, row, at, k
        cdef uint64_t *line
        for t in range(self.n_trees):
            # A binary tree of n nodes has (n + 1) / 2 leaves.
            i = (self.tree_starts[t + 1] - self.tree_starts[t] + 1) // 2
            most = max(most, i)
        words = 1
        while words * 64 < most:
            words *= 2
        self.words = 0
        self.table_bytes = 0
        if words > MAX_WORDS or self.n_features == 0:
            return
        blocks = (self.n_trees * words + BLOCK - 1) // BLOCK
        row = blocks * BLOCK
        total = 0
        for f in range(self.n_features):
            self.mask_starts[f] = total * row
            total += self.last_code[f] + 1
        if total * row * 8 > limit:
            return
        self.masks = <uint64_t *>aligned_alloc(64, total * row * 8)
        if self.masks == NULL:
            raise MemoryError()
        self.words = words
        self.row_words = row
        self.table_bytes = total * row * 8
        for k in range(total * row):
            self.masks[k] = <uint64_t>-1
        # First each node's own clearing in the row of the first code that fails its test ...
        for t in range(self.n_trees):
            at = t * words
            for i in range(self.tree_starts[t], self.tree_starts[t + 1]):
                f = self.nodes[i].feature
                if f == LEAF:
                    continue
                line = self.masks + self.mask_starts[f] + (self.nodes[i].code + 1) * row + at
                for j in range(self._first_leaf(t, i + 1), self._first_leaf(t, self.nodes[i].right)):
                    line[j // 64] &= ~(<uint64_t>1 << (j % 64))
        # ... then, code after code, what the lower codes clear as well.
        for f in range(self.n_features):
            line = self.masks + self.mask_starts[f]
            for k in range(row, (self.last_code[f] + 1) * row):
                line[k] &= line[k - row]

    cdef uint32_t _first_leaf(self, uint32_t t, uint32_t i) noexcept:
        # Place in tree t, among its leaves, of the leftmost leaf below node i.
        cdef uint32_t first = self.tree_starts[t]
        while self.nodes[first].feature != LEAF:
            first += 1
        while self.nodes[i].feature != LEAF:
            i += 1
        return self.nodes[i].right - self.nodes[first].right

    def evaluate(self, const uint8_t[:, ::1] cells, double[::1] out):
        """Write P(malicious) of each cell.

        cells: (n, key_bytes); per feature one byte, or two (little-endian) where it has more than
        255 cuts. out: (n,). Raises ValueError for other shapes; never for a cell's content.
        """
        cdef Py_ssize_t i, n = cells.shape[0]
        cdef uint16_t codes[MAX_FEATURES]
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
            codes[f] = <uint16_t>(code if code < self.last_code[f] else self.last_code[f])

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
        if self.words == 1:
            return self._judge_masks(codes, 1)
        if self.words == 2:
            return self._judge_masks(codes, 2)
        if self.words:
            return self._judge_masks(codes, self.words)
        return self._judge_walking(codes)

    cdef inline double _judge_masks(self, const uint16_t *codes, uint32_t words) noexcept nogil:
        cdef const uint64_t *rows[MAX_FEATURES]
        cdef uint64_t line[2 * BLOCK]
        cdef uint64_t *acc = <uint64_t *>((<size_t>&line[0] + 63) & ~<size_t>63)
        cdef uint32_t f, j, w, t = 0
        cdef uint32_t per_block = BLOCK // words
        cdef uint64_t at = 0
        cdef double total = 0.0
        cdef const double *values
        for f in range(self.n_features):
            rows[f] = self.masks + self.mask_starts[f] + codes[f] * self.row_words
        values = self.leaves
        while t < self.n_trees:
            ids_and_lines(<const uint64_t *const *>rows, self.n_features, at, acc)
            for j in range(min(per_block, self.n_trees - t)):
                w = j * words
                while acc[w] == 0:
                    w += 1
                total += values[(w - j * words) * 64 + ids_lowest_bit(acc[w])]
                values += (self.tree_starts[t + 1] - self.tree_starts[t] + 1) >> 1
                t += 1
            at += BLOCK
        return total / self.n_trees

    cdef double _judge_walking(self, const uint16_t *codes) noexcept nogil:
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

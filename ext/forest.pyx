"""Cells in, exact probabilities out: trees and linear models on codes, with the GIL released."""

# Design:
#  a) trees come in as preorder arrays (left child = next node), so "children after their parent,
#     inside their own tree, each with one parent" is checked in one pass, and no cycle can be told.
#  b) a node is 8 bytes and the left child is next to it, so the 50 trees of a shipped model are
#     100 KB and half of all steps stay in the cache line. Cells are taken one after the other,
#     trees inside: the branches of one cell's trees foretell each other. Measured on 20,000
#     different cells (us a cell at 256): this walk 0.50; trees outside, cells inside 1.3-1.8; eight
#     cells interleaved without branches 0.60; sixteen by AVX2 gathers 0.77, 32 by AVX-512 0.46.
#     Trees of few leaves on few features are not walked: masks of their leaves, tabulated by code,
#     are ANDed (forest_masks.h): 50 trees of 32 leaves in 0.09 us instead of 0.21, whatever the
#     cell. What is left waits for the second-level cache: rows for combinations of features (13
#     instead of 17) gain nothing, vectors of 32 bytes (AVX2) 6 %. The table has to stay small
#     (TABLE_LIMIT), so shape decides, for each member (_plan). The shipped forest (128 leaves) would
#     gain as well, 0.35 to 0.25 us and 0.50 to 0.26 for random payloads, but for 1.4 MB, more than a
#     small board's cache; with 60 features it would lose.
#  c) leaf values are added per cell in tree order as float64 and divided once by the number of
#     trees: RandomForestClassifier.predict_proba with n_jobs=1, to the last bit.
#  d) nothing read from a cell is used as an index: a code above a feature's last cut (a hostile
#     peer's) lies to the right of every node, as the last code does.
#  e) a model has one member or several, that vote; one grid is cut wherever any of them cuts. Each
#     adds up as its library does: XGBoost's leaves as float32, LightGBM's as float64, in tree order
#     (no -ffast-math, no fused multiply-add: setup.py). A linear member reads codes as values, which
#     they are where a feature is cut at every value from 1 on; so its cells are exact as well, and
#     as many as there are different packets.
#  f) the logistic function is our own, from IEEE 754's basic operations alone: libm's exp differs in
#     the last bit between processors, and a gateway must say what its node says.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.math cimport fabs, floor, ldexp, nextafter
from libc.stdlib cimport free, malloc
from libc.string cimport memset

import numpy as np

cdef extern from "<stdlib.h>" nogil:
    void *aligned_alloc(size_t alignment, size_t size)

cdef extern from "forest_masks.h" nogil:
    enum:
        MASKS_FEATURES
        MASKS_CELLS
        MASKS_ROW
    ctypedef struct Masks:
        char *rows
        uint32_t row_bytes
        uint32_t width
        uint32_t n_trees
        uint32_t n_used
        uint8_t used[MASKS_FEATURES]
        uint16_t last[MASKS_FEATURES]
        uint32_t first[MASKS_FEATURES]
        uint32_t *tree_leaves
        const double *leaves
    void masks_add(const Masks *masks, const uint16_t *codes, uint32_t n, double *total)
    void masks_add_singles(const Masks *masks, const uint16_t *codes, uint32_t n, float *total)

cdef enum:
    LEAF = 255              # node_feature of a leaf
    N_FEATURES = 60         # columns of the group `packet`
    N_COLUMNS = 68          # columns of a packet record
    MAX_FEATURES = 68
    MAX_TREES = 1024        # of one member
    MAX_MEMBERS = 16
    MAX_NODES = 1 << 22

TABLE_LIMIT = 512 << 10
"""Most bytes of a member's table: with the trees and the cache's own lines it has to fit into the
second-level cache of a small board (512 KB to 1 MB), and the gateway into 80 MB."""

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
MEMBER_ARRAYS = {           # beside ARRAYS; without them the trees are one forest
    "member_kinds": "<u1",  # index into KINDS
    "member_trees": "<u4",  # how many of the trees, in order, are the member's
    "member_bases": "<f8",  # log-odds before the first tree, or of a packet of zeros
    "weights": "<f8",       # per linear member and feature: log-odds a unit of its value
}
KINDS = ("forest", "logistic", "xgboost", "lightgbm")
"""A leaf of a forest is a probability, of the boosted two log-odds."""

cdef enum:
    # Indices into KINDS
    K_FOREST = 0
    K_LOGISTIC = 1
    K_XGBOOST = 2
    K_LIGHTGBM = 3

cdef double VOTE_AT = 0.5       # a member votes "malicious" above this
cdef double WILDEST = 1e6       # largest log-odds of a leaf, base or weight: no sum overflows

cdef struct Member:
    uint32_t first_tree
    uint32_t end_tree
    double base
    const double *weights   # of a linear member: one per feature
    uint8_t kind
    Masks masks             # rows: NULL where its trees are walked

cdef union Power:
    double number
    uint64_t bits

cdef struct Node:
    uint32_t right          # absolute index of the right child; of the value in a leaf
    uint16_t code           # left if code <= this
    uint8_t feature         # index into the model's features, or LEAF
    uint8_t reserved


cdef class Forest:
    """A validated model and the grid it judges on: a forest, another member of KINDS, or a vote.

    arrays: mapping with exactly the names and dtypes of ARRAYS (one forest), or of these and of
    MEMBER_ARRAYS; one-dimensional and contiguous. Raises ValueError, with what is wrong, for
    anything else.

    Several members vote, each "malicious" where its own probability is above 0.5; half against
    half, the mean of their probabilities decides. The model's probability is that mean, moved to
    the side of 0.5 that the vote is on where it lies on the other: to 0.5, or the next number.

    table_limit: bytes that a member's table may take; 0: every tree is walked. The probabilities
    are the same to the last bit.
    """

    cdef readonly uint32_t n_features
    cdef readonly uint32_t n_trees
    cdef readonly uint32_t n_nodes
    cdef readonly uint32_t n_leaves
    cdef readonly uint32_t key_bytes    # bytes of a cell
    cdef readonly uint32_t table_bytes  # of all members' tables
    cdef readonly tuple members         # their kinds, in the order in which they stand
    cdef uint32_t n_members
    cdef Member member[MAX_MEMBERS]
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
        cdef uint32_t m
        free(self.nodes)
        for m in range(MAX_MEMBERS):
            free(self.member[m].masks.rows)
            free(self.member[m].masks.tree_leaves)

    def __init__(self, arrays, *, uint32_t table_limit=TABLE_LIMIT):
        if self.kept is not None:
            raise ValueError("a forest is built once")
        self.kept = _checked_arrays(arrays)
        self._take_grid(self.kept["features"], self.kept["cut_counts"], self.kept["cuts"])
        alone = "member_kinds" not in self.kept
        self._take_trees(self.kept["tree_starts"], self.kept["node_feature"],
                         self.kept["node_code"], self.kept["node_right"], self.kept["leaves"],
                         1 if alone else 0, 1 if alone else MAX_MEMBERS)
        if alone:
            self._take_members(np.zeros(1, np.uint8), np.array([self.n_trees], np.uint32),
                               np.zeros(1), np.zeros(0))
        else:
            self._take_members(self.kept["member_kinds"], self.kept["member_trees"],
                               self.kept["member_bases"], self.kept["weights"])
        self._take_tables(table_limit)
        # Last: without members nothing is evaluated.
        self.n_members = <uint32_t>len(self.members)

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
                     const uint16_t[::1] code, const uint32_t[::1] right, const double[::1] leaves,
                     int fewest, int members):
        cdef uint32_t t, i, start, end, top, child, found = 0
        cdef Py_ssize_t n_trees = starts.shape[0] - 1
        cdef Py_ssize_t n = feature.shape[0]
        cdef uint32_t[::1] ends
        cdef uint32_t depth
        if n_trees < fewest or n_trees > MAX_TREES * members:
            raise ValueError("a forest has 1 to %d trees" % MAX_TREES)
        if n < fewest or n > MAX_NODES or code.shape[0] != n or right.shape[0] != n:
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
        self.n_trees = <uint32_t>n_trees
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
        self.n_leaves = found
        self.leaves = &leaves[0] if found else NULL
        self.tree_starts = &starts[0]

    cdef _take_members(self, const uint8_t[::1] kinds, const uint32_t[::1] trees,
                       const double[::1] bases, const double[::1] weights):
        cdef uint32_t m, i, f, at = 0, leaf = 0, linear = 0
        cdef Py_ssize_t n = kinds.shape[0]
        cdef Member *own
        if n < 1 or n > MAX_MEMBERS or trees.shape[0] != n or bases.shape[0] != n:
            raise ValueError("a model has 1 to %d members, each with trees and base" % MAX_MEMBERS)
        for m in range(<uint32_t>n):
            if kinds[m] > K_LIGHTGBM:
                raise ValueError("member %d is of no known kind" % m)
            linear += kinds[m] == K_LOGISTIC
        if <uint64_t>weights.shape[0] != <uint64_t>linear * self.n_features:
            raise ValueError("the linear members need a weight for each feature")
        linear = 0
        for m in range(<uint32_t>n):
            own = &self.member[m]
            own.kind = kinds[m]
            own.base = bases[m]
            if not fabs(own.base) <= WILDEST or (own.kind == K_FOREST and own.base != 0.0):
                raise ValueError("the base of member %d is out of range" % m)
            if trees[m] > MAX_TREES or trees[m] > self.n_trees - at:
                raise ValueError("member %d has more trees than there are" % m)
            if (trees[m] == 0) != (own.kind == K_LOGISTIC):
                raise ValueError("trees, and at least one, for every member but the linear ones")
            own.first_tree = at
            at += trees[m]
            own.end_tree = at
            own.weights = NULL
            if own.kind == K_LOGISTIC:
                own.weights = &weights[linear * self.n_features] if self.n_features else NULL
                linear += 1
                self._check_weights(own)
            for i in range(self.tree_starts[own.first_tree], self.tree_starts[own.end_tree]):
                if self.nodes[i].feature == LEAF:
                    _check_leaf(own.kind, self.leaves[leaf], leaf)
                    leaf += 1
        if at != self.n_trees:
            raise ValueError("some trees belong to no member")
        self.members = tuple([KINDS[kind] for kind in kinds])

    cdef _check_weights(self, const Member *own):
        cdef uint32_t f, k
        for f in range(self.n_features):
            if not fabs(own.weights[f]) <= WILDEST:
                raise ValueError("weight %d is out of range" % f)
            for k in range(self.last_code[f] if own.weights[f] else 0):
                if self.cuts[self.cut_starts[f] + k] != k + 1:
                    raise ValueError("feature %d has a weight, but its codes are not its values"
                                     % self.columns[f])

    cdef _take_tables(self, uint32_t limit):
        cdef uint32_t m, i, found = 0
        # Leaves before each node, and all of them.
        cdef uint32_t[::1] before = np.empty(self.n_nodes + 1, np.uint32)
        for i in range(self.n_nodes):
            before[i] = found
            found += self.nodes[i].feature == LEAF
        before[self.n_nodes] = found
        self.table_bytes = 0
        for m in range(<uint32_t>len(self.members)):
            if self.member[m].kind != K_LOGISTIC and self._plan(&self.member[m], before, limit):
                self._tabulate(&self.member[m], before)

    cdef bint _plan(self, Member *own, const uint32_t[::1] before, uint32_t limit):
        # Whether a table pays, by shape alone: every gateway and node decides alike.
        cdef Masks *masks = &own.masks
        cdef uint32_t t, i, f, leaves, most = 0, depth = 0
        cdef uint64_t size = 0
        cdef bint asked[MAX_FEATURES]
        for t in range(own.first_tree, own.end_tree):
            most = max(most, before[self.tree_starts[t + 1]] - before[self.tree_starts[t]])
        masks.n_trees = own.end_tree - own.first_tree
        masks.width = 4 if most <= 32 else 8 if most <= 64 else 16
        masks.row_bytes = (masks.n_trees * masks.width + 15) // 16 * 16
        masks.n_used = 0
        for f in range(self.n_features):
            asked[f] = False
        for i in range(self.tree_starts[own.first_tree], self.tree_starts[own.end_tree]):
            if self.nodes[i].feature != LEAF:
                asked[self.nodes[i].feature] = True
        for f in range(self.n_features):
            if asked[f]:
                masks.used[masks.n_used] = <uint8_t>f
                masks.last[masks.n_used] = <uint16_t>self.last_code[f]
                masks.first[masks.n_used] = <uint32_t>min(size, <uint64_t>limit)
                masks.n_used += 1
                size += <uint64_t>masks.row_bytes * (self.last_code[f] + 1)
        if masks.n_used == 0 or most > 128 or size > limit or masks.row_bytes > MASKS_ROW:
            return False
        # A walk costs a tree's depth, a table the bytes of its features' masks and a sum. Shapes on
        # either side were measured (docs/benchmarks/README.md).
        leaves = (before[self.tree_starts[own.end_tree]]
                  - before[self.tree_starts[own.first_tree]]) // masks.n_trees
        while leaves > 1:
            leaves >>= 1
            depth += 1
        if depth < 3 or masks.n_used * masks.width > 64 * (depth - 2):
            return False
        self.table_bytes += <uint32_t>size
        masks.rows = <char *>aligned_alloc(64, (size + 63) // 64 * 64)
        masks.tree_leaves = <uint32_t *>malloc(masks.n_trees * sizeof(uint32_t))
        if masks.rows == NULL or masks.tree_leaves == NULL:
            raise MemoryError()
        memset(masks.rows, 255, size)
        return True

    cdef _tabulate(self, Member *own, const uint32_t[::1] before):
        cdef Masks *masks = &own.masks
        cdef uint32_t t, i, k, f, code, start, leaf, words = masks.row_bytes // 8
        cdef uint32_t place[MAX_FEATURES]
        cdef uint8_t *mask
        cdef uint64_t *row
        masks.leaves = self.leaves
        for k in range(masks.n_used):
            place[masks.used[k]] = masks.first[k]
        for t in range(masks.n_trees):
            start = self.tree_starts[own.first_tree + t]
            masks.tree_leaves[t] = before[start]
            for i in range(start, self.tree_starts[own.first_tree + t + 1]):
                f = self.nodes[i].feature
                if f == LEAF:
                    continue
                # From the next code on to the right: without the left side's leaves.
                mask = <uint8_t *>masks.rows + place[f]
                mask += <size_t>(self.nodes[i].code + 1) * masks.row_bytes + t * masks.width
                for leaf in range(before[i] - before[start],
                                  before[self.nodes[i].right] - before[start]):
                    _rule_out(mask, masks.width, leaf)
        for k in range(masks.n_used):
            row = <uint64_t *>(masks.rows + masks.first[k])
            for code in range(masks.last[k]):
                for i in range(words):
                    row[words + i] &= row[i]
                row += words

    def evaluate(self, const uint8_t[:, ::1] cells, double[::1] out):
        """Write P(malicious) of each cell.

        cells: (n, key_bytes); per feature one byte, or two (little-endian) where it has more than
        255 cuts. out: (n,). Raises ValueError for other shapes; never for a cell's content.
        """
        cdef Py_ssize_t i = 0, n = cells.shape[0]
        cdef uint32_t k, some
        cdef uint16_t codes[MASKS_CELLS * MAX_FEATURES]
        self._check_built()
        if out.shape[0] != n or (n and cells.shape[1] != self.key_bytes):
            raise ValueError("cells must be (n, %d) and out (n,)" % self.key_bytes)
        if n == 0:
            return
        with nogil:
            while i < n:
                some = <uint32_t>min(n - i, <Py_ssize_t>MASKS_CELLS)
                for k in range(some):
                    self._unpack(&cells[i + k, 0] if self.key_bytes else NULL,
                                 codes + k * MAX_FEATURES)
                self._judge(codes, some, &out[i])
                i += some

    def evaluate_rows(self, const uint16_t[:, ::1] rows, double[::1] out):
        """Write P(malicious) of each packet record; rows: (n, 68), or (n, 60) where no feature is of
        another group than `packet`; out: (n,)."""
        cdef Py_ssize_t i = 0, n = rows.shape[0]
        cdef uint32_t k, some
        cdef uint16_t codes[MASKS_CELLS * MAX_FEATURES]
        self._check_built()
        if out.shape[0] != n or not self._fits(rows.shape[1]):
            raise ValueError("rows must be (n, %d) and out (n,)" % N_COLUMNS)
        with nogil:
            while i < n:
                some = <uint32_t>min(n - i, <Py_ssize_t>MASKS_CELLS)
                for k in range(some):
                    self._encode(&rows[i + k, 0], codes + k * MAX_FEATURES)
                self._judge(codes, some, &out[i])
                i += some

    def evaluate_each(self, const uint8_t[:, ::1] cells, double[:, ::1] out):
        """Write what each member says of each cell; cells as for `evaluate`, out: (n, members)."""
        cdef Py_ssize_t i = 0, n = cells.shape[0]
        cdef uint32_t k, some
        cdef uint16_t codes[MASKS_CELLS * MAX_FEATURES]
        self._check_built()
        if out.shape[0] != n or out.shape[1] != self.n_members or (n and cells.shape[1] != self.key_bytes):
            raise ValueError("cells must be (n, %d) and out (n, %d)" % (self.key_bytes, self.n_members))
        with nogil:
            while i < n:
                some = <uint32_t>min(n - i, <Py_ssize_t>MASKS_CELLS)
                for k in range(some):
                    self._unpack(&cells[i + k, 0] if self.key_bytes else NULL,
                                 codes + k * MAX_FEATURES)
                self._each(codes, some, &out[i, 0])
                i += some

    def evaluate_rows_each(self, const uint16_t[:, ::1] rows, double[:, ::1] out):
        """Write what each member says of each packet record; rows as for `evaluate_rows`, out: (n,
        members)."""
        cdef Py_ssize_t i = 0, n = rows.shape[0]
        cdef uint32_t k, some
        cdef uint16_t codes[MASKS_CELLS * MAX_FEATURES]
        self._check_built()
        if out.shape[0] != n or out.shape[1] != self.n_members or not self._fits(rows.shape[1]):
            raise ValueError("rows must be (n, %d) and out (n, %d)" % (N_COLUMNS, self.n_members))
        with nogil:
            while i < n:
                some = <uint32_t>min(n - i, <Py_ssize_t>MASKS_CELLS)
                for k in range(some):
                    self._encode(&rows[i + k, 0], codes + k * MAX_FEATURES)
                self._each(codes, some, &out[i, 0])
                i += some

    cdef bint _fits(self, Py_ssize_t width) noexcept:
        if width == N_FEATURES:
            return self.n_features == 0 or self.columns[self.n_features - 1] < N_FEATURES
        return width == N_COLUMNS

    cdef int _check_built(self) except -1:
        if self.n_members == 0:
            raise ValueError("the forest was not built")
        return 0

    cdef void _unpack(self, const uint8_t *cell, uint16_t *codes) noexcept nogil:
        cdef uint32_t f, code
        if self.key_bytes == self.n_features:
            for f in range(self.n_features):
                codes[f] = cell[f]
            return
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

    cdef void _judge(self, const uint16_t *codes, uint32_t n, double *out) noexcept nogil:
        # codes: n (at most MASKS_CELLS) cells of MAX_FEATURES.
        cdef double each[MASKS_CELLS * MAX_MEMBERS]
        cdef double total
        cdef uint32_t k, m, votes
        if self.n_members == 1:
            self._one(&self.member[0], codes, n, out)
            return
        self._each(codes, n, each)
        for k in range(n):
            total = 0.0
            votes = 0
            for m in range(self.n_members):
                total += each[k * self.n_members + m]
                votes += each[k * self.n_members + m] > VOTE_AT
            total /= self.n_members
            if 2 * votes > self.n_members and total <= VOTE_AT:
                total = nextafter(VOTE_AT, 1.0)
            elif 2 * votes < self.n_members and total > VOTE_AT:
                total = VOTE_AT
            out[k] = total

    cdef void _each(self, const uint16_t *codes, uint32_t n, double *out) noexcept nogil:
        cdef double own[MASKS_CELLS]
        cdef uint32_t k, m
        for m in range(self.n_members):
            self._one(&self.member[m], codes, n, own)
            for k in range(n):
                out[k * self.n_members + m] = own[k]

    cdef void _one(self, const Member *own, const uint16_t *codes, uint32_t n, double *out) noexcept nogil:
        cdef uint32_t k, f
        cdef float single[MASKS_CELLS]
        if own.kind == K_XGBOOST:
            self._add_singles(own, codes, n, single)
            # As its own: float32 throughout, but for an exp that is rounded once, from float64.
            for k in range(n):
                out[k] = -single[k] if single[k] > -88.7 else <float>88.7
            _exp(out, n)
            for k in range(n):
                out[k] = <float>1.0 / (<float>out[k] + <float>1.0)
            return
        for k in range(n):
            out[k] = own.base
        if own.kind == K_FOREST:
            for k in range(n):
                out[k] = 0.0
            self._add(own, codes, n, out)
            for k in range(n):
                out[k] /= own.end_tree - own.first_tree
            return
        if own.kind == K_LIGHTGBM:
            self._add(own, codes, n, out)
        else:
            for k in range(n):
                for f in range(self.n_features):
                    out[k] += own.weights[f] * min(<uint32_t>codes[f], self.last_code[f])
                codes += MAX_FEATURES
        for k in range(n):
            out[k] = -out[k]
        _exp(out, n)
        for k in range(n):
            out[k] = 1.0 / (1.0 + out[k])

    cdef void _add(self, const Member *own, const uint16_t *codes, uint32_t n, double *out) noexcept nogil:
        cdef uint32_t k
        if own.masks.rows != NULL:
            masks_add(&own.masks, codes, n, out)
            return
        for k in range(n):
            out[k] = self._walked(own, codes + k * MAX_FEATURES, out[k])

    cdef double _walked(self, const Member *own, const uint16_t *codes, double total) noexcept nogil:
        cdef uint32_t t
        for t in range(own.first_tree, own.end_tree):
            total += self._leaf(t, codes)
        return total

    cdef void _add_singles(self, const Member *own, const uint16_t *codes, uint32_t n, float *out) noexcept nogil:
        cdef uint32_t k, t
        cdef float total
        for k in range(n):
            out[k] = <float>own.base
        if own.masks.rows != NULL:
            masks_add_singles(&own.masks, codes, n, out)
            return
        for k in range(n):
            total = out[k]
            for t in range(own.first_tree, own.end_tree):
                total += <float>self._leaf(t, codes + k * MAX_FEATURES)
            out[k] = total

    cdef inline double _leaf(self, uint32_t t, const uint16_t *codes) noexcept nogil:
        cdef const Node *node = self.nodes + self.tree_starts[t]
        while node.feature != LEAF:
            node = node + 1 if codes[node.feature] <= node.code else self.nodes + node.right
        return self.leaves[node.right]


cdef void _rule_out(uint8_t *mask, uint32_t width, uint32_t leaf) noexcept nogil:
    # The bits of a mask count from the lowest of its word, or of the first of its two.
    if width == 4:
        (<uint32_t *>mask)[0] &= ~(<uint32_t>1 << leaf)
    else:
        (<uint64_t *>mask)[leaf >> 6] &= ~(<uint64_t>1 << (leaf & 63))


cdef void _exp(double *out, uint32_t n) noexcept nogil:
    # e**x = 2**k * e**r with |r| <= ln(2) / 2, the series up to r**13: relative error below 3e-16.
    # ln(2) in two parts (the first with zeros at its end, so that k times it is exact), as in
    # Cody and Waite, Software Manual for the Elementary Functions, 1980. All n (at most MASKS_CELLS) step
    # by step together: a division waits for the one before it, those of other cells do not.
    cdef double power[MASKS_CELLS]
    cdef double rest[MASKS_CELLS]
    cdef double series[MASKS_CELLS]
    cdef double x
    cdef Power two
    cdef uint32_t k
    cdef int i
    for k in range(MASKS_CELLS):
        x = min(max(out[k], -745.0), 709.0) if k < n else 0.0
        power[k] = floor(x * 1.44269504088896338700 + 0.5)
        rest[k] = (x - power[k] * 6.93147180369123816490e-01) - power[k] * 1.90821492927058770002e-10
        series[k] = 1.0
    for i in range(13, 0, -1):
        for k in range(MASKS_CELLS):
            series[k] = 1.0 + series[k] * rest[k] / i
    for k in range(n):
        # Where 2**k is a number of full precision, a product is what ldexp computes.
        if power[k] >= -1022.0:
            i = <int>power[k]
            two.bits = <uint64_t>(i + 1023) << 52
            out[k] = series[k] * two.number
        else:
            out[k] = ldexp(series[k], <int>power[k])


cdef int _check_leaf(int kind, double value, uint32_t leaf) except -1:
    if kind == K_FOREST:
        if not (0.0 <= value <= 1.0):
            raise ValueError("leaf %d is not a probability" % leaf)
    elif not fabs(value) <= WILDEST:
        raise ValueError("leaf %d is out of range" % leaf)
    elif kind == K_XGBOOST and <double><float>value != value:
        raise ValueError("leaf %d of XGBoost is no float32" % leaf)
    return 0


def _checked_arrays(arrays):
    # Names, dtypes and shapes; structure is checked where the pointers are taken.
    wanted = ARRAYS | MEMBER_ARRAYS if "member_kinds" in arrays else ARRAYS
    if set(arrays) != set(wanted):
        raise ValueError("arrays are missing or unknown: "
                         + ", ".join(sorted(set(arrays) ^ set(wanted))))
    kept = {}
    for name, dtype in wanted.items():
        array = arrays[name]
        if not isinstance(array, np.ndarray) or array.dtype != np.dtype(dtype) or array.ndim != 1:
            raise ValueError("array %s must be one-dimensional %s" % (name, dtype))
        # A copy, so that nobody changes what has been checked.
        kept[name] = array.copy()
        kept[name].flags.writeable = False
    return kept

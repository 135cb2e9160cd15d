/* Codes in, a member's sum over its trees out: masks of leaves are ANDed, no node is visited.

   A tree is as many bits as it has leaves, from left to right. A node that sends a cell to the
   right rules out the leaves of its left side; of what all such nodes leave, the first is the leaf
   where a walk ends (QuickScorer: Lucchese et al., SIGIR 2015, doi 10.1145/2766462.2767733). A
   feature has few codes, so what its nodes leave stands in a table, a row per code with every tree
   in it: a cell is one AND over a row of each feature. Vectors are the compiler's own, of 16 bytes:
   SSE2 on x86-64, NEON on aarch64, words elsewhere; without intrinsics all are the same source. */

#ifndef FOREST_MASKS_H
#define FOREST_MASKS_H

#include <stdint.h>
#include <string.h>

enum {
    MASKS_FEATURES = 68,    /* codes of a cell, used or not */
    MASKS_CELLS = 8,        /* summed at once: one sum waits for its last addition, eight do not */
    MASKS_ROW = 4096        /* most bytes of a row */
};

typedef struct {
    char *rows;             /* of each used feature a row per code; aligned to 64; NULL: no table */
    uint32_t row_bytes;     /* a multiple of 16 */
    uint32_t width;         /* bytes a tree: 4, 8 or 16 */
    uint32_t n_trees;
    uint32_t n_used;        /* features that any node asks for */
    uint8_t used[MASKS_FEATURES];
    uint16_t last[MASKS_FEATURES];      /* highest code */
    uint32_t first[MASKS_FEATURES];     /* bytes before the row of code 0 */
    uint32_t *tree_leaves;  /* first leaf of each tree, in `leaves` */
    const double *leaves;
} Masks;

typedef char MasksOut[MASKS_ROW + 64] __attribute__((aligned(64)));
typedef uint64_t MasksLane __attribute__((vector_size(16), may_alias));

#define MASKS_INLINE static inline __attribute__((always_inline))

/* ANDs some lanes of the rows, each in a variable: an array would not stay in registers. */
#define MASKS_TAKE(j) MasksLane lane##j = ((const MasksLane *)(row[0] + at))[j];
#define MASKS_CUT(j) lane##j &= ((const MasksLane *)(row[f] + at))[j];
#define MASKS_PUT(j) ((MasksLane *)(out + at))[j] = lane##j;
#define MASKS_AND(NAME, EACH)                                                                      \
    MASKS_INLINE void NAME(const char *const *row, uint32_t n, uint32_t at, char *out) {           \
        EACH(MASKS_TAKE)                                                                           \
        for (uint32_t f = 1; f < n; f++) {                                                         \
            EACH(MASKS_CUT)                                                                        \
        }                                                                                          \
        EACH(MASKS_PUT)                                                                            \
    }
#define MASKS_1(DO) DO(0)
#define MASKS_4(DO) DO(0) DO(1) DO(2) DO(3)
#define MASKS_8(DO) MASKS_4(DO) DO(4) DO(5) DO(6) DO(7)
MASKS_AND(masks_and_1, MASKS_1)
MASKS_AND(masks_and_4, MASKS_4)
MASKS_AND(masks_and_8, MASKS_8)

static void masks_of(const Masks *masks, const uint16_t *codes, char *out) {
    const char *row[MASKS_FEATURES];
    uint32_t n = masks->n_used, at = 0;
    for (uint32_t f = 0; f < n; f++) {
        uint32_t code = codes[masks->used[f]];
        /* A code past the last (a hostile peer's) is the last. */
        code = code < masks->last[f] ? code : masks->last[f];
        row[f] = masks->rows + masks->first[f] + code * masks->row_bytes;
    }
    for (; at + 128 <= masks->row_bytes; at += 128)
        masks_and_8(row, n, at, out);
    for (; at + 64 <= masks->row_bytes; at += 64)
        masks_and_4(row, n, at, out);
    for (; at < masks->row_bytes; at += 16)
        masks_and_1(row, n, at, out);
}

/* The first leaf that is left; there is one, because every walk ends. */
MASKS_INLINE uint32_t masks_leaf(const char *mask, uint32_t width, uint32_t tree) {
    uint32_t narrow;
    uint64_t low, high;
    if (width == 4) {
        memcpy(&narrow, mask + 4 * tree, 4);
        return (uint32_t)__builtin_ctz(narrow);
    }
    if (width == 8) {
        memcpy(&low, mask + 8 * tree, 8);
        return (uint32_t)__builtin_ctzll(low);
    }
    memcpy(&low, mask + 16 * tree, 8);
    memcpy(&high, mask + 16 * tree + 8, 8);
    return (low ? 0 : 64) + (uint32_t)__builtin_ctzll(low ? low : high);
}

/* Adds the leaves' values in the order of the trees, as TYPE. */
#define MASKS_SUM(NAME, TYPE)                                                                      \
    MASKS_INLINE void NAME##_some(const Masks *masks, const MasksOut *left, int n, uint32_t width, \
                                  TYPE *total) {                                                   \
        TYPE sum[MASKS_CELLS];                                                                     \
        for (int k = 0; k < n; k++)                                                                \
            sum[k] = total[k];                                                                     \
        for (uint32_t t = 0; t < masks->n_trees; t++) {                                            \
            const double *own = masks->leaves + masks->tree_leaves[t];                             \
            for (int k = 0; k < n; k++)                                                            \
                sum[k] += (TYPE)own[masks_leaf(left[k], width, t)];                                \
        }                                                                                          \
        for (int k = 0; k < n; k++)                                                                \
            total[k] = sum[k];                                                                     \
    }                                                                                              \
    /* codes: n (at most MASKS_CELLS) cells of MASKS_FEATURES codes; total: n */                   \
    static void NAME(const Masks *masks, const uint16_t *codes, uint32_t n, TYPE *total) {         \
        MasksOut left[MASKS_CELLS];                                                                \
        for (uint32_t k = 0; k < n; k++)                                                           \
            masks_of(masks, codes + k * MASKS_FEATURES, left[k]);                                  \
        if (n == MASKS_CELLS) {                                                                    \
            if (masks->width == 4)                                                                 \
                NAME##_some(masks, left, MASKS_CELLS, 4, total);                                   \
            else if (masks->width == 8)                                                            \
                NAME##_some(masks, left, MASKS_CELLS, 8, total);                                   \
            else                                                                                   \
                NAME##_some(masks, left, MASKS_CELLS, 16, total);                                  \
            return;                                                                                \
        }                                                                                          \
        for (uint32_t k = 0; k < n; k++) {                                                         \
            if (masks->width == 4)                                                                 \
                NAME##_some(masks, left + k, 1, 4, total + k);                                     \
            else if (masks->width == 8)                                                            \
                NAME##_some(masks, left + k, 1, 8, total + k);                                     \
            else                                                                                   \
                NAME##_some(masks, left + k, 1, 16, total + k);                                    \
        }                                                                                          \
    }

MASKS_SUM(masks_add, double)
MASKS_SUM(masks_add_singles, float)

#endif

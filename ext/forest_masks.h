/* The forest's inner loop: one cache line of masks per feature, ANDed.
 *
 * A vector type of GCC and Clang rather than intrinsics: it becomes SSE2 or NEON pairs here and
 * wider registers where the compiler may use them.
 */
#ifndef IDS_FOREST_MASKS_H
#define IDS_FOREST_MASKS_H

#include <stdint.h>

typedef uint64_t ids_line __attribute__((vector_size(64), may_alias));

static inline void ids_and_lines(const uint64_t *const *rows, uint32_t n, uint64_t at,
                                 uint64_t *out)
{
    ids_line a = *(const ids_line *)(rows[0] + at);
    for (uint32_t f = 1; f < n; f++)
        a &= *(const ids_line *)(rows[f] + at);
    *(ids_line *)out = a;
}

static inline uint32_t ids_lowest_bit(uint64_t word) { return (uint32_t)__builtin_ctzll(word); }

#endif

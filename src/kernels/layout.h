/* How packed weights lie in memory: the facts that packing (pack.c) and the matmuls share.
 *
 * A group is 16 output rows. Its K is cut into units; a unit is a header (scales of the 16 rows)
 * and up to `subs` sub-blocks of 32 weights a row. In a sub-block, 64-byte vectors hold 4
 * consecutive k for each of the 16 rows ("dword j" of a row is k 4j..4j+3). The last unit of a
 * group may be short: whole header, fewer sub-blocks. Integers are stored unsigned.
 *
 *   nibbles  4 vectors; low nibbles are dwords 0-3, high ones dwords 4-7
 *   fifth    1 vector; bit j of each byte belongs to dword j
 *   pairs    2 vectors; bits 2j of the first belong to dword j, of the second to dword 4 + j
 *   bytes    8 vectors
 *
 * Float types have no units: they are [k][16 rows]. */
#ifndef SHOAL_KERNELS_LAYOUT_H
#define SHOAL_KERNELS_LAYOUT_H

#include "base/attributes.h"
#include "kernels/kernels.h"

#include <assert.h>

/* X(type, sub-blocks a unit, header bytes, sub-block bytes). Header, in vectors of 16 rows:
 *   Q4_0 Q5_0 Q8_0 IQ4_NL  d of 2 sub-blocks (f16)          Q4_1 Q5_1  d, m (f16)
 *   Q4_K Q5_K  d, dmin (f16), the 12 bytes of 6-bit scales   Q2_K  d, dmin (f16), 16 bytes of
 * scales Q6_K  d (f16), 32 bytes of zero, 16 scales (int8)        Q3_K  the same with 12 bytes of
 * 6-bit scales IQ4_XS  d (f16), high bits (u16), low bits (4 bytes)     MXFP4  exponents of 4
 * sub-blocks (u8) */
#define KERNEL_LAYOUTS(X)                                                                          \
    X(Q4_0, 2, 64, 256)                                                                            \
    X(Q4_1, 1, 64, 256)                                                                            \
    X(Q5_0, 2, 64, 320)                                                                            \
    X(Q5_1, 1, 64, 320)                                                                            \
    X(Q8_0, 2, 64, 512)                                                                            \
    X(Q2_K, 8, 320, 128)                                                                           \
    X(Q3_K, 8, 256, 192)                                                                           \
    X(Q4_K, 8, 256, 256)                                                                           \
    X(Q5_K, 8, 256, 320)                                                                           \
    X(Q6_K, 8, 320, 384)                                                                           \
    X(IQ4_NL, 2, 64, 256)                                                                          \
    X(IQ4_XS, 8, 128, 256)                                                                         \
    X(MXFP4, 4, 64, 256)

/* X(type, bytes of an element) */
#define KERNEL_FLOATS(X)                                                                           \
    X(F32, 4)                                                                                      \
    X(F16, 2)                                                                                      \
    X(BF16, 2)

struct layout {
    int subs;
    int header, sub; /* bytes */
};

/* All zero for types without units. Folds to constants where type is one. */
static ALWAYS_INLINE struct layout layout_of(enum quant_type type)
{
    switch (type) {
#define ROW(name, subs, header, sub)                                                               \
    case QUANT_##name:                                                                             \
        return (struct layout){ subs, header, sub };
        KERNEL_LAYOUTS(ROW)
#undef ROW
    default:
        return (struct layout){ 0, 0, 0 };
    }
}

/* Bytes of an element of a float type, 0 for the others. */
static ALWAYS_INLINE int layout_element(enum quant_type type)
{
    switch (type) {
#define ROW(name, bytes)                                                                           \
    case QUANT_##name:                                                                             \
        return bytes;
        KERNEL_FLOATS(ROW)
#undef ROW
    default:
        return 0;
    }
}

static ALWAYS_INLINE size_t round64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

/* A block of a Q8 activation tile of T tokens: q[8][T][4] int8, then arrays of T, in this order:
 * what the accumulators of biased weights start at (int32), the scale, scale times the sum (f32).
 */
enum q8_field {
    Q8_SUM_8,    /* -8 * sum of all q */
    Q8_SUM_128,  /* -128 * sum of all q */
    Q8_FIRST_32, /* -32 * sum of the first 16 */
    Q8_LAST_32,  /* -32 * sum of the last 16 */
    Q8_SCALE,
    Q8_SCALED_SUM,
    Q8_FIELDS
};
#define Q8_TOKEN_BYTES (KERNEL_BLOCK + Q8_FIELDS * 4)

static ALWAYS_INLINE int blocks_of(int cols)
{
    return (cols + KERNEL_BLOCK - 1) / KERNEL_BLOCK;
}

/* Bytes of one tile of T tokens. */
static ALWAYS_INLINE size_t tile_bytes(enum activation format, int tokens, int cols)
{
    return format == ACTIVATION_Q8 ? round64((size_t)blocks_of(cols) * Q8_TOKEN_BYTES * tokens)
                                   : round64((size_t)cols * 4 * tokens);
}

#endif

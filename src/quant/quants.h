/* Block formats of GGUF tensors: sizes, names, conversion to and from f32. */
#ifndef SHOAL_QUANT_QUANTS_H
#define SHOAL_QUANT_QUANTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum quant_type {
#define QUANT(name, id, block, bytes) QUANT_##name,
#include "quant/quants.def"
#undef QUANT
    QUANT_COUNT
};

struct quant_format {
    const char *name; /* as in GGUF, "Q4_K" */
    uint32_t id;      /* in the file */
    uint32_t block;   /* weights a block */
    uint32_t bytes;   /* a block */
};

/* Blocks as they lie in the file, little-endian, unaligned. d and m are IEEE halves. */
struct block_q4_0 {
    uint16_t d;
    uint8_t q[16]; /* weight i in the low nibble of q[i], weight i + 16 in the high one */
};
struct block_q4_1 {
    uint16_t d, m;
    uint8_t q[16];
};
struct block_q5_0 {
    uint16_t d;
    uint8_t high[4]; /* fifth bit of weight i at bit i */
    uint8_t q[16];
};
struct block_q5_1 {
    uint16_t d, m;
    uint8_t high[4];
    uint8_t q[16];
};
struct block_q8_0 {
    uint16_t d;
    int8_t q[32];
};
struct block_q2_k {
    uint8_t scales[16]; /* scale in the low nibble, minimum in the high one, for 16 weights */
    uint8_t q[64];
    uint16_t d, dmin;
};
struct block_q3_k {
    uint8_t high[32];
    uint8_t q[64];
    uint8_t scales[12]; /* 16 scales of 6 bits */
    uint16_t d;
};
struct block_q4_k {
    uint16_t d, dmin;
    uint8_t scales[12]; /* 8 scales and 8 minima of 6 bits */
    uint8_t q[128];
};
struct block_q5_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t high[32];
    uint8_t q[128];
};
struct block_q6_k {
    uint8_t low[128];
    uint8_t high[64];
    int8_t scales[16]; /* for 16 weights each */
    uint16_t d;
};
struct block_iq4_nl {
    uint16_t d;
    uint8_t q[16];
};
struct block_iq4_xs {
    uint16_t d, scales_high;
    uint8_t scales_low[4];
    uint8_t q[128];
};
struct block_mxfp4 {
    uint8_t e; /* power-of-two scale, E8M0 */
    uint8_t q[16];
};
_Static_assert(sizeof(struct block_q4_0) == 18, "layout");
_Static_assert(sizeof(struct block_q4_1) == 20, "layout");
_Static_assert(sizeof(struct block_q5_0) == 22, "layout");
_Static_assert(sizeof(struct block_q5_1) == 24, "layout");
_Static_assert(sizeof(struct block_q8_0) == 34, "layout");
_Static_assert(sizeof(struct block_q2_k) == 84, "layout");
_Static_assert(sizeof(struct block_q3_k) == 110, "layout");
_Static_assert(sizeof(struct block_q4_k) == 144, "layout");
_Static_assert(sizeof(struct block_q5_k) == 176, "layout");
_Static_assert(sizeof(struct block_q6_k) == 210, "layout");
_Static_assert(sizeof(struct block_iq4_nl) == 18, "layout");
_Static_assert(sizeof(struct block_iq4_xs) == 136, "layout");
_Static_assert(sizeof(struct block_mxfp4) == 17, "layout");

/* Code points of the 4-bit non-linear types, and of MXFP4 (doubled E2M1 values). */
extern const int8_t quant_iq4_values[16];
extern const int8_t quant_mxfp4_values[16];

/* Static; type must be valid. */
const struct quant_format *quant_format(enum quant_type type);
/* The type of a file's id; QUANT_COUNT when unknown. */
enum quant_type quant_from_id(uint32_t id);
/* By name, any case; QUANT_COUNT when unknown. */
enum quant_type quant_from_name(const char *name);

/* Bytes of n weights; n must be a multiple of the block. */
size_t quant_row_bytes(enum quant_type type, size_t n);

/* True where quant_dequantize() knows the type. */
bool quant_can_dequantize(enum quant_type type);
/* dst[i] = weight i, the same bits as ggml's reference; n a multiple of the block; src may be
 * unaligned. The type must be one that can be dequantized. */
void quant_dequantize(enum quant_type type, const void *src, float *dst, size_t n);

/* Reference quantizers for all types that can be dequantized; deterministic, not tuned. */
void quant_quantize(enum quant_type type, const float *src, void *dst, size_t n);

/* The 6-bit scale and minimum number j (0..7) of Q4_K and Q5_K. */
static inline void quant_k4_scale(const uint8_t *s, int j, uint8_t *scale, uint8_t *min)
{
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (uint8_t)((s[j + 4] & 15) | (s[j - 4] >> 6) << 4);
        *min = (uint8_t)((s[j + 4] >> 4) | (s[j] >> 6) << 4);
    }
}

#endif

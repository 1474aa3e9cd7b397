/* Blocks to f32. The order of the few roundings is ggml's, so the bits are equal. */
#include "quant/quants.h"

#include "quant/half.h"

#include <assert.h>
#include <strings.h>

static const struct quant_format formats[] = {
#define QUANT(name, id, block, bytes) { #name, id, block, bytes },
#include "quant/quants.def"
#undef QUANT
};

const int8_t quant_iq4_values[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113 };
const int8_t quant_mxfp4_values[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

const struct quant_format *quant_format(enum quant_type type)
{
    assert((unsigned)type < QUANT_COUNT);
    return &formats[type];
}

enum quant_type quant_from_id(uint32_t id)
{
    for (int i = 0; i < QUANT_COUNT; i++)
        if (formats[i].id == id)
            return (enum quant_type)i;
    return QUANT_COUNT;
}

enum quant_type quant_from_name(const char *name)
{
    for (int i = 0; i < QUANT_COUNT; i++)
        if (strcasecmp(formats[i].name, name) == 0)
            return (enum quant_type)i;
    return QUANT_COUNT;
}

size_t quant_row_bytes(enum quant_type type, size_t n)
{
    const struct quant_format *f = quant_format(type);
    return n / f->block * f->bytes;
}

static void from_f32(const uint8_t *src, float *dst)
{
    memcpy(dst, src, 4);
}

static void from_f16(const uint8_t *src, float *dst)
{
    uint16_t h;
    memcpy(&h, src, 2);
    dst[0] = half_to_f32(h);
}

static void from_bf16(const uint8_t *src, float *dst)
{
    uint16_t h;
    memcpy(&h, src, 2);
    dst[0] = bf16_to_f32(h);
}

static void from_q4_0(const uint8_t *src, float *dst)
{
    struct block_q4_0 b;
    memcpy(&b, src, sizeof(b));
    float d = half_to_f32(b.d);
    for (int i = 0; i < 16; i++) {
        dst[i] = (float)((b.q[i] & 15) - 8) * d;
        dst[i + 16] = (float)((b.q[i] >> 4) - 8) * d;
    }
}

static void from_q4_1(const uint8_t *src, float *dst)
{
    struct block_q4_1 b;
    memcpy(&b, src, sizeof(b));
    float d = half_to_f32(b.d), m = half_to_f32(b.m);
    for (int i = 0; i < 16; i++) {
        dst[i] = (float)(b.q[i] & 15) * d + m;
        dst[i + 16] = (float)(b.q[i] >> 4) * d + m;
    }
}

static int fifth_bit(const uint8_t high[4], int i)
{
    return (high[i / 8] >> (i % 8) & 1) << 4;
}

static void from_q5_0(const uint8_t *src, float *dst)
{
    struct block_q5_0 b;
    memcpy(&b, src, sizeof(b));
    float d = half_to_f32(b.d);
    for (int i = 0; i < 16; i++) {
        dst[i] = (float)(((b.q[i] & 15) | fifth_bit(b.high, i)) - 16) * d;
        dst[i + 16] = (float)(((b.q[i] >> 4) | fifth_bit(b.high, i + 16)) - 16) * d;
    }
}

static void from_q5_1(const uint8_t *src, float *dst)
{
    struct block_q5_1 b;
    memcpy(&b, src, sizeof(b));
    float d = half_to_f32(b.d), m = half_to_f32(b.m);
    for (int i = 0; i < 16; i++) {
        dst[i] = (float)((b.q[i] & 15) | fifth_bit(b.high, i)) * d + m;
        dst[i + 16] = (float)((b.q[i] >> 4) | fifth_bit(b.high, i + 16)) * d + m;
    }
}

static void from_q8_0(const uint8_t *src, float *dst)
{
    struct block_q8_0 b;
    memcpy(&b, src, sizeof(b));
    float d = half_to_f32(b.d);
    for (int i = 0; i < 32; i++)
        dst[i] = (float)b.q[i] * d;
}

static void from_q2_k(const uint8_t *src, float *dst)
{
    struct block_q2_k b;
    memcpy(&b, src, sizeof(b));
    float d = half_to_f32(b.d), dmin = half_to_f32(b.dmin);
    for (int i = 0; i < 256; i++) {
        int half = i / 128, shift = i % 128 / 32 * 2, sub = i / 16;
        int q = b.q[half * 32 + i % 32] >> shift & 3;
        float scale = d * (float)(b.scales[sub] & 15), min = dmin * (float)(b.scales[sub] >> 4);
        dst[i] = scale * (float)q - min;
    }
}

/* Scale j (0..15) of Q3_K, minus 32. */
static int q3_scale(const uint8_t *s, int j)
{
    int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4;
    int high = s[8 + j % 4] >> (2 * (j / 4)) & 3;
    return (low | high << 4) - 32;
}

static void from_q3_k(const uint8_t *src, float *dst)
{
    struct block_q3_k b;
    memcpy(&b, src, sizeof(b));
    float d = half_to_f32(b.d);
    for (int i = 0; i < 256; i++) {
        int half = i / 128, part = i % 128 / 32;
        int q = (b.q[half * 32 + i % 32] >> (2 * part) & 3) -
                (b.high[i % 32] >> (half * 4 + part) & 1 ? 0 : 4);
        dst[i] = d * (float)q3_scale(b.scales, i / 16) * (float)q;
    }
}

static void from_q4_k(const uint8_t *src, float *dst)
{
    struct block_q4_k b;
    memcpy(&b, src, sizeof(b));
    float d = half_to_f32(b.d), dmin = half_to_f32(b.dmin);
    for (int j = 0; j < 8; j++) {
        uint8_t scale, min;
        quant_k4_scale(b.scales, j, &scale, &min);
        float ds = d * (float)scale, dm = dmin * (float)min;
        for (int i = 0; i < 32; i++) {
            int q = b.q[j / 2 * 32 + i] >> (j % 2 * 4) & 15;
            dst[j * 32 + i] = ds * (float)q - dm;
        }
    }
}

static void from_q5_k(const uint8_t *src, float *dst)
{
    struct block_q5_k b;
    memcpy(&b, src, sizeof(b));
    float d = half_to_f32(b.d), dmin = half_to_f32(b.dmin);
    for (int j = 0; j < 8; j++) {
        uint8_t scale, min;
        quant_k4_scale(b.scales, j, &scale, &min);
        float ds = d * (float)scale, dm = dmin * (float)min;
        for (int i = 0; i < 32; i++) {
            int q = (b.q[j / 2 * 32 + i] >> (j % 2 * 4) & 15) | (b.high[i] >> j & 1) << 4;
            dst[j * 32 + i] = ds * (float)q - dm;
        }
    }
}

static void from_q6_k(const uint8_t *src, float *dst)
{
    struct block_q6_k b;
    memcpy(&b, src, sizeof(b));
    float d = half_to_f32(b.d);
    for (int i = 0; i < 256; i++) {
        int half = i / 128, part = i % 128 / 32, at = i % 32;
        int low = b.low[half * 64 + part % 2 * 32 + at] >> (part / 2 * 4) & 15;
        int high = b.high[half * 32 + at] >> (2 * part) & 3;
        dst[i] = d * (float)b.scales[i / 16] * (float)((low | high << 4) - 32);
    }
}

static void from_iq4_nl(const uint8_t *src, float *dst)
{
    struct block_iq4_nl b;
    memcpy(&b, src, sizeof(b));
    float d = half_to_f32(b.d);
    for (int i = 0; i < 16; i++) {
        dst[i] = d * (float)quant_iq4_values[b.q[i] & 15];
        dst[i + 16] = d * (float)quant_iq4_values[b.q[i] >> 4];
    }
}

static void from_iq4_xs(const uint8_t *src, float *dst)
{
    struct block_iq4_xs b;
    memcpy(&b, src, sizeof(b));
    float d = half_to_f32(b.d);
    for (int j = 0; j < 8; j++) {
        int scale = (b.scales_low[j / 2] >> (j % 2 * 4) & 15) | (b.scales_high >> (2 * j) & 3) << 4;
        float ds = d * (float)(scale - 32);
        for (int i = 0; i < 16; i++) {
            dst[j * 32 + i] = ds * (float)quant_iq4_values[b.q[j * 16 + i] & 15];
            dst[j * 32 + i + 16] = ds * (float)quant_iq4_values[b.q[j * 16 + i] >> 4];
        }
    }
}

/* Half the E8M0 scale, because the code points are doubled. */
static float mxfp4_scale(uint8_t e)
{
    return f32_from_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

static void from_mxfp4(const uint8_t *src, float *dst)
{
    struct block_mxfp4 b;
    memcpy(&b, src, sizeof(b));
    float d = mxfp4_scale(b.e);
    for (int i = 0; i < 16; i++) {
        dst[i] = d * (float)quant_mxfp4_values[b.q[i] & 15];
        dst[i + 16] = d * (float)quant_mxfp4_values[b.q[i] >> 4];
    }
}

/* NULL: the type can only be named. */
static void (*const from_block[QUANT_COUNT])(const uint8_t *src, float *dst) = {
    [QUANT_F32] = from_f32,     [QUANT_F16] = from_f16,       [QUANT_BF16] = from_bf16,
    [QUANT_Q4_0] = from_q4_0,   [QUANT_Q4_1] = from_q4_1,     [QUANT_Q5_0] = from_q5_0,
    [QUANT_Q5_1] = from_q5_1,   [QUANT_Q8_0] = from_q8_0,     [QUANT_Q2_K] = from_q2_k,
    [QUANT_Q3_K] = from_q3_k,   [QUANT_Q4_K] = from_q4_k,     [QUANT_Q5_K] = from_q5_k,
    [QUANT_Q6_K] = from_q6_k,   [QUANT_IQ4_NL] = from_iq4_nl, [QUANT_IQ4_XS] = from_iq4_xs,
    [QUANT_MXFP4] = from_mxfp4,
};

bool quant_can_dequantize(enum quant_type type)
{
    return (unsigned)type < QUANT_COUNT && from_block[type];
}

void quant_dequantize(enum quant_type type, const void *src, float *dst, size_t n)
{
    assert(quant_can_dequantize(type));
    const struct quant_format *f = &formats[type];
    const uint8_t *at = src;
    for (size_t i = 0; i < n; i += f->block, at += f->bytes)
        from_block[type](at, dst + i);
}

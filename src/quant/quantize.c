/* f32 to blocks: reference quantizers. Each fits a scale (and a minimum) to a group of weights by
 * trying a few grids and solving least squares on each, then rounds the weights against the scale
 * as the block really stores it. Deterministic; not weighted by any importance. */
#include "quant/quants.h"

#include "quant/half.h"

#include <assert.h>
#include <math.h>

/* The nearest whole number in lo..hi; what is no number counts as lo. */
static int level(float v, int lo, int hi)
{
    if (!(v > (float)lo))
        return lo;
    return v >= (float)hi ? hi : (int)lrintf(v);
}

static float reciprocal(float v)
{
    return v != 0 ? 1.0f / v : 0;
}

/* The value of largest magnitude, with its sign. */
static float extreme(const float *x, int n)
{
    float best = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(best))
            best = x[i];
    return best;
}

/* Scale of the grid lo..hi (lo < 0) with the least squared error among 19 trials. */
static float fit_symmetric(const float *x, int n, int lo, int hi)
{
    float far = extreme(x, n), best_scale = 0, best_gain = 0;
    if (far == 0)
        return 0;
    for (int t = -9; t <= 9; t++) {
        /* The extreme value falls near lo, the longer side of the grid. */
        float inverse = ((float)lo + 0.1f * (float)t) / far, qx = 0, qq = 0;
        for (int i = 0; i < n; i++) {
            float q = (float)level(x[i] * inverse, lo, hi);
            qx += q * x[i];
            qq += q * q;
        }
        /* With the best scale qx / qq, the squared error is sum(x * x) - qx * qx / qq. */
        if (qq > 0 && qx * qx > best_gain * qq) {
            best_gain = qx * qx / qq;
            best_scale = qx / qq;
        }
    }
    return best_scale;
}

struct affine {
    float scale, min; /* x is about scale * q - min, both >= 0 */
};

static float affine_error(const float *x, int n, int top, struct affine a)
{
    float inverse = reciprocal(a.scale), sum = 0;
    for (int i = 0; i < n; i++) {
        float d = a.scale * (float)level((x[i] + a.min) * inverse, 0, top) - a.min - x[i];
        sum += d * d;
    }
    return sum;
}

/* Least squares of scale and minimum for the levels that the grid `from` gives. */
static struct affine affine_solve(const float *x, int n, int top, struct affine from)
{
    float inverse = reciprocal(from.scale), sq = 0, sqq = 0, sx = 0, sqx = 0;
    for (int i = 0; i < n; i++) {
        float q = (float)level((x[i] + from.min) * inverse, 0, top);
        sq += q;
        sqq += q * q;
        sx += x[i];
        sqx += q * x[i];
    }
    float det = (float)n * sqq - sq * sq;
    if (det <= 0)
        return from;
    struct affine a = { .scale = ((float)n * sqx - sq * sx) / det,
                        .min = -(sqq * sx - sq * sqx) / det };
    if (a.min < 0)
        a = (struct affine){ .scale = sqq > 0 ? sqx / sqq : 0 };
    return a.scale > 0 ? a : from;
}

/* Scale and minimum of the grid 0..top. */
static struct affine fit_affine(const float *x, int n, int top)
{
    float lo = 0, hi = x[0];
    for (int i = 0; i < n; i++) {
        lo = fminf(lo, x[i]);
        hi = fmaxf(hi, x[i]);
    }
    struct affine best = { .scale = fmaxf(hi - lo, 0) / (float)top, .min = -lo };
    if (!(hi > lo))
        return best;
    float best_error = affine_error(x, n, top, best);
    for (int t = -5; t <= 10; t++) {
        struct affine from = { .scale = (hi - lo) / ((float)top + 0.1f * (float)t), .min = -lo };
        struct affine a = affine_solve(x, n, top, from);
        float error = affine_error(x, n, top, a);
        if (error < best_error) {
            best_error = error;
            best = a;
        }
    }
    return best;
}

/* Stores a scale as a half and gives back what was stored. */
static float store_half(uint16_t *ret, float v)
{
    *ret = half_from_f32(v);
    return half_to_f32(*ret);
}

static void to_f32(const float *src, uint8_t *dst)
{
    memcpy(dst, src, 4);
}

static void to_f16(const float *src, uint8_t *dst)
{
    uint16_t h = half_from_f32(src[0]);
    memcpy(dst, &h, 2);
}

static void to_bf16(const float *src, uint8_t *dst)
{
    uint16_t h = bf16_from_f32(src[0]);
    memcpy(dst, &h, 2);
}

static void to_q4_0(const float *src, uint8_t *dst)
{
    struct block_q4_0 b;
    float inverse = reciprocal(store_half(&b.d, fit_symmetric(src, 32, -8, 7)));
    for (int i = 0; i < 16; i++)
        b.q[i] = (uint8_t)((level(src[i] * inverse, -8, 7) + 8) |
                           (level(src[i + 16] * inverse, -8, 7) + 8) << 4);
    memcpy(dst, &b, sizeof(b));
}

static void to_q5_0(const float *src, uint8_t *dst)
{
    struct block_q5_0 b = { 0 };
    float inverse = reciprocal(store_half(&b.d, fit_symmetric(src, 32, -16, 15)));
    for (int i = 0; i < 32; i++) {
        int q = level(src[i] * inverse, -16, 15) + 16;
        b.q[i % 16] |= (uint8_t)((q & 15) << (i / 16 * 4));
        b.high[i / 8] |= (uint8_t)((q >> 4) << (i % 8));
    }
    memcpy(dst, &b, sizeof(b));
}

/* The affine types of 32 weights store the offset itself, which may have either sign. */
static struct affine fit_offset(const float *src, int top, uint16_t *d, uint16_t *m)
{
    float lo = src[0], shifted[32];
    for (int i = 1; i < 32; i++)
        lo = fminf(lo, src[i]);
    for (int i = 0; i < 32; i++)
        shifted[i] = src[i] - lo;
    struct affine a = fit_affine(shifted, 32, top);
    float scale = store_half(d, a.scale), offset = store_half(m, lo - a.min);
    return (struct affine){ .scale = scale, .min = -offset };
}

static void to_q4_1(const float *src, uint8_t *dst)
{
    struct block_q4_1 b = { 0 };
    struct affine a = fit_offset(src, 15, &b.d, &b.m);
    float inverse = reciprocal(a.scale);
    for (int i = 0; i < 32; i++)
        b.q[i % 16] |= (uint8_t)(level((src[i] + a.min) * inverse, 0, 15) << (i / 16 * 4));
    memcpy(dst, &b, sizeof(b));
}

static void to_q5_1(const float *src, uint8_t *dst)
{
    struct block_q5_1 b = { 0 };
    struct affine a = fit_offset(src, 31, &b.d, &b.m);
    float inverse = reciprocal(a.scale);
    for (int i = 0; i < 32; i++) {
        int q = level((src[i] + a.min) * inverse, 0, 31);
        b.q[i % 16] |= (uint8_t)((q & 15) << (i / 16 * 4));
        b.high[i / 8] |= (uint8_t)((q >> 4) << (i % 8));
    }
    memcpy(dst, &b, sizeof(b));
}

static void to_q8_0(const float *src, uint8_t *dst)
{
    struct block_q8_0 b;
    float inverse = reciprocal(store_half(&b.d, fabsf(extreme(src, 32)) / 127));
    for (int i = 0; i < 32; i++)
        b.q[i] = (int8_t)level(src[i] * inverse, -127, 127);
    memcpy(dst, &b, sizeof(b));
}

/* A superblock's halves, and its groups' scales and minima in units of them. */
struct groups {
    uint16_t d, dmin;
    uint8_t scales[16], mins[16];
};

/* Fits the groups of `size` weights on the grid 0..top and rounds scales and minima to whole
 * numbers 0..top_scale. */
static struct groups fit_groups(const float *src, int size, int top, int top_scale)
{
    struct groups g;
    struct affine a[16];
    int n = 256 / size;
    float max_scale = 0, max_min = 0;
    for (int j = 0; j < n; j++) {
        a[j] = fit_affine(src + j * size, size, top);
        max_scale = fmaxf(max_scale, a[j].scale);
        max_min = fmaxf(max_min, a[j].min);
    }
    float d = reciprocal(store_half(&g.d, max_scale / (float)top_scale));
    float dmin = reciprocal(store_half(&g.dmin, max_min / (float)top_scale));
    for (int j = 0; j < n; j++) {
        g.scales[j] = (uint8_t)level(a[j].scale * d, 0, top_scale);
        g.mins[j] = (uint8_t)level(a[j].min * dmin, 0, top_scale);
    }
    return g;
}

static void to_q2_k(const float *src, uint8_t *dst)
{
    struct groups g = fit_groups(src, 16, 3, 15);
    struct block_q2_k b = { .d = g.d, .dmin = g.dmin };
    float d = half_to_f32(b.d), dmin = half_to_f32(b.dmin);
    for (int j = 0; j < 16; j++)
        b.scales[j] = (uint8_t)(g.scales[j] | g.mins[j] << 4);
    for (int i = 0; i < 256; i++) {
        float inverse = reciprocal(d * (float)g.scales[i / 16]), min = dmin * (float)g.mins[i / 16];
        int q = level((src[i] + min) * inverse, 0, 3);
        b.q[i / 128 * 32 + i % 32] |= (uint8_t)(q << (i % 128 / 32 * 2));
    }
    memcpy(dst, &b, sizeof(b));
}

/* Packs 8 scales and 8 minima of 6 bits as quant_k4_scale() reads them. */
static void pack_k4(const uint8_t *scales, const uint8_t *mins, uint8_t out[static 12])
{
    for (int j = 0; j < 4; j++) {
        out[j] = (uint8_t)(scales[j] | (scales[j + 4] >> 4) << 6);
        out[j + 4] = (uint8_t)(mins[j] | (mins[j + 4] >> 4) << 6);
        out[j + 8] = (uint8_t)((scales[j + 4] & 15) | (mins[j + 4] & 15) << 4);
    }
}

static void to_q4_k(const float *src, uint8_t *dst)
{
    struct groups g = fit_groups(src, 32, 15, 63);
    struct block_q4_k b = { .d = g.d, .dmin = g.dmin };
    pack_k4(g.scales, g.mins, b.scales);
    float d = half_to_f32(b.d), dmin = half_to_f32(b.dmin);
    for (int i = 0; i < 256; i++) {
        int j = i / 32;
        float inverse = reciprocal(d * (float)g.scales[j]), min = dmin * (float)g.mins[j];
        int q = level((src[i] + min) * inverse, 0, 15);
        b.q[j / 2 * 32 + i % 32] |= (uint8_t)(q << (j % 2 * 4));
    }
    memcpy(dst, &b, sizeof(b));
}

static void to_q5_k(const float *src, uint8_t *dst)
{
    struct groups g = fit_groups(src, 32, 31, 63);
    struct block_q5_k b = { .d = g.d, .dmin = g.dmin };
    pack_k4(g.scales, g.mins, b.scales);
    float d = half_to_f32(b.d), dmin = half_to_f32(b.dmin);
    for (int i = 0; i < 256; i++) {
        int j = i / 32;
        float inverse = reciprocal(d * (float)g.scales[j]), min = dmin * (float)g.mins[j];
        int q = level((src[i] + min) * inverse, 0, 31);
        b.q[j / 2 * 32 + i % 32] |= (uint8_t)((q & 15) << (j % 2 * 4));
        b.high[i % 32] |= (uint8_t)((q >> 4) << j);
    }
    memcpy(dst, &b, sizeof(b));
}

/* Symmetric groups of `size` weights whose signed scales are whole numbers lo..-lo-1 of d. */
static float fit_signed_groups(const float *src, int size, int grid_lo, int lo, int8_t *scales,
                               uint16_t *half)
{
    float s[16];
    int n = 256 / size;
    for (int j = 0; j < n; j++)
        s[j] = fit_symmetric(src + j * size, size, grid_lo, -grid_lo - 1);
    float d = store_half(half, extreme(s, n) / (float)lo), inverse = reciprocal(d);
    for (int j = 0; j < n; j++)
        scales[j] = (int8_t)level(s[j] * inverse, lo, -lo - 1);
    return d;
}

static void to_q3_k(const float *src, uint8_t *dst)
{
    struct block_q3_k b = { 0 };
    int8_t scales[16];
    float d = fit_signed_groups(src, 16, -4, -32, scales, &b.d);
    for (int j = 0; j < 16; j++) {
        int s = scales[j] + 32;
        b.scales[j % 8] |= (uint8_t)((s & 15) << (j / 8 * 4));
        b.scales[8 + j % 4] |= (uint8_t)((s >> 4) << (j / 4 * 2));
    }
    for (int i = 0; i < 256; i++) {
        int q = level(src[i] * reciprocal(d * (float)scales[i / 16]), -4, 3) + 4;
        int half = i / 128, part = i % 128 / 32;
        b.q[half * 32 + i % 32] |= (uint8_t)((q & 3) << (2 * part));
        b.high[i % 32] |= (uint8_t)((q >> 2) << (half * 4 + part));
    }
    memcpy(dst, &b, sizeof(b));
}

static void to_q6_k(const float *src, uint8_t *dst)
{
    struct block_q6_k b = { 0 };
    float d = fit_signed_groups(src, 16, -32, -128, b.scales, &b.d);
    for (int i = 0; i < 256; i++) {
        int q = level(src[i] * reciprocal(d * (float)b.scales[i / 16]), -32, 31) + 32;
        int half = i / 128, part = i % 128 / 32, at = i % 32;
        b.low[half * 64 + part % 2 * 32 + at] |= (uint8_t)((q & 15) << (part / 2 * 4));
        b.high[half * 32 + at] |= (uint8_t)((q >> 4) << (2 * part));
    }
    memcpy(dst, &b, sizeof(b));
}

/* Index of the code point nearest to v. */
static int nearest_point(float v, const int8_t points[static 16])
{
    int best = 0;
    float distance = fabsf(v - (float)points[0]);
    for (int i = 1; i < 16; i++) {
        float d = fabsf(v - (float)points[i]);
        if (d < distance) {
            distance = d;
            best = i;
        }
    }
    return best;
}

/* Scale of the non-linear 4-bit code for 32 weights. */
static float fit_iq4(const float *x)
{
    float far = extreme(x, 32), best_scale = 0, best_gain = 0;
    if (far == 0)
        return 0;
    for (int t = -7; t <= 7; t++) {
        float inverse = ((float)quant_iq4_values[0] + 2.0f * (float)t) / far, qx = 0, qq = 0;
        for (int i = 0; i < 32; i++) {
            float q = (float)quant_iq4_values[nearest_point(x[i] * inverse, quant_iq4_values)];
            qx += q * x[i];
            qq += q * q;
        }
        if (qq > 0 && qx * qx > best_gain * qq) {
            best_gain = qx * qx / qq;
            best_scale = qx / qq;
        }
    }
    return best_scale;
}

static void pack_points(const float *src, float scale, const int8_t points[static 16], uint8_t *q)
{
    float inverse = reciprocal(scale);
    for (int i = 0; i < 16; i++)
        q[i] = (uint8_t)(nearest_point(src[i] * inverse, points) |
                         nearest_point(src[i + 16] * inverse, points) << 4);
}

static void to_iq4_nl(const float *src, uint8_t *dst)
{
    struct block_iq4_nl b;
    float d = store_half(&b.d, fit_iq4(src));
    pack_points(src, d, quant_iq4_values, b.q);
    memcpy(dst, &b, sizeof(b));
}

static void to_iq4_xs(const float *src, uint8_t *dst)
{
    struct block_iq4_xs b = { 0 };
    float s[8];
    for (int j = 0; j < 8; j++)
        s[j] = fit_iq4(src + j * 32);
    float d = store_half(&b.d, extreme(s, 8) / -32), inverse = reciprocal(d);
    for (int j = 0; j < 8; j++) {
        int scale = level(s[j] * inverse, -32, 31);
        b.scales_low[j / 2] |= (uint8_t)(((scale + 32) & 15) << (j % 2 * 4));
        b.scales_high |= (uint16_t)(((scale + 32) >> 4) << (2 * j));
        pack_points(src + j * 32, d * (float)scale, quant_iq4_values, b.q + j * 16);
    }
    memcpy(dst, &b, sizeof(b));
}

static void to_mxfp4(const float *src, uint8_t *dst)
{
    struct block_mxfp4 b;
    int exponent;
    float far = fabsf(extreme(src, 32));
    /* far is in [2^(exponent-1), 2^exponent); the largest code, 6, lies in [2^2, 2^3). */
    frexpf(far, &exponent);
    b.e = far > 0 ? (uint8_t)level((float)(exponent - 3 + 127), 1, 254) : 0;
    /* Code points are doubled, so the scale is halved. */
    pack_points(src, ldexpf(1, b.e - 128), quant_mxfp4_values, b.q);
    memcpy(dst, &b, sizeof(b));
}

static void (*const to_block[QUANT_COUNT])(const float *src, uint8_t *dst) = {
    [QUANT_F32] = to_f32,     [QUANT_F16] = to_f16,       [QUANT_BF16] = to_bf16,
    [QUANT_Q4_0] = to_q4_0,   [QUANT_Q4_1] = to_q4_1,     [QUANT_Q5_0] = to_q5_0,
    [QUANT_Q5_1] = to_q5_1,   [QUANT_Q8_0] = to_q8_0,     [QUANT_Q2_K] = to_q2_k,
    [QUANT_Q3_K] = to_q3_k,   [QUANT_Q4_K] = to_q4_k,     [QUANT_Q5_K] = to_q5_k,
    [QUANT_Q6_K] = to_q6_k,   [QUANT_IQ4_NL] = to_iq4_nl, [QUANT_IQ4_XS] = to_iq4_xs,
    [QUANT_MXFP4] = to_mxfp4,
};

void quant_quantize(enum quant_type type, const float *src, void *dst, size_t n)
{
    assert(quant_can_dequantize(type));
    const struct quant_format *f = quant_format(type);
    uint8_t *at = dst;
    for (size_t i = 0; i < n; i += f->block, at += f->bytes)
        to_block[type](src + i, at);
}

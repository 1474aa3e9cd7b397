/* The shim in plain C: the definition of what every other one computes. */
#ifndef SHOAL_KERNELS_ISA_SCALAR_H
#define SHOAL_KERNELS_ISA_SCALAR_H

/* There are no registers to fill. */
#ifndef KERNELS_COMPACT
#define KERNELS_COMPACT
#endif
#define ISA_ROLLED

#include "kernels/isa_common.h"

#include "quant/half.h"

#include <math.h>

#define ISA_NAME "scalar"
/* log2 of the tokens whose f32 chains fit the registers beside a row of weights. */
#define ISA_DENSE_LOG 3
#define ISA_BIAS8 128
/* Queries and 16-wide value vectors that attention keeps in registers. */
#define ISA_ATTENTION_QUERIES 4
#define ISA_VALUE_QUERIES 2
#define ISA_VALUE_VECTORS 2

typedef struct {
    float v[16];
} vf;
typedef struct {
    int32_t v[16];
} vi;
typedef struct {
    uint32_t v[16];
} vb;

#define LANES(expr)                                                                                \
    for (int i = 0; i < 16; i++)                                                                   \
        r.v[i] = (expr);                                                                           \
    return r

static inline vf vf_load(const float *p)
{
    vf r;
    LANES(p[i]);
}
static inline void vf_store(float *p, vf a)
{
    memcpy(p, a.v, 64);
}
static inline vf vf_set1(float x)
{
    vf r;
    LANES(x);
}
static inline vf vf_zero(void)
{
    return vf_set1(0);
}
static inline vf vf_add(vf a, vf b)
{
    vf r;
    LANES(a.v[i] + b.v[i]);
}
static inline vf vf_sub(vf a, vf b)
{
    vf r;
    LANES(a.v[i] - b.v[i]);
}
static inline vf vf_mul(vf a, vf b)
{
    vf r;
    LANES(a.v[i] * b.v[i]);
}
static inline vf vf_div(vf a, vf b)
{
    vf r;
    LANES(a.v[i] / b.v[i]);
}
static inline vf vf_fma(vf a, vf b, vf c)
{
    vf r;
    LANES(fmaf(a.v[i], b.v[i], c.v[i]));
}
static inline vf vf_max(vf a, vf b)
{
    vf r;
    LANES(a.v[i] > b.v[i] ? a.v[i] : b.v[i]);
}
static inline vf vf_min(vf a, vf b)
{
    vf r;
    LANES(a.v[i] < b.v[i] ? a.v[i] : b.v[i]);
}
static inline vf vf_abs(vf a)
{
    vf r;
    LANES(f32_from_bits(f32_bits(a.v[i]) & 0x7fffffffu));
}
static inline vf vf_select_lt(vf a, vf b, vf x, vf y)
{
    vf r;
    LANES(a.v[i] < b.v[i] ? x.v[i] : y.v[i]);
}
static inline vf vf_load_half(const void *p)
{
    uint16_t h[16];
    memcpy(h, p, 32);
    vf r;
    LANES(half_to_f32(h[i]));
}
static inline void vf_store_half(void *p, vf a)
{
    uint16_t h[16];
    for (int i = 0; i < 16; i++)
        h[i] = half_from_f32(a.v[i]);
    memcpy(p, h, 32);
}
static inline vf vf_load_bf16(const void *p)
{
    uint16_t h[16];
    memcpy(h, p, 32);
    vf r;
    LANES(bf16_to_f32(h[i]));
}

static inline vi vi_load(const void *p)
{
    vi r;
    memcpy(r.v, p, 64);
    return r;
}
static inline vi vi_set1(int32_t x)
{
    vi r;
    LANES(x);
}
static inline vi vi_zero(void)
{
    return vi_set1(0);
}
static inline vi vi_add(vi a, vi b)
{
    vi r;
    LANES(a.v[i] + b.v[i]);
}
static inline vi vi_sub(vi a, vi b)
{
    vi r;
    LANES(a.v[i] - b.v[i]);
}
static inline vi vi_mul(vi a, vi b)
{
    vi r;
    LANES(a.v[i] * b.v[i]);
}
static inline vi vi_and(vi a, int32_t mask)
{
    vi r;
    LANES(a.v[i] & mask);
}
static inline vi vi_or(vi a, vi b)
{
    vi r;
    LANES(a.v[i] | b.v[i]);
}
static inline vi vi_shl(vi a, int n)
{
    vi r;
    LANES((int32_t)((uint32_t)a.v[i] << n));
}
static inline vi vi_shr(vi a, int n)
{
    vi r;
    LANES((int32_t)((uint32_t)a.v[i] >> n));
}
static inline vi vi_load_i8(const void *p)
{
    const int8_t *b = p;
    vi r;
    LANES(b[i]);
}
static inline vi vi_load_u8(const void *p)
{
    const uint8_t *b = p;
    vi r;
    LANES(b[i]);
}
static inline vi vi_load_u16(const void *p)
{
    uint16_t h[16];
    memcpy(h, p, 32);
    vi r;
    LANES(h[i]);
}
static inline void vi_store_i8(void *p, vi a)
{
    int8_t *b = p;
    for (int i = 0; i < 16; i++)
        b[i] = (int8_t)a.v[i];
}
static inline int32_t vi_sum(vi a)
{
    int32_t sum = 0;
    for (int i = 0; i < 16; i++)
        sum += a.v[i];
    return sum;
}
static inline vi vi_from_vf(vf a)
{
    vi r;
    LANES((int32_t)lrintf(a.v[i]));
}
static inline vf vf_from_vi(vi a)
{
    vf r;
    LANES((float)a.v[i]);
}
static inline vf vf_bits(vi a)
{
    vf r;
    memcpy(r.v, a.v, 64);
    return r;
}

static inline vb vb_load(const void *p)
{
    vb r;
    memcpy(r.v, p, 64);
    return r;
}
static inline vb vb_and(vb a, uint8_t mask)
{
    vb r;
    LANES(a.v[i] & mask * 0x01010101u);
}
static inline vb vb_or(vb a, vb b)
{
    vb r;
    LANES(a.v[i] | b.v[i]);
}
static inline vb vb_shl(vb a, int n)
{
    vb r;
    LANES(a.v[i] << n);
}
static inline vb vb_shr(vb a, int n)
{
    vb r;
    LANES(a.v[i] >> n);
}
static inline vb vb_lookup(const uint8_t table[16], vb a)
{
    vb r;
    LANES((uint32_t)table[a.v[i] & 15] | (uint32_t)table[a.v[i] >> 8 & 15] << 8 |
          (uint32_t)table[a.v[i] >> 16 & 15] << 16 | (uint32_t)table[a.v[i] >> 24 & 15] << 24);
}
/* Byte k (0..3) of each lane. */
static inline vi vi_from_vb(vb a, int k)
{
    vi r;
    LANES((int32_t)(a.v[i] >> (8 * k) & 255));
}

#undef LANES

static inline void dot_half(vi *acc, const vb *w, const uint8_t *a, int tokens, int stride,
                            int bits)
{
    for (int j = 0; j < 4; j++)
        for (int t = 0; t < tokens; t++) {
            const int8_t *x = (const int8_t *)a + (j * stride + t) * 4;
            for (int i = 0; i < 16; i++) {
                uint32_t v = w[j].v[i];
                acc[t].v[i] += (int32_t)(v & 255) * x[0] + (int32_t)(v >> 8 & 255) * x[1] +
                               (int32_t)(v >> 16 & 255) * x[2] + (int32_t)(v >> 24) * x[3];
            }
        }
}

#endif

/* The shim for 64-bit ARM: a vector is four q registers. isa_dotprod.h changes the dot product. */
#ifndef SHOAL_KERNELS_ISA_NEON_H
#define SHOAL_KERNELS_ISA_NEON_H

#include "kernels/isa_common.h"

#include <arm_neon.h>

#ifndef ISA_NAME
#define ISA_NAME "neon"
#endif
/* log2 of the tokens whose f32 chains fit the registers beside a row of weights. */
#define ISA_DENSE_LOG 2
/* Bytes are made signed by a flipped top bit, so nothing is left to the accumulator. */
#define ISA_BIAS8 0
#define ISA_ATTENTION_QUERIES 4
#define ISA_VALUE_QUERIES 2
#define ISA_VALUE_VECTORS 2

typedef struct {
    float32x4_t v[4];
} vf;
typedef struct {
    int32x4_t v[4];
} vi;
typedef struct {
    uint8x16_t v[4];
} vb;

#define QUARTERS(expr)                                                                             \
    UNROLL                                                                                         \
    for (int i = 0; i < 4; i++)                                                                    \
        r.v[i] = (expr);                                                                           \
    return r

static ALWAYS_INLINE vf vf_load(const float *p)
{
    vf r;
    QUARTERS(vld1q_f32(p + 4 * i));
}
static ALWAYS_INLINE void vf_store(float *p, vf a)
{
    UNROLL
    for (int i = 0; i < 4; i++)
        vst1q_f32(p + 4 * i, a.v[i]);
}
static ALWAYS_INLINE vf vf_set1(float x)
{
    vf r;
    QUARTERS(vdupq_n_f32(x));
}
static ALWAYS_INLINE vf vf_zero(void)
{
    return vf_set1(0);
}
static ALWAYS_INLINE vf vf_add(vf a, vf b)
{
    vf r;
    QUARTERS(vaddq_f32(a.v[i], b.v[i]));
}
static ALWAYS_INLINE vf vf_sub(vf a, vf b)
{
    vf r;
    QUARTERS(vsubq_f32(a.v[i], b.v[i]));
}
static ALWAYS_INLINE vf vf_mul(vf a, vf b)
{
    vf r;
    QUARTERS(vmulq_f32(a.v[i], b.v[i]));
}
static ALWAYS_INLINE vf vf_div(vf a, vf b)
{
    vf r;
    QUARTERS(vdivq_f32(a.v[i], b.v[i]));
}
static ALWAYS_INLINE vf vf_fma(vf a, vf b, vf c)
{
    vf r;
    QUARTERS(vfmaq_f32(c.v[i], a.v[i], b.v[i]));
}
/* By comparison, not vmaxq: a NaN gives b, as on the others. */
static ALWAYS_INLINE vf vf_max(vf a, vf b)
{
    vf r;
    QUARTERS(vbslq_f32(vcgtq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]));
}
static ALWAYS_INLINE vf vf_min(vf a, vf b)
{
    vf r;
    QUARTERS(vbslq_f32(vcltq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]));
}
static ALWAYS_INLINE vf vf_abs(vf a)
{
    vf r;
    QUARTERS(vabsq_f32(a.v[i]));
}
static ALWAYS_INLINE vf vf_select_lt(vf a, vf b, vf x, vf y)
{
    vf r;
    QUARTERS(vbslq_f32(vcltq_f32(a.v[i], b.v[i]), x.v[i], y.v[i]));
}
static ALWAYS_INLINE vf vf_load_half(const void *p)
{
    const uint16_t *h = p;
    vf r;
    QUARTERS(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(h + 4 * i))));
}
static ALWAYS_INLINE void vf_store_half(void *p, vf a)
{
    uint16_t *h = p;
    UNROLL
    for (int i = 0; i < 4; i++)
        vst1_u16(h + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(a.v[i])));
}
static ALWAYS_INLINE vf vf_load_bf16(const void *p)
{
    const uint16_t *h = p;
    vf r;
    QUARTERS(vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(h + 4 * i), 16)));
}

static ALWAYS_INLINE vi vi_load(const void *p)
{
    const uint8_t *b = p;
    vi r;
    QUARTERS(vreinterpretq_s32_u8(vld1q_u8(b + 16 * i)));
}
static ALWAYS_INLINE vi vi_set1(int32_t x)
{
    vi r;
    QUARTERS(vdupq_n_s32(x));
}
static ALWAYS_INLINE vi vi_zero(void)
{
    return vi_set1(0);
}
static ALWAYS_INLINE vi vi_add(vi a, vi b)
{
    vi r;
    QUARTERS(vaddq_s32(a.v[i], b.v[i]));
}
static ALWAYS_INLINE vi vi_sub(vi a, vi b)
{
    vi r;
    QUARTERS(vsubq_s32(a.v[i], b.v[i]));
}
static ALWAYS_INLINE vi vi_mul(vi a, vi b)
{
    vi r;
    QUARTERS(vmulq_s32(a.v[i], b.v[i]));
}
static ALWAYS_INLINE vi vi_and(vi a, int32_t mask)
{
    vi r;
    QUARTERS(vandq_s32(a.v[i], vdupq_n_s32(mask)));
}
static ALWAYS_INLINE vi vi_or(vi a, vi b)
{
    vi r;
    QUARTERS(vorrq_s32(a.v[i], b.v[i]));
}
static ALWAYS_INLINE vi vi_shl(vi a, int n)
{
    vi r;
    QUARTERS(vshlq_s32(a.v[i], vdupq_n_s32(n)));
}
static ALWAYS_INLINE vi vi_shr(vi a, int n)
{
    vi r;
    QUARTERS(vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a.v[i]), vdupq_n_s32(-n))));
}
static ALWAYS_INLINE vi widen_i8(int8x16_t b)
{
    int16x8_t low = vmovl_s8(vget_low_s8(b)), high = vmovl_s8(vget_high_s8(b));
    return (vi){ { vmovl_s16(vget_low_s16(low)), vmovl_s16(vget_high_s16(low)),
                   vmovl_s16(vget_low_s16(high)), vmovl_s16(vget_high_s16(high)) } };
}
static ALWAYS_INLINE vi vi_load_i8(const void *p)
{
    return widen_i8(vld1q_s8(p));
}
static ALWAYS_INLINE vi vi_load_u8(const void *p)
{
    return vi_and(widen_i8(vld1q_s8(p)), 255);
}
static ALWAYS_INLINE vi vi_load_u16(const void *p)
{
    const uint16_t *h = p;
    vi r;
    QUARTERS(vreinterpretq_s32_u32(vmovl_u16(vld1_u16(h + 4 * i))));
}
static ALWAYS_INLINE void vi_store_i8(void *p, vi a)
{
    int16x8_t low = vcombine_s16(vmovn_s32(a.v[0]), vmovn_s32(a.v[1]));
    int16x8_t high = vcombine_s16(vmovn_s32(a.v[2]), vmovn_s32(a.v[3]));
    vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}
static ALWAYS_INLINE int32_t vi_sum(vi a)
{
    return vaddvq_s32(vaddq_s32(vaddq_s32(a.v[0], a.v[1]), vaddq_s32(a.v[2], a.v[3])));
}
static ALWAYS_INLINE vi vi_from_vf(vf a)
{
    vi r;
    QUARTERS(vcvtnq_s32_f32(a.v[i]));
}
static ALWAYS_INLINE vf vf_from_vi(vi a)
{
    vf r;
    QUARTERS(vcvtq_f32_s32(a.v[i]));
}
static ALWAYS_INLINE vf vf_bits(vi a)
{
    vf r;
    QUARTERS(vreinterpretq_f32_s32(a.v[i]));
}

static ALWAYS_INLINE vb vb_load(const void *p)
{
    const uint8_t *b = p;
    vb r;
    QUARTERS(vld1q_u8(b + 16 * i));
}
static ALWAYS_INLINE vb vb_and(vb a, uint8_t mask)
{
    vb r;
    QUARTERS(vandq_u8(a.v[i], vdupq_n_u8(mask)));
}
static ALWAYS_INLINE vb vb_or(vb a, vb b)
{
    vb r;
    QUARTERS(vorrq_u8(a.v[i], b.v[i]));
}
static ALWAYS_INLINE vb vb_shl(vb a, int n)
{
    vb r;
    QUARTERS(vshlq_u8(a.v[i], vdupq_n_s8((int8_t)n)));
}
static ALWAYS_INLINE vb vb_shr(vb a, int n)
{
    vb r;
    QUARTERS(vshlq_u8(a.v[i], vdupq_n_s8((int8_t)-n)));
}
static ALWAYS_INLINE vb vb_lookup(const uint8_t table[16], vb a)
{
    uint8x16_t t = vld1q_u8(table);
    vb r;
    QUARTERS(vqtbl1q_u8(t, a.v[i]));
}
static ALWAYS_INLINE vi vi_from_vb(vb a, int k)
{
    int32x4_t down = vdupq_n_s32(-8 * k);
    uint32x4_t byte = vdupq_n_u32(255);
    vi r;
    QUARTERS(vreinterpretq_s32_u32(vandq_u32(vshlq_u32(vreinterpretq_u32_u8(a.v[i]), down), byte)));
}

#undef QUARTERS

#ifndef ISA_DOT_HALF
/* Four rows of four k in one register: products in int16, which hold four dwords of 6 bits (4 * 63
 * * 127 = 32,004) or two of signed bytes (2 * 128 * 127 = 32,512); then pairs to int32. */
static ALWAYS_INLINE int32x4_t dot_quarter(int32x4_t acc, const vb *w, int quarter,
                                           const uint8_t *a, int stride, int bits)
{
    int16x8_t low = vdupq_n_s16(0), high = vdupq_n_s16(0);
    int32x4_t pairs_low = vdupq_n_s32(0), pairs_high = vdupq_n_s32(0);
    UNROLL
    for (int j = 0; j < 4; j++) {
        uint8x16_t u = w[j].v[quarter];
        int8x16_t s = vreinterpretq_s8_u8(bits == 8 ? veorq_u8(u, vdupq_n_u8(128)) : u);
        int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(load_i32(a + j * stride * 4)));
        low = vmlal_s8(low, vget_low_s8(s), vget_low_s8(x));
        high = vmlal_s8(high, vget_high_s8(s), vget_high_s8(x));
        if (j == 3 || (j == 1 && bits == 8)) {
            pairs_low = vpadalq_s16(pairs_low, low);
            pairs_high = vpadalq_s16(pairs_high, high);
            low = high = vdupq_n_s16(0);
        }
    }
    return vaddq_s32(acc, vpaddq_s32(pairs_low, pairs_high));
}

static ALWAYS_INLINE void dot_half(vi *acc, const vb *w, const uint8_t *a, int tokens, int stride,
                                   int bits)
{
    UNROLL_TOKENS
    for (int t = 0; t < tokens; t++) {
        UNROLL
        for (int i = 0; i < 4; i++)
            acc[t].v[i] = dot_quarter(acc[t].v[i], w, i, a + t * 4, stride, bits);
    }
}
#endif

#endif

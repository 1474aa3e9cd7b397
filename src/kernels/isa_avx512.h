/* The shim for AVX-512 with VNNI: a vector is one zmm register. */
#ifndef SHOAL_KERNELS_ISA_AVX512_H
#define SHOAL_KERNELS_ISA_AVX512_H

#include "kernels/isa_common.h"

#include <immintrin.h>

#define ISA_NAME "avx512"
/* log2 of the tokens whose f32 chains fit the registers beside a row of weights. */
#define ISA_DENSE_LOG 3
#define ISA_BIAS8 128
#define ISA_ATTENTION_QUERIES 8
#define ISA_VALUE_QUERIES 4
#define ISA_VALUE_VECTORS 4

typedef __m512 vf;
typedef __m512i vi;
typedef __m512i vb;

static ALWAYS_INLINE vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
static ALWAYS_INLINE void vf_store(float *p, vf a)
{
    _mm512_storeu_ps(p, a);
}
static ALWAYS_INLINE vf vf_set1(float x)
{
    return _mm512_set1_ps(x);
}
static ALWAYS_INLINE vf vf_zero(void)
{
    return _mm512_setzero_ps();
}
static ALWAYS_INLINE vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
static ALWAYS_INLINE vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
static ALWAYS_INLINE vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
static ALWAYS_INLINE vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
static ALWAYS_INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
static ALWAYS_INLINE vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
static ALWAYS_INLINE vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
static ALWAYS_INLINE vf vf_abs(vf a)
{
    return _mm512_abs_ps(a);
}
static ALWAYS_INLINE vf vf_select_lt(vf a, vf b, vf x, vf y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
static ALWAYS_INLINE vf vf_load_half(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}
static ALWAYS_INLINE void vf_store_half(void *p, vf a)
{
    _mm256_storeu_si256(p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static ALWAYS_INLINE vf vf_load_bf16(const void *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}

static ALWAYS_INLINE vi vi_load(const void *p)
{
    return _mm512_loadu_si512(p);
}
static ALWAYS_INLINE vi vi_set1(int32_t x)
{
    return _mm512_set1_epi32(x);
}
static ALWAYS_INLINE vi vi_zero(void)
{
    return _mm512_setzero_si512();
}
static ALWAYS_INLINE vi vi_add(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}
static ALWAYS_INLINE vi vi_sub(vi a, vi b)
{
    return _mm512_sub_epi32(a, b);
}
static ALWAYS_INLINE vi vi_mul(vi a, vi b)
{
    return _mm512_mullo_epi32(a, b);
}
static ALWAYS_INLINE vi vi_and(vi a, int32_t mask)
{
    return _mm512_and_si512(a, _mm512_set1_epi32(mask));
}
static ALWAYS_INLINE vi vi_or(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}
static ALWAYS_INLINE vi vi_shl(vi a, int n)
{
    return _mm512_slli_epi32(a, (unsigned)n);
}
static ALWAYS_INLINE vi vi_shr(vi a, int n)
{
    return _mm512_srli_epi32(a, (unsigned)n);
}
static ALWAYS_INLINE vi vi_load_i8(const void *p)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(p));
}
static ALWAYS_INLINE vi vi_load_u8(const void *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(p));
}
static ALWAYS_INLINE vi vi_load_u16(const void *p)
{
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(p));
}
static ALWAYS_INLINE void vi_store_i8(void *p, vi a)
{
    _mm_storeu_si128(p, _mm512_cvtepi32_epi8(a));
}
static ALWAYS_INLINE int32_t vi_sum(vi a)
{
    return _mm512_reduce_add_epi32(a);
}
static ALWAYS_INLINE vi vi_from_vf(vf a)
{
    return _mm512_cvtps_epi32(a);
}
static ALWAYS_INLINE vf vf_from_vi(vi a)
{
    return _mm512_cvtepi32_ps(a);
}
static ALWAYS_INLINE vf vf_bits(vi a)
{
    return _mm512_castsi512_ps(a);
}

static ALWAYS_INLINE vb vb_load(const void *p)
{
    return _mm512_loadu_si512(p);
}
static ALWAYS_INLINE vb vb_and(vb a, uint8_t mask)
{
    return _mm512_and_si512(a, _mm512_set1_epi8((char)mask));
}
static ALWAYS_INLINE vb vb_or(vb a, vb b)
{
    return _mm512_or_si512(a, b);
}
static ALWAYS_INLINE vb vb_shl(vb a, int n)
{
    return _mm512_slli_epi32(a, (unsigned)n);
}
static ALWAYS_INLINE vb vb_shr(vb a, int n)
{
    return _mm512_srli_epi32(a, (unsigned)n);
}
static ALWAYS_INLINE vb vb_lookup(const uint8_t table[16], vb a)
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const void *)table)), a);
}
static ALWAYS_INLINE vi vi_from_vb(vb a, int k)
{
    return _mm512_and_si512(_mm512_srli_epi32(a, 8 * (unsigned)k), _mm512_set1_epi32(255));
}

static ALWAYS_INLINE void dot_half(vi *acc, const vb *w, const uint8_t *a, int tokens, int stride,
                                   int bits)
{
    UNROLL
    for (int j = 0; j < 4; j++) {
        UNROLL_TOKENS
        for (int t = 0; t < tokens; t++)
            acc[t] = _mm512_dpbusd_epi32(acc[t], w[j],
                                         _mm512_set1_epi32(load_i32(a + (j * stride + t) * 4)));
    }
}

#endif

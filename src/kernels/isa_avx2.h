/* The shim for AVX2 with FMA and F16C: a vector is two ymm registers. */
#ifndef SHOAL_KERNELS_ISA_AVX2_H
#define SHOAL_KERNELS_ISA_AVX2_H

#include "kernels/isa_common.h"

#include <immintrin.h>

#define ISA_NAME "avx2"
/* log2 of the tokens whose f32 chains fit the registers beside a row of weights. */
#define ISA_DENSE_LOG 2
#define ISA_BIAS8 128
#define ISA_PANEL_TOKENS 16
#define ISA_ATTENTION_QUERIES 4
#define ISA_VALUE_QUERIES 2
#define ISA_VALUE_VECTORS 2

typedef struct {
    __m256 a, b;
} vf;
typedef struct {
    __m256i a, b;
} vi;
typedef vi vb;

static ALWAYS_INLINE vf vf_load(const float *p)
{
    return (vf){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) };
}
static ALWAYS_INLINE void vf_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
static ALWAYS_INLINE vf vf_set1(float x)
{
    return (vf){ _mm256_set1_ps(x), _mm256_set1_ps(x) };
}
static ALWAYS_INLINE vf vf_zero(void)
{
    return (vf){ _mm256_setzero_ps(), _mm256_setzero_ps() };
}
static ALWAYS_INLINE vf vf_add(vf x, vf y)
{
    return (vf){ _mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b) };
}
static ALWAYS_INLINE vf vf_sub(vf x, vf y)
{
    return (vf){ _mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b) };
}
static ALWAYS_INLINE vf vf_mul(vf x, vf y)
{
    return (vf){ _mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b) };
}
static ALWAYS_INLINE vf vf_div(vf x, vf y)
{
    return (vf){ _mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b) };
}
static ALWAYS_INLINE vf vf_fma(vf x, vf y, vf z)
{
    return (vf){ _mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b) };
}
static ALWAYS_INLINE vf vf_max(vf x, vf y)
{
    return (vf){ _mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b) };
}
static ALWAYS_INLINE vf vf_min(vf x, vf y)
{
    return (vf){ _mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b) };
}
static ALWAYS_INLINE vf vf_abs(vf x)
{
    __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    return (vf){ _mm256_and_ps(x.a, mask), _mm256_and_ps(x.b, mask) };
}
static ALWAYS_INLINE vf vf_select_lt(vf x, vf y, vf yes, vf no)
{
    return (vf){ _mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
                 _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)) };
}
static ALWAYS_INLINE vf vf_load_half(const void *p)
{
    const __m128i *h = p;
    return (vf){ _mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1)) };
}
static ALWAYS_INLINE void vf_store_half(void *p, vf x)
{
    __m128i *h = p;
    _mm_storeu_si128(h, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(h + 1, _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}
static ALWAYS_INLINE vi vi_load_u16(const void *p)
{
    const __m128i *h = p;
    return (vi){ _mm256_cvtepu16_epi32(_mm_loadu_si128(h)),
                 _mm256_cvtepu16_epi32(_mm_loadu_si128(h + 1)) };
}
static ALWAYS_INLINE vi vi_shl(vi x, int n)
{
    return (vi){ _mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n) };
}
static ALWAYS_INLINE vi vi_shr(vi x, int n)
{
    return (vi){ _mm256_srli_epi32(x.a, n), _mm256_srli_epi32(x.b, n) };
}
static ALWAYS_INLINE vf vf_bits(vi x)
{
    return (vf){ _mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b) };
}
static ALWAYS_INLINE vf vf_load_bf16(const void *p)
{
    return vf_bits(vi_shl(vi_load_u16(p), 16));
}

static ALWAYS_INLINE vi vi_load(const void *p)
{
    const __m256i *v = p;
    return (vi){ _mm256_loadu_si256(v), _mm256_loadu_si256(v + 1) };
}
static ALWAYS_INLINE vi vi_set1(int32_t x)
{
    return (vi){ _mm256_set1_epi32(x), _mm256_set1_epi32(x) };
}
static ALWAYS_INLINE vi vi_zero(void)
{
    return (vi){ _mm256_setzero_si256(), _mm256_setzero_si256() };
}
static ALWAYS_INLINE vi vi_add(vi x, vi y)
{
    return (vi){ _mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b) };
}
static ALWAYS_INLINE vi vi_sub(vi x, vi y)
{
    return (vi){ _mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b) };
}
static ALWAYS_INLINE vi vi_mul(vi x, vi y)
{
    return (vi){ _mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b) };
}
static ALWAYS_INLINE vi vi_and(vi x, int32_t mask)
{
    __m256i m = _mm256_set1_epi32(mask);
    return (vi){ _mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m) };
}
static ALWAYS_INLINE vi vi_or(vi x, vi y)
{
    return (vi){ _mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b) };
}
static ALWAYS_INLINE vi vi_load_i8(const void *p)
{
    __m128i v = _mm_loadu_si128(p);
    return (vi){ _mm256_cvtepi8_epi32(v), _mm256_cvtepi8_epi32(_mm_srli_si128(v, 8)) };
}
static ALWAYS_INLINE vi vi_load_u8(const void *p)
{
    __m128i v = _mm_loadu_si128(p);
    return (vi){ _mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8)) };
}
static ALWAYS_INLINE void vi_store_i8(void *p, vi x)
{
    /* The packs work in 128-bit halves: put the four quarters back in order. */
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);
    __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(p, bytes);
}
static ALWAYS_INLINE int32_t vi_sum(vi x)
{
    __m256i s = _mm256_add_epi32(x.a, x.b);
    __m128i h = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(h, _mm_shuffle_epi32(h, 0xb1)));
}
static ALWAYS_INLINE vi vi_from_vf(vf x)
{
    return (vi){ _mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b) };
}
static ALWAYS_INLINE vf vf_from_vi(vi x)
{
    return (vf){ _mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b) };
}

static ALWAYS_INLINE vb vb_load(const void *p)
{
    return vi_load(p);
}
static ALWAYS_INLINE vb vb_and(vb x, uint8_t mask)
{
    __m256i m = _mm256_set1_epi8((char)mask);
    return (vb){ _mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m) };
}
static ALWAYS_INLINE vb vb_or(vb x, vb y)
{
    return vi_or(x, y);
}
static ALWAYS_INLINE vb vb_shl(vb x, int n)
{
    return vi_shl(x, n);
}
static ALWAYS_INLINE vb vb_shr(vb x, int n)
{
    return vi_shr(x, n);
}
static ALWAYS_INLINE vb vb_lookup(const uint8_t table[16], vb x)
{
    __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)table));
    return (vb){ _mm256_shuffle_epi8(t, x.a), _mm256_shuffle_epi8(t, x.b) };
}
static ALWAYS_INLINE vi vi_from_vb(vb x, int k)
{
    return vi_and(vi_shr(x, 8 * k), 255);
}

static ALWAYS_INLINE vi add_pairs(vi acc, vi words, int factor)
{
    __m256i f = _mm256_set1_epi16((short)factor);
    return (vi){ _mm256_add_epi32(acc.a, _mm256_madd_epi16(words.a, f)),
                 _mm256_add_epi32(acc.b, _mm256_madd_epi16(words.b, f)) };
}

/* words[t] = or += pair sums of w * a in int16. */
static ALWAYS_INLINE void dot_words(vi *words, vb w, const uint8_t *a, int tokens, int first)
{
    UNROLL_TOKENS
    for (int t = 0; t < tokens; t++) {
        __m256i x = _mm256_set1_epi32(load_i32(a + t * 4));
        __m256i pa = _mm256_maddubs_epi16(w.a, x), pb = _mm256_maddubs_epi16(w.b, x);
        words[t].a = first ? pa : _mm256_add_epi16(words[t].a, pa);
        words[t].b = first ? pb : _mm256_add_epi16(words[t].b, pb);
    }
}

/* Up to 5 bits, all four dwords fit int16 (8 * 31 * 127 = 31,496); of 6 bits two do (4 * 63 * 127
 * = 32,004); bytes are split into nibbles, whose sums fit and are joined as low + 16 high. */
static ALWAYS_INLINE void dot_tokens(vi *acc, const vb *w, const uint8_t *a, int stride, int tokens,
                                     int bits)
{
    vi low[4], high[4];
    UNROLL
    for (int j = 0; j < 4; j++) {
        int first = j == 0 || (bits == 6 && j == 2);
        const uint8_t *x = a + j * stride * 4;
        if (bits == 8) {
            dot_words(low, vb_and(w[j], 15), x, tokens, first);
            dot_words(high, vb_and(vb_shr(w[j], 4), 15), x, tokens, first);
        } else {
            dot_words(low, w[j], x, tokens, first);
        }
        if (bits == 6 && j == 1) {
            UNROLL_TOKENS
            for (int t = 0; t < tokens; t++)
                acc[t] = add_pairs(acc[t], low[t], 1);
        }
    }
    UNROLL_TOKENS
    for (int t = 0; t < tokens; t++) {
        acc[t] = add_pairs(acc[t], low[t], 1);
        if (bits == 8)
            acc[t] = add_pairs(acc[t], high[t], 16);
    }
}

static ALWAYS_INLINE void dot_half(vi *acc, const vb *w, const uint8_t *a, int tokens, int stride,
                                   int bits)
{
    /* 16 registers: four tokens at a time, two where a token needs two sums. */
    const int step = bits == 8 ? 2 : 4;
    UNROLL_TOKENS
    for (int t = 0; t < tokens; t += step)
        dot_tokens(acc + t, w, a + t * 4, stride, tokens - t < step ? tokens - t : step, bits);
}

#endif

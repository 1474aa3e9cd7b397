/* What the vector shims share. Each isa_<name>.h defines three types and the operations on them:
 *
 *   vf  16 f32        vf_load vf_store vf_set1 vf_zero vf_add vf_sub vf_mul vf_div vf_fma (a*b+c)
 *                     vf_max (a > b ? a : b) vf_min (a < b ? a : b) vf_abs
 *                     vf_select_lt (a < b ? x : y)
 *                     vf_load_half vf_store_half vf_load_bf16
 *   vi  16 int32      vi_load vi_set1 vi_zero vi_add vi_sub vi_mul vi_and vi_shl vi_shr (logical)
 *                     vi_load_i8 vi_load_u8 vi_load_u16 vi_store_i8 (low bytes) vi_sum
 *                     vi_from_vf (nearest even) vf_from_vi vi_bits vf_bits (reinterpret)
 *   vb  64 weights    16 lanes of 4 consecutive k: vb_load vb_and vb_or vb_shl vb_shr
 *                     (shifts cross bytes: mask afterwards) vb_lookup (16 entries) vi_from_vb
 *
 * and dot_half: acc[t] += sum over 4 dwords j and 4 k of w[j] * a[j][t], exact in int32, where a
 * has `stride` tokens a dword, for weights of at most `bits` bits; 8-bit weights are biased by 128,
 * of which ISA_BIAS8 is left to the caller (the rest the shim removes itself). Every operation
 * rounds as IEEE f32 does, nearest even. */
#ifndef SHOAL_KERNELS_ISA_COMMON_H
#define SHOAL_KERNELS_ISA_COMMON_H

#include "base/attributes.h"

#include <stdint.h>
#include <string.h>

/* The vector tables have a body for each type and number of tokens, with everything inlined and
 * unrolled. A compact build (the scalar table, sanitizers) has one body for all: it takes seconds
 * to compile instead of minutes. */
#if defined(KERNELS_COMPACT)
#define ISA_ANY_TOKENS 1
#define SPECIALISED __attribute__((noinline))
#define INLINED inline
#define UNROLL_TOKENS
#else
#define ISA_ANY_TOKENS 0
#define SPECIALISED ALWAYS_INLINE
#define INLINED ALWAYS_INLINE
#define UNROLL_TOKENS UNROLL
#endif

/* Complete unrolling of loops with constant bounds: accumulators must become registers. */
#if defined(ISA_ROLLED)
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* Eight passes in one, for loops that stay loops: fewer instructions between two loads let the
 * processor run further ahead. */
#if defined(KERNELS_COMPACT) || defined(ISA_ROLLED)
#define UNROLL_EIGHT
#elif defined(__clang__)
#define UNROLL_EIGHT _Pragma("clang loop unroll_count(8)")
#else
#define UNROLL_EIGHT _Pragma("GCC unroll 8")
#endif

static ALWAYS_INLINE int32_t load_i32(const void *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return v;
}

static ALWAYS_INLINE float load_f32(const void *p)
{
    float v;
    memcpy(&v, p, 4);
    return v;
}

#endif

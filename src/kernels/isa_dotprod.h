/* The NEON shim with the dot product instruction of ARMv8.2. */
#ifndef SHOAL_KERNELS_ISA_DOTPROD_H
#define SHOAL_KERNELS_ISA_DOTPROD_H

#define ISA_NAME "dotprod"
#define ISA_DOT_HALF
#include "kernels/isa_neon.h"

static ALWAYS_INLINE void dot_half(vi *acc, const vb *w, const uint8_t *a, int tokens, int stride,
                                   int bits)
{
    UNROLL
    for (int j = 0; j < 4; j++) {
        UNROLL
        for (int i = 0; i < 4; i++) {
            uint8x16_t u = w[j].v[i];
            int8x16_t s = vreinterpretq_s8_u8(bits == 8 ? veorq_u8(u, vdupq_n_u8(128)) : u);
            UNROLL_TOKENS
            for (int t = 0; t < tokens; t++) {
                int32x4_t x = vdupq_n_s32(load_i32(a + (j * stride + t) * 4));
                acc[t].v[i] = vdotq_s32(acc[t].v[i], s, vreinterpretq_s8_s32(x));
            }
        }
    }
}

#endif

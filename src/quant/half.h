/* IEEE half and bfloat16, exact, on any machine: round to nearest even, no F16C needed. */
#ifndef SHOAL_QUANT_HALF_H
#define SHOAL_QUANT_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof(u));
    return u;
}

static inline float f32_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof(f));
    return f;
}

static inline float half_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t exponent = (h >> 10) & 0x1f, mantissa = h & 0x3ff;
    if (exponent == 0x1f)
        return f32_from_bits(sign | 0x7f800000u | mantissa << 13);
    if (exponent)
        return f32_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    /* Subnormal: the mantissa times 2^-24 is exact in f32. */
    return f32_from_bits(sign | f32_bits((float)mantissa * 0x1p-24f));
}

static inline uint16_t half_from_f32(float f)
{
    uint32_t u = f32_bits(f), sign = (u >> 16) & 0x8000, a = u & 0x7fffffffu;
    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00); /* NaN stays NaN */
    if (a >= 0x477ff000u)
        return (uint16_t)(sign | 0x7c00); /* 65520 and beyond round to infinity */
    if (a < 0x38800000u) {
        /* Below 2^-14: adding 0.5 puts the half's last bit at the f32's last bit. */
        uint32_t r = f32_bits(f32_from_bits(a) + 0.5f) - 0x3f000000u;
        return (uint16_t)(sign | r);
    }
    uint32_t rounded = a - 0x38000000u + 0xfffu + ((a >> 13) & 1);
    return (uint16_t)(sign | rounded >> 13);
}

static inline float bf16_to_f32(uint16_t h)
{
    return f32_from_bits((uint32_t)h << 16);
}

static inline uint16_t bf16_from_f32(float f)
{
    uint32_t u = f32_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 64);
    return (uint16_t)((u + (0x7fffu + ((u >> 16) & 1))) >> 16);
}

#endif

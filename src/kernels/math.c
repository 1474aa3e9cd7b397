/* Scalar functions with the same bits on every machine. */
#include "kernels/kernels.h"

#include <math.h>

#include "quant/half.h"

/* One lane of vf_exp (math.inc), operation for operation. */
float kernels_exp(float x)
{
    const float magic = 0x1.8p23f;
    x = x < 89.0f ? x : 89.0f;
    x = x > -104.0f ? x : -104.0f;
    float n = fmaf(x, 0x1.715476p+0f, magic) - magic;
    float r = fmaf(n, -0x1.62p-1f, x);
    r = fmaf(n, -0x1.c85fep-10f, r);
    float p = 0x1.6da08ep-10f;
    p = fmaf(p, r, 0x1.124384p-7f);
    p = fmaf(p, r, 0x1.555474p-5f);
    p = fmaf(p, r, 0x1.555482p-3f);
    p = fmaf(p, r, 0.5f);
    float e = 1.0f + fmaf(r * r, p, r);
    int i = (int)n, i1 = (i + 256) / 2 - 128;
    return e * f32_from_bits((uint32_t)(i1 + 127) << 23) *
           f32_from_bits((uint32_t)(i - i1 + 127) << 23);
}

/* Binary digits of 2 / pi, after 32 zeros. */
static const uint32_t two_over_pi[] = { 0,          0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0,
                                        0xdb629599, 0x3c439041, 0xfe5163ab, 0xdebbc561 };

/* Remainder of x by pi / 2 and the quadrant, for |x| >= 2^20: x is m * 2^e, and of m * 2^e * 2/pi
 * only the digits below 4 matter, so 96 digits from the one of weight 2 on are enough (Payne and
 * Hanek 1983). */
static double reduce_large(float x, unsigned *quadrant)
{
    uint32_t bits = f32_bits(x), m = (bits & 0x7fffff) | 0x800000;
    int at = (int)(bits >> 23 & 255) - 150 - 2 + 32; /* digit index in the table */
    const uint32_t *t = two_over_pi + at / 32;
    uint32_t w[3];
    for (int i = 0; i < 3; i++)
        w[i] = (uint32_t)(((uint64_t)t[i] << 32 | t[i + 1]) >> (32 - at % 32));
    uint64_t low = (uint64_t)m * w[2], mid = (uint64_t)m * w[1] + (low >> 32);
    uint64_t p = (uint64_t)(uint32_t)(m * w[0] + (uint32_t)(mid >> 32)) << 32 | (uint32_t)mid;
    *quadrant = (unsigned)((p + ((uint64_t)1 << 61)) >> 62);
    double r = (double)(int64_t)(p - ((uint64_t)*quadrant << 62)) * 0x1.921fb54442d18p-62;
    return r;
}

static double reduce(float x, unsigned *quadrant)
{
    if (fabsf(x) >= 0x1p20f) {
        double r = reduce_large(fabsf(x), quadrant);
        *quadrant = x < 0 ? 0u - *quadrant : *quadrant;
        return x < 0 ? -r : r;
    }
    /* n times the first two parts of pi / 2 (33 digits each) is exact. */
    double n = ((double)x * 0x1.45f306dc9c883p-1 + 0x1.8p52) - 0x1.8p52;
    *quadrant = (unsigned)(int)n;
    double r = (double)x - n * 0x1.921fb544p+0;
    r -= n * 0x1.0b4611a6p-34;
    return r - n * 0x1.3198a2e037073p-69;
}

void kernels_sincos(float angle, float *sin, float *cos)
{
    if (!isfinite(angle)) {
        *sin = *cos = NAN;
        return;
    }
    unsigned quadrant;
    double r = reduce(angle, &quadrant), s = r * r;
    /* Taylor: the next terms are below 2e-14 on +-pi / 4. */
    double p = 1.0 / 6227020800;
    p = p * s - 1.0 / 39916800;
    p = p * s + 1.0 / 362880;
    p = p * s - 1.0 / 5040;
    p = p * s + 1.0 / 120;
    p = p * s - 1.0 / 6;
    double sine = r + r * s * p;
    double q = -1.0 / 87178291200;
    q = q * s + 1.0 / 479001600;
    q = q * s - 1.0 / 3628800;
    q = q * s + 1.0 / 40320;
    q = q * s - 1.0 / 720;
    q = q * s + 1.0 / 24;
    double cosine = 1 - s * 0.5 + s * s * q;
    double a = quadrant & 1 ? cosine : sine, b = quadrant & 1 ? sine : cosine;
    *sin = (float)(quadrant & 2 ? -a : a);
    *cos = (float)((quadrant + 1) & 2 ? -b : b);
}

/* Block formats: dequantization against the gguf Python package, quantizers against themselves,
 * halves against their definition. */
#include "tests/test.h"

#include "base/random.h"
#include "quant/half.h"
#include "quant/quants.h"

#include <math.h>
#include <stdio.h>

#define BLOCKS 1024

/* Offsets of the halves of a block that tools/quant_golden.py makes finite; -1: none. */
static const int halves[QUANT_COUNT][2] = {
    [QUANT_F32] = { 2, -1 },    [QUANT_F16] = { 0, -1 },    [QUANT_BF16] = { 0, -1 },
    [QUANT_Q4_0] = { 0, -1 },   [QUANT_Q4_1] = { 0, 2 },    [QUANT_Q5_0] = { 0, -1 },
    [QUANT_Q5_1] = { 0, 2 },    [QUANT_Q8_0] = { 0, -1 },   [QUANT_Q2_K] = { 80, 82 },
    [QUANT_Q3_K] = { 108, -1 }, [QUANT_Q4_K] = { 0, 2 },    [QUANT_Q5_K] = { 0, 2 },
    [QUANT_Q6_K] = { 208, -1 }, [QUANT_IQ4_NL] = { 0, -1 }, [QUANT_IQ4_XS] = { 0, -1 },
    [QUANT_MXFP4] = { -1, -1 },
};

static const struct {
    enum quant_type type;
    uint64_t hash;
    uint32_t first[4];
} golden[] = {
#define GOLDEN(name, hash, a, b, c, d) { QUANT_##name, hash, { a, b, c, d } },
#include "tests/quant/golden.inc"
#undef GOLDEN
};

static void make_blocks(enum quant_type type, uint8_t *dst)
{
    const struct quant_format *f = quant_format(type);
    for (size_t i = 0; i < (size_t)BLOCKS * f->bytes; i++)
        dst[i] = (uint8_t)(random_at(f->id, i / 8) >> (i % 8 * 8));
    for (size_t i = 0; i < BLOCKS; i++)
        for (int h = 0; h < 2; h++)
            if (halves[type][h] >= 0)
                dst[i * f->bytes + (size_t)halves[type][h] + 1] &= 0xbf;
}

static uint64_t fnv(const void *data, size_t n)
{
    const uint8_t *at = data;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ at[i]) * 0x100000001b3u;
    return h;
}

/* The source is unaligned on purpose. */
static void dequantizes_to_the_same_bits(void **state)
{
    assert_int_equal(sizeof(golden) / sizeof(golden[0]), 16);
    uint8_t *blocks = malloc(BLOCKS * 256 + 1);
    float *values = malloc(BLOCKS * 256 * sizeof(float));
    for (size_t i = 0; i < sizeof(golden) / sizeof(golden[0]); i++) {
        enum quant_type type = golden[i].type;
        size_t n = BLOCKS * (size_t)quant_format(type)->block;
        make_blocks(type, blocks + 1);
        quant_dequantize(type, blocks + 1, values, n);
        for (int k = 0; k < 4; k++)
            if (f32_bits(values[k]) != golden[i].first[k])
                fail_test("%s: weight %d is %a", quant_format(type)->name, k, (double)values[k]);
        if (fnv(values, n * sizeof(float)) != golden[i].hash)
            fail_test("%s: other bits than the reference's", quant_format(type)->name);
    }
    free(values);
    free(blocks);
}

static void table_is_consistent(void **state)
{
    assert_int_equal(quant_from_id(12), QUANT_Q4_K);
    assert_int_equal(quant_from_id(4), QUANT_COUNT); /* removed from ggml */
    assert_int_equal(quant_from_id(UINT32_MAX), QUANT_COUNT);
    assert_int_equal(quant_from_name("q4_k"), QUANT_Q4_K);
    assert_int_equal(quant_from_name("Q4_K_M"), QUANT_COUNT);
    assert_int_equal(quant_row_bytes(QUANT_Q6_K, 512), 420);
    int named_only = 0;
    for (int i = 0; i < QUANT_COUNT; i++) {
        const struct quant_format *f = quant_format((enum quant_type)i);
        assert_int_equal(quant_from_id(f->id), i);
        assert_int_equal(quant_from_name(f->name), i);
        assert_true(f->block == 1 || f->block % 32 == 0);
        named_only += !quant_can_dequantize((enum quant_type)i);
    }
    assert_int_equal(QUANT_COUNT - named_only, 16);
}

static double gauss(struct random *r)
{
    double sum = 0;
    for (int i = 0; i < 12; i++)
        sum += random_unit(random_next(r));
    return sum - 6;
}

/* Root of the mean squared error over that of the weights themselves. */
static double relative_error(enum quant_type type, double mean, double sigma, uint64_t seed)
{
    enum { N = 8192 };
    float x[N], y[N];
    uint8_t *blocks = malloc(quant_row_bytes(type, N));
    struct random r = { seed };
    double error = 0, power = 0;
    for (int i = 0; i < N; i++)
        x[i] = (float)(mean + sigma * gauss(&r));
    quant_quantize(type, x, blocks, N);
    quant_dequantize(type, blocks, y, N);
    for (int i = 0; i < N; i++) {
        error += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        power += (double)x[i] * (double)x[i];
    }
    free(blocks);
    return sqrt(error / power);
}

/* Bounds: about 1.1 times what the grids reach on a normal distribution. */
static void quantizers_are_sane(void **state)
{
    static const struct {
        enum quant_type type;
        double bound;
    } cases[] = {
        { QUANT_F32, 0 },         { QUANT_F16, 3e-4 },    { QUANT_BF16, 2.5e-3 },
        { QUANT_Q8_0, 6e-3 },     { QUANT_Q6_K, 2e-2 },   { QUANT_Q5_K, 4e-2 },
        { QUANT_Q5_1, 4e-2 },     { QUANT_Q5_0, 4.5e-2 }, { QUANT_Q4_K, 8e-2 },
        { QUANT_Q4_1, 8e-2 },     { QUANT_Q4_0, 9e-2 },   { QUANT_IQ4_NL, 8.5e-2 },
        { QUANT_IQ4_XS, 8.5e-2 }, { QUANT_MXFP4, 0.13 },  { QUANT_Q3_K, 0.17 },
        { QUANT_Q2_K, 0.32 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        double error = relative_error(cases[i].type, 0, 0.02, 1 + i);
        if (!(error <= cases[i].bound))
            fail_test("%s: relative error %.5f, bound %.5f", quant_format(cases[i].type)->name,
                      error, cases[i].bound);
    }
    assert_true(relative_error(QUANT_Q4_K, 0, 1, 99) <= relative_error(QUANT_Q4_0, 0, 1, 99));
    /* Offsets are what the types with a minimum are for. */
    assert_true(relative_error(QUANT_Q4_1, 1, 0.02, 7) < 2e-3);
    assert_true(relative_error(QUANT_Q5_1, -1, 0.02, 7) < 1e-3);
}

/* Zeros stay zeros, and nothing undefined happens to what is no number. */
static void quantizers_take_anything(void **state)
{
    float x[256], y[256];
    uint8_t block[1024];
    for (int t = 0; t < QUANT_COUNT; t++) {
        if (!quant_can_dequantize((enum quant_type)t))
            continue;
        memset(x, 0, sizeof(x));
        quant_quantize((enum quant_type)t, x, block, 256);
        quant_dequantize((enum quant_type)t, block, y, 256);
        for (int i = 0; i < 256; i++)
            assert_true(y[i] == 0);
        static const float odd[] = { INFINITY, -INFINITY, NAN, 1e38f, -1e38f, 1e-42f };
        for (int i = 0; i < 256; i++)
            x[i] = odd[i % 6];
        quant_quantize((enum quant_type)t, x, block, 256);
        quant_dequantize((enum quant_type)t, block, y, 256);
    }
}

/* Every half there and back; ties and the edges of the range by the definition of rounding. */
static void halves_are_exact(void **state)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float f = half_to_f32((uint16_t)h);
        bool nan = (h & 0x7fff) > 0x7c00;
        assert_int_equal(nan, f != f);
        if (!nan) {
            assert_int_equal(half_from_f32(f), h);
            double scale = (h & 0x7c00) ? ldexp(1024 + (h & 1023), (int)(h >> 10 & 31) - 25)
                                        : ldexp(h & 1023, -24);
            if ((h & 0x7c00) != 0x7c00)
                assert_true((double)f == (h & 0x8000 ? -scale : scale));
        }
        f = bf16_to_f32((uint16_t)h);
        if (f == f)
            assert_int_equal(bf16_from_f32(f), h);
    }
    assert_int_equal(half_from_f32(65519.996f), 0x7bff);
    assert_int_equal(half_from_f32(65520.0f), 0x7c00);
    assert_int_equal(half_from_f32(0x1p-25f), 0); /* a tie, to even */
    assert_int_equal(half_from_f32(0x1.000002p-25f), 1);
    assert_int_equal(half_from_f32(0x1.002p0f), 0x3c00); /* a tie, to even */
    assert_int_equal(half_from_f32(0x1.006p0f), 0x3c02);
    assert_int_equal(bf16_from_f32(0x1.01p0f), 0x3f80); /* a tie, to even */
    assert_int_equal(bf16_from_f32(0x1.03p0f), 0x3f82);
    assert_true(half_from_f32(NAN) > 0x7c00 && bf16_from_f32(NAN) > 0x7f80);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dequantizes_to_the_same_bits),
        cmocka_unit_test(table_is_consistent),
        cmocka_unit_test(quantizers_are_sane),
        cmocka_unit_test(quantizers_take_anything),
        cmocka_unit_test(halves_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

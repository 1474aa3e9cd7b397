/* Matmuls of every type: against double, and every table against the scalar one, bit for bit. */
#include "tests/test.h"

#include <math.h>
#include <stdio.h>

#include "base/attributes.h"
#include "tests/kernels/support.h"

/* Rows not a multiple of 16; widths with odd counts of blocks. Types of 256 take the last two. */
static const int widths[] = { 32, 96, 576, 256, 2048 };

struct batch {
    int tokens, cols;
    float *x;     /* (tokens, cols) */
    double *read; /* what the matmul sees of x, in double */
    uint8_t *act;
};

static void batch_make(struct batch *b, const struct kernels *k, enum activation format, int tokens,
                       int cols, struct seed *s)
{
    size_t n = (size_t)tokens * (size_t)cols;
    *b = (struct batch){ tokens, cols, aligned_make(n * 4), aligned_make(n * 8),
                         aligned_make(kernels_activation_bytes(format, tokens, cols)) };
    fill(b->x, n, s);
    for (int t = 0; t * KERNEL_TILE < tokens; t++)
        k->pack_activation(format, b->x, (size_t)cols, tokens, cols, t, b->act);
    for (int t = 0; t < tokens; t++)
        for (int i = 0; i < cols; i++)
            b->read[(size_t)t * cols + i] = b->x[(size_t)t * cols + i];
    if (format == ACTIVATION_F32)
        return;
    for (int t = 0; t < tokens; t++)
        for (int i = 0; i < cols; i += 32) {
            float amax = 0, *x = b->x + (size_t)t * cols + i;
            for (int j = 0; j < 32; j++)
                amax = fmaxf(amax, fabsf(x[j]));
            float scale = amax / 127.0f, inverse = amax > 0 ? 127.0f / amax : 0;
            for (int j = 0; j < 32; j++)
                b->read[(size_t)t * cols + i + j] = (double)rintf(x[j] * inverse) * scale;
        }
}

static void batch_free(struct batch *b)
{
    free(b->x);
    free(b->read);
    free(b->act);
}

static void multiply(const struct kernels *k, const struct weight *w, const struct batch *b,
                     bool exact, float *y)
{
    int groups = (w->packed.rows + 15) / 16;
    (exact ? k->matmul_exact : k->matmul)(&w->packed, b->act, b->tokens, 0, groups, y,
                                          (size_t)w->packed.rows);
}

static void against_double(const struct weight *w, const struct batch *b, const float *y)
{
    int rows = w->packed.rows, cols = w->packed.cols;
    float *row = aligned_make((size_t)cols * 4);
    for (int r = 0; r < rows; r++) {
        quant_dequantize(w->packed.type, w->blocks + (size_t)r * w->row_bytes, row, (size_t)cols);
        for (int t = 0; t < b->tokens; t++) {
            double sum = 0, magnitude = 0;
            for (int i = 0; i < cols; i++) {
                double p = row[i] * b->read[(size_t)t * cols + i];
                sum += p;
                magnitude += fabs(p);
            }
            double delta = fabs(y[(size_t)t * rows + r] - sum);
            if (!(delta <= 1e-5 * magnitude))
                fail_test("%s row %d token %d of %d, %d wide: %g, not %g (sum of magnitudes %g)",
                          quant_format(w->packed.type)->name, r, t, b->tokens, cols,
                          y[(size_t)t * rows + r], sum, magnitude);
        }
    }
    free(row);
}

static void same_bits(const char *what, const struct kernels *k, const struct weight *w, int tokens,
                      const float *a, const float *b)
{
    if (memcmp(a, b, (size_t)w->packed.rows * (size_t)tokens * 4) != 0)
        fail_test("%s: %s differs from scalar: %s, %d tokens, %d wide", k->name, what,
                  quant_format(w->packed.type)->name, tokens, w->packed.cols);
}

static void one_case(enum quant_type type, int rows, int cols, int tokens, bool exact,
                     struct seed *s)
{
    int n;
    const struct kernels *const *all = kernels_all(&n);
    struct weight w;
    struct batch b;
    weight_make(&w, type, rows, cols, s);
    enum activation format = kernels_activation_format(type, exact);
    batch_make(&b, all[0], format, tokens, cols, s);
    float *y = aligned_make((size_t)tokens * rows * 4);
    float *other = aligned_make((size_t)tokens * rows * 4);
    multiply(all[0], &w, &b, exact, y);
    against_double(&w, &b, y);
    for (int i = 1; i < n; i++) {
        memset(other, 0xff, (size_t)tokens * rows * 4);
        uint8_t *act = aligned_make(kernels_activation_bytes(format, tokens, cols));
        for (int t = 0; t * KERNEL_TILE < tokens; t++)
            all[i]->pack_activation(format, b.x, (size_t)cols, tokens, cols, t, act);
        assert_memory_equal(act, b.act, kernels_activation_bytes(format, tokens, cols));
        free(act);
        multiply(all[i], &w, &b, exact, other);
        same_bits(exact ? "exact matmul" : "matmul", all[i], &w, tokens, y, other);
    }
    free(y);
    free(other);
    batch_free(&b);
    weight_free(&w);
}

static void every_type_and_width(bool exact)
{
    struct seed s = { exact ? 11 : 7 };
    int n;
    const enum quant_type *types = computable_types(&n);
    for (int i = 0; i < n; i++) {
        for (size_t j = 0; j < ARRAY_LEN(widths); j++)
            if ((uint32_t)widths[j] % quant_format(types[i])->block == 0)
                one_case(types[i], 37, widths[j], widths[j] == 2048 ? 3 : 9, exact, &s);
        one_case(types[i], 88, 512, 21, exact, &s); /* enough for panels and wide.inc */
    }
}

static void matmul_of_every_type_and_width(void **state)
{
    every_type_and_width(false);
}

static void exact_matmul_of_every_type_and_width(void **state)
{
    every_type_and_width(true);
}

static void float_widths_need_not_be_blocks(void **state)
{
    struct seed s = { 5 };
    one_case(QUANT_F32, 17, 70, 5, false, &s);
    one_case(QUANT_F16, 17, 33, 5, false, &s);
    one_case(QUANT_F16, 17, 263, 18, false, &s);
    one_case(QUANT_BF16, 16, 31, 9, true, &s);
}

/* A token's row is the same alone and among 1 to 23, whole or by group ranges. */
static void rows_do_not_depend_on_the_batch(void **state)
{
    struct seed s = { 3 };
    int n_types, n_tables, cols = 512, rows = 88, most = 23;
    const enum quant_type *types = computable_types(&n_types);
    const struct kernels *const *all = kernels_all(&n_tables);
    for (int i = 0; i < n_types; i++)
        for (int exact = 0; exact < 2; exact++) {
            struct weight w;
            struct batch b;
            weight_make(&w, types[i], rows, cols, &s);
            enum activation format = kernels_activation_format(types[i], exact);
            batch_make(&b, all[0], format, most, cols, &s);
            float *whole = aligned_make((size_t)most * rows * 4);
            float *y = aligned_make((size_t)most * rows * 4);
            const struct kernels *k = all[n_tables - 1];
            multiply(k, &w, &b, exact, whole);
            for (int tokens = 1; tokens < most; tokens++) {
                for (int t = 0; t * KERNEL_TILE < tokens; t++)
                    k->pack_activation(format, b.x, (size_t)cols, tokens, cols, t, b.act);
                memset(y, 0xff, (size_t)tokens * rows * 4);
                for (int g = 5; g >= 0; g--)
                    (exact ? k->matmul_exact : k->matmul)(&w.packed, b.act, tokens, g, g + 1, y,
                                                          (size_t)rows);
                same_bits("fewer tokens", k, &w, tokens, whole, y);
            }
            free(whole);
            free(y);
            batch_free(&b);
            weight_free(&w);
        }
}

static void unpacked_rows_are_the_dequantized_ones(void **state)
{
    struct seed s = { 13 };
    int n_types, n_tables;
    const enum quant_type *types = computable_types(&n_types);
    const struct kernels *const *all = kernels_all(&n_tables);
    for (int i = 0; i < n_types; i++)
        for (int k = 0; k < n_tables; k++) {
            struct weight w;
            float expected[768], got[768];
            weight_make(&w, types[i], 21, 768, &s);
            for (int row = 0; row < 21; row++) {
                quant_dequantize(types[i], w.blocks + row * w.row_bytes, expected, 768);
                all[k]->unpack_row(&w.packed, row, got);
                if (memcmp(expected, got, sizeof(got)) != 0)
                    fail_test("%s, %s, row %d", all[k]->name, quant_format(types[i])->name, row);
            }
            weight_free(&w);
        }
}

static void packed_weights_hardly_grow(void **state)
{
    int n;
    const enum quant_type *types = computable_types(&n);
    for (int i = 0; i < n; i++)
        for (int cols = 768; cols <= 8192; cols += 256) {
            size_t file = quant_row_bytes(types[i], (size_t)cols) * 16;
            assert_true(kernels_group_bytes(types[i], cols) * 100 <= file * 105);
        }
    assert_int_equal(kernels_group_bytes(QUANT_Q4_K, 128), 0);
    assert_int_equal(kernels_group_bytes(QUANT_IQ2_XXS, 256), 0);
    assert_false(kernels_supports(QUANT_COUNT));
}

/* Values that no activation should hold: nothing traps, no -128, the same bytes in all tables. */
static void activations_are_clamped(void **state)
{
    float x[64], bad[] = { NAN, INFINITY, -INFINITY, -1.0f, 1e-44f, -3.4e38f, 1e-35f };
    int n;
    const struct kernels *const *all = kernels_all(&n);
    uint8_t first[128], other[128]; /* 112 are used */
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        for (size_t j = 0; j < ARRAY_LEN(bad); j++) {
            for (int k = 0; k < 64; k++)
                x[k] = k % 3 ? bad[i] : k % 7 ? bad[j] : (float)k;
            for (int k = 0; k < n; k++) {
                memset(other, 0, sizeof(other));
                all[k]->pack_activation(ACTIVATION_Q8, x, 64, 1, 64, 0, other);
                if (k == 0)
                    memcpy(first, other, sizeof(first));
                for (int q = 0; q < 32; q++)
                    assert_int_not_equal((int8_t)other[q], -128);
                assert_memory_equal(first, other, sizeof(first));
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matmul_of_every_type_and_width),
        cmocka_unit_test(exact_matmul_of_every_type_and_width),
        cmocka_unit_test(float_widths_need_not_be_blocks),
        cmocka_unit_test(rows_do_not_depend_on_the_batch),
        cmocka_unit_test(unpacked_rows_are_the_dequantized_ones),
        cmocka_unit_test(packed_weights_hardly_grow),
        cmocka_unit_test(activations_are_clamped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

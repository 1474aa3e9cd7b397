/* Row operations: against double, and every table against the scalar one, bit for bit. */
#include "tests/test.h"

#include <float.h>
#include <math.h>

#include "base/attributes.h"
#include "tests/kernels/support.h"

static const int lengths[] = { 1, 15, 16, 17, 64, 576, 1000 };
#define LONGEST 1000

/* Every operation into out (LONGEST each); returns how many there are. */
#define OPERATIONS 17
static void run_all(const struct kernels *k, const float *a, const float *b, int n,
                    float out[OPERATIONS][LONGEST])
{
    k->rms_norm(a, b, n, 1e-5f, out[0]);
    k->rms_norm(a, NULL, n, 1e-5f, out[1]);
    k->layer_norm(a, b, a, n, 1e-5f, out[2]);
    k->layer_norm(a, NULL, NULL, n, 1e-5f, out[3]);
    k->silu_mul(a, b, n, out[4]);
    k->silu_mul(a, NULL, n, out[5]);
    k->gelu_mul(a, b, n, out[6]);
    k->gelu_mul(a, NULL, n, out[7]);
    k->relu2_mul(a, b, n, out[8]);
    k->sigmoid_mul(a, b, n, out[9]);
    k->add(a, b, n, out[10]);
    k->mul(a, b, n, out[11]);
    k->scale(a, 0.37f, n, out[12]);
    k->add_scaled(a, b, -1.3f, n, out[13]);
    k->softcap(a, 5.0f, n, out[14]);
    k->softmax(a, n, out[15]);
    memcpy(out[16], a, (size_t)n * 4);
    k->rope(out[16], n / 2, n % 3 == 0, b, a);
}

static void tables_agree(void **state)
{
    static float a[LONGEST], b[LONGEST], x[OPERATIONS][LONGEST], y[OPERATIONS][LONGEST];
    struct seed s = { 21 };
    int n;
    const struct kernels *const *all = kernels_all(&n);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        fill(a, LONGEST, &s);
        fill(b, LONGEST, &s);
        memset(x, 0, sizeof(x));
        run_all(all[0], a, b, lengths[i], x);
        for (int k = 1; k < n; k++) {
            memset(y, 0, sizeof(y));
            run_all(all[k], a, b, lengths[i], y);
            for (int op = 0; op < OPERATIONS; op++)
                if (memcmp(x[op], y[op], sizeof(x[op])) != 0)
                    fail_test("%s, operation %d, %d values", all[k]->name, op, lengths[i]);
        }
    }
}

static void near(float got, double expected, double tolerance)
{
    if (!(fabs(got - expected) <= tolerance * fmax(0.1, fabs(expected))))
        fail_test("%.9g, not %.9g", got, expected);
}

static double sigmoid_double(double x)
{
    return 1 / (1 + exp(-x));
}

static void operations_are_right(void **state)
{
    static float a[LONGEST], b[LONGEST], out[OPERATIONS][LONGEST];
    struct seed s = { 22 };
    int n = LONGEST;
    fill(a, LONGEST, &s);
    fill(b, LONGEST, &s);
    run_all(kernels_choose("scalar", NULL), a, b, n, out);
    double squares = 0, sum = 0, var = 0, total = 0, max = -1e9;
    for (int i = 0; i < n; i++) {
        squares += (double)a[i] * a[i];
        sum += a[i];
        max = fmax(max, a[i]);
    }
    for (int i = 0; i < n; i++) {
        var += (a[i] - sum / n) * (a[i] - sum / n);
        total += exp(a[i] - max);
    }
    for (int i = 0; i < n; i++) {
        double x = a[i], up = b[i], rms = x / sqrt(squares / n + 1e-5f);
        double norm = (x - sum / n) / sqrt(var / n + 1e-5f);
        double gelu = 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
        near(out[0][i], rms * up, 1e-6);
        near(out[1][i], rms, 1e-6);
        near(out[2][i], norm * up + x, 2e-6);
        near(out[3][i], norm, 2e-6);
        near(out[4][i], x * sigmoid_double(x) * up, 1e-6);
        near(out[5][i], x * sigmoid_double(x), 1e-6);
        near(out[6][i], gelu * up, 2e-6);
        near(out[7][i], gelu, 2e-6);
        near(out[8][i], x > 0 ? x * x * up : 0, 1e-6);
        near(out[9][i], sigmoid_double(x) * up, 1e-6);
        near(out[10][i], x + up, 1e-6);
        near(out[11][i], x * up, 1e-6);
        near(out[12][i], x * 0.37f, 1e-6);
        near(out[13][i], x - up * 1.3f, 1e-4);
        near(out[14][i], 5 * tanh(x / 5), 1e-6);
        near(out[15][i], exp(x - max) / total, 4e-6);
    }
}

static void rope_turns_both_layouts(void **state)
{
    float x[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, y[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    float c[4], sn[4];
    const struct kernels *k = kernels_choose("scalar", NULL);
    for (int i = 0; i < 4; i++)
        kernels_sincos(0.3f * (float)(i + 1), &sn[i], &c[i]);
    k->rope(x, 4, true, c, sn);
    k->rope(y, 4, false, c, sn);
    for (int i = 0; i < 4; i++) {
        double angle = 0.3f * (float)(i + 1);
        near(x[2 * i], (2 * i + 1) * cos(angle) - (2 * i + 2) * sin(angle), 1e-6);
        near(x[2 * i + 1], (2 * i + 1) * sin(angle) + (2 * i + 2) * cos(angle), 1e-6);
        near(y[i], (i + 1) * cos(angle) - (i + 5) * sin(angle), 1e-6);
        near(y[i + 4], (i + 1) * sin(angle) + (i + 5) * cos(angle), 1e-6);
    }
}

/* Units in the last place between got and the exact value. */
static double ulps(float got, double exact)
{
    float nearest = (float)exact;
    float ulp = nextafterf(fabsf(nearest), INFINITY) - fabsf(nearest);
    return fabs(got - exact) / ulp;
}

static void exponential_is_close_and_equal_in_lanes(void **state)
{
    double worst = 0;
    float x[16], out[16];
    const struct kernels *k = kernels_choose("scalar", NULL);
    for (int i = 0; i < 16; i++)
        x[i] = 0;
    for (float v = -87; v < 88.7f; v += 0.00371f) {
        float e = kernels_exp(v);
        worst = fmax(worst, ulps(e, exp((double)v)));
        /* sigmoid(-v) = 1 / (1 + exp(v)), from the vector code */
        x[3] = -v;
        k->sigmoid_mul(x, NULL, 16, out);
        assert_true(out[3] == 1.0f / (1.0f + e));
    }
    assert_true(worst < 1.2);
    assert_true(kernels_exp(-200) == 0 && kernels_exp(-INFINITY) == 0);
    assert_true(isinf(kernels_exp(100)) && kernels_exp(0) == 1);
    assert_true(ulps(kernels_exp(-95), exp(-95.0)) < 1.2);
}

static void softcap_keeps_small_values(void **state)
{
    const struct kernels *k = kernels_choose("scalar", NULL);
    for (float v = 1e-6f; v < 200; v *= 1.07f) {
        float x[2] = { v, -v }, out[2];
        k->softcap(x, 30, 2, out);
        assert_true(ulps(out[0], 30 * tanh((double)v / 30)) < 3);
        assert_true(out[1] == -out[0]);
    }
}

static void sine_and_cosine_of_any_angle(void **state)
{
    struct seed s = { 9 };
    double worst = 0;
    for (int i = 0; i < 200000; i++) {
        float angle = seed_unit(&s) * ldexpf(1, (int)(seed_bits(&s) % 40) - 8), sn, c;
        kernels_sincos(angle, &sn, &c);
        worst = fmax(worst, fmax(ulps(sn, sin((double)angle)), ulps(c, cos((double)angle))));
    }
    assert_true(worst < 0.51);
    const float hard[] = { 0x1p20f, 0x1p31f, 3.4e38f, -1.6e30f, 16367173.0f * 0x1p72f, 0, 1e-40f };
    for (size_t i = 0; i < ARRAY_LEN(hard); i++) {
        float sn, c;
        kernels_sincos(hard[i], &sn, &c);
        assert_true(ulps(sn, sin((double)hard[i])) < 0.51 && ulps(c, cos((double)hard[i])) < 0.51);
    }
}

static void wire_round_trip(void **state)
{
    static float x[LONGEST], y[LONGEST], z[LONGEST];
    static uint8_t first[34 * 32], other[34 * 32];
    struct seed s = { 4 };
    int n;
    const struct kernels *const *all = kernels_all(&n);
    fill(x, LONGEST, &s);
    memset(x + 64, 0, 32 * 4);
    all[0]->wire_pack(x, LONGEST, first);
    all[0]->wire_unpack(first, LONGEST, y);
    for (int i = 0; i < LONGEST; i++)
        assert_true(fabsf(x[i] - y[i]) <= 20.0f / 127 * 0.51f);
    for (int k = 1; k < n; k++) {
        all[k]->wire_pack(x, LONGEST, other);
        all[k]->wire_unpack(other, LONGEST, z);
        assert_memory_equal(first, other, sizeof(first));
        assert_memory_equal(y, z, sizeof(y));
    }
}

static void tables_are_chosen_by_name(void **state)
{
    struct error e = { 0 };
    int n;
    const struct kernels *const *all = kernels_all(&n);
    assert_true(n >= 1);
    assert_string_equal(all[0]->name, "scalar");
    bool found = false;
    for (int i = 0; i < n; i++) {
        assert_ptr_equal(kernels_choose(all[i]->name, &e), all[i]);
        assert_memory_equal(all[i]->name, all[i]->isa, strlen(all[i]->isa));
        found |= all[i] == kernels_choose(NULL, &e);
    }
    assert_true(found);
    assert_string_equal(kernels_choose(NULL, &e)->isa, all[n - 1]->isa);
    assert_null(kernels_choose("abacus", &e));
    assert_int_equal(e.code, FAIL_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_agree),
        cmocka_unit_test(operations_are_right),
        cmocka_unit_test(rope_turns_both_layouts),
        cmocka_unit_test(exponential_is_close_and_equal_in_lanes),
        cmocka_unit_test(softcap_keeps_small_values),
        cmocka_unit_test(sine_and_cosine_of_any_angle),
        cmocka_unit_test(wire_round_trip),
        cmocka_unit_test(tables_are_chosen_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

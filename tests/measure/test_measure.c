/* measure: medians, and that every limit and kernel can be measured with any number of threads. */
#include "tests/test.h"

#include "kernels/kernels.h"
#include "measure/machine.h"
#include "measure/samples.h"

#include <math.h>

#define THREADS 3
/* A few groups of the largest type: seconds also under sanitizers. */
#define BYTES ((size_t)256 << 10)
#define COLUMNS 256

static void medians_ignore_order_and_outliers(void **state)
{
    (void)state;
    struct samples s = { 0 };
    struct spread none = samples_spread(&s);
    assert_true(none.median == 0 && none.low == 0 && none.high == 0);
    const double values[] = { 5, 1, 1000, 4, 3 };
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        samples_add(&s, values[i]);
    struct spread five = samples_spread(&s);
    assert_true(five.median == 4 && five.low == 1 && five.high == 1000);
    assert_true(s.values[0] == 5); /* left as they were */
    samples_add(&s, 2);
    assert_true(samples_spread(&s).median == 4);
    for (int i = 0; i < 2 * SAMPLES_MAX; i++)
        samples_add(&s, -1);
    assert_int_equal(s.n, SAMPLES_MAX);
    assert_true(samples_spread(&s).median == -1);
}

static struct machine *open_machine(void)
{
    struct error e = { 0 };
    struct machine *m = NULL;
    const struct kernels *k = kernels_choose(NULL, &e);
    assert_non_null(k);
    assert_int_equal(
        machine_open(
            &m, &(struct machine_options){ .kernels = k, .threads = THREADS, .bytes = BYTES }, &e),
        0);
    return m;
}

/* More than nothing, less than any machine can. */
static void assert_rate(double rate)
{
    assert_true(isfinite(rate));
    assert_true(rate > 1e3);
    assert_true(rate < 1e15);
}

static void every_limit_is_measured(void **state)
{
    (void)state;
    struct machine *m = open_machine();
    for (int limit = 0; limit < LIMIT_COUNT; limit++)
        for (int threads = 1; threads <= THREADS; threads++)
            assert_rate(machine_limit(m, (enum machine_limit)limit, threads));
    machine_close(m);
    machine_close(NULL);
}

static void every_type_is_measured(void **state)
{
    (void)state;
    struct machine *m = open_machine();
    struct error e = { 0 };
    int supported = 0;
    for (int type = 0; type < QUANT_COUNT; type++) {
        struct machine_kernel *k = NULL;
        int r = machine_kernel_open(&k, m, (enum quant_type)type, COLUMNS, &e);
        if (!kernels_supports((enum quant_type)type)) {
            assert_int_equal(r, FAIL_UNSUPPORTED);
            continue;
        }
        supported++;
        assert_int_equal(r, 0);
        assert_rate(machine_gemv(k, 1));
        assert_rate(machine_gemm(k, THREADS));
        assert_rate(machine_gemv(k, THREADS));
        assert_rate(machine_pack(k, 2));
        machine_kernel_close(k);
    }
    assert_true(supported > 10);
    machine_close(m);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    struct machine *m = open_machine();
    struct machine_kernel *k = NULL;
    struct error e = { 0 };
    assert_int_equal(machine_kernel_open(&k, m, QUANT_F32, 100, &e), FAIL_RANGE);
    assert_int_equal(machine_kernel_open(&k, m, QUANT_F32, 1 << 20, &e), FAIL_RANGE);
    assert_null(k);
    machine_kernel_close(NULL);
    machine_close(m);
    m = NULL;
    assert_int_equal(machine_open(&m,
                                  &(struct machine_options){ .kernels = kernels_choose(NULL, &e),
                                                             .threads = -1 },
                                  &e),
                     FAIL_RANGE);
    assert_null(m);
}

static void types_have_their_peak(void **state)
{
    (void)state;
    assert_int_equal(machine_peak_of(QUANT_F16), LIMIT_F32);
    assert_int_equal(machine_peak_of(QUANT_Q4_0), LIMIT_INT8);
    assert_int_equal(machine_peak_of(QUANT_Q6_K), LIMIT_INT8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(medians_ignore_order_and_outliers),
        cmocka_unit_test(every_limit_is_measured),
        cmocka_unit_test(every_type_is_measured),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(types_have_their_peak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

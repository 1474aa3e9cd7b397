/* Clock, environment, processor and memory. */
#include "tests/test.h"

#include "os/clock.h"
#include "os/cpu.h"
#include "os/env.h"
#include "os/log.h"
#include "os/memory.h"

static void clock_never_goes_back(void **state)
{
    (void)state;
    uint64_t last = clock_now_ns();
    for (int i = 0; i < 1000; i++) {
        uint64_t now = clock_now_ns();
        assert_true(now >= last);
        last = now;
    }
    assert_true(clock_deadline(UINT64_MAX) == UINT64_MAX);
    assert_true(clock_wall_s() > 1600000000);
}

static void environment_has_defaults(void **state)
{
    (void)state;
    setenv("SHOAL_TEST_EMPTY", "", 1);
    setenv("SHOAL_TEST_SET", "x", 1);
    assert_string_equal(env_get("SHOAL_TEST_EMPTY", "d"), "d");
    assert_string_equal(env_get("SHOAL_TEST_SET", "d"), "x");
    assert_null(env_get("SHOAL_TEST_NEVER_SET", NULL));
}

static void processor_is_consistent(void **state)
{
    (void)state;
    unsigned f = cpu_features();
    char names[256];
    cpu_features_format(f, names, sizeof names);
    assert_int_equal(names[0] == '\0', f == 0);
    if (f & (CPU_AVX512BW | CPU_AVX512VNNI)) {
        assert_true(f & CPU_AVX512F);
    }
#if defined(__x86_64__)
    __builtin_cpu_init();
    assert_int_equal((f & CPU_AVX2) != 0, __builtin_cpu_supports("avx2") != 0);
    assert_int_equal((f & CPU_AVX512VNNI) != 0, __builtin_cpu_supports("avx512vnni") != 0);
#endif
    assert_in_range(cpu_cores(), 1, 4096);
    char small[4];
    cpu_features_format(~0u, small, sizeof small); /* cut, not overrun */
    assert_string_equal(small, "avx");
    cpu_name(names, sizeof names);
}

static void pages_of_both_kinds_are_aligned_and_zero(void **state)
{
    (void)state;
    void *(*const kinds[])(size_t size) = { memory_huge_alloc, memory_ordinary_alloc };
    size_t size = ((size_t)3 << 20) + 5;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        unsigned char *p = kinds[i](size);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % (2u << 20), 0);
        assert_int_equal(p[0] | p[size - 1], 0);
        memset(p, 1, size);
        memory_huge_free(p, size);
        assert_null(kinds[i](0));
        assert_null(kinds[i](SIZE_MAX));
    }
    memory_huge_free(NULL, 5);
}

static void memory_is_plausible(void **state)
{
    (void)state;
    assert_true(memory_total() > (64u << 20));
    assert_true(memory_usable() > 0);
    assert_true(memory_usable() <= memory_total());
    assert_true(memory_resident() < memory_total());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clock_never_goes_back),
        cmocka_unit_test(environment_has_defaults),
        cmocka_unit_test(processor_is_consistent),
        cmocka_unit_test(memory_is_plausible),
        cmocka_unit_test(pages_of_both_kinds_are_aligned_and_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* shoal bench: which parts run, with how many threads, and what is refused before anything does. */
#include "tests/test.h"

#include "cli/bench.h"
#include "cli/commands.h"
#include "cli/options.h"

static int parts(const char *model, const char *only, unsigned *set, struct error *e)
{
    return bench_parts(&(struct bench_options){ .model = model, .only = only }, set, e);
}

static void all_parts_run_that_can(void **state)
{
    (void)state;
    struct error e = { 0 };
    unsigned set = 0;
    assert_int_equal(parts("a.gguf", NULL, &set, &e), 0);
    assert_int_equal(set, (1u << BENCH_PART_COUNT) - 1);
    assert_int_equal(parts(NULL, NULL, &set, &e), 0);
    assert_int_equal(set, 1u << BENCH_LIMITS | 1u << BENCH_KERNELS);
}

static void parts_are_chosen_by_name(void **state)
{
    (void)state;
    struct error e = { 0 };
    unsigned set = 0;
    assert_int_equal(parts("a.gguf", "streams,limits", &set, &e), 0);
    assert_int_equal(set, 1u << BENCH_STREAMS | 1u << BENCH_LIMITS);
    assert_int_equal(parts(NULL, "kernels", &set, &e), 0);
    assert_int_equal(set, 1u << BENCH_KERNELS);
}

static void wrong_parts_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const wrong[] = { "",        "limit",          "limits,",
                                         ",limits", "limits,,model",  "limitss",
                                         "Limits",  "limits, kernels" };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct error e = { 0 };
        unsigned set = 77;
        assert_int_equal(parts("a.gguf", wrong[i], &set, &e), FAIL_ARG);
        assert_non_null(strstr(e.text, "limits, kernels, model, splits, streams"));
        assert_int_equal(set, 77);
    }
    struct error e = { 0 };
    unsigned set = 77;
    assert_int_equal(parts(NULL, "limits,splits", &set, &e), FAIL_ARG);
    assert_non_null(strstr(e.text, "splits needs a model"));
}

static void thread_counts_end_with_all_cores(void **state)
{
    (void)state;
    static const struct {
        int cores, n, counts[BENCH_MAX_COUNTS];
    } cases[] = {
        { 1, 1, { 1 } },
        { 2, 2, { 1, 2 } },
        { 4, 4, { 1, 2, 3, 4 } },
        { 6, 5, { 1, 2, 3, 4, 6 } },
        { 16, 6, { 1, 2, 3, 4, 8, 16 } },
        { 24, 7, { 1, 2, 3, 4, 8, 16, 24 } },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int counts[BENCH_MAX_COUNTS];
        assert_int_equal(bench_thread_counts(cases[i].cores, counts), cases[i].n);
        assert_memory_equal(counts, cases[i].counts, (size_t)cases[i].n * sizeof(counts[0]));
    }
    int counts[BENCH_MAX_COUNTS];
    for (int cores = 1; cores <= 4096; cores++)
        assert_int_equal(counts[bench_thread_counts(cores, counts) - 1], cores);
}

static int run(int argc, const char **argv)
{
    return cmd_bench(argc, (char **)argv);
}

static void wrong_command_lines_end_at_once(void **state)
{
    (void)state;
    assert_int_equal(run(3, (const char *[]){ "bench", "--only", "streams" }), EXIT_USAGE);
    assert_int_equal(run(3, (const char *[]){ "bench", "--rounds", "0" }), EXIT_USAGE);
    assert_int_equal(run(3, (const char *[]){ "bench", "--rounds", "65" }), EXIT_USAGE);
    assert_int_equal(run(3, (const char *[]){ "bench", "--decode", "1" }), EXIT_USAGE);
    assert_int_equal(run(3, (const char *[]){ "bench", "--isa", "mmx" }), EXIT_FAILED);
    assert_int_equal(run(2, (const char *[]){ "bench", "/nowhere.gguf" }), EXIT_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_parts_run_that_can),
        cmocka_unit_test(parts_are_chosen_by_name),
        cmocka_unit_test(wrong_parts_are_refused_by_name),
        cmocka_unit_test(thread_counts_end_with_all_cores),
        cmocka_unit_test(wrong_command_lines_end_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

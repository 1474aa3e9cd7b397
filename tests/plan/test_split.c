#include "tests/test.h"

#include "base/random.h"
#include "plan/split.h"

static void check_format(const char *spec, int layers, const char *expected)
{
    struct placement_plan plan;
    struct error e = { 0 };
    assert_int_equal(split_parse(spec, layers, &plan, &e), 0);
    struct buffer out;
    buffer_init(&out, 4096);
    assert_int_equal(split_format(&plan, &out), 0);
    assert_string_equal(buffer_cstr(&out), expected);
    buffer_done(&out);
}

static void specs_are_read(void **state)
{
    check_format("5:3", 30, "30@5:3");
    check_format("12@1/10@1/8@1", 30, "12@1/10@1/8@1");
    check_format("4@1:1/4@1:1", 8, "4@1:1/4@1:1");
    check_format("1", 1, "1@1");
    check_format("1/1/1", 8, "3@1/3@1/2@1");
    check_format("1/2@3:1/1", 8, "3@1/2@3:1/3@1");

    struct placement_plan plan;
    assert_int_equal(split_parse("4@1:1/2@3/2@1:7", 8, &plan, NULL), 0);
    assert_int_equal(plan.n_ranks, 5);
    assert_int_equal(plan.stages[2].rank, 3);
    assert_int_equal(plan.stages[2].first, 6);
    assert_int_equal(plan_stage_of(&plan, 1), 0);
    assert_int_equal(plan_stage_of(&plan, 2), 1);
    assert_int_equal(plan_stage_of(&plan, 4), 2);
    assert_int_equal(plan.shares[4], 7);
}

static void bad_specs_are_explained(void **state)
{
    static const struct {
        const char *spec, *text;
    } cases[] = {
        { "", "a number is expected at the end" },
        { "5:", "a number is expected at the end" },
        { "5:x", "character 3 ('x')" },
        { "0:1", "leave the device out" },
        { "4@", "a number is expected" },
        { "4@1@2", "expected at character 4" },
        { "4@1/3@1", "has 7 layers, the model has 8" },
        { "8@1/1", "needs at least 9 layers, the model has 8" },
        { "1/1/1/1/1/1/1/1/1", "needs at least 9 layers" },
        { "9999999", "larger than" },
        { "-1", "a number is expected" },
        { " 1", "a number is expected" },
        { "1//1", "a number is expected" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error e = { 0 };
        struct placement_plan plan = { .n_layers = -5 };
        assert_int_equal(split_parse(cases[i].spec, 8, &plan, &e), FAIL_ARG);
        assert_non_null(strstr(e.text, cases[i].text));
        assert_int_equal(plan.n_layers, -5);
    }
    char many[2 * PLAN_MAX_RANKS + 4];
    for (size_t i = 0; i < sizeof many - 1; i++) {
        many[i] = i % 2 ? ':' : '1';
    }
    many[sizeof many - 2] = '\0';
    struct error e = { 0 };
    struct placement_plan plan;
    assert_int_equal(split_parse(many, 8, &plan, &e), FAIL_ARG);
}

static void every_plan_holds_every_layer_once(void **state)
{
    struct random random = { .state = 7 };
    static const char letters[] = "0123456789/:@@//::11";
    int good = 0;
    for (int trial = 0; trial < 200000; trial++) {
        char spec[16];
        size_t n = 1 + random_below(&random, sizeof spec - 1);
        for (size_t i = 0; i < n; i++) {
            spec[i] = letters[random_below(&random, sizeof letters - 1)];
        }
        spec[n - 1] = '\0';
        struct placement_plan plan;
        int layers = 1 + (int)random_below(&random, 40);
        if (split_parse(spec, layers, &plan, NULL) != 0) {
            continue;
        }
        good++;
        int at = 0, rank = 0;
        for (int s = 0; s < plan.n_stages; s++) {
            assert_int_equal(plan.stages[s].first, at);
            assert_true(plan.stages[s].end > at);
            assert_int_equal(plan.stages[s].rank, rank);
            at = plan.stages[s].end;
            rank += plan.stages[s].n_ranks;
        }
        assert_int_equal(at, layers);
        assert_int_equal(rank, plan.n_ranks);
    }
    assert_true(good > 1000);
}

static void memory_decides(void **state)
{
    uint64_t layers[10];
    for (int i = 0; i < 10; i++) {
        layers[i] = 100;
    }
    struct split_need need = { 10, layers, 50, 50, 50 };
    struct placement_plan plan;
    struct error e = { 0 };

    /* Fits the first; fits only another; needs all. */
    assert_int_equal(split_by_memory(&need, (uint64_t[]){ 1050, 5000 }, 2, &plan, &e), 0);
    assert_int_equal(plan.n_ranks, 1);
    assert_int_equal(plan.device[0], 0);
    assert_int_equal(split_by_memory(&need, (uint64_t[]){ 1049, 1100 }, 2, &plan, &e), 0);
    assert_int_equal(plan.n_ranks, 1);
    assert_int_equal(plan.device[0], 1);
    assert_int_equal(split_by_memory(&need, (uint64_t[]){ 1000, 500 }, 2, &plan, &e), 0);
    assert_int_equal(plan.n_ranks, 2);
    assert_int_equal(plan.stages[0].end, 7);
    assert_int_equal(split_by_memory(&need, (uint64_t[]){ 700, 10, 700 }, 3, &plan, &e), 0);
    assert_int_equal(plan.n_ranks, 2);
    assert_int_equal(plan.device[1], 2);
    assert_int_equal(plan.stages[0].end, 5);

    assert_int_equal(split_by_memory(&need, (uint64_t[]){ 500, 500 }, 2, &plan, &e), FAIL_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(specs_are_read),
        cmocka_unit_test(bad_specs_are_explained),
        cmocka_unit_test(every_plan_holds_every_layer_once),
        cmocka_unit_test(memory_decides),
    };
    return cmocka_run_group_tests_name("split", tests, NULL, NULL);
}

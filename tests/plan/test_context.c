/* The default context: as long as fits, without another device. */
#include "tests/test.h"

#include <stdlib.h>

#include "plan/context.h"

#define LAYERS 10
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* 10 layers of 100 MiB, 10 KiB of state for each position and layer; no ends. */
struct model {
    uint64_t weights[LAYERS], tokens[LAYERS], scratch[LAYERS];
    struct split_need need;
    struct context_need context;
};

static void set_up(struct model *m, int most)
{
    for (int i = 0; i < LAYERS; i++) {
        m->weights[i] = 100 * MIB;
        m->tokens[i] = 10240;
    }
    m->need = (struct split_need){ .n_layers = LAYERS, .layer_bytes = m->weights };
    m->context = (struct context_need){
        .weights = &m->need, .token_bytes = m->tokens, .layer_bytes = m->scratch, .most = most
    };
}

static int context_for(struct model *m, uint64_t a, uint64_t b)
{
    const uint64_t memory[] = { a, b };
    int ret = -1;
    struct error e = { 0 };
    int code = context_by_memory(&m->context, memory, b > 0 ? 2 : 1, &ret, &e);
    assert_int_equal(code, ret < 0 ? FAIL_LIMIT : 0);
    assert_int_equal(e.text[0] != '\0', ret < 0);
    return ret;
}

static void it_is_as_long_as_fits(void **state)
{
    struct model m;
    set_up(&m, CONTEXT_MOST);
    /* 1000 MiB of weights, 100 KiB for each position: 32,768 of them take 3,200 MiB. */
    assert_int_equal(context_for(&m, 8 * GIB, 0), 32768);
    assert_int_equal(context_for(&m, 4200 * MIB, 0), 32768);
    assert_int_equal(context_for(&m, 4199 * MIB, 0), 32512);
    assert_int_equal(context_for(&m, 2000 * MIB, 0), 10240);
    assert_int_equal(context_for(&m, 1400 * MIB, 0), 4096);
    set_up(&m, 2048);
    assert_int_equal(context_for(&m, 8 * GIB, 0), 2048);
    set_up(&m, 100);
    assert_int_equal(context_for(&m, 8 * GIB, 0), 100);
}

static void no_device_is_added_for_more_than_is_needed(void **state)
{
    struct model m;
    set_up(&m, CONTEXT_MOST);
    assert_int_equal(context_for(&m, 2000 * MIB, 2000 * MIB), 10240); /* the second stays free */
    /* 4,096 positions don't fit one: both, as far as they go. */
    int both = context_for(&m, 1000 * MIB, 1000 * MIB);
    assert_true(both >= CONTEXT_LEAST && both <= 10240);
    /* The larger of the two alone. */
    assert_int_equal(context_for(&m, 500 * MIB, 2000 * MIB), 10240);
}

static void a_small_machine_gets_a_short_one(void **state)
{
    struct model m;
    set_up(&m, CONTEXT_MOST);
    assert_int_equal(context_for(&m, 1100 * MIB, 0), 1024);
    assert_int_equal(context_for(&m, 1000 * MIB, 0), -1);
}

static void a_given_split_is_kept(void **state)
{
    struct model m;
    struct placement_plan plan;
    set_up(&m, CONTEXT_MOST);
    assert_int_equal(split_parse("5@1/5@1:3", LAYERS, &plan, NULL), 0);
    m.context.plan = &plan;
    /* The third device holds three quarters of half the model: 37.5 KiB for each position. */
    const uint64_t memory[] = { 8 * GIB, 8 * GIB, 375 * MIB + 375 * MIB };
    int ret = 0;
    assert_int_equal(context_by_memory(&m.context, memory, 3, &ret, NULL), 0);
    assert_int_equal(ret, 10240);
    const uint64_t none[] = { 8 * GIB, 8 * GIB, MIB };
    assert_int_equal(context_by_memory(&m.context, none, 3, &ret, NULL), 0);
    assert_int_equal(ret, CONTEXT_LEAST);
}

static void the_pool_leaves_half_of_the_rest(void **state)
{
    struct model m;
    struct placement_plan plan;
    const uint64_t memory[] = { 2000 * MIB }, exact[] = { 1400 * MIB }, less[] = { 500 * MIB };
    set_up(&m, CONTEXT_MOST);
    plan_single(LAYERS, 0, &plan);
    m.context.plan = &plan;
    /* 1,000 MiB and 4,096 positions of 100 KiB leave 600 MiB: 6,144 positions, half of them. */
    assert_int_equal(context_pool(&m.context, memory, 4096, 32 * 4096), 4096 + 3072);
    assert_int_equal(context_pool(&m.context, memory, 4096, 5000), 5000);
    assert_int_equal(context_pool(&m.context, memory, 4096, 1), 4096);
    assert_int_equal(context_pool(&m.context, exact, 4096, 32 * 4096), 4096);
    /* A split that somebody wanted gets one context all the same. */
    assert_int_equal(context_pool(&m.context, less, 4096, 32 * 4096), 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_pool_leaves_half_of_the_rest),
        cmocka_unit_test(it_is_as_long_as_fits),
        cmocka_unit_test(no_device_is_added_for_more_than_is_needed),
        cmocka_unit_test(a_small_machine_gets_a_short_one),
        cmocka_unit_test(a_given_split_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

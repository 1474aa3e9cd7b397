/* When a waiting thread sleeps and when it spins. */
#include "tests/test.h"
#include "transport/rhythm.h"

#define US ((uint64_t)1000)
#define MS (1000 * US)
#define SPIN (50 * US)

static struct rhythm after(uint64_t first, uint64_t second)
{
    struct rhythm r = { 0 };
    rhythm_came(&r, first);
    rhythm_came(&r, second);
    return r;
}

static void without_a_rhythm_it_spins_and_then_sleeps(void **state)
{
    struct rhythm none = { 0 }, pauses = after(400 * MS, 900 * MS), once = { 0 };
    rhythm_came(&once, 15 * MS);
    struct rhythm *all[] = { &none, &pauses, &once };
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rhythm_sleep(all[i], 0, SPIN), 0);
        assert_int_equal(rhythm_sleep(all[i], SPIN - 1, SPIN), 0);
        assert_true(rhythm_sleep(all[i], SPIN, SPIN) == RHYTHM_FOREVER);
    }
    (void)state;
}

static void it_spins_around_the_usual_time(void **state)
{
    struct rhythm r = after(20 * MS, 16 * MS); /* the shorter counts */
    assert_int_equal(rhythm_sleep(&r, SPIN, SPIN), 13 * MS);
    assert_int_equal(rhythm_sleep(&r, 13500 * US, SPIN), 0); /* less than a millisecond is left */
    assert_int_equal(rhythm_sleep(&r, 14 * MS, SPIN), 0);
    assert_int_equal(rhythm_sleep(&r, 17999 * US, SPIN), 0);
    assert_true(rhythm_sleep(&r, 18 * MS, SPIN) == RHYTHM_FOREVER);
    (void)state;
}

static void spinning_is_bounded(void **state)
{
    struct rhythm r = after(200 * MS, 200 * MS);
    assert_int_equal(rhythm_sleep(&r, 1 * MS, SPIN), 197 * MS);
    assert_int_equal(rhythm_sleep(&r, 198 * MS, SPIN), 0);
    assert_true(rhythm_sleep(&r, 202 * MS, SPIN) == RHYTHM_FOREVER);
    (void)state;
}

static void short_waits_are_spun_through(void **state)
{
    struct rhythm r = after(400 * US, 400 * US);
    assert_int_equal(rhythm_sleep(&r, 100 * US, SPIN), 0);
    assert_int_equal(rhythm_sleep(&r, 440 * US, SPIN), 0);
    assert_true(rhythm_sleep(&r, 460 * US, SPIN) == RHYTHM_FOREVER);
    (void)state;
}

static void waits_go_on_over_deadlines(void **state)
{
    struct rhythm r = after(15 * MS, 15 * MS);
    rhythm_paused(&r, 10 * MS);
    assert_int_equal(rhythm_sleep(&r, 1 * MS, SPIN), 2 * MS);
    rhythm_paused(&r, 2 * MS);
    rhythm_came(&r, 4 * MS);
    assert_int_equal(r.last[0], 16 * MS);
    assert_int_equal(r.before_ns, 0);
    (void)state;
}

static struct rhythm computing(uint64_t usual)
{
    struct rhythm r = after(usual, usual);
    r.computes = true;
    return r;
}

static void a_compute_thread_stays_awake(void **state)
{
    struct rhythm r = computing(16 * MS), slow = computing(120 * MS);
    for (uint64_t t = 0; t < 18 * MS; t += 20 * US) {
        assert_int_equal(rhythm_sleep(&r, t, SPIN), 0);
    }
    assert_true(rhythm_sleep(&r, 18 * MS, SPIN) == RHYTHM_FOREVER);
    assert_int_equal(rhythm_sleep(&slow, 60 * US, SPIN), 117 * MS);
    (void)state;
}

static void a_wanted_core_is_given_up_for_one_wait(void **state)
{
    struct rhythm r = computing(16 * MS);
    assert_int_equal(rhythm_sleep(&r, 1 * MS, SPIN), 0);
    assert_int_equal(rhythm_sleep(&r, 4 * MS, SPIN), 10 * MS); /* 3 ms went to somebody else */
    assert_int_equal(rhythm_sleep(&r, 14 * MS, SPIN), 0);      /* about to come */
    rhythm_came(&r, 16 * MS);
    assert_int_equal(rhythm_sleep(&r, 1 * MS, SPIN), 0);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_rhythm_it_spins_and_then_sleeps),
        cmocka_unit_test(it_spins_around_the_usual_time),
        cmocka_unit_test(spinning_is_bounded),
        cmocka_unit_test(short_waits_are_spun_through),
        cmocka_unit_test(waits_go_on_over_deadlines),
        cmocka_unit_test(a_compute_thread_stays_awake),
        cmocka_unit_test(a_wanted_core_is_given_up_for_one_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

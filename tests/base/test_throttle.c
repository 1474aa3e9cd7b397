/* Floods of messages: few lines, and nothing goes uncounted. */
#include "tests/test.h"

#include <stdio.h>

#include "base/random.h"
#include "base/throttle.h"

#define S 1000000000ull

static uint64_t drain(struct throttle *t, uint64_t now, bool all, int *lines)
{
    struct throttle_slot s;
    uint64_t left = 0;
    while (throttle_ended(t, now, all, &s)) {
        left += s.left_out;
        *lines += 1;
    }
    return left;
}

static void one_source_floods(void **state)
{
    (void)state;
    static struct throttle t;
    struct throttle_slot s;
    int said = 0;
    for (int i = 0; i < 5315; i++)
        said += throttle_take(&t, "refused", i % 2 ? "10.0.0.7:1234" : "10.0.0.7:99", 1, S);
    assert_int_equal(said, THROTTLE_EACH);
    assert_true(throttle_take(&t, "refused", "10.0.0.8:1", 1, S)); /* others are heard */
    assert_true(throttle_take(&t, "other kind", "10.0.0.7:1", 1, S));
    assert_false(throttle_ended(&t, 2 * S, false, &s));
    assert_true(throttle_ended(&t, S + THROTTLE_WINDOW_NS, false, &s));
    assert_string_equal(s.kind, "refused");
    assert_string_equal(s.source, "10.0.0.7");
    assert_int_equal(s.left_out, 5312);
    assert_int_equal(s.level, 1);
    assert_false(throttle_ended(&t, S + THROTTLE_WINDOW_NS, true, &s));
    assert_true(throttle_take(&t, "refused", "10.0.0.7:5", 1, 40 * S)); /* and it begins anew */
}

static void a_quiet_source_is_never_held_back(void **state)
{
    (void)state;
    static struct throttle t;
    for (uint64_t i = 0; i < 100; i++)
        assert_true(throttle_take(&t, "lost", "laptop", 2, i * 20 * S));
}

static void invented_sources_flood(void **state)
{
    (void)state;
    static struct throttle t;
    int said = 0, lines = 0;
    char source[32];
    for (int i = 0; i < 100000; i++) {
        snprintf(source, sizeof source, "[fd00::%x]:%d", i, i % 60000);
        said += throttle_take(&t, "refused", source, 1, S);
    }
    assert_int_equal(said, THROTTLE_KIND);
    uint64_t left = drain(&t, S, true, &lines);
    assert_int_equal(left + (uint64_t)said, 100000);
    assert_in_range(lines, 1, THROTTLE_KIND + 1);
}

static void sources_lose_their_port_only(void **state)
{
    (void)state;
    static const char *const same[][2] = { { "[::1]:5", "[::1]" },
                                           { "1.2.3.4:80", "1.2.3.4" },
                                           { "fe80::1:2", "fe80::1:2" },
                                           { "host", "host" },
                                           { ":5", ":5" },
                                           { "a:", "a:" } };
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        struct throttle t = { 0 };
        struct throttle_slot s;
        for (int k = 0; k < 10; k++)
            throttle_take(&t, "k", same[i][0], 0, 1);
        assert_true(throttle_ended(&t, 1, true, &s));
        assert_string_equal(s.source, same[i][1]);
    }
}

/* Whatever comes: what was said and what is told later is what was asked. */
static void nothing_goes_uncounted(void **state)
{
    (void)state;
    static struct throttle t;
    struct random r = { 11 };
    uint64_t now = 0, asked = 0, said = 0, left = 0;
    int lines = 0;
    for (int i = 0; i < 200000; i++) {
        char kind[16], source[16];
        snprintf(kind, sizeof kind, "kind%d", (int)random_below(&r, 5));
        snprintf(source, sizeof source, "s%d",
                 (int)random_below(&r, random_below(&r, 2) ? 8 : 9000));
        now += random_below(&r, S / 100);
        left += drain(&t, now, false, &lines);
        said += throttle_take(&t, kind, source, 0, now);
        asked++;
    }
    left += drain(&t, now, true, &lines);
    assert_int_equal(said + left, asked);
    /* About 33 windows of 5 kinds. */
    assert_true(said < 40 * 5 * (THROTTLE_KIND + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_source_floods),
        cmocka_unit_test(a_quiet_source_is_never_held_back),
        cmocka_unit_test(invented_sources_flood),
        cmocka_unit_test(sources_lose_their_port_only),
        cmocka_unit_test(nothing_goes_uncounted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

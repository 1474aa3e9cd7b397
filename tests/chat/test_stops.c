#include "tests/test.h"

#include "base/random.h"
#include "chat/stops.h"

#include <stdio.h>

struct result {
    char text[512];
    bool stopped;
    int which;
};

/* Streams `text` in pieces of at most `piece` bytes. */
static struct result run(const char *const *stops, int n, const char *text, size_t piece)
{
    struct bytes list[8];
    struct error e = { 0 };
    struct stops *s = NULL;
    struct buffer out;
    struct result r = { .which = -1 };
    for (int i = 0; i < n; i++)
        list[i] = bytes_text(stops[i]);
    buffer_init(&out, sizeof(r.text) - 1);
    assert_int_equal(stops_open(&s, list, n, &e), 0);
    size_t size = strlen(text);
    for (size_t i = 0; i < size; i += piece) {
        struct bytes part = bytes_of(text + i, size - i < piece ? size - i : piece);
        assert_int_equal(stops_push(s, part, &out, &r.stopped, &r.which, &e), 0);
    }
    assert_int_equal(stops_finish(s, &out, &e), 0);
    snprintf(r.text, sizeof(r.text), "%s", buffer_cstr(&out));
    if (out.size == 0)
        r.text[0] = 0;
    buffer_done(&out);
    stops_close(s);
    return r;
}

static void finds_a_stop_however_it_is_cut(void **state)
{
    const char *stops[] = { "\nUser:", "END" };
    for (size_t piece = 1; piece < 12; piece++) {
        struct result r = run(stops, 2, "Hello\nUser: hi", piece);
        assert_true(r.stopped);
        assert_int_equal(r.which, 0);
        assert_string_equal(r.text, "Hello");
        r = run(stops, 2, "EN\nUse", piece);
        assert_false(r.stopped);
        assert_string_equal(r.text, "EN\nUse");
    }
}

static void finds_overlapping_starts(void **state)
{
    const char *stops[] = { "aab" };
    assert_string_equal(run(stops, 1, "xaaab", 1).text, "xa");
    const char *two[] = { "bc", "abc" };
    struct result r = run(two, 2, "xabc", 1);
    assert_int_equal(r.which, 1);
    assert_string_equal(r.text, "x");
    const char *none[] = { "q" };
    assert_string_equal(run(none, 0, "text", 2).text, "text");
}

static void holds_back_only_what_may_be_a_stop(void **state)
{
    struct error e = { 0 };
    struct stops *s = NULL;
    struct buffer out;
    bool stopped;
    struct bytes stop = bytes_text("é!");
    buffer_init(&out, 100);
    assert_int_equal(stops_open(&s, &stop, 1, &e), 0);
    assert_int_equal(stops_push(s, bytes_text("caf"), &out, &stopped, NULL, &e), 0);
    assert_string_equal(buffer_cstr(&out), "caf");
    assert_int_equal(stops_push(s, bytes_text("é"), &out, &stopped, NULL, &e), 0);
    assert_string_equal(buffer_cstr(&out), "caf");
    assert_int_equal(stops_push(s, bytes_text("é."), &out, &stopped, NULL, &e), 0);
    assert_string_equal(buffer_cstr(&out), "caféé.");
    assert_int_equal(stops_push(s, bytes_text("é!x"), &out, &stopped, NULL, &e), 0);
    assert_true(stopped);
    assert_string_equal(buffer_cstr(&out), "caféé.");
    buffer_done(&out);
    stops_close(s);
}

/* Against the definition: the first end of any stop, at that end the longest stop. */
static void agrees_with_a_search(void **state)
{
    struct random random = { .state = 11 };
    for (int trial = 0; trial < 20000; trial++) {
        char text[40] = "", stop[3][6] = { "", "", "" };
        const char *stops[3] = { stop[0], stop[1], stop[2] };
        size_t n = random_below(&random, 30);
        for (size_t i = 0; i < n; i++)
            text[i] = (char)('a' + random_below(&random, 2));
        for (int k = 0; k < 3; k++) {
            size_t m = 1 + random_below(&random, 5);
            for (size_t i = 0; i < m; i++)
                stop[k][i] = (char)('a' + random_below(&random, 2));
        }
        size_t shown = n;
        bool found = false;
        for (size_t end = 1; end <= n && !found; end++) {
            for (int k = 0; k < 3; k++) {
                size_t m = strlen(stop[k]);
                if (m <= end && !memcmp(text + end - m, stop[k], m)) {
                    shown = !found || end - m < shown ? end - m : shown;
                    found = true;
                }
            }
        }
        struct result r = run(stops, 3, text, 1 + random_below(&random, 7));
        text[shown] = 0;
        assert_int_equal(r.stopped, found);
        assert_string_equal(r.text, text);
    }
}

static void refuses_bad_stops(void **state)
{
    struct error e = { 0 };
    struct stops *s = NULL;
    struct bytes list[STOPS_MAX + 1];
    for (int i = 0; i <= STOPS_MAX; i++)
        list[i] = bytes_text("x");
    assert_int_equal(stops_open(&s, list, STOPS_MAX + 1, &e), FAIL_LIMIT);
    list[1] = bytes_text("");
    assert_int_equal(stops_open(&s, list, 2, &e), FAIL_ARG);
    assert_null(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_a_stop_however_it_is_cut),
        cmocka_unit_test(finds_overlapping_starts),
        cmocka_unit_test(holds_back_only_what_may_be_a_stop),
        cmocka_unit_test(agrees_with_a_search),
        cmocka_unit_test(refuses_bad_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

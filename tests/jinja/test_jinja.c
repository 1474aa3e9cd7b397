/* The interpreter's bounds, errors and API; what templates mean is tested in tests/engine. */
#include "tests/test.h"

#include "jinja/jinja.h"

#include <stdio.h>

static const struct jinja_clock noon = { .local_s = 1722002709, .microsecond = 123 };

/* Renders without variables; the error's text on failure. */
static int render(const char *source, const struct jinja_limits *limits, struct buffer *out,
                  struct error *e)
{
    struct jinja *j = NULL;
    buffer_init(out, 1 << 20);
    int code = jinja_parse(&j, bytes_text(source), limits, e);
    if (!code)
        code = jinja_render(j, NULL, &noon, out, e);
    jinja_close(j);
    return code;
}

static void assert_text(const char *source, const char *want)
{
    struct buffer out;
    struct error e = { 0 };
    int code = render(source, NULL, &out, &e);
    if (code)
        print_message("%s: %s\n", source, e.text);
    assert_int_equal(code, 0);
    assert_string_equal(buffer_cstr(&out), want);
    buffer_done(&out);
}

static void assert_error(const char *source, const struct jinja_limits *limits, int code,
                         const char *part)
{
    struct buffer out;
    struct error e = { 0 };
    assert_int_equal(render(source, limits, &out, &e), code);
    if (!strstr(e.text, part))
        print_message("%s: %s\n", source, e.text);
    assert_non_null(strstr(e.text, part));
    assert_int_equal(out.size, 0);
    buffer_done(&out);
}

static void errors_name_line_and_column(void **state)
{
    (void)state;
    assert_error("a\n  {{ x.y }}", NULL, FAIL_FORMAT, "line 2, column 7: 'x' is undefined");
    assert_error("é {% if %}", NULL, FAIL_FORMAT, "line 1, column 9: expected an expression");
    assert_error("\n\n{{ 1 / 0 }}", NULL, FAIL_FORMAT, "line 3");
    assert_error("{% for x in [1] %}", NULL, FAIL_FORMAT, "endfor");
    assert_error("{{ 'a' }} {{ \"b }}", NULL, FAIL_FORMAT, "string without its end");
    assert_error("{{ raise_exception('no tools here') }}", NULL, FAIL_ARG, "no tools here");
    assert_error("{% include 'x' %}", NULL, FAIL_FORMAT, "'include' is not supported");
    assert_error("{% extends 'x' %}", NULL, FAIL_FORMAT, "'extends' is not supported");
    assert_error("{{ 9223372036854775807 + 1 }}", NULL, FAIL_FORMAT, "64 bits");
    assert_error("{{ 9223372036854775808 }}", NULL, FAIL_FORMAT, "64 bits");
    assert_error("{{ [].append(1) }}", NULL, FAIL_FORMAT, "unsafe");
    assert_error("{{ ''.__class__.__mro__ }}", NULL, FAIL_FORMAT, "unsafe");
}

static void integers_are_exact_to_the_edge(void **state)
{
    (void)state;
    assert_text("{{ 9223372036854775806 + 1 }}", "9223372036854775807");
    assert_text("{{ -9223372036854775807 - 1 }}", "-9223372036854775808");
    assert_text("{{ 9007199254740993 == 9007199254740992.0 }}", "False");
    assert_text("{{ (-9223372036854775807 - 1) % -1 }}", "0");
    assert_error("{{ (-9223372036854775807 - 1) // -1 }}", NULL, FAIL_FORMAT, "64 bits");
    assert_error("{{ -(-9223372036854775807 - 1) }}", NULL, FAIL_FORMAT, "64 bits");
    assert_error("{{ 3 ** 41 }}", NULL, FAIL_FORMAT, "64 bits");
}

static void every_bound_holds(void **state)
{
    (void)state;
    const struct jinja_limits tight = { .source = 200,
                                        .memory = 1 << 21,
                                        .output = 1000,
                                        .steps = 10000,
                                        .nesting = 20,
                                        .depth = 60,
                                        .range = 50 };
    char text[1024];
    memset(text, ' ', sizeof text);
    text[300] = '\0';
    assert_error(text, &tight, FAIL_LIMIT, "300 bytes");
    assert_error("{{ 'a' * 1000000000 }}", &tight, FAIL_LIMIT, "memory");
    assert_error("{{ [1] * 1000000000 }}", &tight, FAIL_LIMIT, "");
    assert_error("{{ 'abc' * 400 }}", &tight, FAIL_LIMIT, "1000 bytes");
    assert_error("{{ range(51) }}", &tight, FAIL_LIMIT, "Range too big");
    assert_error("{% for a in range(50) %}{% for b in range(50) %}{% for c in range(50) %}"
                 "{% endfor %}{% endfor %}{% endfor %}",
                 &tight, FAIL_LIMIT, "steps");
    assert_error("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", &tight, FAIL_LIMIT, "deep");
    assert_error("{% set ns = namespace(x=1) %}{% for i in range(50) %}{% for k in range(9) %}"
                 "{% set ns.x = [ns.x] %}{% endfor %}{% endfor %}{{ ns.x }}",
                 &tight, FAIL_LIMIT, "deep");
    assert_error("{% set n = namespace() %}{% set n.n = n %}{{ n }}", NULL, FAIL_LIMIT, "deep");
    assert_error("{{ '%999999999d' % 1 }}", NULL, FAIL_LIMIT, "wider");
    assert_error("{{ '{:999999999}'.format(1) }}", NULL, FAIL_LIMIT, "wider");
    snprintf(text, sizeof text, "{{ %.*s1%.*s }}", 40, "((((((((((((((((((((((((((((((((((((((((",
             40, "))))))))))))))))))))))))))))))))))))))))");
    assert_error(text, &tight, FAIL_LIMIT, "deep");
}

static void values_are_made_and_rendered(void **state)
{
    (void)state;
    struct arena a = { 0 };
    struct jinja_value globals, list, text;
    struct error e = { 0 };
    assert_int_equal(jinja_dict_new(&a, 0, &globals, &e), 0);
    assert_int_equal(jinja_list_new(&a, 0, &list, &e), 0);
    assert_int_equal(jinja_string(bytes_text("é"), &text, &e), 0);
    assert_int_equal(jinja_string(bytes_text("\xff"), &text, &e), FAIL_FORMAT);
    for (int i = 0; i < 100; i++)
        assert_int_equal(jinja_list_add(&a, &list, i % 2 ? jinja_int(i) : text, &e), 0);
    for (int i = 0; i < 1000; i++) {
        char *key = arena_alloc(&a, 16);
        snprintf(key, 16, "k%d", i % 500);
        assert_int_equal(jinja_dict_set(&a, &globals, bytes_text(key), jinja_int(i), &e), 0);
    }
    assert_int_equal(jinja_dict_set(&a, &globals, bytes_text("list"), list, &e), 0);
    struct jinja *j = NULL;
    struct buffer out;
    buffer_init(&out, 100);
    assert_int_equal(
        jinja_parse(&j, bytes_text("{{ k0 }} {{ k499 }} {{ list[0] }}{{ list|length }}"), NULL, &e),
        0);
    assert_int_equal(jinja_render(j, &globals, NULL, &out, &e), 0);
    assert_string_equal(buffer_cstr(&out), "500 999 é100");
    assert_int_equal(jinja_render(j, &globals, NULL, &out, &e), 0); /* appends */
    assert_string_equal(buffer_cstr(&out), "500 999 é100500 999 é100");
    jinja_close(j);
    buffer_done(&out);
    arena_done(&a);
}

static void time_is_an_argument(void **state)
{
    (void)state;
    assert_text("{{ strftime_now('%Y-%m-%d %H:%M:%S.%f %j %a %V %G') }}",
                "2024-07-26 14:05:09.000123 208 Fri 30 2024");
    struct jinja *j = NULL;
    struct error e = { 0 };
    struct buffer out;
    buffer_init(&out, 100);
    assert_int_equal(jinja_parse(&j, bytes_text("{{ strftime_now('%e|%G-%V|%U') }}"), NULL, &e), 0);
    assert_int_equal(jinja_render(j, NULL, NULL, &out, &e), FAIL_STATE);
    /* 2021-01-03 is a Sunday of 2020's week 53. */
    const struct jinja_clock sunday = { .local_s = 1609632000 };
    assert_int_equal(jinja_render(j, NULL, &sunday, &out, &e), 0);
    assert_string_equal(buffer_cstr(&out), " 3|2020-53|01");
    jinja_close(j);
    buffer_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_name_line_and_column),
        cmocka_unit_test(integers_are_exact_to_the_edge),
        cmocka_unit_test(every_bound_holds),
        cmocka_unit_test(values_are_made_and_rendered),
        cmocka_unit_test(time_is_an_argument),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The interpreter's bounds, errors and API; what templates mean is tested in tests/engine. */
#include "tests/test.h"

#include "jinja/jinja.h"

#include <stdio.h>
#include <time.h>

static const struct jinja_clock moment = { .local_s = 1722002709, .microsecond = 123 };
static const struct jinja_context noon = { .now = &moment };

/* Renders without variables; the error's text on failure. */
static int render(const char *source, const struct jinja_limits *limits, struct buffer *out,
                  struct error *e)
{
    struct jinja *j = NULL;
    buffer_init(out, 1 << 20);
    int code = jinja_parse(&j, bytes_text(source), limits, e);
    if (!code)
        code = jinja_render(j, NULL, &noon, out, NULL, e);
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
    assert_int_equal(jinja_render(j, &globals, NULL, &out, NULL, &e), 0);
    assert_string_equal(buffer_cstr(&out), "500 999 é100");
    assert_int_equal(jinja_render(j, &globals, NULL, &out, NULL, &e), 0); /* appends */
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
    assert_int_equal(jinja_render(j, NULL, NULL, &out, NULL, &e), FAIL_STATE);
    /* 2021-01-03 is a Sunday of 2020's week 53. */
    const struct jinja_clock sunday = { .local_s = 1609632000 };
    assert_int_equal(
        jinja_render(j, NULL, &(struct jinja_context){ .now = &sunday }, &out, NULL, &e), 0);
    assert_string_equal(buffer_cstr(&out), " 3|2020-53|01");
    jinja_close(j);
    buffer_done(&out);
}

/* ---- whose text it is ---- */

/* Variables: u is a user's "a<|x|>b", m one of mixed origin ("<|" own, "x|>" a user's), d a dict
 * with a user's key and value, l a list of a user's texts. */
static void make_users(struct arena *a, struct jinja_value *globals)
{
    struct error e = { 0 };
    struct jinja_value u, v, d, l;
    assert_int_equal(jinja_dict_new(a, 0, globals, &e), 0);
    assert_int_equal(jinja_user_string(bytes_text("a<|x|>b"), &u, &e), 0);
    assert_int_equal(jinja_dict_set(a, globals, bytes_text("u"), u, &e), 0);
    assert_int_equal(jinja_dict_new(a, 0, &d, &e), 0);
    assert_int_equal(jinja_user_string(bytes_text("<v>"), &v, &e), 0);
    assert_int_equal(jinja_dict_set_user(a, &d, bytes_text("<k>"), v, &e), 0);
    assert_int_equal(jinja_dict_set(a, globals, bytes_text("d"), d, &e), 0);
    assert_int_equal(jinja_list_new(a, 0, &l, &e), 0);
    assert_int_equal(jinja_list_add(a, &l, u, &e), 0);
    assert_int_equal(jinja_list_add(a, &l, v, &e), 0);
    assert_int_equal(jinja_dict_set(a, globals, bytes_text("l"), l, &e), 0);
    assert_int_equal(jinja_user_string(bytes_text("\xc3\x9f|,\n'"), &v, &e), 0);
    assert_int_equal(jinja_dict_set(a, globals, bytes_text("w"), v, &e), 0);
}

/* The text with what is a user's in [ ]. */
static void mark(struct bytes text, const struct spans *user, struct buffer *out)
{
    size_t next = 0;
    for (size_t i = 0; i <= text.size; i++) {
        if (next < user->count && user->items[next].end == i) {
            next++;
            buffer_text(out, "]");
        }
        if (next < user->count && user->items[next].start == i)
            buffer_text(out, "[");
        if (i < text.size)
            buffer_append(out, bytes_of(text.data + i, 1));
    }
}

static const struct {
    const char *source, *want;
} origins[] = {
    { "T{{ u }}T", "T[a<|x|>b]T" },
    { "{{ u }}", "[a<|x|>b]" },
    { "{{ '<|x|>' }}", "<|x|>" },
    { "{{ '<|' + u + '|>' }}", "<|[a<|x|>b]|>" },
    { "{{ '<|' ~ u ~ 1 ~ '|>' }}", "<|[a<|x|>b]1|>" },
    { "{{ (u + 'T') * 2 }}", "[a<|x|>b]T[a<|x|>b]T" },
    { "{{ u * 2 }}{{ 'T' * 2 }}", "[a<|x|>ba<|x|>b]TT" },
    { "{{ ('T' + u)[1:4] }}{{ ('T' + u)[0:3] }}", "[a<|]T[a<]" },
    { "{{ ('T' + u)[::-1] }}", "[b>|x|<a]T" },
    { "{{ u[0] }}{{ ('T' + u)[0] }}{{ ('T' + u)[-1] }}", "[a]T[b]" },
    { "{% for c in 'T' + u[:2] %}{{ c }}.{% endfor %}", "T.[a].[<]." },
    { "{{ l | join('<|x|>') }}", "[a<|x|>b]<|x|>[<v>]" },
    { "{{ u.join(['1', '2']) }}", "1[a<|x|>b]2" },
    { "{{ 'T.T'.replace('.', u) }}", "T[a<|x|>b]T" },
    { "{{ 'T.T' | replace('.', u) }}", "T[a<|x|>b]T" },
    { "{{ 'Tx'.replace('', u[0]) }}", "[a]T[a]x[a]" },
    { "{{ u.replace('x', 'T') }}", "[a<|]T[|>b]" },
    { "{{ u.split('|') | join('|') }}", "[a<]|[x]|[>b]" },
    { "{{ u.rsplit('|', 1)[1] }}{{ ('T ' + u).split()[0] }}{{ ('T ' + u).split()[1] }}",
      "[>b]T[a<|x|>b]" },
    { "{{ u.partition('|')[2] }}{{ ('T|' + u).rpartition('|')[0] }}", "[x|>b]T|[a<|x]" },
    { "{{ u.partition('|') | join }}{{ ('T|' + u).rpartition('b')[1] }}", "[a<|x|>bb]" },
    { "{{ ('T|' + u).partition('|')[1] }}", "|" },
    { "{{ (u + '\\nT').splitlines()[0] }}{{ (u + '\\nT').splitlines()[1] }}", "[a<|x|>b]T" },
    { "{{ ('  T' + u + ' ') | trim }}{{ u.strip('ab') }}", "T[a<|x|>b<|x|>]" },
    { "{{ ('T' + u) | upper }}{{ u.title() }}{{ u.capitalize() }}{{ u.swapcase() }}",
      "T[A<|X|>BA<|X|>BA<|x|>bA<|X|>B]" },
    { "{{ ('t' + u) | title }}{{ ('t' + u) | capitalize }}{{ w.upper() }}",
      "T[a<|x|>b]T[a<|x|>bSS|,\n']" },
    { "{{ u | tojson }}", "\"[a<|x|>b]\"" },
    { "{{ w | tojson }}", "\"[\u00df|,\\n']\"" },
    { "{{ d | tojson }}{{ l | tojson }}", "{\"[<k>]\": \"[<v>]\"}[\"[a<|x|>b]\", \"[<v>]\"]" },
    { "{{ {'T': u} | tojson(indent=1) }}", "{\n \"T\": \"[a<|x|>b]\"\n}" },
    { "{{ {'T': 1} | tojson(indent=u) }}", "{\n[a<|x|>b]\"T\": 1\n}" },
    { "{{ l }}{{ d }}", "['[a<|x|>b]', '[<v>]']{'[<k>]': '[<v>]'}" },
    { "{{ '%s|%5s|%r' % (u, 'T', u) }}", "[a<|x|>b]|    T|'[a<|x|>b]'" },
    { "{{ (u + '%s') % 'T' }}{{ '%(k)s' % {'k': u} }}", "[a<|x|>b]T[a<|x|>b]" },
    { "{{ '{}:{:>9}:{k!r}'.format(u, u, k=u) }}", "[a<|x|>b]:  [a<|x|>b]:'[a<|x|>b]'" },
    { "{{ (u + '{}').format('T') }}{{ '{:.3}'.format(u) }}", "[a<|x|>b]T[a<|]" },
    { "{{ '%s' | format(u) }}", "[a<|x|>b]" },
    { "{{ u.center(9) }}{{ 'T'.center(3, u[0]) }}{{ u.zfill(8) }}",
      " [a<|x|>b] [a]T[a]0[a<|x|>b]" },
    { "{{ u | indent(1, true) }}{{ u | truncate(5, true, '', 0) }}", " [a<|x|>ba<|x|]" },
    { "{{ u | e }}{{ u | urlencode }}", "[a&lt;|x|&gt;ba%3C%7Cx%7C%3Eb]" },
    { "{{ u | list | join }}{{ l | first }}{{ l | last }}{{ u | reverse }}",
      "[a<|x|>ba<|x|>b<v>b>|x|<a]" },
    { "{% for k, v in d.items() %}{{ k }}={{ v }}{% endfor %}", "[<k>]=[<v>]" },
    { "{% for k in d %}{{ k }}{% endfor %}{{ d | dictsort }}", "[<k>][('[<k>]', '[<v>]')]" },
    { "{{ dict(**d) | tojson }}", "{\"[<k>]\": \"[<v>]\"}" },
    { "{% macro m() %}{{ kwargs | tojson }}{% endmacro %}{{ m(**d) }}", "{\"[<k>]\": \"[<v>]\"}" },
    { "{% macro m(x) %}T{{ x }}{% endmacro %}{{ m(u) | upper }}", "T[A<|X|>B]" },
    { "{% set x %}T{{ u }}{% endset %}{{ x }}{% filter upper %}t{{ u }}{% endfilter %}",
      "T[a<|x|>b]T[A<|X|>B]" },
    { "{% set n = namespace(s='') %}{% for x in l %}{% set n.s = n.s + 'T' + x %}{% endfor %}{{ "
      "n.s }}",
      "T[a<|x|>b]T[<v>]" },
    { "{{ u if true else 'T' }}{{ nope | default(u) }}{{ u or 'T' }}", "[a<|x|>ba<|x|>ba<|x|>b]" },
    { "{{ l | map('upper') | join(',') }}{{ l | sort | join(',') }}",
      "[A<|X|>B],[<V><v>],[a<|x|>b]" },
    { "{{ strftime_now('%Y' + u) }}{{ strftime_now('%Y') }}", "[2024a<|x|>b]2024" },
    { "{{ {'a<|x|>b': '<|x|>'}[u] }}{{ u == 'a<|x|>b' }}{{ u | length }}", "<|x|>True7" },
    { "{{ 'a' in u }}{{ u.find('x') }}{{ u is string }}", "True3True" },
};

static void taint_follows_the_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(origins); i++) {
        struct arena a = { 0 };
        struct jinja_value globals;
        struct jinja *j = NULL;
        struct buffer out, marked;
        struct spans user = { 0 };
        struct error e = { 0 };
        buffer_init(&out, 1000);
        buffer_init(&marked, 4000);
        make_users(&a, &globals);
        int code = jinja_parse(&j, bytes_text(origins[i].source), NULL, &e);
        code = code ? code : jinja_render(j, &globals, &noon, &out, &user, &e);
        mark(buffer_bytes(&out), &user, &marked);
        if (code || strcmp(buffer_cstr(&marked), origins[i].want) != 0)
            print_message("%s: %s\n", origins[i].source, code ? e.text : buffer_cstr(&marked));
        assert_int_equal(code, 0);
        assert_string_equal(buffer_cstr(&marked), origins[i].want);
        jinja_close(j);
        spans_done(&user);
        buffer_done(&out);
        buffer_done(&marked);
        arena_done(&a);
    }
}

/* ---- templates made to hurt ---- */

/* A tenth of the default's work, and the processor time that it may take on a slow machine with
 * sanitizers: what counts too little takes minutes. */
static const struct jinja_limits budget = { .steps = 5000000 };
#define HOSTILE_S 5.0

static const char *const hostile[] = {
    /* A tuple that holds itself 2^40 times, as a key, compared, searched, counted. */
    "{% set n = namespace(t=(1,)) %}{% for i in range(40) %}{% set n.t = (n.t, n.t) %}{% endfor %}"
    "{{ {n.t: 1} }}",
    "{% set n = namespace(t=(1,)) %}{% for i in range(40) %}{% set n.t = (n.t, n.t) %}{% endfor %}"
    "{{ {}.get(n.t) }}{{ {1: 2}.get(n.t) }}",
    "{% set n = namespace(t=(1,), s=(1,)) %}{% for i in range(40) %}{% set n.t = (n.t, n.t) %}"
    "{% set n.s = (n.s, n.s) %}{% endfor %}{{ n.t == n.s }}{{ n.t < n.s }}{{ n.t in [n.s] }}",
    "{% set n = namespace(t=[]) %}{% for i in range(40) %}{% set n.t = [n.t, n.t] %}{% endfor %}"
    "{{ n.t | tojson | length }}",
    /* Megabytes in each turn of a loop. */
    "{% set k = 'a' * 5000000 %}{% set d = {k: 1, k + 'b': 2} %}{% for i in range(100000) %}"
    "{% set x = d[k] %}{% endfor %}",
    "{% set k = 'A' * 5000000 %}{% for i in range(100000) %}{% set x = k is upper %}{% endfor %}",
    "{% set k = 'a' * 5000000 %}{% set l = k + 'b' %}{% set m = k + 'c' %}"
    "{% for i in range(100000) %}{% set x = l == m %}{% set y = l < m %}{% endfor %}",
    "{% set k = '\xc3\xa9' * 2000000 %}{% for i in range(100000) %}{% set x = k[-1] %}{% endfor %}",
    "{% set k = '\xc3\xa9' * 2000000 %}{% for i in range(100000) %}{% set x = k[1:-1] %}{% endfor "
    "%}",
    "{% set k = 'a' * 3000000 %}{% for i in range(100000) %}{% set x = k.rfind('a') %}{% endfor %}",
    "{% set k = 'a' * 2000000 %}{% set h = 'a' * 1000000 %}{% for i in range(999) %}{% set x = "
    "k.rfind(h + 'b') %}{% endfor %}",
    "{% set k = 'a' * 2000000 %}{% for i in range(9999) %}{% set x = k.strip(k) %}{% endfor %}",
    "{% set k = 'a' * 2000000 %}{% for i in range(99999) %}{% set x = k|title %}{% endfor %}",
    "{% set k = 'a' * 2000000 %}{% for i in range(99999) %}{% set x = k.isalpha() %}{% endfor %}",
    "{% set k = '0' * 2000000 %}{% for i in range(99999) %}{% set x = k|int %}{% endfor %}",
    "{% set k = 'a' * 2000000 %}{% for i in range(99999) %}{% set x = k.endswith(k) %}{% endfor %}",
    "{% set k = 'a ' * 2000000 %}{% for i in range(99999) %}{% set x = k|wordcount %}{% endfor %}",
    "{% set k = 'a' * 9000000 %}{% for i in range(99999) %}{% set x = 'b' in k %}{% endfor %}",
    /* Small things that are dear. */
    "{% for i in range(99999) %}{% for k in range(99999) %}{% set x = 0.1 ~ '' %}{% endfor %}"
    "{% endfor %}",
    "{% for i in range(99999) %}{% for k in range(99999) %}{% set x = '%.300f' % 1e308 %}"
    "{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for k in range(99999) %}{% set x = 1.5 | round(300) %}"
    "{% endfor %}{% endfor %}",
    "{% set f = '%c' * 100000 %}{% for i in range(99999) %}{% set x = strftime_now(f) %}{% endfor "
    "%}",
    "{% macro m() %}{{ kwargs | length }}{% endmacro %}{% set n = namespace(d={}) %}"
    "{% set d = dict(range(50000) | map('string') | batch(2)) %}"
    "{% for i in range(99999) %}{% set x = m(**d) %}{% endfor %}",
};

static void hostile_templates_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
        struct buffer out;
        struct error e = { 0 };
        clock_t start = clock();
        int code = render(hostile[i], &budget, &out, &e);
        double s = (double)(clock() - start) / CLOCKS_PER_SEC;
        if (code != FAIL_LIMIT || s > HOSTILE_S)
            print_message("%.1f s, %s: %s\n", s, hostile[i], code ? e.text : "rendered");
        assert_int_equal(code, FAIL_LIMIT);
        assert_true(s <= HOSTILE_S);
        buffer_done(&out);
    }
}

/* A megabyte of one thing that is small by itself: none takes more than its parsing. */
static void hostile_templates_are_parsed(void **state)
{
    (void)state;
    static const struct {
        const char *head, *unit, *tail; /* unit is given a number */
    } cases[] = {
        { "{% macro m(", "a%d,", "z) %}{% endmacro %}" },
        { "", "{%%block b%d%%}{%%endblock%%}", "" },
        { "{{ dict(", "a%d=1,", "b=1) }}" },
        { "", "{%%macro v%d(a,b)%%}{%%endmacro%%}", "" },
        { "", "{%%set v%d=1%%}", "" },
        { "{{ 1", "+%d", "}}" },
        { "{% if 0 %}", "{%%elif %d%%}", "{% endif %}" },
        { "{{ {", "%d:1,", "} }}" },
        { "{{ a", ".b%d", "}}" },
        { "{{ ", "not %d ", "}}" },
        { "{{ '", "\\x4%d", "' }}" },
    };
    size_t size = 1 << 20;
    char *text = malloc(size);
    assert_non_null(text);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct jinja *j = NULL;
        struct error e = { 0 };
        size_t n = (size_t)snprintf(text, size, "%s", cases[i].head);
        for (int k = 0; n < size - 100; k++)
            n += (size_t)snprintf(text + n, size - n, cases[i].unit, k);
        n += (size_t)snprintf(text + n, size - n, "%s", cases[i].tail);
        clock_t start = clock();
        int code = jinja_parse(&j, bytes_of(text, n), NULL, &e);
        double s = (double)(clock() - start) / CLOCKS_PER_SEC;
        if (s > HOSTILE_S)
            print_message("%.1f s, %s\n", s, cases[i].unit);
        assert_true(s <= HOSTILE_S);
        assert_true(code == 0 || e.text[0]);
        jinja_close(j);
    }
    free(text);
}

static bool count_down(void *arg)
{
    int *left = arg;
    return (*left)-- == 0;
}

static void whoever_renders_can_stop_it(void **state)
{
    (void)state;
    struct jinja *j = NULL;
    struct error e = { 0 };
    struct buffer out;
    int left = 3;
    const struct jinja_context context = { .stop = count_down, .stop_arg = &left };
    buffer_init(&out, 100);
    assert_int_equal(
        jinja_parse(&j, bytes_text("{% for i in range(99999) %}{{ i }}{% endfor %}"), NULL, &e), 0);
    assert_int_equal(jinja_render(j, NULL, &context, &out, NULL, &e), FAIL_LIMIT);
    assert_non_null(strstr(e.text, "too long"));
    assert_int_equal(left, -1);
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
        cmocka_unit_test(taint_follows_the_bytes),
        cmocka_unit_test(hostile_templates_end),
        cmocka_unit_test(hostile_templates_are_parsed),
        cmocka_unit_test(whoever_renders_can_stop_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

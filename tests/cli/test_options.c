/* The option parser and the command table. */
#include "tests/test.h"

#include "cli/commands.h"
#include "cli/options.h"

struct values {
    bool json;
    int64_t port;
    double temperature;
    const char *home;
    struct option_list models;
    const char *file, *prompt;
};

static int parse(struct values *v, struct error *e, int argc, char **argv)
{
    const struct option_row rows[] = {
        OPTION_ARGUMENT("FILE", &v->file, "a file"),
        OPTION_OPTIONAL_ARGUMENT("PROMPT", &v->prompt, "a question"),
        OPTION_FLAG("json", &v->json, "print JSON"),
        OPTION_INT("port", &v->port, 1, 65535, "N", "port"),
        OPTION_REAL("temperature", &v->temperature, 0, 2, "T", "temperature"),
        OPTION_TEXT("home", &v->home, "DIR", "folder"),
        OPTION_LIST("model", &v->models, "NAME", "model"),
    };
    const struct option_set set = { "test", rows, sizeof rows / sizeof rows[0] };
    return options_parse(&set, argc, argv, e);
}

#define PARSE(v, e, ...)                                                                           \
    parse(v, e, (int)(sizeof((const char *[]){ "test", __VA_ARGS__ }) / sizeof(char *)),           \
          (char **)(const char *[]){ "test", __VA_ARGS__ })

static void takes_every_kind(void **state)
{
    struct values v = { .port = 8420 };
    struct error e = { 0 };
    assert_int_equal(PARSE(&v, &e, "--json", "a.gguf", "--port=9000", "--temperature", "-0",
                           "--model", "x", "--model=y", "--home", "/tmp", "--", "--hello"),
                     0);
    assert_true(v.json);
    assert_int_equal(v.port, 9000);
    assert_string_equal(v.file, "a.gguf");
    assert_string_equal(v.prompt, "--hello");
    assert_string_equal(v.home, "/tmp");
    assert_int_equal(v.models.n, 2);
    assert_string_equal(v.models.values[1], "y");
}

static void keeps_defaults(void **state)
{
    struct values v = { .port = 8420, .temperature = 0.5 };
    struct error e = { 0 };
    assert_int_equal(PARSE(&v, &e, "-"), 0);
    assert_int_equal(v.port, 8420);
    assert_true(v.temperature == 0.5);
    assert_string_equal(v.file, "-");
    assert_null(v.prompt);
}

static void says_what_is_wrong(void **state)
{
    static const struct {
        const char *words[2];
        const char *text;
    } cases[] = {
        { { "--prot", "1" }, "unknown option --prot: did you mean --port?" },
        { { "--something", "" }, "unknown option --something" },
        { { "-x", "" }, "unknown option -x" },
        { { "--port", "0" }, "--port: 0 is not between 1 and 65535" },
        { { "--port", "12x" }, "--port: \"12x\" is not a whole number" },
        { { "--port", "99999999999999999999" }, "--port: \"99999999999999999999\" is not a whole" },
        { { "--temperature", "nan" }, "--temperature: \"nan\" is not a number" },
        { { "--temperature", "2.5" }, "--temperature: 2.5 is not between 0 and 2" },
        { { "f", "--home" }, "--home needs a value (DIR)" },
        { { "f", "--json=1" }, "--json takes no value" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct values v = { 0 };
        struct error e = { 0 };
        assert_int_equal(PARSE(&v, &e, cases[i].words[0], cases[i].words[1]), FAIL_ARG);
        assert_non_null(strstr(e.text, cases[i].text));
    }
}

static void counts_arguments(void **state)
{
    struct values v = { 0 };
    struct error e = { 0 };
    assert_int_equal(PARSE(&v, &e, "a", "b", "c"), FAIL_ARG);
    assert_string_equal(e.text, "\"c\" is one argument too many");
    assert_int_equal(PARSE(&v, &e, "--json"), FAIL_ARG);
    assert_string_equal(e.text, "FILE is missing: a file");
    assert_int_equal(PARSE(&v, &e, "--help"), 1);
}

static void bounds_lists(void **state)
{
    struct values v = { 0 };
    struct error e = { 0 };
    for (int i = 0; i < OPTION_LIST_MAX; i++)
        assert_int_equal(PARSE(&v, &e, "f", "--model", "m"), 0);
    assert_int_equal(PARSE(&v, &e, "f", "--model", "m"), FAIL_ARG);
}

static void measures_distance(void **state)
{
    assert_int_equal(options_distance("port", "port"), 0);
    assert_int_equal(options_distance("prt", "port"), 1);
    assert_int_equal(options_distance("", "port"), 4);
    assert_int_equal(options_distance("kitten", "sitting"), 3);
    assert_true(options_distance("a", "abcdefghijklmnopqrstuvwxyzabcdefghijkl") > 100);
}

static int run(const char *a, const char *b)
{
    char *argv[] = { (char *)"shoal", (char *)a, (char *)b, NULL };
    return commands_main(b ? 3 : a ? 2 : 1, argv);
}

static void runs_commands(void **state)
{
    assert_int_equal(run(NULL, NULL), EXIT_USAGE);
    assert_int_equal(run("help", NULL), EXIT_OK);
    assert_int_equal(run("--help", NULL), EXIT_OK);
    assert_int_equal(run("version", NULL), EXIT_OK);
    assert_int_equal(run("version", "extra"), EXIT_USAGE);
    assert_int_equal(run("help", "version"), EXIT_OK);
    assert_int_equal(run("help", "nothing"), EXIT_USAGE);
    assert_int_equal(run("verison", NULL), EXIT_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_every_kind),   cmocka_unit_test(keeps_defaults),
        cmocka_unit_test(says_what_is_wrong), cmocka_unit_test(counts_arguments),
        cmocka_unit_test(bounds_lists),       cmocka_unit_test(measures_distance),
        cmocka_unit_test(runs_commands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

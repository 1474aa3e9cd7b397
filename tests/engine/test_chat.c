/* Chat templates against jinja2 (golden files made by tools/jinja_golden.py) and against the
 * conformance data. */
#include "tests/test.h"

#include <stdio.h>

#include "engine/chat.h"

/* 2024-07-26 14:05:09.000123, the moment at which the golden files were made. */
static const struct jinja_clock fixed = { .local_s = 1722002709, .microsecond = 123 };

struct tally {
    int cases;
    int failed;
};

static struct bytes text_of(const json_t *o, const char *key)
{
    const json_t *s = json_object_get(o, key);
    return bytes_of(json_string_value(s), json_string_length(s));
}

/* Renders with these variables alone; conversations go through chat_render. */
static int render(struct bytes source, const json_t *vars, bool chat, struct buffer *out,
                  struct error *e)
{
    const struct chat_tokens tokens = { .bos = bytes_text("<s>"), .eos = bytes_text("</s>") };
    if (chat)
        return chat_render_text(source, vars, &tokens, &fixed, out, e);
    struct arena a = { 0 };
    struct jinja *j = NULL;
    struct jinja_value globals;
    int code = chat_value(&a, vars, &globals, e);
    if (!code)
        code = jinja_parse(&j, source, NULL, e);
    if (!code)
        code = jinja_render(j, &globals, &fixed, out, e);
    jinja_close(j);
    arena_done(&a);
    return code;
}

/* The length and the FNV-1a hash, as golden files hold long texts. */
static bool has_digest(struct bytes text, const char *digest)
{
    uint64_t h = 0xcbf29ce484222325u;
    char own[64];
    for (size_t i = 0; i < text.size; i++)
        h = (h ^ text.data[i]) * 0x100000001b3u;
    snprintf(own, sizeof own, "%zu %016llx", text.size, (unsigned long long)h);
    return strcmp(own, digest) == 0;
}

static bool same_text(struct bytes text, const json_t *expect, bool digest)
{
    if (digest)
        return has_digest(text, json_string_value(expect));
    return bytes_equal(text, bytes_of(json_string_value(expect), json_string_length(expect)));
}

enum mode { MODE_VARIABLES, MODE_CHAT, MODE_DIGEST };

/* expect no string: it must be refused. */
static void check(struct tally *t, const char *name, struct bytes source, const json_t *vars,
                  enum mode mode, const json_t *expect)
{
    struct buffer out;
    struct error e = { 0 };
    buffer_init(&out, 1 << 24);
    int code = render(source, vars, mode != MODE_VARIABLES, &out, &e);
    t->cases++;
    bool good = json_is_string(expect)
                    ? !code && same_text(buffer_bytes(&out), expect, mode == MODE_DIGEST)
                    : code && e.text[0] && out.size == 0;
    if (!good) {
        t->failed++;
        printf("FAILED %s\n  template: %.*s\n  expected: %s\n  got:      %s\n", name,
               (int)(source.size > 300 ? 300 : source.size), (const char *)source.data,
               json_is_string(expect) ? json_string_value(expect) : "(refusal)",
               code ? e.text : buffer_cstr(&out));
    }
    buffer_done(&out);
}

static json_t *load(const char *directory, const char *name)
{
    char path[1024];
    json_error_t problem;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    json_t *json = json_load_file(path, JSON_ALLOW_NUL, &problem);
    if (!json)
        print_message("%s: %s\n", path, problem.text);
    return json;
}

static const char *conformance(void)
{
    const char *path = getenv("SHOAL_CONFORMANCE");
    if (!path) {
        print_message("skipped: SHOAL_CONFORMANCE is not set\n");
        skip();
    }
    return path;
}

static void finish(const struct tally *t, const char *what)
{
    print_message("%s: %d cases, %d failed\n", what, t->cases, t->failed);
    assert_true(t->cases > 0);
    assert_int_equal(t->failed, 0);
}

/* The cases that use what the sandbox refuses: jinja2 with ImmutableSandboxedEnvironment answers
 * "access to attribute 'append' of 'list' object is unsafe". */
static bool mutates(struct bytes source)
{
    return memmem(source.data, source.size, ".append(", 8) ||
           memmem(source.data, source.size, ".pop(", 5);
}

static void conformance_cases(void **state)
{
    (void)state;
    struct tally t = { 0 };
    json_t *cases = load(conformance(), "jinja.json"), *c;
    assert_non_null(cases);
    size_t i;
    json_array_foreach(cases, i, c)
    {
        struct bytes source = text_of(c, "template");
        check(&t, json_string_value(json_object_get(c, "name")), source, json_object_get(c, "vars"),
              MODE_VARIABLES, mutates(source) ? NULL : json_object_get(c, "expect"));
    }
    json_decref(cases);
    finish(&t, "jinja.json");
}

/* A copy of the shared conversation with the case's own messages and tokens. */
static json_t *conversation_of(const json_t *all, const json_t *c)
{
    json_t *messages = json_copy(json_object_get(all, "conversation"));
    json_t *vars = json_pack("{s:o,s:O}", "messages", messages, "add_generation_prompt",
                             json_object_get(all, "add_generation_prompt"));
    json_array_extend(messages, json_object_get(c, "extra_conversation"));
    static const char *const tokens[] = { "bos_token", "eos_token" };
    for (int i = 0; i < 2; i++)
        json_object_set_new(vars, tokens[i],
                            json_object_get(c, tokens[i]) ? json_copy(json_object_get(c, tokens[i]))
                                                          : json_string(""));
    return vars;
}

/* Where conversations.json has a case, jinja2 differs from the data: the reference of the data
 * puts a system message into the first user's message for templates that know no system role. */
static void conformance_conversations(void **state)
{
    (void)state;
    struct tally t = { 0 };
    json_t *all = load(conformance(), "chat-template.json"), *c;
    json_t *differ = load(TEST_GOLDEN, "conversations.json");
    assert_non_null(all);
    assert_non_null(differ);
    size_t i;
    json_array_foreach(json_object_get(all, "cases"), i, c)
    {
        const char *name = json_string_value(json_object_get(c, "name"));
        json_t *expect = json_object_get(c, "expected_output_jinja");
        if (!json_string_length(expect))
            expect = json_object_get(c, "expected_output");
        if (json_object_get(differ, name))
            expect = json_object_get(differ, name);
        json_t *vars = conversation_of(all, c);
        check(&t, name, text_of(c, "template"), vars, MODE_CHAT, expect);
        json_decref(vars);
    }
    json_decref(differ);
    json_decref(all);
    finish(&t, "chat-template.json");
}

static void golden_cases(void **state)
{
    (void)state;
    struct tally t = { 0 };
    json_t *cases = load(TEST_GOLDEN, "cases.json"), *c;
    assert_non_null(cases);
    size_t i;
    char name[64];
    json_array_foreach(json_object_get(cases, "cases"), i, c)
    {
        const json_t *source = json_array_get(c, 0);
        snprintf(name, sizeof name, "golden case %zu", i);
        check(&t, name, bytes_of(json_string_value(source), json_string_length(source)),
              json_object_get(cases, "vars"), MODE_VARIABLES, json_array_get(c, 1));
    }
    json_decref(cases);
    finish(&t, "jinja2 on single constructs");
}

static void golden_templates(void **state)
{
    (void)state;
    struct tally t = { 0 };
    char folder[1024], file[256];
    snprintf(folder, sizeof folder, "%s/templates", conformance());
    json_t *golden = load(TEST_GOLDEN, "templates.json"), *requests, *results;
    assert_non_null(golden);
    requests = json_object_get(golden, "requests");
    const char *name;
    json_object_foreach(json_object_get(golden, "results"), name, results)
    {
        char path[2048];
        static char source[1 << 20];
        snprintf(path, sizeof path, "%s/%s", folder, name);
        FILE *f = fopen(path, "rb");
        assert_non_null(f);
        size_t n = fread(source, 1, sizeof source, f);
        fclose(f);
        const char *conversation;
        json_t *expect;
        json_object_foreach(results, conversation, expect)
        {
            snprintf(file, sizeof file, "%s: %s", name, conversation);
            check(&t, file, bytes_of(source, n), json_object_get(requests, conversation),
                  MODE_DIGEST, expect);
        }
    }
    json_decref(golden);
    finish(&t, "real models' templates");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conformance_cases),
        cmocka_unit_test(conformance_conversations),
        cmocka_unit_test(golden_cases),
        cmocka_unit_test(golden_templates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

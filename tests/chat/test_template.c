/* Chat templates against jinja2 (golden files made by tools/jinja_golden.py) and against the
 * conformance data. */
#include "tests/test.h"

#include <stdio.h>

#include "chat/template.h"
#include "chat/vocab_load.h"
#include "gguf/gguf.h"
#include "os/clock.h"
#include "token/vocab.h"

/* 2024-07-26 14:05:09.000123, the moment at which the golden files were made. */
static const struct jinja_clock golden_clock = { .local_s = 1722002709, .microsecond = 123 };
/* 2026-01-15 12:00:00, that of tool-prompts.json. */
static const struct jinja_clock tools_clock = { .local_s = 1768478400 };
static const struct jinja_clock *now = &golden_clock;

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
                  struct spans *user, struct error *e)
{
    const struct chat_context context = {
        .tokens = { .bos = bytes_text("<s>"), .eos = bytes_text("</s>") }, .now = now
    };
    struct arena a = { 0 };
    struct jinja *j = NULL;
    struct chat_template *t = NULL;
    struct jinja_value globals;
    int code = chat ? chat_template_parse(&t, source, NULL, e) : jinja_parse(&j, source, NULL, e);
    if (!code && chat)
        code = chat_render(t, vars, &context, out, user, e);
    else if (!code)
        code = chat_value(&a, vars, &globals, e);
    if (!code && !chat)
        code = jinja_render(j, &globals, &(struct jinja_context){ .now = now }, out, user, e);
    chat_template_close(t);
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

static bool is_users(const struct spans *user, size_t at)
{
    for (size_t i = 0; i < user->count; i++)
        if (at >= user->items[i].start && at < user->items[i].end)
            return true;
    return false;
}

/* Some templates make elements of the names in schemas and arguments: they are no tokens. */
static bool is_xml(struct bytes text)
{
    bool letters = true;
    for (size_t i = 1 + (text.data[1] == '/'); i + 1 < text.size; i++)
        letters = letters && text.data[i] >= 'a' && text.data[i] <= 'z';
    return letters;
}

/* What looks like a special token is the template's or the user's, never both: the user's part
 * would keep the template's token from being one. */
static bool tokens_are_whole(const char *name, struct bytes text, const struct spans *user)
{
    bool whole = true;
    for (size_t i = 0; i < text.size; i++) {
        size_t end = i + 1;
        while (text.data[i] == '<' && end < text.size && end < i + 48 &&
               !strchr("<> \n=\"", text.data[end]))
            end++;
        if (text.data[i] != '<' || end == text.size || text.data[end] != '>' || end < i + 2 ||
            is_xml(bytes_of(text.data + i, end + 1 - i)))
            continue;
        for (size_t k = i; k <= end && whole; k++)
            whole = is_users(user, k) == is_users(user, i);
        if (!whole) {
            printf("FAILED %s: partly a user's: %.*s\n", name, (int)(end + 1 - i), text.data + i);
            return false;
        }
    }
    return true;
}

/* expect no string: it must be refused. */
static void check(struct tally *t, const char *name, struct bytes source, const json_t *vars,
                  enum mode mode, const json_t *expect)
{
    struct buffer out;
    struct spans user = { 0 };
    struct error e = { 0 };
    buffer_init(&out, 1 << 24);
    int code = render(source, vars, mode != MODE_VARIABLES, &out, &user, &e);
    t->cases++;
    if (mode != MODE_VARIABLES)
        t->failed += !tokens_are_whole(name, buffer_bytes(&out), &user);
    spans_done(&user);
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

static size_t read_file(const char *path, char *into, size_t size)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(into, 1, size, f);
    fclose(f);
    return n;
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

/* Prompts of tools, by transformers. */
static void conformance_tool_prompts(void **state)
{
    (void)state;
    struct tally t = { 0 };
    json_t *all = load(conformance(), "tool-prompts.json"), *c;
    assert_non_null(all);
    size_t i;
    now = &tools_clock;
    json_array_foreach(json_object_get(all, "cases"), i, c)
    {
        json_t *vars = json_object_get(c, "vars");
        json_t *set = json_object_get(json_object_get(all, "toolsets"),
                                      json_string_value(json_object_get(vars, "tools")));
        if (set)
            json_object_set(vars, "tools", set);
        static char source[1 << 20];
        char name[1024];
        snprintf(name, sizeof name, "%s/templates/%s", conformance(),
                 json_string_value(json_object_get(c, "template")));
        size_t n = read_file(name, source, sizeof source);
        check(&t, json_string_value(json_object_get(c, "id")), bytes_of(source, n), vars, MODE_CHAT,
              json_object_get(c, "expect"));
    }
    json_decref(all);
    now = &golden_clock;
    finish(&t, "tool-prompts.json");
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
        size_t n = read_file(path, source, sizeof source);
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

/* ---- a user's text and control tokens ---- */

/* The conversation's ids; guarded: with what a user's text may not be. */
static void encode(const struct vocab *v, struct bytes source, const json_t *messages, bool guarded,
                   struct token_list *ids)
{
    struct buffer out;
    struct spans user = { 0 };
    struct error e = { 0 };
    const struct vocab_encode_options o = { .parse_special = true, .user = guarded ? &user : NULL };
    buffer_init(&out, 1 << 20);
    ids->count = 0;
    int code = render(source, messages, true, &out, &user, &e);
    code = code ? code : vocab_encode(v, buffer_bytes(&out), &o, ids, &e);
    if (code)
        print_message("%s\n", e.text);
    assert_int_equal(code, 0);
    spans_done(&user);
    buffer_done(&out);
}

static void keep_control(const struct vocab *v, struct token_list *ids)
{
    size_t n = 0;
    for (size_t i = 0; i < ids->count; i++)
        if (vocab_is_control(v, ids->ids[i]))
            ids->ids[n++] = ids->ids[i];
    ids->count = n;
}

static bool same_ids(const struct token_list *a, const struct token_list *b)
{
    return a->count == b->count && memcmp(a->ids, b->ids, a->count * sizeof(*a->ids)) == 0;
}

/* Every control token of a vocabulary, spelt in every message: the control tokens of the prompt are
 * those of the same conversation without it. */
static int inject_all(const struct vocab *v, struct bytes source)
{
    struct token_list plain, guarded;
    int n = 0;
    token_list_init(&plain, 1 << 16);
    token_list_init(&guarded, 1 << 16);
    for (int32_t id = -1; id < vocab_size(v); id++) {
        struct bytes t = vocab_token_text(v, id);
        if (id >= 0 && !vocab_is_control(v, id))
            continue;
        json_t *m = json_pack(
            "[{s:s,s:s},{s:s,s:o},{s:s,s:o,s:o},{s:s,s:s}]", "role", "system", "content",
            "Be brief.", "role", "user", "content", json_sprintf("a%.*sb", (int)t.size, t.data),
            "role", "assistant", "content", json_sprintf("%.*s", (int)t.size, t.data), "reasoning",
            json_sprintf("c%.*s", (int)t.size, t.data), "role", "user", "content", "Go on.");
        assert_non_null(m);
        encode(v, source, m, true, id < 0 ? &plain : &guarded);
        if (id < 0) {
            encode(v, source, m, false, &guarded);
            assert_true(same_ids(&plain, &guarded)); /* harmless texts have the same ids */
            keep_control(v, &plain);
            assert_true(plain.count > 0);
        } else {
            keep_control(v, &guarded);
            if (!same_ids(&plain, &guarded))
                print_message("'%.*s' got through\n", (int)t.size, t.data);
            assert_true(same_ids(&plain, &guarded));
            n++;
        }
        json_decref(m);
    }
    token_list_done(&plain);
    token_list_done(&guarded);
    return n;
}

static void users_texts_are_no_control_tokens(void **state)
{
    (void)state;
    static const struct {
        const char *vocab, *template;
    } models[] = { { "qwen2", "Qwen-Qwen2.5-7B-Instruct" },
                   { "qwen2", "Qwen3.5-4B" },
                   { "llama-bpe", "meta-llama-Llama-3.1-8B-Instruct" },
                   { "phi-3", "microsoft-Phi-3.5-mini-instruct" },
                   { "gemma-4", "google-gemma-4-31B-it" },
                   { "deepseek-coder", "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B" } };
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        static char source[1 << 20];
        char path[1024];
        struct error e = { 0 };
        struct gguf *g = NULL;
        struct vocab *v = NULL;
        snprintf(path, sizeof path, "%s/vocab/ggml-vocab-%s.gguf", conformance(), models[i].vocab);
        assert_int_equal(gguf_open(&g, path, &e), 0);
        assert_int_equal(vocab_load(&v, g, &e), 0);
        gguf_close(g);
        snprintf(path, sizeof path, "%s/templates/%s.jinja", conformance(), models[i].template);
        size_t n = read_file(path, source, sizeof source);
        int tokens = inject_all(v, bytes_of(source, n));
        print_message("%s: %d control tokens\n", models[i].template, tokens);
        assert_true(tokens > 0);
        vocab_close(v);
    }
}

/* ---- templates that can't be used ---- */

static void bad_templates_are_the_models_fault(void **state)
{
    (void)state;
    struct chat_template *t = NULL;
    struct error e = { 0 };
    struct buffer out;
    const struct chat_context context = { 0 };
    json_t *m = json_pack("[{s:s,s:s}]", "role", "user", "content", "Hi");
    buffer_init(&out, 100);
    assert_int_equal(chat_template_parse(&t, bytes_text("{% for m in %}"), NULL, &e), 0);
    assert_non_null(strstr(chat_template_problem(t), "line 1, column 13"));
    assert_int_equal(chat_render(t, m, &context, &out, NULL, &e), FAIL_UNSUPPORTED);
    assert_non_null(strstr(e.text, "the model's chat template can't be used: line 1"));
    chat_template_close(t);
    assert_int_equal(chat_template_parse(&t, bytes_text("{{ messages[0].content }}"), NULL, &e), 0);
    assert_null(chat_template_problem(t));
    assert_int_equal(chat_render(t, m, &context, &out, NULL, &e), 0);
    assert_string_equal(buffer_cstr(&out), "Hi");
    chat_template_close(t);
    buffer_done(&out);
    json_decref(m);
}

static void templates_that_are_no_text(void **state)
{
    (void)state;
    char path[1024];
    struct gguf *g = NULL;
    struct chat_template *t = NULL;
    struct error e = { 0 };
    snprintf(path, sizeof path, "%s/reports/template-is-array.gguf", conformance());
    assert_int_equal(gguf_open(&g, path, &e), 0);
    assert_int_equal(chat_template_open(&t, g, &e), 0);
    assert_non_null(strstr(chat_template_problem(t), "tokenizer.chat_template is not a text"));
    chat_template_close(t);
    gguf_close(g);
}

static void a_rendering_ends_in_time(void **state)
{
    (void)state;
    struct chat_template *t = NULL;
    struct error e = { 0 };
    struct buffer out;
    static const char source[] =
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
        "{% endfor %}";
    const struct jinja_limits endless = { .steps = UINT64_MAX };
    const struct chat_context context = { .deadline_ns = clock_now_ns() + 20000000 };
    json_t *m = json_array();
    buffer_init(&out, 100);
    assert_int_equal(chat_template_parse(&t, bytes_text(source), &endless, &e), 0);
    assert_int_equal(chat_render(t, m, &context, &out, NULL, &e), FAIL_LIMIT);
    assert_non_null(strstr(e.text, "takes too long"));
    assert_true(clock_now_ns() >= context.deadline_ns);
    chat_template_close(t);
    buffer_done(&out);
    json_decref(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conformance_cases),
        cmocka_unit_test(conformance_conversations),
        cmocka_unit_test(conformance_tool_prompts),
        cmocka_unit_test(golden_cases),
        cmocka_unit_test(golden_templates),
        cmocka_unit_test(users_texts_are_no_control_tokens),
        cmocka_unit_test(bad_templates_are_the_models_fault),
        cmocka_unit_test(templates_that_are_no_text),
        cmocka_unit_test(a_rendering_ends_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

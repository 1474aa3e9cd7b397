/* Chat templates: arbitrary template text and JSON variables, apart by the first NUL byte; without
 * one the variables are a conversation with tools. What parses is rendered twice, which must give
 * the same bytes or the same error, and as a request's conversation. */
#include "fuzz/fuzz.h"

#include "base/buffer.h"
#include "chat/template.h"

#include <stdlib.h>
#include <string.h>

/* Small enough that no input takes long, large enough that the bounds are reached late. */
static const struct jinja_limits limits = { .source = 1 << 16,
                                            .memory = 4 << 20,
                                            .output = 1 << 18,
                                            .steps = 100000,
                                            .nesting = 60,
                                            .depth = 200,
                                            .range = 1000 };

static const char conversation[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":"
    "[{\"type\":\"text\",\"text\":\" H\u00e9 "
    "\"}]},{\"role\":\"assistant\",\"content\":null,\"tool_calls\":"
    "[{\"type\":\"function\",\"id\":\"c1\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":[1,2."
    "5]}}}]},"
    "{\"role\":\"tool\",\"name\":\"f\",\"content\":\"3\"}],\"tools\":[{\"type\":\"function\","
    "\"function\":"
    "{\"name\":\"f\",\"description\":\"d\",\"parameters\":{\"type\":\"object\",\"properties\":{"
    "\"a\":"
    "{\"type\":\"number\"}},\"required\":[\"a\"]}}}],\"documents\":[{\"title\":\"t\",\"text\":"
    "\"x\"}],"
    "\"add_generation_prompt\":true,\"enable_thinking\":false,\"bos_token\":\"<s>\"}";

static void render_conversation(struct bytes source, const json_t *vars)
{
    static const struct jinja_clock now = { .local_s = 1722002709, .microsecond = 5 };
    const struct chat_context context = { .tokens.bos = bytes_text("<s>"), .now = &now };
    struct error e = { 0 };
    struct buffer out;
    struct spans tainted = { 0 };
    struct chat_template *t = NULL;
    if (chat_template_parse(&t, source, &limits, &e))
        abort();
    buffer_init(&out, 1 << 18);
    if (chat_render(t, vars, &context, &out, &tainted, &e) &&
        (out.size || tainted.count || !e.text[0]))
        abort();
    for (size_t i = 0; i < tainted.count; i++)
        if (tainted.items[i].start >= tainted.items[i].end || tainted.items[i].end > out.size ||
            (i && tainted.items[i].start <= tainted.items[i - 1].end))
            abort();
    chat_template_close(t);
    spans_done(&tainted);
    buffer_done(&out);
}

static void render(const struct jinja *j, const json_t *vars, struct buffer *out, struct error *e)
{
    static const struct jinja_clock now = { .local_s = 1722002709, .microsecond = 5 };
    const struct jinja_context context = { .now = &now };
    struct arena a = { 0 };
    struct jinja_value globals;
    if (!vars || chat_value(&a, vars, &globals, e))
        globals = jinja_none();
    int code = jinja_render(j, &globals, &context, out, NULL, e);
    if (code && (out->size || !e->text[0]))
        abort();
    arena_done(&a);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    const uint8_t *cut = size ? memchr(data, 0, size) : NULL;
    size_t n = cut ? (size_t)(cut - data) : size;
    struct jinja *j = NULL;
    struct error e = { 0 };
    if (jinja_parse(&j, bytes_of(data, n), &limits, &e)) {
        if (!e.text[0])
            abort();
        return;
    }
    json_t *vars = cut ? json_loadb((const char *)cut + 1, size - n - 1, JSON_ALLOW_NUL, NULL)
                       : json_loads(conversation, 0, NULL);
    struct buffer out[2];
    struct error errors[2] = { 0 };
    for (int i = 0; i < 2; i++) {
        buffer_init(&out[i], 1 << 18);
        render(j, vars, &out[i], &errors[i]);
    }
    if (!bytes_equal(buffer_bytes(&out[0]), buffer_bytes(&out[1])) ||
        strcmp(errors[0].text, errors[1].text) != 0)
        abort();
    for (int i = 0; i < 2; i++)
        buffer_done(&out[i]);
    if (vars)
        render_conversation(bytes_of(data, n), vars);
    json_decref(vars);
    jinja_close(j);
}

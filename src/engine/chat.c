/* Conversations: see chat.h. */
#include "engine/chat.h"

#include <time.h>

#include "gguf/gguf.h"

/* Schemas of tools nest about ten deep; beyond this a request is made to hurt. */
#define MAX_DEPTH 200

int chat_tokens_of(const struct gguf *g, struct chat_tokens *ret, struct error *e)
{
    const struct gguf_value *tokens = gguf_find(g, "tokenizer.ggml.tokens");
    static const char *const keys[] = { "tokenizer.ggml.bos_token_id",
                                        "tokenizer.ggml.eos_token_id" };
    struct bytes texts[2] = { { 0 }, { 0 } };
    for (int i = 0; i < 2; i++) {
        int64_t id = -1;
        int code = gguf_get_int(g, keys[i], -1, &id, e);
        if (code)
            return code;
        if (tokens && tokens->type == GGUF_ARRAY && tokens->element == GGUF_TEXT && id >= 0 &&
            (uint64_t)id < tokens->count)
            texts[i] = gguf_array_text(tokens, (uint64_t)id);
    }
    *ret = (struct chat_tokens){ .bos = texts[0], .eos = texts[1] };
    return 0;
}

static int convert(struct arena *a, const json_t *json, int depth, struct jinja_value *ret,
                   struct error *e);

static int convert_array(struct arena *a, const json_t *json, int depth, struct jinja_value *ret,
                         struct error *e)
{
    struct jinja_value list, item;
    size_t n = json_array_size(json);
    int code = jinja_list_new(a, n, &list, e);
    for (size_t i = 0; !code && i < n; i++) {
        code = convert(a, json_array_get(json, i), depth + 1, &item, e);
        if (!code)
            code = jinja_list_add(a, &list, item, e);
    }
    if (!code)
        *ret = list;
    return code;
}

/* Objects keep the order in which their keys came. */
static int convert_object(struct arena *a, const json_t *json, int depth, struct jinja_value *ret,
                          struct error *e)
{
    struct jinja_value dict, item;
    int code = jinja_dict_new(a, json_object_size(json), &dict, e);
    for (void *i = json_object_iter((json_t *)(uintptr_t)json); !code && i;
         i = json_object_iter_next((json_t *)(uintptr_t)json, i)) {
        code = convert(a, json_object_iter_value(i), depth + 1, &item, e);
        if (!code)
            code = jinja_dict_set(a, &dict, bytes_text(json_object_iter_key(i)), item, e);
    }
    if (!code)
        *ret = dict;
    return code;
}

static int convert(struct arena *a, const json_t *json, int depth, struct jinja_value *ret,
                   struct error *e)
{
    if (depth > MAX_DEPTH)
        return fail(e, FAIL_LIMIT, "JSON nested more than %d deep", MAX_DEPTH);
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return convert_object(a, json, depth, ret, e);
    case JSON_ARRAY:
        return convert_array(a, json, depth, ret, e);
    case JSON_STRING:
        return jinja_string(bytes_of(json_string_value(json), json_string_length(json)), ret, e);
    case JSON_INTEGER:
        *ret = jinja_int(json_integer_value(json));
        return 0;
    case JSON_REAL:
        *ret = jinja_float(json_real_value(json));
        return 0;
    case JSON_TRUE:
    case JSON_FALSE:
        *ret = jinja_bool(json_is_true(json));
        return 0;
    default:
        *ret = jinja_none();
        return 0;
    }
}

int chat_value(struct arena *a, const json_t *json, struct jinja_value *ret, struct error *e)
{
    return convert(a, json, 0, ret, e);
}

struct jinja_clock chat_clock(int64_t wall_s)
{
    time_t t = (time_t)wall_s;
    struct tm tm;
    if (!localtime_r(&t, &tm))
        return (struct jinja_clock){ .local_s = wall_s };
    /* The same civil time read as UTC counts its own seconds. */
    return (struct jinja_clock){ .local_s = (int64_t)timegm(&tm) };
}

/* What transformers gives a template beside the caller's own variables. */
static int set_defaults(struct arena *a, const struct chat_tokens *tokens,
                        struct jinja_value *globals, struct error *e)
{
    struct jinja_value v;
    int code = jinja_dict_set(a, globals, bytes_text("add_generation_prompt"), jinja_bool(true), e);
    if (!code)
        code = jinja_dict_set(a, globals, bytes_text("tools"), jinja_none(), e);
    if (!code)
        code = jinja_dict_set(a, globals, bytes_text("documents"), jinja_none(), e);
    if (!code && tokens && tokens->bos.data) {
        code = jinja_string(tokens->bos, &v, e);
        if (!code)
            code = jinja_dict_set(a, globals, bytes_text("bos_token"), v, e);
    }
    if (!code && tokens && tokens->eos.data) {
        code = jinja_string(tokens->eos, &v, e);
        if (!code)
            code = jinja_dict_set(a, globals, bytes_text("eos_token"), v, e);
    }
    return code;
}

static int make_globals(struct arena *a, const json_t *request, const struct chat_tokens *tokens,
                        struct jinja_value *globals, struct error *e)
{
    struct jinja_value v;
    bool array = json_is_array(request);
    if (!array && !json_is_array(json_object_get(request, "messages")))
        return fail(e, FAIL_ARG,
                    "a conversation is an array of messages, or an object with one "
                    "named \"messages\"");
    int code = jinja_dict_new(a, 8, globals, e);
    if (!code)
        code = set_defaults(a, tokens, globals, e);
    if (!code && array) {
        code = chat_value(a, request, &v, e);
        return code ? code : jinja_dict_set(a, globals, bytes_text("messages"), v, e);
    }
    for (void *i = json_object_iter((json_t *)(uintptr_t)request); !code && i;
         i = json_object_iter_next((json_t *)(uintptr_t)request, i)) {
        code = chat_value(a, json_object_iter_value(i), &v, e);
        if (!code)
            code = jinja_dict_set(a, globals, bytes_text(json_object_iter_key(i)), v, e);
    }
    return code;
}

int chat_render(const struct jinja *template, const json_t *request,
                const struct chat_tokens *tokens, const struct jinja_clock *now, struct buffer *out,
                struct error *e)
{
    struct arena a = { 0 };
    struct jinja_value globals;
    int code = make_globals(&a, request, tokens, &globals, e);
    if (!code)
        code = jinja_render(template, &globals, now, out, e);
    arena_done(&a);
    return code;
}

int chat_render_text(struct bytes source, const json_t *request, const struct chat_tokens *tokens,
                     const struct jinja_clock *now, struct buffer *out, struct error *e)
{
    struct jinja *template = NULL;
    int code = jinja_parse(&template, source, NULL, e);
    if (!code)
        code = chat_render(template, request, tokens, now, out, e);
    jinja_close(template);
    return code;
}

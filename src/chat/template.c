/* Conversations: see chat.h. */
#include "chat/template.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "gguf/gguf.h"
#include "os/clock.h"

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

/* ---- templates ---- */

struct chat_template {
    struct jinja *jinja; /* NULL: problem says why */
    char problem[ERROR_TEXT];
};

static int template_new(struct chat_template **ret, struct error *e)
{
    struct chat_template *t = calloc(1, sizeof(*t));
    if (!t)
        return fail(e, FAIL_NOMEM, "memory for a chat template");
    *ret = t;
    return 0;
}

static void set_problem(struct chat_template *t, const char *what)
{
    static const char lead[] = "can't be used: ";
    snprintf(t->problem, sizeof(t->problem), "%s%.*s", lead,
             (int)(sizeof(t->problem) - sizeof(lead)), what);
}

int chat_template_parse(struct chat_template **ret, struct bytes source,
                        const struct jinja_limits *limits, struct error *e)
{
    struct chat_template *t = NULL;
    struct error local = { 0 };
    int code = template_new(&t, e);
    if (code)
        return code;
    code = jinja_parse(&t->jinja, source, limits, &local);
    if (code == FAIL_NOMEM) {
        free(t);
        return fail(e, code, "%s", local.text);
    }
    if (code)
        set_problem(t, local.text);
    *ret = t;
    return 0;
}

int chat_template_open(struct chat_template **ret, const struct gguf *g, struct error *e)
{
    const struct gguf_value *v = gguf_find(g, "tokenizer.chat_template");
    struct bytes text = { 0 };
    if (v && v->type == GGUF_TEXT) {
        int code = gguf_get_text(g, "tokenizer.chat_template", "", &text, e);
        if (code)
            return code;
        if (text.size)
            return chat_template_parse(ret, text, NULL, e);
    }
    *ret = NULL;
    if (!v || v->type == GGUF_TEXT)
        return 0;
    int code = template_new(ret, e);
    if (!code)
        set_problem(*ret, "tokenizer.chat_template is not a text");
    return code;
}

void chat_template_close(struct chat_template *t)
{
    if (t) {
        jinja_close(t->jinja);
        free(t);
    }
}

const char *chat_template_problem(const struct chat_template *t)
{
    return t->jinja ? NULL : t->problem;
}

/* ---- values ---- */

static struct bytes json_bytes(const json_t *string)
{
    return bytes_of(json_string_value(string), json_string_length(string));
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

/* Adds an object's entries, in the order in which they came; nulls unless told otherwise. */
static int fill_dict(struct arena *a, const json_t *json, int depth, bool nulls,
                     struct jinja_value *dict, struct error *e)
{
    struct jinja_value item;
    int code = 0;
    for (void *i = json_object_iter((json_t *)(uintptr_t)json); !code && i;
         i = json_object_iter_next((json_t *)(uintptr_t)json, i)) {
        if (!nulls && json_is_null(json_object_iter_value(i)))
            continue;
        code = convert(a, json_object_iter_value(i), depth + 1, &item, e);
        if (!code)
            code = jinja_dict_set_user(a, dict, bytes_text(json_object_iter_key(i)), item, e);
    }
    return code;
}

static int convert_object(struct arena *a, const json_t *json, int depth, struct jinja_value *ret,
                          struct error *e)
{
    struct jinja_value dict;
    int code = jinja_dict_new(a, json_object_size(json), &dict, e);
    if (!code)
        code = fill_dict(a, json, depth, true, &dict, e);
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
        return jinja_user_string(json_bytes(json), ret, e);
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

/* ---- messages ---- */

/* The roles of chat APIs, and those that templates give to a tool's answers. They choose among a
 * model's own words: many templates write "<|" + role + "|>", which must stay a token. */
static bool is_role(struct bytes text)
{
    static const char *const roles[] = { "system",      "developer",    "user",  "assistant",
                                         "tool",        "function",     "model", "ipython",
                                         "observation", "tool_response" };
    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        if (bytes_equal_text(text, roles[i]))
            return true;
    return false;
}

static const json_t *reasoning_of(const json_t *message)
{
    static const char *const names[] = { "reasoning_content", "thinking", "reasoning" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const json_t *v = json_object_get(message, names[i]);
        if (v && !json_is_null(v))
            return v;
    }
    return NULL;
}

/* As transformers' apply_chat_template has it: null fields are left out, and the reasoning stands
 * under the two names that templates read (a "thinking" of the message's own stays). */
static int convert_message(struct arena *a, const json_t *message, struct jinja_value *ret,
                           struct error *e)
{
    const json_t *role = json_object_get(message, "role"), *reasoning = reasoning_of(message);
    struct jinja_value dict, v;
    if (!json_is_object(message))
        return convert(a, message, 1, ret, e);
    int code = jinja_dict_new(a, json_object_size(message) + 2, &dict, e);
    if (!code && reasoning)
        code = convert(a, reasoning, 2, &v, e);
    if (!code && reasoning)
        code = jinja_dict_set(a, &dict, bytes_text("thinking"), v, e);
    if (!code)
        code = fill_dict(a, message, 1, false, &dict, e);
    if (!code && reasoning)
        code = jinja_dict_set(a, &dict, bytes_text("reasoning_content"), v, e);
    if (!code && json_is_string(role) && is_role(json_bytes(role))) {
        code = jinja_string(json_bytes(role), &v, e);
        if (!code)
            code = jinja_dict_set(a, &dict, bytes_text("role"), v, e);
    }
    if (!code)
        *ret = dict;
    return code;
}

static int convert_messages(struct arena *a, const json_t *messages, struct jinja_value *ret,
                            struct error *e)
{
    struct jinja_value list, item;
    int code = jinja_list_new(a, json_array_size(messages), &list, e);
    for (size_t i = 0; !code && i < json_array_size(messages); i++) {
        code = convert_message(a, json_array_get(messages, i), &item, e);
        if (!code)
            code = jinja_list_add(a, &list, item, e);
    }
    if (!code)
        *ret = list;
    return code;
}

/* ---- variables ---- */

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
    if (!code && tokens->bos.data) {
        code = jinja_string(tokens->bos, &v, e);
        if (!code)
            code = jinja_dict_set(a, globals, bytes_text("bos_token"), v, e);
    }
    if (!code && tokens->eos.data) {
        code = jinja_string(tokens->eos, &v, e);
        if (!code)
            code = jinja_dict_set(a, globals, bytes_text("eos_token"), v, e);
    }
    return code;
}

/* Whether a variable only says again what the model's own token is. */
static bool is_own_token(const char *name, const json_t *value, const struct chat_tokens *tokens)
{
    struct bytes own = strcmp(name, "bos_token") == 0   ? tokens->bos
                       : strcmp(name, "eos_token") == 0 ? tokens->eos
                                                        : (struct bytes){ 0 };
    return own.size && json_is_string(value) && bytes_equal(json_bytes(value), own);
}

static int set_variable(struct arena *a, const char *name, const json_t *value,
                        struct jinja_value *globals, struct error *e)
{
    struct jinja_value v;
    bool messages = strcmp(name, "messages") == 0 && json_is_array(value);
    int code = messages ? convert_messages(a, value, &v, e) : chat_value(a, value, &v, e);
    return code ? code : jinja_dict_set(a, globals, bytes_text(name), v, e);
}

static int make_globals(struct arena *a, const json_t *request, const struct chat_tokens *tokens,
                        struct jinja_value *globals, struct error *e)
{
    bool array = json_is_array(request);
    if (!array && !json_is_array(json_object_get(request, "messages")))
        return fail(e, FAIL_ARG,
                    "a conversation is an array of messages, or an object with one "
                    "named \"messages\"");
    int code = jinja_dict_new(a, 8, globals, e);
    if (!code)
        code = set_defaults(a, tokens, globals, e);
    if (!code && array)
        return set_variable(a, "messages", request, globals, e);
    for (void *i = json_object_iter((json_t *)(uintptr_t)request); !code && i;
         i = json_object_iter_next((json_t *)(uintptr_t)request, i)) {
        const char *name = json_object_iter_key(i);
        const json_t *value = json_object_iter_value(i);
        if (!is_own_token(name, value, tokens))
            code = set_variable(a, name, value, globals, e);
    }
    return code;
}

static bool is_late(void *deadline_ns)
{
    return clock_now_ns() >= *(const uint64_t *)deadline_ns;
}

int chat_render(const struct chat_template *template, const json_t *request,
                const struct chat_context *context, struct buffer *out, struct spans *tainted,
                struct error *e)
{
    struct arena a = { 0 };
    struct jinja_value globals;
    uint64_t deadline_ns = context->deadline_ns;
    const struct jinja_context world = { .now = context->now,
                                         .stop = deadline_ns ? is_late : NULL,
                                         .stop_arg = &deadline_ns };
    if (!template->jinja)
        return fail(e, FAIL_UNSUPPORTED, "the model's chat template %s", template->problem);
    int code = make_globals(&a, request, &context->tokens, &globals, e);
    if (!code)
        code = jinja_render(template->jinja, &globals, &world, out, tainted, e);
    arena_done(&a);
    return code;
}

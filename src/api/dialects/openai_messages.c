/* The prompt side of OpenAI's bodies: messages and prompts. */
#include "api/dialects/openai_internal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/body.h"
#include "base/buffer.h"

/* Text of one message: the body's own bound. */
#define MAX_CONTENT (16u << 20)

struct role {
    const char *name;
    const char *as; /* the name that templates know; NULL: refused */
};

static const struct role roles[] = {
    { "system", "system" },       { "developer", "system" }, { "user", "user" },
    { "assistant", "assistant" }, { "tool", NULL },          { "function", NULL },
};

static int check_role(const json_t *message, const char *param, const char **ret,
                      struct api_problem *p)
{
    char path[96];
    snprintf(path, sizeof path, "%s.role", param);
    json_t *role = openai_field(message, "role");
    if (role == NULL) {
        return problem_set(p, 400, "missing_required_parameter", path,
                           "Missing required parameter: '%s'.", path);
    }
    if (!json_is_string(role)) {
        return openai_type_problem(p, path, "a string", role);
    }
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
        if (!body_text_is(role, roles[i].name)) {
            continue;
        }
        if (roles[i].as == NULL) {
            return problem_set(p, 400, "unsupported_value", path,
                               "'%s': the role '%s' isn't supported here yet.", path,
                               roles[i].name);
        }
        *ret = roles[i].as;
        return 0;
    }
    return problem_set(p, 400, "invalid_value", path,
                       "Invalid value: '%.40s'. Supported values are: 'system', 'developer', "
                       "'user' and 'assistant'.",
                       json_string_value(role));
}

/* Appends the text of one part of an array content; a refusal is what the assistant said. */
static int add_part(const json_t *part, const char *path, struct buffer *text,
                    struct api_problem *p)
{
    if (json_is_string(part)) {
        buffer_append(text, bytes_of(json_string_value(part), json_string_length(part)));
        return 0;
    }
    if (!json_is_object(part)) {
        return openai_type_problem(p, path, "an object", part);
    }
    json_t *type = openai_field(part, "type");
    if (!json_is_string(type)) {
        return problem_set(p, 400, "missing_required_parameter", path,
                           "Missing required parameter: '%s.type'.", path);
    }
    const char *field = body_text_is(type, "refusal") ? "refusal" : "text";
    if (!body_text_is(type, field)) {
        return problem_set(p, 400, "unsupported_value", path,
                           "'%s': parts of type '%.40s' aren't supported here yet; only 'text' "
                           "is.",
                           path, json_string_value(type));
    }
    json_t *value = openai_field(part, field);
    if (!json_is_string(value)) {
        char name[96];
        snprintf(name, sizeof name, "%.80s.%s", path, field);
        return value == NULL ? problem_set(p, 400, "missing_required_parameter", name,
                                           "Missing required parameter: '%s'.", name)
                             : openai_type_problem(p, name, "a string", value);
    }
    buffer_append(text, bytes_of(json_string_value(value), json_string_length(value)));
    return 0;
}

static int add_content(const json_t *message, const char *param, struct buffer *text,
                       struct api_problem *p)
{
    char path[96];
    snprintf(path, sizeof path, "%s.content", param);
    json_t *content = openai_field(message, "content");
    json_t *refusal = openai_field(message, "refusal");
    if (content == NULL && json_is_string(refusal)) {
        content = refusal; /* what an assistant said in place of an answer */
    }
    if (content == NULL) {
        return problem_set(p, 400, "missing_required_parameter", path,
                           "Missing required parameter: '%s'.", path);
    }
    if (json_is_string(content)) {
        buffer_append(text, bytes_of(json_string_value(content), json_string_length(content)));
        return 0;
    }
    if (!json_is_array(content)) {
        return openai_type_problem(p, path, "a string or an array of parts", content);
    }
    size_t n = json_array_size(content);
    if (n == 0 || n > OPENAI_MAX_PARTS) {
        return problem_set(p, 400, n == 0 ? "empty_array" : "array_above_max_length", path,
                           "Invalid '%s': %zu parts, expected 1 to %d.", path, n, OPENAI_MAX_PARTS);
    }
    for (size_t i = 0; i < n; i++) {
        char part[96];
        snprintf(part, sizeof part, "%.70s[%zu]", path, i);
        if (add_part(json_array_get(content, i), part, text, p) != 0) {
            return -1;
        }
    }
    return 0;
}

/* Clients send the reasoning of earlier answers back under one of these names. Returns whether
 * there is any; converted may be NULL. */
static bool copy_reasoning(const json_t *message, json_t *converted)
{
    static const char *const names[] = { "reasoning_content", "thinking", "reasoning" };
    bool any = false;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        json_t *value = openai_field(message, names[i]);
        if (json_is_string(value)) {
            any = true;
            json_object_set(converted, names[i], value);
        }
    }
    return any;
}

/* An answer that was cut while the model still thought. */
static bool is_reasoning_alone(const json_t *message, const char *role)
{
    return strcmp(role, "assistant") == 0 && openai_field(message, "content") == NULL &&
           openai_field(message, "refusal") == NULL && copy_reasoning(message, NULL);
}

/* One message in the template's form: a new reference, NULL with the problem. */
static json_t *convert_message(const json_t *message, const char *param, struct api_problem *p)
{
    static const char *const later[] = { "tool_calls", "function_call", "audio" };
    const char *role = NULL;
    if (!json_is_object(message)) {
        openai_type_problem(p, param, "an object", message);
        return NULL;
    }
    if (check_role(message, param, &role, p) != 0) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        json_t *value = openai_field(message, later[i]);
        if (value != NULL && !(json_is_array(value) && json_array_size(value) == 0)) {
            char path[96];
            snprintf(path, sizeof path, "%.60s.%s", param, later[i]);
            problem_set(p, 400, "unsupported_parameter", path, "'%s' isn't supported here yet.",
                        path);
            return NULL;
        }
    }
    struct buffer text;
    buffer_init(&text, MAX_CONTENT);
    json_t *converted = NULL;
    if (is_reasoning_alone(message, role) || add_content(message, param, &text, p) == 0) {
        converted = json_pack("{s:s,s:s%}", "role", role, "content", buffer_cstr(&text), text.size);
        json_t *name = openai_field(message, "name");
        if (converted != NULL && json_is_string(name)) {
            json_object_set(converted, "name", name);
        }
        copy_reasoning(message, converted);
        if (converted == NULL || text.failed) {
            json_decref(converted);
            converted = NULL;
            problem_set(p, 500, NULL, param, "Out of memory.");
        }
    }
    buffer_done(&text);
    return converted;
}

int openai_parse_messages(struct openai_request *r, struct api_problem *p)
{
    json_t *messages = openai_field(r->ask.chat.root, "messages");
    if (messages == NULL) {
        return problem_set(p, 400, "missing_required_parameter", "messages",
                           "Missing required parameter: 'messages'.");
    }
    if (!json_is_array(messages)) {
        return openai_type_problem(p, "messages", "an array of objects", messages);
    }
    size_t n = json_array_size(messages);
    if (n == 0 || n > OPENAI_MAX_MESSAGES) {
        return problem_set(p, 400, n == 0 ? "empty_array" : "array_above_max_length", "messages",
                           "Invalid 'messages': %zu messages, expected 1 to %d.", n,
                           OPENAI_MAX_MESSAGES);
    }
    json_t *list = json_array();
    r->ask.chat.conversation = json_pack("{s:o,s:b}", "messages", list, "add_generation_prompt", 1);
    if (r->ask.chat.conversation == NULL) {
        return problem_set(p, 500, NULL, NULL, "Out of memory.");
    }
    for (size_t i = 0; i < n; i++) {
        char param[32];
        snprintf(param, sizeof param, "messages[%zu]", i);
        json_t *message = convert_message(json_array_get(messages, i), param, p);
        if (message == NULL) {
            return -1;
        }
        json_array_append_new(list, message);
    }
    json_t *more = openai_field(r->ask.chat.root, "chat_template_kwargs");
    if (more != NULL && !json_is_object(more)) {
        return openai_type_problem(p, "chat_template_kwargs", "an object", more);
    }
    if (more != NULL) {
        json_object_update_missing(r->ask.chat.conversation, more);
    }
    return 0;
}

static int parse_ids(const json_t *array, const char *param, struct chat_prompt *ret,
                     struct api_problem *p)
{
    size_t n = json_array_size(array);
    if (n == 0) {
        return problem_set(p, 400, "empty_array", param, "Invalid '%s': it has no tokens.", param);
    }
    ret->ids = malloc(n * sizeof *ret->ids);
    if (ret->ids == NULL) {
        return problem_set(p, 500, NULL, param, "Out of memory.");
    }
    for (size_t i = 0; i < n; i++) {
        json_t *id = json_array_get(array, i);
        json_int_t value = 0;
        char path[96];
        snprintf(path, sizeof path, "%.60s[%zu]", param, i);
        if (!body_integer(id, &value)) {
            return openai_type_problem(p, path, "an integer", id);
        }
        if (value < 0 || value > INT32_MAX) {
            return problem_set(p, 400, "invalid_value", path,
                               "Invalid '%s': no token has the id %lld.", path, (long long)value);
        }
        ret->ids[i] = (int32_t)value;
    }
    ret->n_ids = (int)n; /* below the body's size */
    return 0;
}

static int parse_one(const json_t *value, const char *param, struct chat_prompt *ret,
                     struct api_problem *p)
{
    if (json_is_string(value)) {
        ret->text = bytes_of(json_string_value(value), json_string_length(value));
        return 0;
    }
    if (json_is_array(value)) {
        return parse_ids(value, param, ret, p);
    }
    return openai_type_problem(p, param, "a string or an array of token ids", value);
}

int openai_parse_prompt(struct openai_request *r, struct api_problem *p)
{
    json_t *prompt = openai_field(r->ask.chat.root, "prompt");
    if (prompt == NULL) {
        return problem_set(p, 400, "missing_required_parameter", "prompt",
                           "Missing required parameter: 'prompt'.");
    }
    json_t *first = json_array_get(prompt, 0);
    bool several = json_is_array(prompt) && !json_is_number(first);
    size_t n = several ? json_array_size(prompt) : 1;
    if (n == 0 || n > OPENAI_MAX_PROMPTS) {
        return problem_set(p, 400, n == 0 ? "empty_array" : "array_above_max_length", "prompt",
                           "Invalid 'prompt': %zu prompts, expected 1 to %d.", n,
                           OPENAI_MAX_PROMPTS);
    }
    r->ask.chat.prompts = calloc(n, sizeof *r->ask.chat.prompts);
    if (r->ask.chat.prompts == NULL) {
        return problem_set(p, 500, NULL, NULL, "Out of memory.");
    }
    r->ask.chat.n_prompts = (int)n;
    for (size_t i = 0; i < n; i++) {
        char param[32] = "prompt";
        if (several) {
            snprintf(param, sizeof param, "prompt[%zu]", i);
        }
        if (parse_one(several ? json_array_get(prompt, i) : prompt, param, &r->ask.chat.prompts[i],
                      p) != 0) {
            return -1;
        }
    }
    return 0;
}

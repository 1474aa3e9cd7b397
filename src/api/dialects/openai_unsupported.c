/* Fields that OpenAI has and this server not yet: refused by name where they would change the
 * answer and ask for something. What is only about storing, billing, caching, speed or effort
 * ("store", "metadata", "service_tier", "prediction", "reasoning_effort", "verbosity",
 * "web_search_options" ...) is ignored, as unknown fields are. */
#include "api/dialects/openai_internal.h"

#include <string.h>

#include "api/body.h"

/* Values that mean "as if it weren't there", besides null. */
enum harmless { ONLY_NULL, EMPTY, IS_ONE };

struct unsupported {
    const char *name;
    enum harmless harmless;
    const char *texts[2]; /* harmless texts */
    bool chat, text;      /* endpoints that know the field */
};

static const struct unsupported table[] = {
    { "tools", EMPTY, { 0 }, true, false },
    { "functions", EMPTY, { 0 }, true, false },
    { "function_call", ONLY_NULL, { "none", "auto" }, true, false },
    { "n", IS_ONE, { 0 }, true, true },
    { "audio", ONLY_NULL, { 0 }, true, false },
    { "suffix", EMPTY, { 0 }, false, true },
    { "best_of", IS_ONE, { 0 }, false, true },
};

static bool is_harmless(const struct unsupported *row, const json_t *value)
{
    json_int_t whole = 0;
    for (int i = 0; i < 2; i++) {
        if (row->texts[i] != NULL && body_text_is(value, row->texts[i])) {
            return true;
        }
    }
    switch (row->harmless) {
    case EMPTY:
        return (json_is_array(value) && json_array_size(value) == 0) ||
               (json_is_object(value) && json_object_size(value) == 0) ||
               (json_is_string(value) && json_string_length(value) == 0);
    case IS_ONE:
        return body_integer(value, &whole) && whole == 1;
    default:
        return false;
    }
}

/* response_format must be {"type": "text"}. */
static int check_format(const json_t *root, struct api_problem *p)
{
    json_t *format = openai_field(root, "response_format");
    if (format == NULL) {
        return 0;
    }
    if (!json_is_object(format)) {
        return openai_type_problem(p, "response_format", "an object", format);
    }
    json_t *type = json_object_get(format, "type");
    if (!json_is_string(type)) {
        return problem_set(p, 400, "missing_required_parameter", "response_format.type",
                           "Missing required parameter: 'response_format.type'.");
    }
    if (!body_text_is(type, "text")) {
        return problem_set(p, 400, "unsupported_value", "response_format.type",
                           "'response_format' of type '%.40s' isn't supported here yet; only "
                           "'text' is.",
                           json_string_value(type));
    }
    return 0;
}

/* modalities must be ["text"]. */
static int check_modalities(const json_t *root, struct api_problem *p)
{
    json_t *list = openai_field(root, "modalities");
    if (list == NULL) {
        return 0;
    }
    if (!json_is_array(list)) {
        return openai_type_problem(p, "modalities", "an array of strings", list);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (!body_text_is(json_array_get(list, i), "text")) {
            return problem_set(p, 400, "unsupported_value", "modalities",
                               "Only the modality 'text' is supported here yet.");
        }
    }
    return 0;
}

int openai_check_unsupported(enum openai_endpoint endpoint, const json_t *root,
                             struct api_problem *p)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const struct unsupported *row = &table[i];
        json_t *value = openai_field(root, row->name);
        bool known = endpoint == OPENAI_CHAT ? row->chat : row->text;
        if (!known || value == NULL || is_harmless(row, value)) {
            continue;
        }
        return problem_set(p, 400, "unsupported_parameter", row->name,
                           "'%s' isn't supported here yet%s.", row->name,
                           row->harmless == IS_ONE ? " beyond its default 1" : "; leave it out");
    }
    if (endpoint == OPENAI_TEXT) {
        return 0;
    }
    int code = check_format(root, p);
    return code ? code : check_modalities(root, p);
}

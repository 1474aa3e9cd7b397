/* Fields of OpenAI's bodies, and what is wrong with one. */
#include "api/dialects/openai_internal.h"

const char *openai_type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a decimal number";
    case JSON_NULL:
        return "null";
    default:
        return "a boolean";
    }
}

int openai_type_problem(struct api_problem *p, const char *param, const char *expected,
                        const json_t *got)
{
    return problem_set(p, 400, "invalid_type", param,
                       "Invalid type for '%s': expected %s, but got %s instead.", param, expected,
                       openai_type_name(got));
}

json_t *openai_field(const json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

int openai_bool(const json_t *object, const char *name, bool *ret, struct api_problem *p)
{
    json_t *value = openai_field(object, name);
    if (value != NULL && !json_is_boolean(value)) {
        return openai_type_problem(p, name, "a boolean", value);
    }
    if (value != NULL) {
        *ret = json_is_true(value);
    }
    return 0;
}

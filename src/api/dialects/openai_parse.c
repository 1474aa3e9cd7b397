/* OpenAI's request bodies: the fields of both endpoints. */
#include "api/dialects/openai_internal.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/body.h"
#include "base/attributes.h"

/* Numbers of a body, with OpenAI's ranges; top_k, min_p and repetition_penalty are the common
 * additions of open servers, as is -1 for "as many as there is room for". What counts tokens has no
 * upper bound: the context is one. */
#define NUMBERS(X)                                                                                 \
    X(temperature, false, 0.0, 2.0)                                                                \
    X(top_p, false, 0.0, 1.0)                                                                      \
    X(min_p, false, 0.0, 1.0)                                                                      \
    X(presence_penalty, false, -2.0, 2.0)                                                          \
    X(frequency_penalty, false, -2.0, 2.0)                                                         \
    X(repetition_penalty, false, 0.01, 10.0)                                                       \
    X(top_k, true, -1.0, INFINITY)                                                                 \
    X(max_tokens, true, -1.0, INFINITY)                                                            \
    X(max_completion_tokens, true, -1.0, INFINITY)

enum number {
#define ROW(name, integer, min, max) NUMBER_##name,
    NUMBERS(ROW)
#undef ROW
        NUMBER_COUNT
};

struct number_row {
    const char *name;
    bool integer;
    double min, max;
};

static const struct number_row number_rows[NUMBER_COUNT] = {
#define ROW(name, integer, min, max) { #name, integer, min, max },
    NUMBERS(ROW)
#undef ROW
};

struct numbers {
    double value[NUMBER_COUNT];
    bool given[NUMBER_COUNT];
};

/* Checks one number against its range. */
static int read_number(const json_t *root, const struct number_row *row, double *ret, bool *given,
                       struct api_problem *p)
{
    json_t *value = openai_field(root, row->name);
    *given = value != NULL;
    if (value == NULL) {
        return 0;
    }
    json_int_t whole = 0;
    if (row->integer ? !body_integer(value, &whole) : !json_is_number(value)) {
        return openai_type_problem(p, row->name, row->integer ? "an integer" : "a number", value);
    }
    double x = json_number_value(value);
    if (!(x >= row->min && x <= row->max)) {
        bool below = x < row->min;
        const char *codes[2][2] = { { "decimal_above_max_value", "decimal_below_min_value" },
                                    { "integer_above_max_value", "integer_below_min_value" } };
        return problem_set(p, 400, codes[row->integer][below], row->name,
                           "Invalid '%s': %s. Expected a value %s %.10g, but got %.10g instead.",
                           row->name, below ? "below the minimum" : "above the maximum",
                           below ? ">=" : "<=", below ? row->min : row->max, x);
    }
    *ret = x;
    return 0;
}

static int to_int(double whole)
{
    return whole < (double)INT_MAX ? (int)whole : INT_MAX;
}

/* How many tokens an answer may have. */
static int parse_max_tokens(struct openai_request *r, const struct numbers *n,
                            struct api_problem *p)
{
    bool chat = r->endpoint == OPENAI_CHAT;
    bool both = n->given[NUMBER_max_tokens] && n->given[NUMBER_max_completion_tokens];
    enum number field = chat && n->given[NUMBER_max_completion_tokens]
                            ? NUMBER_max_completion_tokens
                            : NUMBER_max_tokens;
    if (chat && both) {
        return problem_set(p, 400, "invalid_parameter_combination", "max_tokens",
                           "Setting 'max_tokens' and 'max_completion_tokens' at the same time "
                           "isn't possible.");
    }
    r->ask.chat.max_tokens = chat ? -1 : OPENAI_TEXT_MAX_TOKENS;
    if (n->given[field]) {
        r->ask.chat.max_tokens = to_int(n->value[field]);
    }
    if (chat && r->ask.chat.max_tokens == 0) {
        const char *name = number_rows[field].name;
        return problem_set(p, 400, "integer_below_min_value", name,
                           "Invalid '%s': below the minimum. Expected a value >= 1, but got 0 "
                           "instead.",
                           name);
    }
    return 0;
}

static int parse_numbers(struct openai_request *r, struct api_problem *p)
{
    struct numbers n = { .value = { [NUMBER_temperature] = 1.0, [NUMBER_top_p] = 1.0 } };
    for (int i = 0; i < NUMBER_COUNT; i++) {
        if (read_number(r->ask.chat.root, &number_rows[i], &n.value[i], &n.given[i], p) != 0) {
            return -1;
        }
    }
    r->ask.chat.sampling.temperature = (float)n.value[NUMBER_temperature];
    r->ask.chat.sampling.top_p = (float)n.value[NUMBER_top_p];
    r->ask.chat.sampling.min_p = (float)n.value[NUMBER_min_p];
    r->ask.chat.sampling.presence_penalty = (float)n.value[NUMBER_presence_penalty];
    r->ask.chat.sampling.frequency_penalty = (float)n.value[NUMBER_frequency_penalty];
    r->ask.chat.sampling.repetition_penalty = (float)n.value[NUMBER_repetition_penalty];
    r->ask.chat.sampling.top_k = n.value[NUMBER_top_k] > 0.0 ? to_int(n.value[NUMBER_top_k]) : 0;
    /* OpenAI: a nucleus of nothing is its likeliest token. */
    if (n.given[NUMBER_top_p] && n.value[NUMBER_top_p] == 0.0) {
        r->ask.chat.sampling.top_k = 1;
    }
    return parse_max_tokens(r, &n, p);
}

/* -1 means none, as other local servers have it. */
static int parse_seed(struct openai_request *r, struct api_problem *p)
{
    json_t *seed = openai_field(r->ask.chat.root, "seed");
    json_int_t whole = 0;
    if (seed == NULL) {
        return 0;
    }
    if (!body_integer(seed, &whole)) {
        return openai_type_problem(p, "seed", "an integer", seed);
    }
    r->ask.chat.has_seed = whole != -1;
    r->ask.chat.sampling.seed = r->ask.chat.has_seed ? (uint64_t)whole : 0;
    double x = json_real_value(seed);
    if (x >= 0x1p63 || x < -0x1p63) { /* beyond 64 bits each number is still a seed of its own */
        memcpy(&r->ask.chat.sampling.seed, &x, sizeof r->ask.chat.sampling.seed);
    }
    return 0;
}

static int parse_stop(struct openai_request *r, struct api_problem *p)
{
    json_t *stop = openai_field(r->ask.chat.root, "stop");
    if (stop == NULL) {
        return 0;
    }
    if (!json_is_string(stop) && !json_is_array(stop)) {
        return openai_type_problem(p, "stop", "a string or an array of strings", stop);
    }
    size_t n = json_is_array(stop) ? json_array_size(stop) : 1;
    if (n > STOPS_MAX) {
        return problem_set(p, 400, "array_above_max_length", "stop",
                           "Invalid 'stop': %zu stop strings, expected at most %d.", n, STOPS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        json_t *text = json_is_array(stop) ? json_array_get(stop, i) : stop;
        char param[32] = "stop";
        if (json_is_array(stop)) {
            snprintf(param, sizeof param, "stop[%zu]", i);
        }
        if (!json_is_string(text)) {
            return openai_type_problem(p, param, "a string", text);
        }
        size_t size = json_string_length(text);
        if (size > STOP_MAX_BYTES) {
            return problem_set(p, 400, "string_above_max_length", param,
                               "Invalid '%s': %zu bytes, expected at most %d.", param, size,
                               STOP_MAX_BYTES);
        }
        if (size > 0) { /* an empty one stops nothing: clients send it for "none" */
            r->ask.chat.stops[r->ask.chat.n_stops++] = bytes_of(json_string_value(text), size);
        }
    }
    return 0;
}

static int parse_bias(struct openai_request *r, struct api_problem *p)
{
    json_t *map = openai_field(r->ask.chat.root, "logit_bias");
    if (map == NULL) {
        return 0;
    }
    if (!json_is_object(map)) {
        return openai_type_problem(p, "logit_bias", "an object", map);
    }
    size_t n = json_object_size(map);
    if (n > SAMPLER_MAX_BIAS) {
        return problem_set(p, 400, "object_above_max_properties", "logit_bias",
                           "Invalid 'logit_bias': %zu tokens, expected at most %d.", n,
                           SAMPLER_MAX_BIAS);
    }
    struct sampler_bias *bias = calloc(n + 1, sizeof *bias);
    if (bias == NULL) {
        return problem_set(p, 500, NULL, NULL, "Out of memory.");
    }
    r->ask.chat.sampling.bias = bias;
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(map, key, value)
    {
        char *end = NULL;
        long id = strtol(key, &end, 10);
        if (end == key || *end != '\0' || *key < '0' || *key > '9' || id > INT32_MAX) {
            return problem_set(p, 400, "invalid_value", "logit_bias",
                               "Invalid key in 'logit_bias': '%.40s' isn't a token id.", key);
        }
        if (!json_is_number(value)) {
            return openai_type_problem(p, "logit_bias", "numbers as values", value);
        }
        double x = json_number_value(value);
        if (!(x >= -100.0 && x <= 100.0)) {
            return problem_set(p, 400, "invalid_value", "logit_bias",
                               "Invalid 'logit_bias' of token %ld: expected -100 to 100, but got "
                               "%.10g.",
                               id, x);
        }
        bias[r->ask.chat.sampling.n_bias++] = (struct sampler_bias){ (int32_t)id, (float)x };
    }
    return 0;
}

static int read_count(const json_t *root, const char *name, int max, int *ret,
                      struct api_problem *p)
{
    const struct number_row row = { name, true, 0.0, (double)max };
    double x = 0.0;
    bool given = false;
    if (read_number(root, &row, &x, &given, p) != 0) {
        return -1;
    }
    *ret = given ? (int)x : -1;
    return 0;
}

static int parse_logprobs(struct openai_request *r, struct api_problem *p)
{
    int n = -1;
    if (r->endpoint == OPENAI_CHAT) {
        if (openai_bool(r->ask.chat.root, "logprobs", &r->ask.chat.want_logprobs, p) != 0 ||
            read_count(r->ask.chat.root, "top_logprobs", SAMPLER_MAX_TOP, &n, p) != 0) {
            return -1;
        }
        if (n > 0 && !r->ask.chat.want_logprobs) {
            return problem_set(p, 400, "invalid_parameter_combination", "top_logprobs",
                               "'top_logprobs' needs 'logprobs' to be true.");
        }
    } else {
        if (read_count(r->ask.chat.root, "logprobs", OPENAI_MAX_TEXT_LOGPROBS, &n, p) != 0) {
            return -1;
        }
        r->ask.chat.want_logprobs = n >= 0;
    }
    r->ask.chat.sampling.want_logprob = r->ask.chat.want_logprobs;
    r->ask.chat.sampling.n_top = n > 0 ? n : 0;
    return 0;
}

static int parse_stream(struct openai_request *r, struct api_problem *p)
{
    if (openai_bool(r->ask.chat.root, "stream", &r->ask.stream, p) != 0) {
        return -1;
    }
    json_t *options = openai_field(r->ask.chat.root, "stream_options");
    if (options == NULL) {
        return 0;
    }
    if (!json_is_object(options)) {
        return openai_type_problem(p, "stream_options", "an object", options);
    }
    if (!r->ask.stream) {
        return problem_set(p, 400, "invalid_parameter_combination", "stream_options",
                           "'stream_options' is only allowed when 'stream' is true.");
    }
    json_t *usage = openai_field(options, "include_usage");
    if (usage != NULL && !json_is_boolean(usage)) {
        return openai_type_problem(p, "stream_options.include_usage", "a boolean", usage);
    }
    r->ask.include_usage = json_is_true(usage);
    return 0;
}

static int parse_model(struct openai_request *r, struct api_problem *p)
{
    json_t *model = openai_field(r->ask.chat.root, "model");
    if (model == NULL) {
        return problem_set(p, 400, "missing_required_parameter", "model",
                           "You must provide a model parameter; GET /v1/models lists them.");
    }
    if (!json_is_string(model)) {
        return openai_type_problem(p, "model", "a string", model);
    }
    r->ask.model = json_string_value(model);
    if (strlen(r->ask.model) != json_string_length(model)) {
        return problem_set(p, 404, "model_not_found", "model",
                           "No model's name has a NUL character in it.");
    }
    return 0;
}

static int parse_echo(struct openai_request *r, struct api_problem *p)
{
    if (openai_bool(r->ask.chat.root, "echo", &r->ask.chat.echo, p) != 0) {
        return -1;
    }
    if (r->ask.chat.echo && r->ask.chat.want_logprobs) {
        return problem_set(p, 400, "unsupported_parameter", "echo",
                           "'echo' together with 'logprobs' isn't supported here yet.");
    }
    return 0;
}

static int parse_fields(struct openai_request *r, struct api_problem *p)
{
    int (*const common[])(struct openai_request *, struct api_problem *) = {
        parse_model, parse_stream, parse_numbers,  parse_seed,
        parse_stop,  parse_bias,   parse_logprobs,
    };
    for (size_t i = 0; i < ARRAY_LEN(common); i++) {
        if (common[i](r, p) != 0) {
            return -1;
        }
    }
    if (openai_check_unsupported(r->endpoint, r->ask.chat.root, p) != 0) {
        return -1;
    }
    if (r->endpoint == OPENAI_CHAT) {
        return openai_parse_messages(r, p);
    }
    return parse_echo(r, p) != 0 ? -1 : openai_parse_prompt(r, p);
}

int openai_parse(enum openai_endpoint endpoint, struct bytes body, struct ask *ret,
                 struct api_problem *p)
{
    json_t *root = body_parse(body, p);
    if (root == NULL) {
        return -1;
    }
    struct openai_request r = { .endpoint = endpoint, .ask.chat = { .root = root, .n = 1 } };
    if (parse_fields(&r, p) != 0) {
        chat_request_done(&r.ask.chat);
        return -1;
    }
    *ret = r.ask;
    return 0;
}

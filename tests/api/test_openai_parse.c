/* OpenAI's bodies: what is taken, and how what isn't is named. */
#include "tests/test.h"

#include <stdio.h>

#include "api/dialects/openai_parse.h"

#define M "\"model\":\"m\","
#define MESSAGES M "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static void fields_are_taken(void **state)
{
    struct ask r;
    struct api_problem p = { 0 };
    const char *body =
        "{" MESSAGES ",\"temperature\":0.5,\"top_p\":0.9,\"top_k\":40,\"min_p\":0.1,"
        "\"presence_penalty\":-1,\"frequency_penalty\":1.5,\"repetition_penalty\":1.1,"
        "\"seed\":-3,\"max_tokens\":7,\"stop\":[\"a\",\"\",\"bc\"],\"logprobs\":true,"
        "\"top_logprobs\":3,\"logit_bias\":{\"5\":-100,\"7\":2.5},\"stream\":true,"
        "\"stream_options\":{\"include_usage\":true},\"user\":\"u\",\"metadata\":{\"a\":\"b\"},"
        "\"n\":1,\"tools\":[],\"tool_choice\":\"none\",\"response_format\":{\"type\":\"text\"},"
        "\"modalities\":[\"text\"],\"store\":false,\"audio\":null,\"never_heard_of\":[1]}";
    assert_int_equal(openai_parse(OPENAI_CHAT, bytes_text(body), &r, &p), 0);
    assert_string_equal(r.model, "m");
    assert_true(r.stream && r.include_usage && r.chat.want_logprobs && r.chat.has_seed);
    assert_true(r.chat.sampling.temperature == 0.5f && r.chat.sampling.top_p == 0.9f);
    assert_true(r.chat.sampling.min_p == 0.1f && r.chat.sampling.presence_penalty == -1.0f);
    assert_true(r.chat.sampling.frequency_penalty == 1.5f &&
                r.chat.sampling.repetition_penalty == 1.1f);
    assert_int_equal(r.chat.sampling.top_k, 40);
    assert_int_equal((int64_t)r.chat.sampling.seed, -3);
    assert_int_equal(r.chat.max_tokens, 7);
    assert_int_equal(r.chat.n_stops, 2);
    assert_true(bytes_equal_text(r.chat.stops[1], "bc"));
    assert_int_equal(r.chat.sampling.n_top, 3);
    assert_int_equal(r.chat.sampling.n_bias, 2);
    assert_int_equal(r.chat.sampling.bias[1].id, 7);
    assert_true(r.chat.sampling.bias[0].bias == -100.0f);
    chat_request_done(&r.chat);
}

static void defaults_are_openais(void **state)
{
    struct ask r;
    struct api_problem p = { 0 };
    const char *chat = "{" MESSAGES ",\"temperature\":null,\"stop\":null,\"max_tokens\":null}";
    assert_int_equal(openai_parse(OPENAI_CHAT, bytes_text(chat), &r, &p), 0);
    assert_true(r.chat.sampling.temperature == 1.0f && r.chat.sampling.top_p == 1.0f);
    assert_int_equal(r.chat.max_tokens, -1);
    assert_false(r.stream || r.chat.has_seed || r.chat.want_logprobs);
    chat_request_done(&r.chat);
    assert_int_equal(openai_parse(OPENAI_TEXT, bytes_text("{" M "\"prompt\":\"x\"}"), &r, &p), 0);
    assert_int_equal(r.chat.max_tokens, 16);
    assert_int_equal(r.chat.n_prompts, 1);
    chat_request_done(&r.chat);
    assert_int_equal(
        openai_parse(OPENAI_CHAT, bytes_text("{" MESSAGES ",\"top_p\":0,\"top_k\":-1}"), &r, &p),
        0);
    assert_int_equal(r.chat.sampling.top_k, 1); /* a nucleus of nothing is its likeliest token */
    chat_request_done(&r.chat);
}

static void messages_take_the_templates_form(void **state)
{
    struct ask r;
    struct api_problem p = { 0 };
    const char *body =
        "{" M "\"messages\":[{\"role\":\"developer\",\"content\":\"a\",\"name\":\"x\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"b\\u0000\"},"
        "{\"type\":\"text\",\"text\":\"\\ud83d\\ude00\"}]},"
        "{\"role\":\"assistant\",\"content\":\"d\",\"tool_calls\":[],\"refusal\":null}],"
        "\"chat_template_kwargs\":{\"enable_thinking\":false,\"messages\":[]}}";
    assert_int_equal(openai_parse(OPENAI_CHAT, bytes_text(body), &r, &p), 0);
    json_t *list = json_object_get(r.chat.conversation, "messages");
    assert_int_equal(json_array_size(list), 3); /* variables don't replace the messages */
    json_t *first = json_array_get(list, 0), *second = json_array_get(list, 1);
    assert_string_equal(json_string_value(json_object_get(first, "role")), "system");
    json_t *content = json_object_get(second, "content");
    assert_int_equal(json_string_length(content), 6);
    assert_memory_equal(json_string_value(content), "b\0\xf0\x9f\x98\x80", 6);
    assert_true(json_is_false(json_object_get(r.chat.conversation, "enable_thinking")));
    assert_true(json_is_true(json_object_get(r.chat.conversation, "add_generation_prompt")));
    chat_request_done(&r.chat);
}

struct refusal {
    enum openai_endpoint endpoint;
    const char *body, *param, *code;
};

static const struct refusal refusals[] = {
    { OPENAI_CHAT, "", "", "invalid_json" },
    { OPENAI_CHAT, "{\"a\":1e400", "", "invalid_json" },
    { OPENAI_CHAT, "{\"a\":\"\\ud800}", "", "invalid_json" },
    { OPENAI_CHAT, "{\"a\":\"\xff\"}", "", "invalid_json" },
    { OPENAI_CHAT, "[1]", "", "invalid_type" },
    { OPENAI_CHAT, "{\"messages\":[]}", "model", "missing_required_parameter" },
    { OPENAI_CHAT, "{\"model\":1}", "model", "invalid_type" },
    { OPENAI_CHAT, "{\"model\":\"m\"}", "messages", "missing_required_parameter" },
    { OPENAI_CHAT, "{" M "\"messages\":\"x\"}", "messages", "invalid_type" },
    { OPENAI_CHAT, "{" M "\"messages\":[]}", "messages", "empty_array" },
    { OPENAI_CHAT, "{" M "\"messages\":[1]}", "messages[0]", "invalid_type" },
    { OPENAI_CHAT, "{" M "\"messages\":[{\"content\":\"x\"}]}", "messages[0].role",
      "missing_required_parameter" },
    { OPENAI_CHAT, "{" M "\"messages\":[{\"role\":\"king\",\"content\":\"x\"}]}",
      "messages[0].role", "invalid_value" },
    { OPENAI_CHAT, "{" M "\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}",
      "messages[0].role", "unsupported_value" },
    { OPENAI_CHAT, "{" M "\"messages\":[{\"role\":\"user\",\"reasoning\":\"R\"}]}",
      "messages[0].content", "missing_required_parameter" },
    { OPENAI_CHAT, "{" M "\"messages\":[{\"role\":\"user\"}]}", "messages[0].content",
      "missing_required_parameter" },
    { OPENAI_CHAT, "{" M "\"messages\":[{\"role\":\"user\",\"content\":5}]}", "messages[0].content",
      "invalid_type" },
    { OPENAI_CHAT,
      "{" M "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
      "messages[0].content[0]", "unsupported_value" },
    { OPENAI_CHAT, "{" M "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}",
      "messages[0].content[0].text", "missing_required_parameter" },
    { OPENAI_CHAT,
      "{" M "\"messages\":[{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{}]}]}",
      "messages[0].tool_calls", "unsupported_parameter" },
    { OPENAI_CHAT, "{" MESSAGES ",\"temperature\":\"hot\"}", "temperature", "invalid_type" },
    { OPENAI_CHAT, "{" MESSAGES ",\"temperature\":2.1}", "temperature", "decimal_above_max_value" },
    { OPENAI_CHAT, "{" MESSAGES ",\"top_p\":-0.1}", "top_p", "decimal_below_min_value" },
    { OPENAI_CHAT, "{" MESSAGES ",\"presence_penalty\":-3}", "presence_penalty",
      "decimal_below_min_value" },
    { OPENAI_CHAT, "{" MESSAGES ",\"max_tokens\":0}", "max_tokens", "integer_below_min_value" },
    { OPENAI_CHAT, "{" MESSAGES ",\"max_tokens\":1.5}", "max_tokens", "invalid_type" },
    { OPENAI_CHAT, "{" MESSAGES ",\"max_tokens\":-2}", "max_tokens", "integer_below_min_value" },
    { OPENAI_CHAT, "{" MESSAGES ",\"max_completion_tokens\":0}", "max_completion_tokens",
      "integer_below_min_value" },
    { OPENAI_CHAT, "{" MESSAGES ",\"temperature\":1e400}", "temperature",
      "decimal_above_max_value" },
    { OPENAI_CHAT, "{" MESSAGES ",\"seed\":1.5}", "seed", "invalid_type" },
    { OPENAI_CHAT, "{" M "\"messages\":[{\"role\":\"user\\u0000\",\"content\":\"x\"}]}",
      "messages[0].role", "invalid_value" },
    { OPENAI_CHAT, "{\"model\":\"m\\u0000\"}", "model", "model_not_found" },
    { OPENAI_CHAT, "{" MESSAGES ",\"max_tokens\":1,\"max_completion_tokens\":1}", "max_tokens",
      "invalid_parameter_combination" },
    { OPENAI_CHAT, "{" MESSAGES ",\"seed\":\"x\"}", "seed", "invalid_type" },
    { OPENAI_CHAT, "{" MESSAGES ",\"stop\":[1]}", "stop[0]", "invalid_type" },
    { OPENAI_CHAT, "{" MESSAGES ",\"logit_bias\":{\"x\":1}}", "logit_bias", "invalid_value" },
    { OPENAI_CHAT, "{" MESSAGES ",\"logit_bias\":{\"1\":101}}", "logit_bias", "invalid_value" },
    { OPENAI_CHAT, "{" MESSAGES ",\"logprobs\":5}", "logprobs", "invalid_type" },
    { OPENAI_CHAT, "{" MESSAGES ",\"logprobs\":true,\"top_logprobs\":21}", "top_logprobs",
      "integer_above_max_value" },
    { OPENAI_CHAT, "{" MESSAGES ",\"top_logprobs\":2}", "top_logprobs",
      "invalid_parameter_combination" },
    { OPENAI_CHAT, "{" MESSAGES ",\"stream\":1}", "stream", "invalid_type" },
    { OPENAI_CHAT, "{" MESSAGES ",\"stream_options\":{}}", "stream_options",
      "invalid_parameter_combination" },
    { OPENAI_CHAT, "{" MESSAGES ",\"n\":2}", "n", "unsupported_parameter" },
    { OPENAI_CHAT, "{" MESSAGES ",\"n\":9223372036854775808}", "n", "unsupported_parameter" },
    { OPENAI_CHAT, "{" MESSAGES ",\"tools\":[{}],\"tool_choice\":\"required\"}", "tools",
      "unsupported_parameter" },
    { OPENAI_CHAT, "{" MESSAGES ",\"functions\":[{}]}", "functions", "unsupported_parameter" },
    { OPENAI_CHAT, "{" MESSAGES ",\"response_format\":{\"type\":\"json_object\"}}",
      "response_format.type", "unsupported_value" },
    { OPENAI_CHAT, "{" MESSAGES ",\"modalities\":[\"text\",\"audio\"]}", "modalities",
      "unsupported_value" },
    { OPENAI_TEXT, "{\"model\":\"m\"}", "prompt", "missing_required_parameter" },
    { OPENAI_TEXT, "{" M "\"prompt\":[]}", "prompt", "empty_array" },
    { OPENAI_TEXT, "{" M "\"prompt\":5}", "prompt", "invalid_type" },
    { OPENAI_TEXT, "{" M "\"prompt\":[\"a\",5]}", "prompt[1]", "invalid_type" },
    { OPENAI_TEXT, "{" M "\"prompt\":[1,\"a\"]}", "prompt[1]", "invalid_type" },
    { OPENAI_TEXT, "{" M "\"prompt\":[[1],[-1]]}", "prompt[1][0]", "invalid_value" },
    { OPENAI_TEXT, "{" M "\"prompt\":[[]]}", "prompt[0]", "empty_array" },
    { OPENAI_TEXT, "{" M "\"prompt\":\"x\",\"logprobs\":6}", "logprobs",
      "integer_above_max_value" },
    { OPENAI_TEXT, "{" M "\"prompt\":\"x\",\"best_of\":2}", "best_of", "unsupported_parameter" },
    { OPENAI_TEXT, "{" M "\"prompt\":\"x\",\"suffix\":\"y\"}", "suffix", "unsupported_parameter" },
    { OPENAI_TEXT, "{" M "\"prompt\":\"x\",\"echo\":true,\"logprobs\":1}", "echo",
      "unsupported_parameter" },
};

static void refusals_name_the_field(void **state)
{
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct ask r;
        struct api_problem p = { 0 };
        const struct refusal *c = &refusals[i];
        if (openai_parse(c->endpoint, bytes_text(c->body), &r, &p) == 0) {
            fprintf(stderr, "taken: %s\n", c->body);
            assert_true(false);
        }
        assert_int_equal(p.status, strcmp(c->code, "model_not_found") == 0 ? 404 : 400);
        assert_string_equal(p.param, c->param);
        assert_string_equal(p.code, c->code);
        json_t *j = problem_json(&p);
        assert_non_null(j);
        json_decref(j);
    }
}

/* What clients send beside what they want (shapes: the openai packages' types). */
static const char *const harmless[] = {
    "\"store\":true",
    "\"metadata\":{\"a\":\"b\"}",
    "\"reasoning_effort\":\"high\"",
    "\"reasoning_effort\":\"none\"",
    "\"verbosity\":\"low\"",
    "\"service_tier\":\"priority\"",
    "\"prediction\":{\"type\":\"content\",\"content\":\"x\"}",
    "\"prompt_cache_key\":\"k\"",
    "\"prompt_cache_options\":{\"ttl\":5}",
    "\"prompt_cache_retention\":\"24h\"",
    "\"safety_identifier\":\"s\"",
    "\"moderation\":{}",
    "\"web_search_options\":{}",
    "\"stream\":true,\"stream_options\":{\"include_obfuscation\":false}",
    "\"parallel_tool_calls\":false",
    "\"tool_choice\":\"required\"",
    "\"tools\":[],\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}",
    "\"user\":\"u\"",
    "\"n\":1.0",
    "\"x\":9223372036854775808",
    "\"x\":[-9223372036854775809,123456789012345678901234567890]",
    "\"x\":1e400,\"y\":-1E+400,\"z\":1e-400",
    "\"x\":\"\\ud800\",\"y\":\"\\udc00\\ud83d\",\"z\\udfff\":0",
};

static void harmless_fields_are_ignored(void **state)
{
    for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++) {
        struct ask r;
        struct api_problem p = { 0 };
        char body[512];
        snprintf(body, sizeof body, "{" MESSAGES ",%s}", harmless[i]);
        if (openai_parse(OPENAI_CHAT, bytes_text(body), &r, &p) != 0) {
            fprintf(stderr, "%s: %s\n", body, p.message);
            assert_true(false);
        }
        chat_request_done(&r.chat);
    }
}

static struct ask taken(enum openai_endpoint endpoint, const char *body)
{
    struct ask r;
    struct api_problem p = { 0 };
    if (openai_parse(endpoint, bytes_text(body), &r, &p) != 0) {
        fprintf(stderr, "%s: %s\n", body, p.message);
        assert_true(false);
    }
    return r;
}

static uint64_t seed_of(const char *seed, bool *has_seed)
{
    char body[512];
    snprintf(body, sizeof body, "{" MESSAGES ",\"seed\":%s}", seed);
    struct ask r = taken(OPENAI_CHAT, body);
    uint64_t ret = r.chat.sampling.seed;
    *has_seed = r.chat.has_seed;
    chat_request_done(&r.chat);
    return ret;
}

static int max_tokens_of(enum openai_endpoint endpoint, const char *field)
{
    char body[512];
    snprintf(body, sizeof body, "{" MESSAGES ",\"prompt\":\"x\",%s}", field);
    struct ask r = taken(endpoint, body);
    int ret = r.chat.max_tokens;
    chat_request_done(&r.chat);
    return ret;
}

static void numbers_are_taken_as_meant(void **state)
{
    bool has_seed = true;
    seed_of("-1", &has_seed);
    assert_false(has_seed);
    seed_of("-1.0", &has_seed);
    assert_false(has_seed);
    assert_true(seed_of("9223372036854775807", &has_seed) == INT64_MAX && has_seed);
    assert_true(seed_of("-9223372036854775808", &has_seed) == 1ull << 63 && has_seed);
    assert_true(seed_of("18446744073709551615", &has_seed) !=
                    seed_of("9223372036854775808", &has_seed) &&
                has_seed);
    seed_of("1e400", &has_seed);
    assert_true(has_seed);
    const char *const all[] = { "-1", "-1.0" };
    for (int i = 0; i < 2; i++) {
        char field[64];
        snprintf(field, sizeof field, "\"max_tokens\":%s", all[i]);
        assert_int_equal(max_tokens_of(OPENAI_CHAT, field), -1);
        assert_int_equal(max_tokens_of(OPENAI_TEXT, field), -1);
        snprintf(field, sizeof field, "\"max_completion_tokens\":%s", all[i]);
        assert_int_equal(max_tokens_of(OPENAI_CHAT, field), -1);
    }
    assert_int_equal(max_tokens_of(OPENAI_CHAT, "\"max_tokens\":5.0"), 5);
    assert_int_equal(max_tokens_of(OPENAI_TEXT, "\"max_tokens\":5.0"), 5);
    assert_int_equal(max_tokens_of(OPENAI_TEXT, "\"max_tokens\":0"), 0);
    assert_int_equal(max_tokens_of(OPENAI_CHAT, "\"max_tokens\":9223372036854775808"), INT32_MAX);
    assert_int_equal(max_tokens_of(OPENAI_CHAT, "\"max_completion_tokens\":1e400"), INT32_MAX);
    struct ask r =
        taken(OPENAI_TEXT, "{" M "\"prompt\":[1.0,2],\"top_k\":1e30,\"logprobs\":2.0,\"n\":1}");
    assert_int_equal(r.chat.prompts[0].n_ids, 2);
    assert_int_equal(r.chat.sampling.top_k, INT32_MAX);
    assert_int_equal(r.chat.sampling.n_top, 2);
    chat_request_done(&r.chat);
}

static void many_stops_are_taken(void **state)
{
    char body[4096] = "{" MESSAGES ",\"stop\":[\"0\"";
    for (int i = 1; i < STOPS_MAX; i++) {
        snprintf(body + strlen(body), 16, ",\"%d\"", i);
    }
    size_t n = strlen(body);
    snprintf(body + n, 16, "]}");
    struct ask r = taken(OPENAI_CHAT, body);
    assert_int_equal(r.chat.n_stops, STOPS_MAX);
    chat_request_done(&r.chat);
    snprintf(body + n, 16, ",\"more\"]}");
    struct api_problem p = { 0 };
    assert_int_equal(openai_parse(OPENAI_CHAT, bytes_text(body), &r, &p), -1);
    assert_string_equal(p.param, "stop");
    assert_string_equal(p.code, "array_above_max_length");
}

static void odd_texts_become_replacement_characters(void **state)
{
    struct ask r = taken(
        OPENAI_CHAT, "{" M "\"messages\":[{\"role\":\"user\",\"content\":\"a\\ud83d\\ude00"
                     "\\ud83dx\\\\ud800\\ude00\"},{\"role\":\"assistant\",\"content\":null,"
                     "\"refusal\":\"no\"},{\"role\":\"assistant\",\"content\":[{\"type\":"
                     "\"refusal\",\"refusal\":\"never\"},{\"type\":\"text\",\"text\":\"!\"}]}]}");
    json_t *list = json_object_get(r.chat.conversation, "messages");
    const char *const texts[] = { "a\xf0\x9f\x98\x80\xef\xbf\xbdx\\ud800\xef\xbf\xbd", "no",
                                  "never!" };
    for (size_t i = 0; i < 3; i++) {
        json_t *content = json_object_get(json_array_get(list, i), "content");
        assert_string_equal(json_string_value(content), texts[i]);
    }
    chat_request_done(&r.chat);
}

/* An answer that was cut while the model still thought has no content. */
static void reasoning_may_stand_alone(void **state)
{
    static const char *const names[] = { "reasoning_content", "thinking", "reasoning" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char body[300];
        snprintf(body, sizeof body,
                 "{" M "\"messages\":[{\"role\":\"assistant\",\"content\":null,\"%s\":\"R\"}]}",
                 names[i]);
        struct ask r = taken(OPENAI_CHAT, body);
        json_t *message = json_array_get(json_object_get(r.chat.conversation, "messages"), 0);
        assert_string_equal(json_string_value(json_object_get(message, "content")), "");
        assert_string_equal(json_string_value(json_object_get(message, names[i])), "R");
        chat_request_done(&r.chat);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_taken),
        cmocka_unit_test(defaults_are_openais),
        cmocka_unit_test(messages_take_the_templates_form),
        cmocka_unit_test(refusals_name_the_field),
        cmocka_unit_test(harmless_fields_are_ignored),
        cmocka_unit_test(numbers_are_taken_as_meant),
        cmocka_unit_test(many_stops_are_taken),
        cmocka_unit_test(odd_texts_become_replacement_characters),
        cmocka_unit_test(reasoning_may_stand_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The server with a scripted model behind the real engine. */
#include "tests/test.h"

#include <stdio.h>

#include "api/internal.h"
#include "tests/api/mock.h"

static json_t *parse(char *text)
{
    json_t *j = json_loads(text, JSON_ALLOW_NUL, NULL);
    if (j == NULL) {
        fprintf(stderr, "not JSON: %s\n", text);
    }
    assert_non_null(j);
    free(text);
    return j;
}

/* Text at a path of keys and indices, "choices.0.text". */
static json_t *at(json_t *j, const char *path)
{
    char key[64];
    while (*path != '\0') {
        size_t n = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)n, path);
        path += path[n] == '.' ? n + 1 : n;
        j = json_is_array(j) ? json_array_get(j, (size_t)strtol(key, NULL, 10))
                             : json_object_get(j, key);
    }
    return j;
}

static void assert_text(json_t *j, const char *path, const char *expected)
{
    const char *text = json_string_value(at(j, path));
    assert_non_null(text);
    assert_string_equal(text, expected);
}

static json_t *ask(struct rig *r, const char *path, const char *body, int status)
{
    struct client c;
    char *text = NULL;
    client_open(&c, r);
    client_post(&c, path, body);
    assert_int_equal(client_answer(&c, &text), status);
    client_close(&c);
    return parse(text);
}

static void expect_error(struct rig *r, const char *path, const char *body, int status,
                         const char *param, const char *code)
{
    json_t *j = ask(r, path, body, status);
    if (param != NULL) {
        assert_text(j, "error.param", param);
    } else {
        assert_true(json_is_null(at(j, "error.param")));
    }
    if (code != NULL) {
        assert_text(j, "error.code", code);
    }
    assert_true(json_is_string(at(j, "error.message")));
    assert_true(json_is_string(at(j, "error.type")));
    json_decref(j);
}

static void models_are_listed_and_found(void **state)
{
    struct rig r;
    struct client c;
    char *text = NULL;
    rig_open(&r, (struct server_options){ 0 }, 0);
    client_open(&c, &r);
    /* One connection for all of it. */
    client_send(&c, "GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    assert_int_equal(client_answer(&c, &text), 200);
    json_t *j = parse(text);
    assert_text(j, "object", "list");
    assert_text(j, "data.0.id", "Mock-1");
    assert_text(j, "data.0.owned_by", "shoal");
    assert_int_equal(json_integer_value(at(j, "data.0.created")), 1234);
    assert_int_equal(json_integer_value(at(j, "data.0.context_length")), MOCK_CONTEXT);
    assert_true(json_is_true(at(j, "data.0.ready")));
    assert_true(json_is_true(at(j, "data.1.ready")));
    assert_null(at(j, "data.1.context_length"));
    assert_text(j, "data.2.id", "late");
    assert_true(json_is_false(at(j, "data.2.ready")));
    assert_text(j, "data.2.why", "it is being loaded");
    assert_int_equal(json_integer_value(at(j, "data.2.context_length")), 99);
    json_decref(j);
    client_send(&c, "GET /v1/models/mock-1.GGUF?x=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    assert_int_equal(client_answer(&c, &text), 200);
    j = parse(text);
    assert_text(j, "id", "Mock-1");
    json_decref(j);
    client_send(&c, "GET /v1/models/Mock-1%00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    assert_int_equal(client_answer(&c, &text), 404);
    free(text);
    client_send(&c, "GET /v1/models/other HTTP/1.1\r\nHost: [::1]:8420\r\n\r\n");
    assert_int_equal(client_answer(&c, &text), 404);
    j = parse(text);
    assert_text(j, "error.code", "model_not_found");
    json_decref(j);
    client_send(&c, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
                    "GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_int_equal(client_answer(&c, &text), 200);
    free(text);
    assert_int_equal(client_answer(&c, &text), 200); /* the second of two at once */
    j = parse(text);
    assert_text(j, "models.0.id", "Mock-1");
    assert_text(j, "models.0.state", "ready");
    json_decref(j);
    client_close(&c);
    rig_close(&r);
}

/* A control token that a message spells is text, each of its bytes a token here; a raw prompt's is
 * the token, as ever. */
static void users_text_is_no_control_token(void **state)
{
    struct rig r;
    rig_open(&r, (struct server_options){ 0 }, 0);
    json_t *j = ask(&r, CHAT,
                    "{\"model\":\"Mock-1\",\"max_tokens\":1,\"messages\":[{\"role\":\"user\","
                    "\"content\":\"<|end|>h\"}]}",
                    200);
    assert_int_equal(json_integer_value(at(j, "usage.prompt_tokens")), 14);
    json_decref(j);
    j = ask(&r, "/v1/completions",
            "{\"model\":\"Mock-1\",\"max_tokens\":1,\"prompt\":\"<|end|>h\"}", 200);
    assert_int_equal(json_integer_value(at(j, "usage.prompt_tokens")), 2);
    json_decref(j);
    rig_close(&r);
}

/* What takes a request long before its answer begins is not the loop's: others are served. */
static void a_long_rendering_holds_nobody_up(void **state)
{
    struct rig r;
    struct client slow, quick;
    char *text = NULL;
    rig_open(&r, (struct server_options){ 0 }, 0);
    client_open(&slow, &r);
    client_open(&quick, &r);
    client_post(
        &slow, CHAT,
        "{\"model\":\"Mock-1\",\"messages\":[{\"role\":\"user\",\"content\":\"stretch\"}]}");
    while (api_active(r.api) == 0) {
        event_base_loop(r.base, EVLOOP_ONCE);
    }
    client_send(&quick, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_int_equal(client_answer(&quick, &text), 200);
    free(text);
    assert_int_equal(api_active(r.api), 1); /* it still renders */
    assert_int_equal(client_answer(&slow, &text), 200);
    free(text);
    client_close(&quick);
    client_close(&slow);
    rig_close(&r);
}

/* The body's bytes are counted until the answer begins, whatever becomes of it. */
static void bodies_of_waiting_requests_are_bounded(void **state)
{
    struct rig r;
    rig_open(&r, (struct server_options){ 0 }, 0);
    r.api->body_bytes = API_MAX_BODIES - 20;
    expect_error(&r, CHAT, HELLO "}", 429, NULL, "rate_limit_exceeded");
    r.api->body_bytes = 0;
    json_decref(ask(&r, CHAT, HELLO "}", 200));
    json_decref(ask(&r, CHAT, "{", 400));
    json_decref(ask(&r, TEXT, "{\"model\":\"none\",\"prompt\":\"xh>\"}", 404));
    assert_int_equal(r.api->body_bytes, 0);
    rig_close(&r);
}

static void chat_answers_whole(void **state)
{
    struct rig r;
    rig_open(&r, (struct server_options){ 0 }, 0);
    json_t *j = ask(&r, CHAT, HELLO ",\"temperature\":0}", 200);
    assert_text(j, "object", "chat.completion");
    assert_text(j, "model", "Mock-1");
    assert_text(j, "choices.0.message.role", "assistant");
    assert_text(j, "choices.0.message.content", "Hello, world!");
    assert_text(j, "choices.0.finish_reason", "stop");
    assert_true(json_is_null(at(j, "choices.0.logprobs")));
    assert_int_equal(json_integer_value(at(j, "usage.prompt_tokens")), 7); /* "user:h>" */
    assert_int_equal(json_integer_value(at(j, "usage.completion_tokens")), 14);
    assert_int_equal(json_integer_value(at(j, "usage.total_tokens")), 21);
    json_decref(j);
    j = ask(&r, CHAT, HELLO ",\"max_completion_tokens\":5}", 200);
    assert_text(j, "choices.0.message.content", "Hello");
    assert_text(j, "choices.0.finish_reason", "length");
    json_decref(j);
    j = ask(&r, CHAT, HELLO ",\"stop\":[\"wor\",\"nothing\"]}", 200);
    assert_text(j, "choices.0.message.content", "Hello, ");
    assert_text(j, "choices.0.finish_reason", "stop");
    json_decref(j);
    j = ask(&r, CHAT, ENDLESS "}", 200); /* to the end of the context, and said so */
    assert_text(j, "choices.0.finish_reason", "length");
    assert_int_equal(json_integer_value(at(j, "usage.total_tokens")), MOCK_CONTEXT);
    json_decref(j);
    rig_close(&r);
}

static void chat_streams(void **state)
{
    struct rig r;
    struct client c;
    char *text = NULL;
    rig_open(&r, (struct server_options){ 0 }, 0);
    client_open(&c, &r);
    client_post(&c, CHAT,
                "{\"model\":\"Mock-1\",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
                "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"e\"}]}"
                "]}");
    assert_int_equal(client_answer(&c, &text), 200);
    char answer[64] = "";
    int chunks = 0, roles = 0, finishes = 0, usages = 0, done = 0;
    for (char *line = text; line != NULL && *line != '\0';) {
        char *end = strstr(line, "\n\n");
        assert_non_null(end);
        *end = '\0';
        assert_int_equal(strncmp(line, "data: ", 6), 0);
        if (strcmp(line + 6, "[DONE]") == 0) {
            done++;
        } else {
            json_t *j = parse(strdup(line + 6));
            assert_text(j, "object", "chat.completion.chunk");
            const char *content = json_string_value(at(j, "choices.0.delta.content"));
            snprintf(answer + strlen(answer), sizeof answer - strlen(answer), "%s",
                     content ? content : "");
            roles += at(j, "choices.0.delta.role") != NULL;
            finishes += json_is_string(at(j, "choices.0.finish_reason"));
            usages += json_is_object(at(j, "usage"));
            json_decref(j);
            chunks++;
        }
        line = end + 2;
    }
    assert_string_equal(answer, "a\xf0\x9f\x98\x80"
                                "b"); /* four tokens made one character */
    assert_int_equal(roles, 1);
    assert_int_equal(finishes, 1);
    assert_int_equal(usages, 1);
    assert_int_equal(done, 1);
    assert_true(chunks >= 4);
    free(text);
    client_close(&c);
    rig_close(&r);
}

static void completions_take_prompts_in_all_forms(void **state)
{
    struct rig r;
    rig_open(&r, (struct server_options){ 0 }, 0);
    json_t *j = ask(&r, TEXT, "{\"model\":\"Mock-1\",\"prompt\":\"xh>\",\"max_tokens\":50}", 200);
    assert_text(j, "object", "text_completion");
    assert_text(j, "choices.0.text", "Hello, world!");
    json_decref(j);
    j = ask(&r, TEXT, "{\"model\":\"mock-1\",\"prompt\":[\"h>\",\"e>\",\"l>\"],\"echo\":true}",
            200);
    assert_text(j, "choices.0.text", "h>Hello, world!");
    assert_text(j, "choices.1.text",
                "e>a\xf0\x9f\x98\x80"
                "b");
    assert_text(j, "choices.2.text", "l>abcdefghijabcdef"); /* OpenAI's default of 16 */
    assert_text(j, "choices.2.finish_reason", "length");
    assert_int_equal(json_integer_value(at(j, "choices.2.index")), 2);
    json_decref(j);
    j = ask(&r, TEXT, "{\"model\":\"Mock-1\",\"prompt\":[104,62],\"max_tokens\":0,\"echo\":true}",
            200);
    assert_text(j, "choices.0.text", "h>");
    assert_int_equal(json_integer_value(at(j, "usage.completion_tokens")), 0);
    json_decref(j);
    j = ask(&r, TEXT, "{\"model\":\"Mock-1\",\"prompt\":[[104,62],[101,62]],\"max_tokens\":50}",
            200);
    assert_text(j, "choices.0.text", "Hello, world!");
    json_decref(j);
    j = ask(&r, TEXT, "{\"model\":\"Mock-1\",\"prompt\":\"\",\"max_tokens\":50}", 200);
    assert_text(j, "choices.0.text", "");
    json_decref(j);
    rig_close(&r);
}

static void logprobs_come_in_both_shapes(void **state)
{
    struct rig r;
    rig_open(&r, (struct server_options){ 0 }, 0);
    json_t *j = ask(&r, CHAT, HELLO ",\"logprobs\":true,\"top_logprobs\":2,\"stop\":\"lo\"}", 200);
    json_t *content = at(j, "choices.0.logprobs.content");
    assert_text(j, "choices.0.message.content", "Hel");
    assert_int_equal(json_array_size(content), 3); /* none of the stop string's tokens */
    assert_text(j, "choices.0.logprobs.content.0.token", "H");
    assert_int_equal(json_integer_value(at(j, "choices.0.logprobs.content.0.bytes.0")), 'H');
    assert_true(json_number_value(at(j, "choices.0.logprobs.content.0.logprob")) > -1e-3);
    assert_int_equal(json_array_size(at(j, "choices.0.logprobs.content.0.top_logprobs")), 2);
    assert_text(j, "choices.0.logprobs.content.0.top_logprobs.0.token", "H");
    json_decref(j);
    j = ask(&r, TEXT, "{\"model\":\"Mock-1\",\"prompt\":\"e>\",\"logprobs\":1,\"max_tokens\":50}",
            200);
    assert_int_equal(json_array_size(at(j, "choices.0.logprobs.tokens")), 6);
    assert_text(j, "choices.0.logprobs.tokens.0", "a");
    assert_text(j, "choices.0.logprobs.tokens.1", "\xef\xbf\xbd"); /* a quarter of a character */
    const int offsets[] = { 0, 1, 1, 1, 1, 2 }; /* where the character of each begins */
    for (size_t i = 0; i < 6; i++) {
        json_t *offset = json_array_get(at(j, "choices.0.logprobs.text_offset"), i);
        assert_int_equal(json_integer_value(offset), offsets[i]);
    }
    assert_true(json_number_value(at(j, "choices.0.logprobs.top_logprobs.0.a")) > -1e-3);
    json_decref(j);
    rig_close(&r);
}

/* Tokens of equal text (halves of characters here) don't replace each other. */
static void alternatives_of_equal_text_are_kept(void **state)
{
    struct rig r;
    rig_open(&r, (struct server_options){ 0 }, 0);
    json_t *j = ask(&r, TEXT,
                    "{\"model\":\"Mock-1\",\"prompt\":\"xr>\",\"logprobs\":5,\"max_tokens\":3,"
                    "\"temperature\":0,\"logit_bias\":{\"65\":100}}",
                    200);
    for (int i = 0; i < 3; i++) {
        json_t *map = json_array_get(at(j, "choices.0.logprobs.top_logprobs"), (size_t)i);
        assert_int_equal(json_object_size(map), 6); /* five, and the chosen one */
        assert_non_null(json_object_get(map, "A"));
    }
    json_decref(j);
    j = ask(&r, TEXT,
            "{\"model\":\"Mock-1\",\"prompt\":\"xr>\",\"logprobs\":5,\"max_tokens\":1,"
            "\"temperature\":0,\"logit_bias\":{\"2\":-100,\"200\":100}}",
            200);
    json_t *map = at(j, "choices.0.logprobs.top_logprobs.0");
    assert_int_equal(json_object_size(map), 6);
    assert_text(j, "choices.0.logprobs.tokens.0", "\xef\xbf\xbd");
    assert_non_null(json_object_get(map, "\xef\xbf\xbd"));
    json_decref(j);
    rig_close(&r);
}

static void equal_prompts_get_answers_of_their_own(void **state)
{
    struct rig r;
    rig_open(&r, (struct server_options){ 0 }, 0);
    const char *const seeds[] = { "", ",\"seed\":5" };
    for (int i = 0; i < 2; i++) {
        char body[256];
        snprintf(body, sizeof body,
                 "{\"model\":\"Mock-1\",\"prompt\":[\"xr>\",\"xr>\"],\"max_tokens\":40%s}",
                 seeds[i]);
        json_t *j = ask(&r, TEXT, body, 200);
        bool same = json_equal(at(j, "choices.0.text"), at(j, "choices.1.text"));
        assert_int_equal(same, i); /* a seed makes them alike */
        json_decref(j);
    }
    rig_close(&r);
}

static void a_model_without_numbers_is_told(void **state)
{
    struct rig r;
    rig_open(&r, (struct server_options){ 0 }, 0);
    const char *const more[] = { "", ",\"logprobs\":5", ",\"temperature\":0", ",\"stream\":true" };
    for (int i = 0; i < 4; i++) {
        char body[256];
        snprintf(body, sizeof body, "{\"model\":\"Mock-1\",\"prompt\":\"xn>\"%s}", more[i]);
        json_t *j = ask(&r, TEXT, body, 500);
        assert_non_null(
            strstr(json_string_value(at(j, "error.message")), "the model gives no numbers"));
        json_decref(j);
    }
    json_t *j = ask(&r, CHAT, HELLO "}", 200); /* only that request ended */
    json_decref(j);
    rig_close(&r);
}

static void bad_requests_are_named(void **state)
{
    struct rig r;
    rig_open(&r, (struct server_options){ .max_body = 1 << 18 }, 0);
    expect_error(&r, CHAT, "{", 400, NULL, "invalid_json");
    expect_error(&r, CHAT, HELLO ",\"model\":\"none\"}", 404, "model", "model_not_found");
    expect_error(&r, CHAT, HELLO ",\"model\":\"Mock-1\\u0000\"}", 404, "model", "model_not_found");
    expect_error(&r, CHAT, HELLO ",\"temperature\":3}", 400, "temperature",
                 "decimal_above_max_value");
    expect_error(&r, CHAT, HELLO ",\"logit_bias\":{\"257\":1}}", 400, "logit_bias",
                 "invalid_value");
    expect_error(&r, CHAT, HELLO ",\"tools\":[{}]}", 400, "tools", "unsupported_parameter");
    expect_error(&r, CHAT,
                 "{\"model\":\"Mock-1\",\"messages\":[{\"role\":\"user\",\"content\":\"refuse "
                 "me\"}]}",
                 400, "messages", NULL);
    expect_error(&r, TEXT, "{\"model\":\"Mock-1\",\"prompt\":[300]}", 400, "prompt",
                 "invalid_value");
    char body[2048] = "{\"model\":\"Mock-1\",\"prompt\":\"";
    memset(body + strlen(body), 'x', MOCK_CONTEXT);
    snprintf(body + strlen(body), 16, "\"}");
    json_t *j = ask(&r, TEXT, body, 400);
    assert_text(j, "error.code", "context_length_exceeded");
    assert_text(j, "error.param", "prompt");
    const char *text = json_string_value(at(j, "error.message"));
    const char *begin =
        "This model's maximum context length is 512 tokens here, and your prompt is "
        "too long: 512 tokens > 511";
    assert_int_equal(strncmp(text, begin, strlen(begin)), 0);
    json_decref(j);
    char *huge = malloc(200000);
    snprintf(huge, 200000, "{\"model\":\"Mock-1\",\"prompt\":\"%0100000d\"}", 0);
    expect_error(&r, TEXT, huge, 400, "prompt", "context_length_exceeded");
    free(huge);
    expect_error(&r, "/v1/nothing", "{}", 404, NULL, "unknown_url");
    expect_error(&r, "/v1/embeddings", "{}", 400, NULL, "unsupported_api");
    expect_error(&r, "/v1/responses", "{}", 400, NULL, "unsupported_api");
    j = ask(&r, "/v1/messages?beta=true", "{}", 400); /* the shapes that their clients read */
    assert_text(j, "type", "error");
    assert_text(j, "error.type", "invalid_request_error");
    assert_true(json_is_string(at(j, "error.message")));
    json_decref(j);
    j = ask(&r, "/api/chat", "{}", 400);
    assert_true(json_is_string(at(j, "error")));
    json_decref(j);
    expect_error(&r, "/v1/models", "{}", 405, NULL, "method_not_allowed");
    char *large = malloc((1 << 18) + 2);
    memset(large, ' ', (1 << 18) + 1);
    large[(1 << 18) + 1] = '\0';
    expect_error(&r, TEXT, large, 413, NULL, NULL);
    free(large);
    rig_close(&r);
}

static void other_methods_and_encodings(void **state)
{
    struct rig r;
    struct client c;
    char *text = NULL;
    rig_open(&r, (struct server_options){ 0 }, 0);
    client_open(&c, &r);
    client_send(&c, "HEAD /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_true(client_wait(&c, "\r\n\r\n"));
    assert_non_null(strstr((char *)c.in.data, "200 OK"));
    assert_null(strstr((char *)c.in.data, "Mock-1"));
    buffer_clear(&c.in);
    client_send(&c, "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                    "Origin: http://localhost:3000\r\n\r\n");
    assert_true(client_wait(&c, "\r\n\r\n"));
    assert_non_null(strstr((char *)c.in.data, "204 No Content"));
    assert_non_null(
        strstr((char *)c.in.data, "Access-Control-Allow-Origin: http://localhost:3000"));
    buffer_clear(&c.in);
    client_send(&c, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
                    "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
    assert_true(client_wait(&c, "100 Continue\r\n\r\n"));
    buffer_clear(&c.in);
    client_send(&c, "12\r\n{\"model\":\"Mock-1\",\r\n");
    client_send(&c, "f;x=y\r\n\"prompt\":\"xh>\"}\r\n0\r\n\r\n");
    assert_int_equal(client_answer(&c, &text), 200);
    json_t *j = parse(text);
    assert_text(j, "choices.0.text", "Hello, world!");
    json_decref(j);
    client_post(&c, TEXT, "{\"model\":\"far\",\"prompt\":\"x\"}");
    assert_int_equal(client_answer(&c, &text), 200);
    assert_string_equal(text, "{\"model\":\"far\",\"prompt\":\"x\"}");
    assert_int_equal(r.forwarded, 1);
    free(text);
    client_close(&c);
    rig_close(&r);
}

static void a_client_that_closes_ends_its_request(void **state)
{
    const char *const bodies[] = { ENDLESS ",\"stream\":true}", ENDLESS "}" };
    for (int i = 0; i < 2; i++) {
        struct rig r;
        struct client c;
        rig_open(&r, (struct server_options){ 0 }, 0);
        mock_gate(r.mock, false);
        client_open(&c, &r);
        client_post(&c, CHAT, bodies[i]);
        assert_true(rig_wait_active(&r, 1));
        client_close(&c);
        while (server_connections(r.server) > 0) { /* seen though the device says nothing */
            event_base_loop(r.base, EVLOOP_ONCE);
        }
        mock_gate(r.mock, true);
        assert_true(rig_wait_active(&r, 0));
        assert_int_equal(api_active(r.api), 0);
        struct engine_stats stats;
        engine_stats(r.engine, &stats);
        assert_true(stats.completion_tokens <= 2); /* only the step under way was finished */
        json_t *j = ask(&r, CHAT, HELLO "}", 200);
        json_decref(j);
        rig_close(&r);
    }
}

static void a_silent_stream_is_kept_alive(void **state)
{
    struct rig r;
    struct client c;
    rig_open(&r, (struct server_options){ 0 }, 20);
    mock_gate(r.mock, false);
    client_open(&c, &r);
    client_post(&c, CHAT, HELLO ",\"stream\":true}");
    assert_true(client_wait(&c, "\n: ")); /* a comment, maybe two */
    mock_gate(r.mock, true);
    assert_true(client_wait(&c, "[DONE]"));
    client_close(&c);
    rig_close(&r);
}

static void a_reader_that_stands_still_is_given_up(void **state)
{
    struct rig r;
    struct client c;
    rig_open(&r, (struct server_options){ .max_waiting = 1 }, 0);
    client_open(&c, &r);
    client_post(&c, CHAT, ENDLESS ",\"stream\":true,\"logprobs\":true,\"top_logprobs\":20}");
    assert_true(rig_wait_active(&r, 0)); /* nothing was read meanwhile */
    assert_true(client_wait(&c, NULL));
    assert_null(strstr(buffer_cstr(&c.in), "[DONE]"));
    client_close(&c);
    rig_close(&r);
}

static void what_is_not_ready_says_when_to_come_again(void **state)
{
    struct rig r;
    struct client c;
    rig_open(&r, (struct server_options){ 0 }, 0);
    client_open(&c, &r);
    client_post(&c, TEXT, "{\"model\":\"late\",\"prompt\":\"x\"}");
    assert_true(client_wait(&c, "it is being loaded"));
    assert_non_null(strstr(buffer_cstr(&c.in), "503 Service Unavailable"));
    assert_non_null(strstr(buffer_cstr(&c.in), "\r\nRetry-After: "));
    client_close(&c);
    rig_close(&r);
}

static void full_queues_and_lost_devices_are_told(void **state)
{
    struct rig r;
    struct client c[8];
    rig_open(&r, (struct server_options){ 0 }, 0);
    mock_gate(r.mock, false);
    for (int i = 0; i < 8; i++) {
        client_open(&c[i], &r);
        client_post(&c[i], CHAT, HELLO "}");
    }
    assert_true(rig_wait_active(&r, 8));
    expect_error(&r, CHAT, HELLO "}", 429, NULL, "rate_limit_exceeded");
    mock_gate(r.mock, true);
    for (int i = 0; i < 8; i++) {
        char *text = NULL;
        assert_int_equal(client_answer(&c[i], &text), 200);
        free(text);
        client_close(&c[i]);
    }
    expect_error(&r, TEXT, "{\"model\":\"Mock-1\",\"prompt\":\"b>\"}", 503, NULL,
                 "service_unavailable");
    expect_error(&r, CHAT, HELLO "}", 503, NULL, "service_unavailable");
    rig_close(&r);
}

static void closing_ends_what_is_under_way(void **state)
{
    struct rig r;
    struct client c, idle;
    rig_open(&r, (struct server_options){ 0 }, 0);
    mock_gate(r.mock, false);
    client_open(&c, &r);
    client_open(&idle, &r);
    client_post(&c, CHAT, ENDLESS ",\"stream\":true}");
    assert_true(rig_wait_active(&r, 1));
    rig_close(&r);
    client_close(&c);
    client_close(&idle);
}

static void the_last_answers_say_why_they_end(void **state)
{
    struct rig r;
    struct client stream, whole, idle, late;
    char *text = NULL;
    rig_open(&r, (struct server_options){ 0 }, 20);
    mock_gate(r.mock, false);
    client_open(&idle, &r);
    client_open(&stream, &r);
    client_post(&stream, CHAT, ENDLESS ",\"stream\":true}");
    assert_true(client_wait(&stream, "\n: ")); /* its head is out */
    client_open(&whole, &r);
    client_post(&whole, CHAT, ENDLESS "}");
    client_open(&late, &r);
    client_send(&late,
                "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n");
    assert_true(rig_wait_active(&r, 2));
    engine_close(r.engine);
    r.engine = NULL;
    api_stop(r.api);
    server_finish(r.server, 10000);
    server_close(r.server);
    r.server = NULL;
    assert_true(client_wait(&stream, NULL));
    const char *end = buffer_cstr(&stream.in);
    assert_non_null(strstr(end, "data: {\"error\":{\"message\":"));
    assert_null(strstr(end, "[DONE]"));
    assert_non_null(strstr(end, "\r\n0\r\n\r\n")); /* said, not cut off */
    assert_int_equal(client_answer(&whole, &text), 503);
    json_t *j = parse(text);
    assert_true(json_is_string(at(j, "error.message")));
    json_decref(j);
    assert_true(client_wait(&whole, NULL) && client_wait(&idle, NULL) && client_wait(&late, NULL));
    client_close(&stream);
    client_close(&whole);
    client_close(&idle);
    client_close(&late);
    rig_close(&r);
}

/* One BOS goes where the vocabulary added one; here it adds none, and the text means both. */
static void a_text_may_begin_twice(void **state)
{
    struct rig r;
    rig_open(&r, (struct server_options){ 0 }, 0);
    json_t *j = ask(&r, TEXT,
                    "{\"model\":\"Mock-1\",\"prompt\":\"<|end|><|end|>a\",\"max_tokens\":1}", 200);
    assert_int_equal(json_integer_value(at(j, "usage.prompt_tokens")), 3);
    json_decref(j);
    rig_close(&r);
}

/* A vocabulary that wants an EOS behind every text, and has a token without weights. */
static void odd_vocabularies(void **state)
{
    struct rig r;
    rig_open(&r, (struct server_options){ 0 }, 0);
    rig_speak(&r, mock_vocab(true));
    json_t *j = ask(&r, CHAT, HELLO ",\"max_tokens\":1}", 200);
    assert_int_equal(json_integer_value(at(j, "usage.prompt_tokens")), 7); /* "user:h>" */
    json_decref(j);
    expect_error(&r, TEXT, "{\"model\":\"Mock-1\",\"prompt\":\"a<extra>b\"}", 400, "prompt",
                 "invalid_value");
    expect_error(&r, TEXT, "{\"model\":\"Mock-1\",\"prompt\":[1,257]}", 400, "prompt",
                 "invalid_value");
    expect_error(
        &r, CHAT,
        "{\"model\":\"Mock-1\",\"messages\":[{\"role\":\"user\",\"content\":\"<extra>\"}]}", 400,
        "messages", "invalid_value");
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_are_listed_and_found),
        cmocka_unit_test(users_text_is_no_control_token),
        cmocka_unit_test(a_long_rendering_holds_nobody_up),
        cmocka_unit_test(bodies_of_waiting_requests_are_bounded),
        cmocka_unit_test(chat_answers_whole),
        cmocka_unit_test(chat_streams),
        cmocka_unit_test(completions_take_prompts_in_all_forms),
        cmocka_unit_test(logprobs_come_in_both_shapes),
        cmocka_unit_test(alternatives_of_equal_text_are_kept),
        cmocka_unit_test(equal_prompts_get_answers_of_their_own),
        cmocka_unit_test(a_model_without_numbers_is_told),
        cmocka_unit_test(bad_requests_are_named),
        cmocka_unit_test(a_text_may_begin_twice),
        cmocka_unit_test(odd_vocabularies),
        cmocka_unit_test(other_methods_and_encodings),
        cmocka_unit_test(a_client_that_closes_ends_its_request),
        cmocka_unit_test(a_silent_stream_is_kept_alive),
        cmocka_unit_test(a_reader_that_stands_still_is_given_up),
        cmocka_unit_test(what_is_not_ready_says_when_to_come_again),
        cmocka_unit_test(full_queues_and_lost_devices_are_told),
        cmocka_unit_test(closing_ends_what_is_under_way),
        cmocka_unit_test(the_last_answers_say_why_they_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

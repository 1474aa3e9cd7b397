/* POST /v1/chat/completions. */
#include "api/internal.h"

#include "api/render.h"

static json_t *token_json(struct bytes bytes, float logprob)
{
    json_t *list = json_array();
    for (size_t i = 0; i < bytes.size; i++) {
        json_array_append_new(list, json_integer(bytes.data[i]));
    }
    return json_pack("{s:o,s:f,s:o}", "token", text_json(bytes), "logprob", (double)logprob,
                     "bytes", list);
}

static int log_token(struct choice *c, const struct generate_token *t)
{
    json_t *token = token_json(t->bytes, t->logprob);
    json_t *top = json_array();
    for (int i = 0; i < t->n_top; i++) {
        json_array_append_new(
            top, token_json(vocab_piece(c->job->vocab, t->top[i].id), t->top[i].logprob));
    }
    if (c->logprobs == NULL) {
        c->logprobs = json_array();
    }
    if (token == NULL || json_object_set_new(token, "top_logprobs", top) != 0) {
        json_decref(token);
        return FAIL_NOMEM;
    }
    return json_array_append_new(c->logprobs, token) == 0 ? 0 : FAIL_NOMEM;
}

/* {"content": [...], "refusal": null}, or null where none were asked for. */
static json_t *logprobs_json(const struct choice *c)
{
    if (!c->job->request.want_logprobs) {
        return json_null();
    }
    json_t *content = c->logprobs != NULL ? json_incref(c->logprobs) : json_array();
    return json_pack("{s:o,s:n}", "content", content, "refusal");
}

static json_t *whole(const struct choice *c, const char *finish)
{
    return json_pack("{s:i,s:{s:s,s:o,s:n},s:o,s:s}", "index", c->index, "message", "role",
                     "assistant", "content", text_json(buffer_bytes(&c->answer)), "refusal",
                     "logprobs", logprobs_json(c), "finish_reason", finish);
}

/* The first chunk of an answer says the role, the last why it ended. */
static json_t *chunk(const struct choice *c, struct bytes text, const char *finish)
{
    json_t *delta = json_object();
    json_t *logprobs = c->logprobs != NULL ? logprobs_json(c) : json_null();
    if (finish == NULL && text.size == 0 && c->logprobs == NULL) {
        json_object_set_new(delta, "role", json_string("assistant"));
    }
    if (finish == NULL) {
        json_object_set_new(delta, "content", text_json(text));
    }
    return json_pack("{s:i,s:o,s:o,s:s?}", "index", c->index, "delta", delta, "logprobs", logprobs,
                     "finish_reason", finish);
}

const struct job_format job_format_chat = { .id_prefix = "chatcmpl-",
                                            .object = "chat.completion",
                                            .chunk_object = "chat.completion.chunk",
                                            .whole = whole,
                                            .chunk = chunk,
                                            .log = log_token };

/* Renders and encodes the conversation. */
static int encode(struct api *a, const struct api_model *model,
                  const struct openai_request *request, struct token_list *ids,
                  struct api_problem *p)
{
    struct buffer text;
    struct error e = { 0 };
    buffer_init(&text, API_MAX_TEXT);
    int (*render)(void *, const struct api_model *, const json_t *, struct buffer *,
                  struct error *) =
        a->options.provider.render != NULL ? a->options.provider.render : render_conversation;
    int code = render(a->options.provider.arg, model, request->conversation, &text, &e);
    if (code == FAIL_NOMEM) {
        code = problem_from_error(p, &e);
    } else if (code == FAIL_UNSUPPORTED) {
        code = problem_set(
            p, 400, "unsupported_value", "model",
            "Chat isn't possible: %s. Use /v1/completions with a prompt of your own.", e.text);
    } else if (code != 0) {
        code = problem_set(p, 400, "invalid_value", "messages",
                           "The model's chat template doesn't take this conversation: %s.", e.text);
    } else {
        code = prompt_encode(model, buffer_bytes(&text), "messages", ids, p);
    }
    buffer_done(&text);
    return code;
}

void chat_handle(struct api *a, const struct api_request *q, struct responder *r)
{
    struct openai_request request;
    struct api_problem p = { 0 };
    struct api_model model;
    if (openai_parse(OPENAI_CHAT, q->body, &request, &p) != 0) {
        reply_problem(r, &p);
        return;
    }
    if (!models_route(a, q, &request, r, &model)) {
        openai_request_done(&request);
        return;
    }
    struct token_list ids;
    token_list_init(&ids, INT32_MAX);
    int code = prompt_check_bias(&model, &request, &p);
    code = code ? code : encode(a, &model, &request, &ids, &p);
    if (code == 0) {
        const struct job_prompt prompt = { .ids = ids.ids, .n = (int)ids.count };
        job_start(a, r, &model, &request, &prompt, 1);
    } else {
        openai_request_done(&request);
        reply_problem(r, &p);
    }
    token_list_done(&ids);
}

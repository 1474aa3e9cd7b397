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

static json_t *log_json(const struct choice *c, const struct generate_token *t)
{
    json_t *token = token_json(t->bytes, t->logprob);
    json_t *top = json_array();
    for (int i = 0; i < t->n_top; i++) {
        json_array_append_new(
            top, token_json(vocab_piece(c->job->vocab, t->top[i].id), t->top[i].logprob));
    }
    if (token == NULL || json_object_set_new(token, "top_logprobs", top) != 0) {
        json_decref(token);
        return NULL;
    }
    return token;
}

/* Where the log probabilities of several tokens go: a list, or an answer in pieces. */
struct log_target {
    const struct choice *choice;
    json_t *list;
    struct pieces *out;
    int n;
};

static void add_to_list(void *arg, const struct generate_token *t)
{
    struct log_target *to = arg;
    json_array_append_new(to->list, log_json(to->choice, t));
}

static void write_piece(void *arg, const struct generate_token *t)
{
    struct log_target *to = arg;
    pieces_text(to->out, to->n++ > 0 ? "," : "");
    pieces_json(to->out, log_json(to->choice, t));
}

/* {"content": [...], "refusal": null}, or null where none were asked for. */
static void whole(const struct choice *c, const char *finish, struct pieces *out)
{
    struct log_target log = { .choice = c, .out = out };
    pieces_text(out, "{\"index\":");
    pieces_json(out, json_integer(c->index));
    pieces_text(out, ",\"message\":");
    pieces_json(out, json_pack("{s:s,s:o,s:n}", "role", "assistant", "content",
                               text_json(buffer_bytes(&c->answer)), "refusal"));
    pieces_text(out, ",\"logprobs\":");
    if (c->job->request.want_logprobs) {
        pieces_text(out, "{\"content\":[");
        tokens_each(buffer_bytes(&c->log), write_piece, &log);
        pieces_text(out, "],\"refusal\":null}");
    } else {
        pieces_text(out, "null");
    }
    pieces_text(out, ",\"finish_reason\":");
    pieces_json(out, json_string(finish));
    pieces_text(out, "}");
}

/* The first chunk of an answer says the role, the last why it ended. */
static json_t *chunk(const struct choice *c, struct bytes text, struct bytes tokens,
                     const char *finish)
{
    json_t *delta = json_object(), *logprobs = json_null();
    if (tokens.size > 0) {
        struct log_target log = { .choice = c, .list = json_array() };
        tokens_each(tokens, add_to_list, &log);
        logprobs = json_pack("{s:o,s:n}", "content", log.list, "refusal");
    }
    if (finish == NULL && text.size == 0 && tokens.size == 0) {
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
                                            .chunk = chunk };

/* Renders and encodes the conversation. */
static int encode(const struct api_model *model, const struct openai_request *request,
                  struct token_list *ids, struct api_problem *p)
{
    struct buffer text;
    struct spans user = { 0 };
    struct error e = { 0 };
    buffer_init(&text, API_MAX_TEXT);
    int code = render_conversation(model, request->conversation, &text, &user, &e);
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
        code = prompt_encode(model, buffer_bytes(&text), &user, "messages", ids, p);
    }
    spans_done(&user);
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
    code = code ? code : encode(&model, &request, &ids, &p);
    if (code == 0) {
        const struct job_prompt prompt = { .ids = ids.ids, .n = (int)ids.count };
        job_start(a, r, &model, &request, &prompt, 1);
    } else {
        openai_request_done(&request);
        reply_problem(r, &p);
    }
    token_list_done(&ids);
}

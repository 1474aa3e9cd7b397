/* POST /v1/chat/completions. */
#include "api/dialects/openai.h"
#include "api/dialects/openai_parse.h"
#include "api/text.h"

static json_t *token_json(struct bytes bytes, float logprob)
{
    json_t *list = json_array();
    for (size_t i = 0; i < bytes.size; i++) {
        json_array_append_new(list, json_integer(bytes.data[i]));
    }
    return json_pack("{s:o,s:f,s:o}", "token", text_json(bytes), "logprob", (double)logprob,
                     "bytes", list);
}

static json_t *log_json(const struct answer *a, const struct generate_token *t)
{
    json_t *token = token_json(t->bytes, t->logprob);
    json_t *top = json_array();
    for (int i = 0; i < t->n_top; i++) {
        json_array_append_new(top,
                              token_json(vocab_piece(a->vocab, t->top[i].id), t->top[i].logprob));
    }
    if (token == NULL || json_object_set_new(token, "top_logprobs", top) != 0) {
        json_decref(token);
        return NULL;
    }
    return token;
}

/* Where the log probabilities of several tokens go: a list, or an answer in pieces. */
struct log_target {
    const struct answer *answer;
    json_t *list;
    struct pieces *out;
    int n;
};

static void add_to_list(void *arg, const struct generate_token *t)
{
    struct log_target *to = arg;
    json_array_append_new(to->list, log_json(to->answer, t));
}

static void write_piece(void *arg, const struct generate_token *t)
{
    struct log_target *to = arg;
    pieces_text(to->out, to->n++ > 0 ? "," : "");
    pieces_json(to->out, log_json(to->answer, t));
}

/* {"content": [...], "refusal": null}, or null where none were asked for. */
static void whole(const struct answer *a, int index, const char *finish, struct pieces *out)
{
    const struct choice *c = &a->choices[index];
    struct log_target log = { .answer = a, .out = out };
    pieces_text(out, "{\"index\":");
    pieces_json(out, json_integer(index));
    pieces_text(out, ",\"message\":");
    pieces_json(out, json_pack("{s:s,s:o,s:n}", "role", "assistant", "content",
                               text_json(buffer_bytes(&c->text)), "refusal"));
    pieces_text(out, ",\"logprobs\":");
    if (a->ask.chat.want_logprobs) {
        pieces_text(out, "{\"content\":[");
        chat_log_each(buffer_bytes(&c->log), write_piece, &log);
        pieces_text(out, "],\"refusal\":null}");
    } else {
        pieces_text(out, "null");
    }
    pieces_text(out, ",\"finish_reason\":");
    pieces_json(out, json_string(finish));
    pieces_text(out, "}");
}

/* The first chunk of an answer says the role, the last why it ended; between them is text. */
static json_t *chunk(const struct answer *a, const struct chat_event *e, const char *finish)
{
    json_t *delta = json_object(), *logprobs = json_null();
    if (e->log.size > 0) {
        struct log_target log = { .answer = a, .list = json_array() };
        chat_log_each(e->log, add_to_list, &log);
        logprobs = json_pack("{s:o,s:n}", "content", log.list, "refusal");
    }
    switch (e->kind) {
    case CHAT_START:
        json_object_set_new(delta, "role", json_string("assistant"));
        json_object_set_new(delta, "content", json_string(""));
        break;
    case CHAT_TEXT:
        json_object_set_new(delta, "content", text_json(e->text));
        break;
    case CHAT_FINISH:
        break;
    default:
        json_decref(delta);
        json_decref(logprobs);
        return NULL;
    }
    return json_pack("{s:i,s:o,s:o,s:s?}", "index", e->answer, "delta", delta, "logprobs", logprobs,
                     "finish_reason", finish);
}

static const struct openai_format format = { .id_prefix = "chatcmpl-",
                                             .object = "chat.completion",
                                             .chunk_object = "chat.completion.chunk",
                                             .whole = whole,
                                             .chunk = chunk };

static int parse(struct bytes body, struct ask *ret, struct api_problem *p)
{
    return openai_parse(OPENAI_CHAT, body, ret, p);
}

const struct dialect dialect_openai_chat = OPENAI_DIALECT(parse, &format);

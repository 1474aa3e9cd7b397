/* POST /v1/completions. */
#include "api/dialects/openai.h"

#include <stdio.h>

#include "api/dialects/openai_parse.h"
#include "api/text.h"
#include "base/attributes.h"

/* Adds text: logprob to a map of alternatives. A text that is taken, or is the chosen token's,
 * gets the token's id behind it, so that none is lost. */
static void add_alternative(json_t *map, json_t *text, json_t *taken, int32_t id, float logprob)
{
    const char *key = json_string_value(text);
    char other[32];
    snprintf(other, sizeof other, "token_id:%d", id);
    if (key != NULL && (json_object_get(map, key) != NULL || json_equal(text, taken))) {
        key = other;
    }
    if (key != NULL) {
        json_object_set_new(map, key, json_real((double)logprob));
    }
}

/* The likeliest tokens, in order, and the chosen one, whose text is its own. */
static json_t *alternatives(const struct answer *a, int index, const struct generate_token *t)
{
    json_t *map = json_object();
    json_t *chosen = text_json(t->bytes);
    bool among = false;
    for (int i = 0; i < t->n_top; i++) {
        int32_t id = t->top[i].id;
        json_t *text = text_json(vocab_piece(a->vocab, id));
        add_alternative(map, text, id != t->id ? chosen : NULL, id, t->top[i].logprob);
        among = among || id == t->id;
        json_decref(text);
    }
    if (!among) {
        add_alternative(map, chosen, NULL, t->id, t->logprob);
    }
    json_decref(chosen);
    return map;
}

/* The parallel lists of log probabilities: what each says of one token. */
static json_t *log_text(const struct answer *a, int index, const struct generate_token *t)
{
    return text_json(t->bytes);
}

static json_t *log_number(const struct answer *a, int index, const struct generate_token *t)
{
    return json_real((double)t->logprob);
}

static json_t *log_offset(const struct answer *a, int index, const struct generate_token *t)
{
    return json_integer((json_int_t)(a->choices[index].echo_length + t->characters));
}

struct log_list {
    const char *name;
    json_t *(*of)(const struct answer *a, int index, const struct generate_token *t);
};

static const struct log_list lists[] = {
    { "tokens", log_text },
    { "token_logprobs", log_number },
    { "text_offset", log_offset },
    { "top_logprobs", alternatives },
};

/* Where one list of several tokens goes: JSON, or an answer in pieces. */
struct log_target {
    const struct answer *answer;
    int index; /* of the choice */
    const struct log_list *list;
    json_t *json;
    struct pieces *out;
    int n;
};

static void add_to_list(void *arg, const struct generate_token *t)
{
    struct log_target *to = arg;
    json_array_append_new(to->json, to->list->of(to->answer, to->index, t));
}

static void write_piece(void *arg, const struct generate_token *t)
{
    struct log_target *to = arg;
    pieces_text(to->out, to->n++ > 0 ? "," : "");
    pieces_json(to->out, to->list->of(to->answer, to->index, t));
}

/* Alternatives may not have been asked for. */
static bool has_list(const struct answer *a, const struct log_list *list)
{
    return list->of != alternatives || a->ask.chat.sampling.n_top > 0;
}

/* The echo, more text, why it ended. */
static json_t *chunk(const struct answer *a, const struct chat_event *e, const char *finish)
{
    bool none = e->kind == CHAT_START && e->text.size == 0;
    if (none || (e->kind != CHAT_START && e->kind != CHAT_TEXT && e->kind != CHAT_FINISH)) {
        return NULL;
    }
    json_t *logprobs = e->log.size > 0 ? json_object() : json_null();
    for (size_t i = 0; i < ARRAY_LEN(lists) && e->log.size > 0; i++) {
        struct log_target to = { .answer = a, .index = e->answer, .list = &lists[i] };
        to.json = has_list(a, &lists[i]) ? json_array() : json_null();
        if (has_list(a, &lists[i])) {
            chat_log_each(e->log, add_to_list, &to);
        }
        json_object_set_new(logprobs, lists[i].name, to.json);
    }
    return json_pack("{s:o,s:i,s:o,s:s?}", "text", text_json(e->text), "index", e->answer,
                     "logprobs", logprobs, "finish_reason", finish);
}

static void whole_logprobs(const struct answer *a, int index, struct pieces *out)
{
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        struct log_target to = { .answer = a, .index = index, .list = &lists[i], .out = out };
        pieces_text(out, i > 0 ? "," : "{");
        pieces_json(out, json_string(lists[i].name));
        if (has_list(a, &lists[i])) {
            pieces_text(out, ":[");
            chat_log_each(buffer_bytes(&a->choices[index].log), write_piece, &to);
            pieces_text(out, "]");
        } else {
            pieces_text(out, ":null");
        }
    }
    pieces_text(out, "}");
}

static void whole(const struct answer *a, int index, const char *finish, struct pieces *out)
{
    const struct choice *c = &a->choices[index];
    pieces_text(out, "{\"text\":");
    pieces_json(out, text_json(buffer_bytes(&c->text)));
    pieces_text(out, ",\"index\":");
    pieces_json(out, json_integer(index));
    pieces_text(out, ",\"logprobs\":");
    if (c->log.size > 0) {
        whole_logprobs(a, index, out);
    } else {
        pieces_text(out, "null");
    }
    pieces_text(out, ",\"finish_reason\":");
    pieces_json(out, json_string(finish));
    pieces_text(out, "}");
}

static const struct openai_format format = { .id_prefix = "cmpl-",
                                             .object = "text_completion",
                                             .chunk_object = "text_completion",
                                             .whole = whole,
                                             .chunk = chunk };

static int parse(struct bytes body, struct ask *ret, struct api_problem *p)
{
    return openai_parse(OPENAI_TEXT, body, ret, p);
}

const struct dialect dialect_openai_text = OPENAI_DIALECT(parse, &format);

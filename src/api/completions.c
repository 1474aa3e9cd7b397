/* POST /v1/completions. */
#include "api/internal.h"

#include <stdio.h>

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
static json_t *alternatives(const struct choice *c, const struct generate_token *t)
{
    json_t *map = json_object();
    json_t *chosen = text_json(t->bytes);
    bool among = false;
    for (int i = 0; i < t->n_top; i++) {
        int32_t id = t->top[i].id;
        json_t *text = text_json(vocab_piece(c->job->vocab, id));
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
static json_t *log_text(const struct choice *c, const struct generate_token *t)
{
    return text_json(t->bytes);
}

static json_t *log_number(const struct choice *c, const struct generate_token *t)
{
    return json_real((double)t->logprob);
}

static json_t *log_offset(const struct choice *c, const struct generate_token *t)
{
    return json_integer((json_int_t)(c->text_offset + t->characters));
}

struct log_list {
    const char *name;
    json_t *(*of)(const struct choice *c, const struct generate_token *t);
};

static const struct log_list lists[] = {
    { "tokens", log_text },
    { "token_logprobs", log_number },
    { "text_offset", log_offset },
    { "top_logprobs", alternatives },
};

/* Where one list of several tokens goes: JSON, or an answer in pieces. */
struct log_target {
    const struct choice *choice;
    const struct log_list *list;
    json_t *json;
    struct pieces *out;
    int n;
};

static void add_to_list(void *arg, const struct generate_token *t)
{
    struct log_target *to = arg;
    json_array_append_new(to->json, to->list->of(to->choice, t));
}

static void write_piece(void *arg, const struct generate_token *t)
{
    struct log_target *to = arg;
    pieces_text(to->out, to->n++ > 0 ? "," : "");
    pieces_json(to->out, to->list->of(to->choice, t));
}

/* Alternatives may not have been asked for. */
static bool has_list(const struct choice *c, const struct log_list *list)
{
    return list->of != alternatives || c->job->request.sampling.n_top > 0;
}

static json_t *chunk(const struct choice *c, struct bytes text, struct bytes tokens,
                     const char *finish)
{
    json_t *logprobs = tokens.size > 0 ? json_object() : json_null();
    for (size_t i = 0; i < ARRAY_LEN(lists) && tokens.size > 0; i++) {
        struct log_target to = { .choice = c, .list = &lists[i] };
        to.json = has_list(c, &lists[i]) ? json_array() : json_null();
        if (has_list(c, &lists[i])) {
            tokens_each(tokens, add_to_list, &to);
        }
        json_object_set_new(logprobs, lists[i].name, to.json);
    }
    return json_pack("{s:o,s:i,s:o,s:s?}", "text", text_json(text), "index", c->index, "logprobs",
                     logprobs, "finish_reason", finish);
}

static void whole_logprobs(const struct choice *c, struct pieces *out)
{
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        struct log_target to = { .choice = c, .list = &lists[i], .out = out };
        pieces_text(out, i > 0 ? "," : "{");
        pieces_json(out, json_string(lists[i].name));
        if (has_list(c, &lists[i])) {
            pieces_text(out, ":[");
            tokens_each(buffer_bytes(&c->log), write_piece, &to);
            pieces_text(out, "]");
        } else {
            pieces_text(out, ":null");
        }
    }
    pieces_text(out, "}");
}

static void whole(const struct choice *c, const char *finish, struct pieces *out)
{
    pieces_text(out, "{\"text\":");
    pieces_json(out, text_json(buffer_bytes(&c->answer)));
    pieces_text(out, ",\"index\":");
    pieces_json(out, json_integer(c->index));
    pieces_text(out, ",\"logprobs\":");
    if (c->log.size > 0) {
        whole_logprobs(c, out);
    } else {
        pieces_text(out, "null");
    }
    pieces_text(out, ",\"finish_reason\":");
    pieces_json(out, json_string(finish));
    pieces_text(out, "}");
}

const struct job_format job_format_text = { .id_prefix = "cmpl-",
                                            .object = "text_completion",
                                            .chunk_object = "text_completion",
                                            .whole = whole,
                                            .chunk = chunk };

/* All prompts of a request, encoded. Caller's struct. */
struct prompts {
    struct token_list ids[OPENAI_MAX_PROMPTS];
    struct buffer echoes[OPENAI_MAX_PROMPTS];
    struct job_prompt prompts[OPENAI_MAX_PROMPTS];
    int n;
};

static int encode_ids(const struct api_model *model, const struct openai_prompt *prompt,
                      const char *param, struct token_list *ids, struct api_problem *p)
{
    struct error e = { 0 };
    for (int i = 0; i < prompt->n_ids; i++) {
        if (prompt->ids[i] >= prompt_vocab(model)) {
            return problem_set(p, 400, "invalid_value", param,
                               "Invalid '%s': this model's token ids are 0 to %d, but got %d.",
                               param, prompt_vocab(model) - 1, prompt->ids[i]);
        }
        if (token_list_add(ids, prompt->ids[i], &e) != 0) {
            return problem_from_error(p, &e);
        }
    }
    return prompt_check_context(model, ids->count, param, p);
}

static int encode_one(const struct api_model *model, const struct openai_request *request, int i,
                      struct prompts *all, struct api_problem *p)
{
    const struct openai_prompt *prompt = &request->prompts[i];
    struct token_list *ids = &all->ids[i];
    struct buffer *echo = &all->echoes[i];
    char param[32] = "prompt";
    if (request->n_prompts > 1) {
        snprintf(param, sizeof param, "prompt[%d]", i);
    }
    token_list_init(ids, INT32_MAX);
    buffer_init(echo, API_MAX_TEXT);
    all->n = i + 1;
    int code = prompt->ids != NULL ? encode_ids(model, prompt, param, ids, p)
                                   : prompt_encode(model, prompt->text, NULL, param, ids, p);
    if (code == 0 && request->echo && prompt->ids == NULL) {
        buffer_append(echo, prompt->text);
    } else if (code == 0 && request->echo) {
        vocab_decode(chat_model_vocab(model->text), ids->ids, ids->count, true, echo, NULL);
    }
    all->prompts[i] = (struct job_prompt){ ids->ids, (int)ids->count, buffer_bytes(echo) };
    return code;
}

static void prompts_done(struct prompts *all)
{
    for (int i = 0; i < all->n; i++) {
        token_list_done(&all->ids[i]);
        buffer_done(&all->echoes[i]);
    }
}

void completions_handle(struct api *a, const struct api_request *q, struct responder *r)
{
    struct openai_request request;
    struct api_problem p = { 0 };
    struct api_model model;
    if (openai_parse(OPENAI_TEXT, q->body, &request, &p) != 0) {
        reply_problem(r, &p);
        return;
    }
    if (!models_route(a, q, &request, r, &model)) {
        openai_request_done(&request);
        return;
    }
    struct prompts all = { .n = 0 };
    int code = prompt_check_bias(&model, &request, &p);
    for (int i = 0; i < request.n_prompts && code == 0; i++) {
        code = encode_one(&model, &request, i, &all, &p);
    }
    if (code == 0) {
        job_start(a, r, &model, &request, all.prompts, all.n);
    } else {
        openai_request_done(&request);
        reply_problem(r, &p);
    }
    prompts_done(&all);
}

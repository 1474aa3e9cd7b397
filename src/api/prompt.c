/* Prompts: text to ids, and what a model can't take. */
#include "api/internal.h"
#include "api/render.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Texts below this are encoded in a moment. */
#define CHECKED_TEXT (64u << 10)

/* Clients know an over-long prompt by words: the first ones (litellm, and aider by it), "prompt is
 * too long" (LangChain), the two numbers behind that (Claude Code); and by the code. */
static int too_long(const struct prompt_model *model, const char *param, const char *least,
                    size_t n, struct api_problem *p)
{
    return problem_set(p, 400, "context_length_exceeded", param,
                       "This model's maximum context length is %d tokens here, and your prompt is "
                       "too long: %s%zu tokens > %d, which would leave room for an answer. Shorten "
                       "the prompt, or start shoal with a larger --context.",
                       model->context, least, n, model->context - 1);
}

static int check_context(const struct prompt_model *model, size_t n, const char *param,
                         struct api_problem *p)
{
    if (n < (size_t)model->context) {
        return 0;
    }
    return too_long(model, param, "", n, p);
}

/* Bytes of the longest token, as text or as spelt. */
static size_t longest_token(const struct vocab *v)
{
    size_t longest = 1;
    for (int32_t id = 0; id < vocab_size(v); id++) {
        size_t piece = vocab_piece(v, id).size, text = vocab_token_text(v, id).size;
        longest = piece > longest ? piece : longest;
        longest = text > longest ? text : longest;
    }
    return longest;
}

/* Megabytes would keep a worker busy for nothing: a text that can't fit even if all its
 * tokens were the longest one is refused before it is encoded. */
static int check_size(const struct prompt_model *model, struct bytes text, const char *param,
                      struct api_problem *p)
{
    if (text.size < CHECKED_TEXT) {
        return 0;
    }
    size_t least = text.size / longest_token(chat_model_vocab(model->text));
    if (least < (size_t)model->context) {
        return 0;
    }
    return too_long(model, param, "at least ", least, p);
}

/* A text may spell a token that the vocabulary has and the model has no weights for. */
static int check_tokens(const struct prompt_model *model, const struct token_list *ids,
                        const char *param, struct api_problem *p)
{
    for (size_t i = 0; i < ids->count; i++) {
        if (ids->ids[i] >= model->tokens) {
            struct bytes text = vocab_token_text(chat_model_vocab(model->text), ids->ids[i]);
            return problem_set(
                p, 400, "invalid_value", param,
                "The prompt has the token '%.*s' (%d). This model's vocabulary names "
                "it, but the model has weights for %d tokens only.",
                BYTES_ARG(text), ids->ids[i], model->tokens);
        }
    }
    return 0;
}

static int encode(const struct prompt_model *model, struct bytes text, const struct spans *user,
                  const char *param, struct token_list *ids, struct api_problem *p)
{
    const struct vocab *v = chat_model_vocab(model->text);
    const struct vocab_encode_options o = {
        .add_special = true, .open_end = user != NULL, .parse_special = true, .user = user
    };
    struct error e = { 0 };
    if (check_size(model, text, param, p) != 0) {
        return -1;
    }
    if (vocab_encode(v, text, &o, ids, &e) != 0) {
        return problem_from_error(p, &e);
    }
    /* A template that writes BOS itself, and a file that wants one, would give two. What a text
     * itself begins with twice stays, as where BOS also starts each message (SmolLM2). */
    if (vocab_adds_bos(v) && ids->count >= 2 && ids->ids[0] == vocab_bos(v) &&
        ids->ids[1] == vocab_bos(v)) {
        memmove(ids->ids, ids->ids + 1, --ids->count * sizeof *ids->ids);
    }
    if (ids->count == 0) { /* an empty prompt: the model begins a text of its own */
        int32_t first = vocab_bos(v) >= 0 ? vocab_bos(v) : vocab_eos(v);
        if (first < 0) {
            return problem_set(p, 400, "invalid_value", param,
                               "The prompt is empty, and this model has no token to begin with.");
        }
        if (token_list_add(ids, first, &e) != 0) {
            return problem_from_error(p, &e);
        }
    }
    if (check_tokens(model, ids, param, p) != 0) {
        return -1;
    }
    return check_context(model, ids->count, param, p);
}

static int check_bias(const struct prompt_model *model, const struct chat_request *q,
                      struct api_problem *p)
{
    for (int i = 0; i < q->sampling.n_bias; i++) {
        int32_t id = q->sampling.bias[i].id;
        if (id >= model->tokens) {
            return problem_set(p, 400, "invalid_value", "logit_bias",
                               "Invalid key in 'logit_bias': this model's token ids are 0 to %d, "
                               "but got %d.",
                               model->tokens - 1, id);
        }
    }
    return 0;
}

static int copy_ids(const struct prompt_model *model, const struct chat_prompt *prompt,
                    const char *param, struct token_list *ids, struct api_problem *p)
{
    struct error e = { 0 };
    for (int i = 0; i < prompt->n_ids; i++) {
        if (prompt->ids[i] >= model->tokens) {
            return problem_set(p, 400, "invalid_value", param,
                               "Invalid '%s': this model's token ids are 0 to %d, but got %d.",
                               param, model->tokens - 1, prompt->ids[i]);
        }
        if (token_list_add(ids, prompt->ids[i], &e) != 0) {
            return problem_from_error(p, &e);
        }
    }
    return check_context(model, ids->count, param, p);
}

/* Renders and encodes the conversation. */
static int encode_conversation(const struct prompt_model *model, const json_t *conversation,
                               uint64_t deadline_ns, struct token_list *ids, struct api_problem *p)
{
    struct buffer text;
    struct spans user = { 0 };
    struct error e = { 0 };
    buffer_init(&text, API_MAX_TEXT);
    int code = render_conversation(model, conversation, deadline_ns, &text, &user, &e);
    if (code == FAIL_NOMEM) {
        code = problem_from_error(p, &e);
    } else if (code == FAIL_UNSUPPORTED) {
        code = problem_set(
            p, 400, "unsupported_value", "model",
            "Chat isn't possible: %s. Use /v1/completions with a prompt of your own.", e.text);
    } else if (code != 0) {
        code = problem_set(p, 400, "invalid_value", "messages",
                           "The model's chat template doesn't take this conversation: %s", e.text);
    } else {
        code = encode(model, buffer_bytes(&text), &user, "messages", ids, p);
    }
    spans_done(&user);
    buffer_done(&text);
    return code;
}

struct prompt {
    struct token_list ids;
    struct buffer echo;
};

struct prompts {
    int n;
    struct prompt items[];
};

/* One of the request's own prompts. */
static int encode_one(const struct prompt_model *model, const struct chat_request *q, int i,
                      struct prompt *to, struct api_problem *p)
{
    const struct chat_prompt *from = &q->prompts[i];
    char param[32] = "prompt";
    if (q->n_prompts > 1) {
        snprintf(param, sizeof param, "prompt[%d]", i);
    }
    int code = from->ids != NULL ? copy_ids(model, from, param, &to->ids, p)
                                 : encode(model, from->text, NULL, param, &to->ids, p);
    if (code == 0 && q->echo && from->ids == NULL) {
        buffer_append(&to->echo, from->text);
    } else if (code == 0 && q->echo) {
        vocab_decode(chat_model_vocab(model->text), to->ids.ids, to->ids.count, true, &to->echo,
                     NULL);
    }
    return code;
}

int prompts_make(struct prompts **ret, const struct prompt_model *model,
                 const struct chat_request *q, uint64_t deadline_ns, struct api_problem *p)
{
    int n = q->conversation != NULL ? 1 : q->n_prompts;
    struct prompts *all = calloc(1, sizeof *all + (size_t)n * sizeof all->items[0]);
    if (all == NULL) {
        return problem_set(p, 500, NULL, NULL, "Out of memory.");
    }
    int code = check_bias(model, q, p);
    for (; all->n < n; all->n++) {
        struct prompt *to = &all->items[all->n];
        token_list_init(&to->ids, INT32_MAX);
        buffer_init(&to->echo, API_MAX_TEXT);
        if (code == 0 && q->conversation != NULL) {
            code = encode_conversation(model, q->conversation, deadline_ns, &to->ids, p);
        } else if (code == 0) {
            code = encode_one(model, q, all->n, to, p);
        }
    }
    if (code != 0) {
        prompts_free(all);
        return -1;
    }
    *ret = all;
    return 0;
}

void prompts_free(struct prompts *all)
{
    for (int i = 0; all != NULL && i < all->n; i++) {
        token_list_done(&all->items[i].ids);
        buffer_done(&all->items[i].echo);
    }
    free(all);
}

struct chat_start prompts_at(const struct prompts *all, int i)
{
    const struct prompt *at = &all->items[i];
    return (struct chat_start){ .ids = at->ids.ids,
                                .n = (int)at->ids.count,
                                .echo = buffer_bytes(&at->echo) };
}

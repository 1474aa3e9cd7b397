/* Prompts: text to ids, and what a model can't take. */
#include "api/internal.h"

#include <string.h>

/* Texts below this are encoded in a moment. */
#define CHECKED_TEXT (64u << 10)

/* Clients know an over-long prompt by words: the first ones (litellm, and aider by it), "prompt is
 * too long" (LangChain), the two numbers behind that (Claude Code); and by the code. */
static int too_long(const struct api_model *model, const char *param, const char *least, size_t n,
                    struct api_problem *p)
{
    return problem_set(p, 400, "context_length_exceeded", param,
                       "This model's maximum context length is %d tokens here, and your prompt is "
                       "too long: %s%zu tokens > %d, which would leave room for an answer. Shorten "
                       "the prompt, or start shoal with a larger --context.",
                       model->context, least, n, model->context - 1);
}

int prompt_check_context(const struct api_model *model, size_t n, const char *param,
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

/* Megabytes would keep the event loop busy for nothing: a text that can't fit even if all its
 * tokens were the longest one is refused before it is encoded. */
static int check_size(const struct api_model *model, struct bytes text, const char *param,
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

int prompt_vocab(const struct api_model *model)
{
    int tokens = vocab_size(chat_model_vocab(model->text)), rows = engine_vocab(model->engine);
    return tokens < rows ? tokens : rows;
}

/* A text may spell a token that the vocabulary has and the model has no weights for. */
static int check_tokens(const struct api_model *model, const struct token_list *ids,
                        const char *param, struct api_problem *p)
{
    for (size_t i = 0; i < ids->count; i++) {
        if (ids->ids[i] >= prompt_vocab(model)) {
            struct bytes text = vocab_token_text(chat_model_vocab(model->text), ids->ids[i]);
            return problem_set(
                p, 400, "invalid_value", param,
                "The prompt has the token '%.*s' (%d). This model's vocabulary names "
                "it, but the model has weights for %d tokens only.",
                BYTES_ARG(text), ids->ids[i], prompt_vocab(model));
        }
    }
    return 0;
}

int prompt_encode(const struct api_model *model, struct bytes text, const struct spans *user,
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
    /* A template that writes BOS itself, and a file that wants one, would give two. */
    if (ids->count >= 2 && ids->ids[0] == vocab_bos(v) && ids->ids[1] == vocab_bos(v)) {
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
    return prompt_check_context(model, ids->count, param, p);
}

int prompt_check_bias(const struct api_model *model, const struct openai_request *request,
                      struct api_problem *p)
{
    for (int i = 0; i < request->sampling.n_bias; i++) {
        int32_t id = request->sampling.bias[i].id;
        if (id >= prompt_vocab(model)) {
            return problem_set(p, 400, "invalid_value", "logit_bias",
                               "Invalid key in 'logit_bias': this model's token ids are 0 to %d, "
                               "but got %d.",
                               prompt_vocab(model) - 1, id);
        }
    }
    return 0;
}

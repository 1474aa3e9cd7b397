/* Conversations as JSON, rendered by a model's chat template. */
#ifndef SHOAL_CHAT_TEMPLATE_H
#define SHOAL_CHAT_TEMPLATE_H

#include <jansson.h>

#include "jinja/jinja.h"

struct gguf;

/* Texts of the tokens that templates name; data NULL: the model has none, and the variable is
 * undefined in the template. Borrowed. */
struct chat_tokens {
    struct bytes bos;
    struct bytes eos;
};

/* The texts as tokenizer.ggml.bos_token_id and eos_token_id name them, borrowed until gguf_close.
 * FAIL_FORMAT for keys of a wrong type; ids outside the vocabulary count as not given. */
int chat_tokens_of(const struct gguf *g, struct chat_tokens *ret, struct error *e);

/* A model's chat template, parsed once for all its requests. Any thread may render. */
struct chat_template;

/* Reads tokenizer.chat_template; keeps nothing of g. A file without one gives NULL. One that can't
 * be parsed, or is no text, is no reason to refuse the model: the template then says why no chat
 * is possible. FAIL_NOMEM. */
int chat_template_open(struct chat_template **ret, const struct gguf *g, struct error *e);
/* The same from a template's text; limits may be NULL. */
int chat_template_parse(struct chat_template **ret, struct bytes source,
                        const struct jinja_limits *limits, struct error *e);
/* NULL is fine. */
void chat_template_close(struct chat_template *t);
/* Why it can't be used, in words that follow "the model's chat template"; NULL: it can. */
const char *chat_template_problem(const struct chat_template *t);

/* Puts a JSON value into a template's form, made in the arena; texts are borrowed from json and
 * tainted: they are a user's. FAIL_NOMEM, FAIL_LIMIT for a value nested too deep. */
int chat_value(struct arena *a, const json_t *json, struct jinja_value *ret, struct error *e);

/* The local time at a moment (seconds since 1970, UTC), in the time zone of the process. */
struct jinja_clock chat_clock(int64_t wall_s);

/* What a rendering needs beside template and conversation. Caller's struct; borrowed. */
struct chat_context {
    struct chat_tokens
        tokens; /* become bos_token and eos_token unless the request has these names */
    const struct jinja_clock *now; /* for strftime_now, or NULL */
    uint64_t deadline_ns; /* of clock_now_ns: a rendering that is not done by then fails; 0: none */
};

/* Renders a conversation.
 *
 * request  an object with "messages" (an array) and any other variables of the template, or the
 *          array of messages itself. Without "add_generation_prompt" it is true; "tools" and
 *          "documents" are none when absent, as in transformers' apply_chat_template. A message's
 *          null fields are left out; its reasoning, under whichever of "reasoning_content",
 * "thinking" and "reasoning" comes first, is given as "reasoning_content" and, unless it has one,
 * as "thinking" tainted  the ranges of out that come from the request's texts, in which control
 * tokens have no place; NULL: nobody wants to know. The roles that chat APIs have are no user's
 * text
 *
 * Appends to out, which is untouched on failure. FAIL_UNSUPPORTED: the template can't be used,
 * which is the model's fault and not the conversation's; FAIL_ARG: the request has no messages, or
 * the template refuses the conversation; other errors as jinja_render's. Any thread. */
int chat_render(const struct chat_template *template, const json_t *request,
                const struct chat_context *context, struct buffer *out, struct spans *tainted,
                struct error *e);

#endif

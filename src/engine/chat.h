/* Conversations as JSON, rendered by a model's chat template. */
#ifndef SHOAL_ENGINE_CHAT_H
#define SHOAL_ENGINE_CHAT_H

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

/* Puts a JSON value into a template's form, made in the arena; texts are borrowed from json.
 * FAIL_NOMEM, FAIL_LIMIT for a value nested too deep. */
int chat_value(struct arena *a, const json_t *json, struct jinja_value *ret, struct error *e);

/* The local time at a moment (seconds since 1970, UTC), in the time zone of the process. */
struct jinja_clock chat_clock(int64_t wall_s);

/* Renders a conversation.
 *
 * request  an object with "messages" (an array) and any other variables of the template, or the
 *          array of messages itself. Without "add_generation_prompt" it is true; "tools" and
 *          "documents" are none when absent, as in transformers' apply_chat_template
 * tokens   become bos_token and eos_token unless request has variables of these names
 * now      for strftime_now, or NULL
 *
 * Appends to out, which is untouched on failure. FAIL_ARG: the request has no messages, or the
 * template refuses the conversation; other errors as jinja_render's. Any thread. */
int chat_render(const struct jinja *template, const json_t *request,
                const struct chat_tokens *tokens, const struct jinja_clock *now, struct buffer *out,
                struct error *e);

/* The same from the template's text, which is parsed for this one use. */
int chat_render_text(struct bytes source, const json_t *request, const struct chat_tokens *tokens,
                     const struct jinja_clock *now, struct buffer *out, struct error *e);

#endif

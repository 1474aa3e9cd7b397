/* Text on top of the engine: ids become pieces of valid UTF-8, stop strings end the answer. */
#ifndef SHOAL_CHAT_GENERATE_H
#define SHOAL_CHAT_GENERATE_H

#include "base/bytes.h"
#include "engine/engine.h"

struct vocab;

/* A generated token as text. Borrowed for the callback. */
struct generate_token {
    int32_t id;
    float logprob;
    struct bytes bytes; /* may be a part of a character */
    size_t offset;      /* where its text begins in the answer, bytes of whole characters */
    size_t characters;  /* the same in characters */
    const struct sampler_logprob *top;
    int n_top;
};

struct generate_end {
    enum engine_finish finish;
    struct engine_usage usage;
    struct error error; /* code 0 unless finish is FINISH_ERROR: the engine's, or FAIL_LIMIT where
                         * text or tokens that wait for a stop string's end are too many */
};

struct generate_request {
    struct engine *engine;
    const struct vocab *vocab; /* borrowed until on_end */
    const int32_t *prompt;     /* copied; at least one token */
    int n_prompt;
    int max_tokens;                  /* < 0: as far as the context goes */
    const struct sampling *sampling; /* copied, its biases too */
    const struct bytes *stops;       /* copied */
    int n_stops;
    bool want_tokens; /* on_text also brings the tokens that its text is of */
    /* All on the head thread, under the rules of engine_request. on_text: text is valid UTF-8 and
     * may be empty where only tokens come; tokens of a matched stop string never come. */
    void (*on_text)(void *arg, struct bytes text, const struct generate_token *tokens,
                    int n_tokens);
    void (*on_progress)(void *arg, int done, int total); /* may be NULL */
    /* Each id that was sampled, also without text, no later than its text; may be NULL. */
    void (*on_sampled)(void *arg, int32_t id);
    void (*on_end)(void *arg, const struct generate_end *end);
    void *arg;
};

struct generate;

/* Starts. Errors are those of engine_submit, of stops_open, FAIL_NOMEM; no callback then comes. */
int generate_start(struct generate **ret, const struct generate_request *r, struct error *e);

/* Ends it soon, unless it has ended. Any thread, between start and close. */
void generate_cancel(struct generate *g);

/* Only after on_end has come; not from a callback. NULL is fine. */
void generate_close(struct generate *g);

#endif

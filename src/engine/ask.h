/* What a client of the engine asks for, and what it is told. */
#ifndef SHOAL_ENGINE_ASK_H
#define SHOAL_ENGINE_ASK_H

#include "base/error.h"
#include "engine/sampler.h"

#include <stdbool.h>
#include <stdint.h>

/* Why a request ended. */
enum engine_finish { FINISH_STOP, FINISH_LENGTH, FINISH_CANCELLED, FINISH_ERROR, FINISH_COUNT };

/* One generated token. Borrowed for the callback. */
struct engine_token {
    int32_t id;
    bool is_eog;                       /* an end-of-generation token: the request ends with it */
    float logprob;                     /* natural log, of the model's own distribution */
    const struct sampler_logprob *top; /* (n_top), most likely first, when asked for */
    int n_top;
};

/* Rows of the prompt that were asked for. Borrowed for the callback. */
enum engine_row_kind { ENGINE_ROWS_NONE, ENGINE_ROWS_LOGITS, ENGINE_ROWS_HIDDEN };
struct engine_rows {
    enum engine_row_kind kind;
    int first;         /* position of the first one */
    int n;             /* in all, one after another */
    int width;         /* of a row: the vocabulary, or the model's width */
    const float *rows; /* (n, width): what follows each position; or the hidden state there, as the
                        * output matrix would take it */
};

struct engine_usage {
    int prompt_tokens;
    int cached_tokens;     /* of the prompt, taken from the prefix cache */
    int completion_tokens; /* generated, an end token included */
    uint64_t queued_ns, prefill_ns, decode_ns;
};

/* What on_token may answer. */
enum engine_verdict { ENGINE_CONTINUE, ENGINE_STOP };

struct engine_request {
    const int32_t *prompt; /* copied; at least one token */
    int n_prompt;
    int max_tokens; /* most tokens to generate; < 0: as far as the context goes */
    /* Its constraint is the engine's from a submit that succeeds on: closed before on_end. */
    struct sampling sampling;
    /* Rows of the prompt from position first_row on come to on_rows, in order, each once. With
     * max_tokens 0 the request then ends (FINISH_LENGTH) and nothing is sampled, as it always does
     * for hidden rows. */
    enum engine_row_kind rows;
    int first_row;
    void (*on_rows)(void *arg, const struct engine_rows *rows);
    /* Called on the head thread, in order; must not block and must not call the engine except
     * engine_cancel. on_token may end the request (a stop string matched). on_end comes exactly
     * once, last; error is NULL unless finish is FINISH_ERROR. on_progress (may be NULL) tells of
     * the prompt's prefill. When an executor is lost and another takes its place, tokens go on
     * where they were, and nothing is told twice. */
    enum engine_verdict (*on_token)(void *arg, const struct engine_token *t);
    void (*on_progress)(void *arg, int done, int total);
    void (*on_end)(void *arg, enum engine_finish finish, const struct engine_usage *usage,
                   const struct error *error);
    void *arg;
};

#endif

/* The head of one loaded model: batches requests into steps, samples, and calls back. */
#ifndef SHOAL_ENGINE_ENGINE_H
#define SHOAL_ENGINE_ENGINE_H

#include "base/error.h"
#include "engine/executor.h"
#include "engine/sampler.h"

#include <stdbool.h>
#include <stdint.h>

struct engine; /* one head thread; every function below may be called from any thread */

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
    struct sampling sampling;
    /* Called on the head thread, in order; must not block and must not call the engine except
     * engine_cancel. on_token may end the request (a stop string matched). on_end comes exactly
     * once, last; error is NULL unless finish is FINISH_ERROR. on_progress (may be NULL) tells of
     * prefill. */
    enum engine_verdict (*on_token)(void *arg, const struct engine_token *t);
    void (*on_progress)(void *arg, int done, int total);
    void (*on_end)(void *arg, enum engine_finish finish, const struct engine_usage *usage,
                   const struct error *error);
    void *arg;
};

struct engine_options {
    struct executor *executor; /* owned from here on, also when engine_open fails */
    int vocab;                 /* width of a logits row, as the executor's */
    const uint8_t *is_eog;     /* (vocab), copied: tokens that end a generation */
    int max_requests;          /* at once; more wait in the queue */
    int max_queue;             /* beyond this, engine_submit answers FAIL_BUSY */
    int prefill_chunk;         /* rows of prefill in one step, 0: the engine's choice */
    uint64_t step_timeout_ns;  /* a step without progress for this long fails the placement */
};

/* Starts the head thread. The executor is closed when this fails. FAIL_NOMEM, FAIL_ARG. */
int engine_open(struct engine **ret, const struct engine_options *options, struct error *e);
/* Ends every request with FINISH_ERROR ("shutting down"), joins the thread, closes the executor. */
void engine_close(struct engine *g);

/* Queues a request; *ticket identifies it. FAIL_BUSY when the queue is full, FAIL_LIMIT when the
 * prompt does not leave room for one token in the context ("context of N tokens; ..."), FAIL_RANGE
 * for a token id outside the vocabulary, FAIL_CLOSED after the placement failed (text says why). */
int engine_submit(struct engine *g, const struct engine_request *r, uint64_t *ticket,
                  struct error *e);
/* Ends a request soon (on_end with FINISH_CANCELLED); unknown or ended tickets are ignored. */
void engine_cancel(struct engine *g, uint64_t ticket);

/* Positions of one session. */
int engine_context(const struct engine *g);
/* Width of a logits row: token ids from here on have no weights, whatever the vocabulary says. */
int engine_vocab(const struct engine *g);

/* A snapshot for status pages. */
#define ENGINE_OVERLAPS 3 /* one step for all streams, one for each stage, and one more */

struct engine_stats {
    int active, queued;
    uint64_t prompt_tokens, completion_tokens, requests, failed;
    double decode_tokens_per_second, prefill_tokens_per_second; /* when last busy, over seconds */
    /* How the streams that last decoded share steps over the stages: each way that was measured,
     * with how many steps overlap. */
    int overlap_streams; /* 0: nothing measured yet */
    int overlap_steps;   /* in use */
    struct engine_overlap {
        int steps;                /* 0: no such way */
        double tokens_per_second; /* of all streams; 0: not measured */
    } overlap[ENGINE_OVERLAPS];
    bool broken; /* the placement failed; broken_text says why */
    char broken_text[256];
};
void engine_stats(const struct engine *g, struct engine_stats *ret);

#endif

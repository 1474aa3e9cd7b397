/* The head of one loaded model: batches requests into steps, samples, and calls back. */
#ifndef SHOAL_ENGINE_ENGINE_H
#define SHOAL_ENGINE_ENGINE_H

#include "base/error.h"
#include "engine/ask.h"
#include "engine/options.h"

#include <stdbool.h>
#include <stdint.h>

struct engine; /* one head thread; every function below may be called from any thread, but none
                * from a callback, engine_cancel excepted */

/* Starts the head thread. The executor is closed when this fails. FAIL_NOMEM, FAIL_ARG. */
int engine_open(struct engine **ret, const struct engine_options *options, struct error *e);
/* A round of a stepped engine's work; false when there was nothing to do. */
bool engine_turn(struct engine *g);
/* Ends every request with FINISH_ERROR ("shutting down"), joins the thread, closes the executor. No
 * other call may be under way. */
void engine_close(struct engine *g);

/* Gives up the executor, which is closed when this returns: what it holds of sessions, prefixes and
 * checkpoints is lost with it. Requests keep their tokens and wait, and new ones may come. Waits
 * for the head to let go, which takes no longer than its callbacks. Fine when it is suspended
 * already. FAIL_CLOSED after the engine failed. */
int engine_suspend(struct engine *g, const char *why, struct error *e);

/* Goes on with another executor: each request is computed again from its tokens and continues as
 * if nothing had been. The executor is the engine's, closed when this fails. Its context may
 * differ: who doesn't fit any more is told so. FAIL_STATE when not suspended, FAIL_ARG when it is
 * of another vocabulary, FAIL_NOMEM; the engine is then as it was. */
int engine_resume(struct engine *g, struct executor *executor, struct error *e);

/* There will be no other executor: every request ends with `why`, later ones are refused with it.
 * The first reason stays. Waits for nothing; the executor is closed with the engine. */
void engine_fail(struct engine *g, const struct error *why);

/* Queues a request; *ticket identifies it. FAIL_BUSY when the queue is full, FAIL_LIMIT when the
 * prompt does not leave room for one token in the context ("context of N tokens; ..."), FAIL_RANGE
 * for a token id outside the vocabulary, FAIL_ARG for rows that the prompt hasn't got,
 * FAIL_UNSUPPORTED for hidden states where there are none, FAIL_CLOSED after the engine failed
 * (text says why). */
int engine_submit(struct engine *g, const struct engine_request *r, uint64_t *ticket,
                  struct error *e);
/* Ends a request soon (on_end with FINISH_CANCELLED); unknown or ended tickets are ignored. */
void engine_cancel(struct engine *g, uint64_t ticket);

/* Positions of one session. */
int engine_context(const struct engine *g);
/* Width of a logits row: token ids from here on have no weights, whatever the vocabulary says. */
int engine_vocab(const struct engine *g);

/* A snapshot for status pages. */
void engine_stats(const struct engine *g, struct engine_stats *ret);

#endif

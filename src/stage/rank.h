/* One rank of a placement: a thread that loads its part of the model, then does the head's steps:
 * inputs from the stage before, segments on the backend, exchanges with its group, outputs to the
 * next stage or logits to the head. */
#ifndef SHOAL_STAGE_RANK_H
#define SHOAL_STAGE_RANK_H

#include "backend/backend.h"
#include "plan/split.h"
#include "stage/wire.h"

#include <stdbool.h>
#include <stdint.h>

struct channel;
struct kernels;
struct rank;

enum rank_state {
    RANK_LOADING,
    RANK_LOADED, /* waits for its channels */
    RANK_SERVING,
    RANK_ENDED, /* everything but the struct is freed */
    RANK_STATE_COUNT
};

struct rank_options {
    const struct backend *backend;
    const struct program *program;      /* the whole model; borrowed until rank_close */
    const struct weight_source *source; /* borrowed until rank_close; used in the rank's thread */
    const struct placement_plan *plan;  /* copied */
    int rank;
    uint32_t epoch;                /* steps of another one are refused */
    int threads;                   /* compute threads, the rank's own among them */
    const struct kernels *kernels; /* borrowed */
    bool exact;
    int max_rows; /* of one step */
    int max_sessions;
    uint64_t state_tokens;    /* positions of state over all sessions */
    uint64_t session_tokens;  /* the most of one session; 0: as many as of all */
    uint64_t step_timeout_ns; /* longest wait for a neighbour within a step */
    /* Called in the rank's thread after each change of state; error is NULL unless the rank ended
     * by one. May be NULL. Must not call rank_close. Others may see the state before this was
     * called: they ask rank_failure. */
    void (*on_state)(void *arg, enum rank_state state, const struct error *error);
    void *arg;
};

/* Starts the thread, which loads at once. FAIL_NOMEM, FAIL_UNSUPPORTED when the model can't be cut
 * or split this way. */
int rank_open(struct rank **ret, const struct rank_options *options, struct error *e);

/* Gives the rank its end of one of the plan's channels, which it owns from then on (also on
 * failure). Any thread. When it has all of them and is loaded it serves. FAIL_STATE for a link that
 * isn't the rank's, came twice, or comes to a rank that ended. */
int rank_attach(struct rank *r, const struct wire_link *link, struct channel *channel,
                struct error *e);

/* The largest message of one of this rank's channels, the same at its other end. */
size_t rank_max_message(const struct rank *r, const struct wire_link *link);

/* Asks the rank to end soon: also in the middle of loading, waiting or a step. Any thread. */
void rank_stop(struct rank *r);

/* Stops it, joins its thread and frees everything. NULL is fine. */
void rank_close(struct rank *r);

/* What others may know at any time; any thread. */
struct rank_facts {
    enum rank_state state;
    uint64_t load_done, load_total; /* bytes of weights */
    uint64_t weight_bytes;          /* held, once loaded */
    uint64_t state_bytes;           /* of sequences, in use after the last step */
    uint64_t progress;              /* grows with every piece of work: stands still in a hang */
    uint64_t steps;                 /* done */
    bool busy;                      /* the backend computes: a wait for others doesn't count */
    int vocab_first, vocab_count;   /* this rank's part of a logits row; 0, 0 before the last
                                     * stage. Valid as soon as rank_open returns */
};
void rank_facts(const struct rank *r, struct rank_facts *ret);

/* Why the rank ended by itself; any thread. False, and *e as it was, while it has not ended or when
 * its end was asked for. */
bool rank_failure(const struct rank *r, struct error *e);

#endif

/* A whole placement inside one process: every rank in its own thread with its own compute pool,
 * joined by channels of any kind. For `eval --split`, tests and simulation. */
#ifndef SHOAL_STAGE_INPROCESS_H
#define SHOAL_STAGE_INPROCESS_H

#include "backend/backend.h"
#include "plan/split.h"
#include "engine/executor.h"

#include <stdbool.h>
#include <stdint.h>

struct channel;
struct kernels;

struct inprocess_options {
    const struct backend *backend;
    const struct program *program;      /* the whole model; borrowed until the executor closes */
    const struct weight_source *source; /* borrowed likewise; called by all ranks' threads */
    const struct placement_plan *plan;  /* copied */
    const struct kernels *kernels;      /* borrowed; of every rank, unless: */
    const struct kernels *const *rank_kernels; /* (plan->n_ranks), borrowed for the call; or NULL */
    int threads;                               /* of each rank */
    bool exact;
    int max_rows; /* of one step */
    int max_sessions;
    int max_context;          /* positions of one session */
    uint64_t state_tokens;    /* positions over all sessions; 0: sessions * context */
    uint64_t step_timeout_ns; /* 0: two minutes */
    const char *transport;    /* of all channels, a name of transport_pair; NULL: memory. Borrowed
                               * for the call */
    /* Makes one channel's two ends instead. Tests script faults here. NULL: by transport. */
    int (*pair)(void *arg, int from, int to, struct channel **a, struct channel **b,
                struct error *e);
    /* May be NULL: told about ten times a second, and when all are loaded, how many bytes of
     * weights the ranks have, in the thread that opens. total grows until each rank has begun. */
    void (*on_progress)(void *arg, uint64_t done, uint64_t total);
    void *arg; /* of both */
};

/* Loads every rank and returns when all serve. Errors are those of rank_open, of loading (which
 * name the rank), of transport_pair, FAIL_NOMEM. Closing the executor ends and frees the ranks. */
int inprocess_open(struct executor **ret, const struct inprocess_options *options, struct error *e);

#endif

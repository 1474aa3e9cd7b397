/* The step loop of one rank: everything that its thread does between loading and its end. A header
 * for this layer only. */
#ifndef SHOAL_STAGE_WORK_H
#define SHOAL_STAGE_WORK_H

#include "backend/backend.h"
#include "engine/step.h"
#include "plan/split.h"

#include <stdatomic.h>

struct channel;
struct group;

/* The rank's ends of the plan's channels. */
struct rank_wires {
    struct channel *steps;                 /* to and from the head */
    struct channel *previous;              /* NULL in the first stage */
    struct channel *next[PLAN_MAX_RANKS];  /* those of the next stage that read from us */
    struct channel *group[PLAN_MAX_RANKS]; /* by place in the stage; NULL for ourselves */
    int n_next;
};

/* owner: the rank's thread; the atomics may be read by any. */
struct work {
    struct backend_ctx *ctx;    /* borrowed */
    const struct program *part; /* borrowed */
    const struct segment *segments;
    int n_segments;
    const struct rank_wires *wires;
    bool first;           /* rank of its stage */
    struct group *reduce; /* NULL when alone in the stage */
    uint32_t epoch;
    int max_rows;
    uint64_t step_timeout_ns;
    atomic_bool *stop; /* borrowed */

    struct step_storage storage;
    uint8_t *message; /* an encoded step or hidden inputs */
    size_t capacity;
    struct backend_run *runs;
    struct bytes *parts; /* header and outputs of one hidden message */
    uint64_t step;       /* id of the present one */
    bool link_failed;    /* the failure came from a neighbour's channel */

    atomic_ullong progress, steps, state_bytes;
    atomic_bool busy;
};

/* Memory for the loop, all of it, so that decoding allocates nothing. rank and n_ranks: place in
 * the stage. The struct's borrowed fields are set by the caller, the rest is zero. */
int work_open(struct work *w, int rank, int n_ranks, struct error *e);
void work_done(struct work *w);

/* Does steps until *stop, the head's close (both 0) or a failure, which the head is told. */
int work_serve(struct work *w, struct error *e);

/* Tells the head why this rank ends, if it can still be told. */
void work_tell(struct channel *head, uint32_t epoch, uint64_t step, bool link,
               const struct error *e);

#endif

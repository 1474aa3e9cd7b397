/* The executor of a placement: sends each step to every rank and puts the last stage's logits
 * together. */
#ifndef SHOAL_STAGE_DISTRIBUTED_H
#define SHOAL_STAGE_DISTRIBUTED_H

#include "plan/split.h"
#include "stage/wire.h"
#include "engine/executor.h"

struct channel;

/* One rank as the head sees it. */
struct distributed_rank {
    struct channel *channel;      /* LINK_STEPS; owned by the executor from the open on */
    const char *name;             /* of its device, for errors; copied */
    int vocab_first, vocab_count; /* its part of a logits row; read for the last stage */
};

struct distributed_options {
    const struct placement_plan *plan;    /* copied */
    const struct distributed_rank *ranks; /* (plan->n_ranks); borrowed for the call */
    uint32_t epoch;
    int vocab;
    int width; /* of a hidden row; 0: none are asked for */
    int max_rows;
    int max_context;
    int max_sessions; /* these three: see struct executor */
    uint64_t state_tokens;
    bool can_truncate;
    /* Called at the end of close, when no channel is left; may be NULL. */
    void (*on_close)(void *arg);
    void *arg;
};

/* Channels are closed also when this fails. FAIL_NOMEM; FAIL_STATE when the last stage's parts of
 * the vocabulary don't cover it once. */
int distributed_open(struct executor **ret, const struct distributed_options *options,
                     struct error *e);

/* Breaks the executor from another thread with a reason that its users will be told: submit and
 * collect return FAIL_CLOSED with this text. The first reason stays. x must come from
 * distributed_open. */
void distributed_break(struct executor *x, const char *why);

#endif

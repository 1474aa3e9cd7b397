/* How a model is laid over devices: pipeline stages, and tensor shares inside a stage. */
#ifndef SHOAL_PLAN_SPLIT_H
#define SHOAL_PLAN_SPLIT_H

#include "base/buffer.h"
#include "base/error.h"

#include <stdint.h>

/* More devices than a home has; keeps a plan a small value that may be copied. */
#define PLAN_MAX_RANKS 64
/* Shares are proportions: larger numbers say nothing that smaller ones can't. */
#define PLAN_MAX_SHARE 1000000

/* Bytes of a device's usable memory that are kept back for the system and for buffers. */
#define PLAN_RESERVE (UINT64_C(256) << 20)

/* Layers [first, end) on ranks [rank, rank + n_ranks) of the plan. */
struct plan_stage {
    int first, end;
    int rank;
    int n_ranks;
};

/* Plain data. Ranks are numbered through all stages in order. */
struct placement_plan {
    int n_layers;
    int n_stages;
    int n_ranks;
    struct plan_stage stages[PLAN_MAX_RANKS];
    int shares[PLAN_MAX_RANKS]; /* by rank: proportion within its stage, > 0 */
    int device[PLAN_MAX_RANKS]; /* by rank: index of the device in the caller's list */
};

/* Reads a SPEC: stages separated by '/', each `[LAYERS@]SHARES`, shares joined by ':'. Layers that
 * are not given are dealt evenly over the stages that give none, the first ones taking the rest.
 * Rank i goes to device i. n_layers: of the model, > 0.
 * FAIL_ARG says what is wrong and at which character; *ret is then untouched. Pure. */
int split_parse(const char *spec, int n_layers, struct placement_plan *ret, struct error *e);

/* The plan as a SPEC with every layer count given. FAIL_LIMIT. */
int split_format(const struct placement_plan *plan, struct buffer *out);

/* The stage that holds a rank of the plan. */
int plan_stage_of(const struct placement_plan *plan, int rank);

/* One device that does everything. */
void plan_single(int n_layers, int device, struct placement_plan *ret);

/* What a model needs, in bytes. Borrowed. */
struct split_need {
    int n_layers;
    const uint64_t *layer_bytes; /* (n_layers) weights and sequence state of each layer */
    uint64_t first_bytes;        /* beside the layers, in the first stage (embedding) */
    uint64_t last_bytes;         /* in the last stage (output matrix) */
    uint64_t both_bytes;         /* what one device that holds both ends needs for them */
};

/* The default rule. One device alone if the model fits there: the first in the list before the
 * others, then the one with the most memory. Otherwise a pipeline in the order of the list whose
 * fullest device is as little full as can be, so that layers are in proportion to memory; devices
 * that would get no layer are left out.
 *
 * memory  (n_devices) usable bytes. FAIL_LIMIT when it doesn't fit all together, with the figures.
 * Pure. */
int split_by_memory(const struct split_need *need, const uint64_t *memory, int n_devices,
                    struct placement_plan *ret, struct error *e);

/* What a rank of a plan holds of the model: its share of its stage's layers, and of an end. Pure.
 */
uint64_t plan_rank_bytes(const struct split_need *need, const struct placement_plan *plan,
                         int rank);

#endif

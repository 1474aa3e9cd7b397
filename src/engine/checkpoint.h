/* Checkpoints of sessions whose state can't go back (recurrent states, windows): such a session is
 * taken back to any position by restoring the nearest checkpoint before it and computing the rest
 * again, which gives the same bits because a row depends on its own history alone. */
#ifndef SHOAL_ENGINE_CHECKPOINT_H
#define SHOAL_ENGINE_CHECKPOINT_H

#include "engine/commands.h"

#include <stdbool.h>

/* Checkpoints of one session. */
#define CHECKPOINTS_MAX 4
/* The end of a prompt is prefilled as a step of its own, behind a checkpoint: the next request
 * often differs from this one only there (the same question again, or its last turn changed). */
#define CHECKPOINT_TAIL 16
/* A shorter beginning is computed again as quickly. */
#define CHECKPOINT_LEAST 8

/* States that a session can be taken back to, by ascending position. Their ids are of the same
 * count as sessions', so that STEP_FREE can name either. */
struct checkpoints {
    uint32_t id[CHECKPOINTS_MAX];
    int position[CHECKPOINTS_MAX];
    int n;
};

/* Whether a run of a prompt of n_prompt tokens that begins at `position` should leave a checkpoint
 * there. */
bool checkpoint_is_due(const struct checkpoints *c, int position, int n_prompt);

/* Index of the last one at or before position, or -1. */
int checkpoint_nearest(const struct checkpoints *c, int position);

/* The one whose loss leaves the smallest gap; there is one. The newest stays unless it is alone. */
int checkpoint_least_useful(const struct checkpoints *c);

/* Frees one by index, or those beyond a position (-1: all). */
void checkpoint_free(struct checkpoints *c, int index, struct commands *commands);
void checkpoint_free_beyond(struct checkpoints *c, int position, struct commands *commands);

/* Remembers the state of a session at its present position; there is a place free. */
void checkpoint_add(struct checkpoints *c, uint32_t session, uint32_t id, int position,
                    struct commands *commands);

#endif

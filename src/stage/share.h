/* What a rank of a plan computes of a model, as a program. */
#ifndef SHOAL_STAGE_SHARE_H
#define SHOAL_STAGE_SHARE_H

#include "base/arena.h"
#include "base/error.h"
#include "graph/program.h"
#include "plan/split.h"

#include <stdbool.h>

/* This rank's part of the model: layers cut, then sharded. In arena memory. */
int rank_program(const struct program *whole, const struct placement_plan *plan, int rank,
                 struct arena *arena, struct program **ret, struct error *e);

/* Whether sessions of the model may go back to any earlier position: no window and no recurrent
 * state. */
bool rank_can_truncate(const struct program *whole);

/* Width of the hidden states that the model's last stage can give; 0: none. */
int rank_hidden_width(const struct program *whole);

/* First vocabulary row and count that this part's logits cover; 0, 0 without logits. */
void rank_vocab(const struct program *part, int *first, int *count);

#endif

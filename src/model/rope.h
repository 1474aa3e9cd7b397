/* Tables of angles from a family's keys. */
#ifndef SHOAL_MODEL_ROPE_H
#define SHOAL_MODEL_ROPE_H

#include "model/family.h"

/* The table of layers that see everything, for heads of head_dim: its index in the program, or
 * PROGRAM_NONE after a failure. */
int read_rope(struct reading *r, int head_dim, bool interleaved);
/* That of window layers: a base and a size of its own, and nothing scaled. */
int read_window_rope(struct reading *r, int global, int global_head_dim, int head_dim);

#endif

/* How long a context a model gets where nobody says. */
#ifndef SHOAL_PLAN_CONTEXT_H
#define SHOAL_PLAN_CONTEXT_H

#include "plan/split.h"

/* Most positions of a session that anybody can ask for: what a device keeps for its pages is
 * memory, used or not. */
#define CONTEXT_MAX (1 << 20)
/* The default is at most this: agents begin with 8,000 to 23,000 tokens, and what is kept for a
 * longer one is missed by everything else. */
#define CONTEXT_MOST 32768
/* Less than this is worth another device. */
#define CONTEXT_LEAST 4096
/* Contexts that memory decides are multiples of this. */
#define CONTEXT_STEP 256

/* Borrowed. */
struct context_need {
    const struct split_need *weights;  /* its layers without any state */
    const uint64_t *token_bytes;       /* (n_layers) of sequence state, for one position */
    uint64_t *layer_bytes;             /* (n_layers) scratch */
    const struct placement_plan *plan; /* how the layers must lie; NULL: by memory */
    int most;                          /* the model's own, or CONTEXT_MOST: > 0 */
};

/* The largest context up to need->most at which weights and one full context fit without more
 * devices than they need at CONTEXT_LEAST; all sequences share it. Where not even that fits, the
 * largest that does on all devices together; with a plan that is too large for its devices
 * CONTEXT_LEAST all the same, for somebody wanted it.
 *
 * memory  (n_devices) usable bytes, the reserve taken off. FAIL_LIMIT when nothing fits, with the
 * figures; *ret is then untouched. Pure. */
int context_by_memory(const struct context_need *need, const uint64_t *memory, int n_devices,
                      int *ret, struct error *e);

/* Positions of sequence state that all sequences of a placement share: at least one context, more
 * up to `most` where the devices of need->plan have room, of which half is left to others. What
 * this says is what devices are ordered to keep and what requests are admitted by. need->most is
 * not read. memory  as above. Pure. */
uint64_t context_pool(const struct context_need *need, const uint64_t *memory, int context,
                      uint64_t most);

#endif

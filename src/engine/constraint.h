/* What a request's answer must keep to (a grammar, a schema): asked for each token, told of each
 * that was chosen. Whoever makes one embeds struct constraint at the start of its own. */
#ifndef SHOAL_ENGINE_CONSTRAINT_H
#define SHOAL_ENGINE_CONSTRAINT_H

#include "base/error.h"

#include <stdint.h>

struct constraint;

struct constraint_ops {
    /* Sets the bit of every token that may come next, ends of generation among them, in a mask of
     * ((vocab + 31) / 32) words that is all zero. Bits at and beyond vocab are not looked at. */
    int (*allowed)(struct constraint *c, int vocab, uint32_t *mask, struct error *e);
    /* The token was chosen. It is one that was allowed, or, with drafts, one that may not be: then
     * FAIL_RANGE, and c is as it was. */
    int (*accept)(struct constraint *c, int32_t id, struct error *e);
    /* The same state, to go its own way. FAIL_NOMEM. */
    int (*clone)(const struct constraint *c, struct constraint **ret, struct error *e);
    void (*close)(struct constraint *c);
};

/* owner: whoever has it; one thread at a time. */
struct constraint {
    const struct constraint_ops *ops;
};

#endif

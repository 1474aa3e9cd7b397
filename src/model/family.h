/* Model families as table rows: each names a reader that fills a recipe. */
#ifndef SHOAL_MODEL_FAMILY_H
#define SHOAL_MODEL_FAMILY_H

#include "model/keys.h"
#include "model/recipe.h"

struct reading;

/* One row a family. */
struct family {
    const char *name; /* general.architecture */
    /* What the family's own configuration has where a file leaves it out; 0: its models differ, so
     * that nothing can stand in. */
    double eps, rope_base, window_rope_base;
    /* Fills r->recipe; the first failure stays in r->keys.result. */
    void (*read)(struct reading *r);
};

/* What a reader works with. */
struct reading {
    struct keys keys;
    const struct family *family;
    struct recipe *recipe;
    struct program *program; /* takes the tables of angles */
    struct arena *arena;
};

/* True while nothing failed: what the recipe holds may be used. */
static inline bool reading_ok(const struct reading *r)
{
    return r->keys.result == 0;
}

/* NULL when unknown. */
const struct family *family_find(struct bytes name);
/* All rows; count in *n. */
const struct family *family_all(int *n);

#endif

/* Ascending ranges of a text that have something in common. */
#ifndef SHOAL_BASE_SPANS_H
#define SHOAL_BASE_SPANS_H

#include "base/error.h"

#include <stddef.h>

struct span {
    size_t start, end; /* bytes; end is not part of it */
};

/* Caller's struct; zero bytes is an empty list. items is owned. */
struct spans {
    struct span *items; /* (count), apart from each other */
    size_t count, capacity;
};

/* The most ranges of one list: a text that is written by hand or program changes far less often. */
#define SPANS_MAX ((size_t)1 << 20)

/* Adds a range behind all others; one that touches the last makes it longer, an empty one is
 * nothing. FAIL_LIMIT above SPANS_MAX, FAIL_NOMEM. */
int spans_add(struct spans *s, size_t start, size_t end, struct error *e);
/* Forgets the ranges, keeps the memory. */
void spans_clear(struct spans *s);
/* Frees the memory; the list is empty and usable again. */
void spans_done(struct spans *s);

#endif

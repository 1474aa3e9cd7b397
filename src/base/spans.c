/* Ranges of a text: see spans.h. */
#include "base/spans.h"

#include <stdlib.h>

#include "base/array.h"

int spans_add(struct spans *s, size_t start, size_t end, struct error *e)
{
    if (start >= end)
        return 0;
    if (s->count && s->items[s->count - 1].end >= start) {
        s->items[s->count - 1].end = end;
        return 0;
    }
    if (s->count == SPANS_MAX)
        return fail(e, FAIL_LIMIT, "more than %zu ranges of a text", SPANS_MAX);
    struct span *grown =
        array_grow(s->items, &s->capacity, s->count + 1, sizeof(*grown), SPANS_MAX);
    if (!grown)
        return fail(e, FAIL_NOMEM, "%zu ranges of a text", s->count + 1);
    s->items = grown;
    s->items[s->count++] = (struct span){ start, end };
    return 0;
}

void spans_clear(struct spans *s)
{
    s->count = 0;
}

void spans_done(struct spans *s)
{
    free(s->items);
    *s = (struct spans){ 0 };
}

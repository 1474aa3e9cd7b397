/* See samples.h. */
#include "measure/samples.h"

#include <stdlib.h>

void samples_add(struct samples *s, double value)
{
    if (s->n < SAMPLES_MAX)
        s->values[s->n++] = value;
}

static int order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct spread samples_spread(const struct samples *s)
{
    if (s->n == 0)
        return (struct spread){ 0 };
    struct samples sorted = *s;
    qsort(sorted.values, (size_t)sorted.n, sizeof(sorted.values[0]), order);
    return (struct spread){ sorted.values[sorted.n / 2], sorted.values[0],
                            sorted.values[sorted.n - 1] };
}

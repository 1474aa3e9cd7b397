/* What the files of measure share. */
#ifndef SHOAL_MEASURE_INTERNAL_H
#define SHOAL_MEASURE_INTERNAL_H

#include "measure/machine.h"

#include <stdatomic.h>
#include <stdint.h>

struct peak;
struct pool;

/* Memory is dealt to threads in pieces of this many bytes, as the backend does. */
#define MEASURE_PIECE ((size_t)2 << 20)

struct machine {
    const struct kernels *kernels;
    const struct peak *peak;
    struct pool *pool;
    int threads; /* of the pool */
    size_t bytes;
    uint8_t *memory;   /* (bytes) huge pages */
    uint8_t *ordinary; /* (bytes) ordinary pages */
    int rounds[2];     /* of the peaks int8 and f32, for some milliseconds */
    atomic_int sum;    /* what was computed, so that nothing is left out */
};

/* Seconds that work(arg) takes on `threads` threads at once, begun together. */
double machine_time(struct machine *m, int threads, void (*work)(void *arg), void *arg);

#endif

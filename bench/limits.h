/* The machine's own limits, measured in the same process as what is held against them. */
#ifndef SHOAL_BENCH_LIMITS_H
#define SHOAL_BENCH_LIMITS_H

#include <stdbool.h>
#include <stddef.h>

struct pool;

/* Bytes per second that the pool's threads read from memory of `bytes` (huge pages where the
 * system has them): the best of `rounds` passes. 0 without memory. */
double limits_read(struct pool *pool, size_t bytes, int rounds);

#endif

/* The compute pool: fixed threads that run one job at a time, with barriers inside it. */
#ifndef SHOAL_OS_POOL_H
#define SHOAL_OS_POOL_H

#include "base/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POOL_MAX_THREADS 256 /* more cores than a home machine has */
#define POOL_SPIN_NS 50000   /* long enough for a barrier, short enough for a quiet fan */

struct pool;

struct pool_options {
    int threads;      /* 1..POOL_MAX_THREADS, the caller of pool_run included; 0: usable cores */
    bool pin;         /* workers (not the caller) stay on one usable core each; Linux only */
    uint64_t spin_ns; /* before a waiting thread sleeps; 0: POOL_SPIN_NS */
};

/* Starts the workers. FAIL_RANGE, FAIL_NOMEM; *ret untouched then. Ended by pool_close. */
int pool_open(struct pool **ret, const struct pool_options *options, struct error *e);

/* Ends the workers and frees. NULL is fine; never inside a job. */
void pool_close(struct pool *p);

/* The leader included; at least 1. */
int pool_threads(const struct pool *p);

/* Runs fn(arg, thread, n_threads) on all threads at once, the caller being thread 0, and returns
 * when all are done; what they wrote is then visible. One caller at a time. Allocates nothing; with
 * one thread it is a plain call. */
void pool_run(struct pool *p, void (*fn)(void *arg, int thread, int n_threads), void *arg);

/* Inside a job, called by all its threads: returns when all have come; what any wrote before is
 * visible to all after. */
void pool_barrier(struct pool *p, int thread);

/* Inside a job: takes the next `piece` items and returns the first one's index. Items at or past
 * the caller's total mean that the work is used up. The counter starts at 0 and is set back between
 * two barriers, or by the caller before pool_run. */
static inline size_t pool_claim(struct pool *p, atomic_size_t *counter, size_t piece)
{
    (void)p;
    return atomic_fetch_add_explicit(counter, piece, memory_order_relaxed);
}

#endif

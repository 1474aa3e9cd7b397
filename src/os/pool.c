/* The compute pool: see pool.h. */
#include "os/pool.h"

#include <assert.h>
#include <stdlib.h>

#include "os/cpu.h"
#include "os/park.h"
#include "os/thread.h"

struct worker {
    struct thread thread;
    struct pool *pool;
    int index;
};

struct pool {
    struct park start;   /* advanced once a job; workers wait on it */
    struct park barrier; /* advanced by the last to arrive */
    _Alignas(64) atomic_int arrived;
    /* Written by the caller before start is advanced, read by workers after. */
    void (*fn)(void *arg, int thread, int n_threads);
    void *arg;
    bool stop;
    int n_threads;
    int n_started;
    bool pin;
    uint64_t spin_ns;
    struct worker workers[]; /* n_threads; [0] stays unused */
};

void pool_barrier(struct pool *p, int thread)
{
    (void)thread;
    if (p->n_threads == 1) {
        return;
    }
    unsigned phase = park_value(&p->barrier);
    if (atomic_fetch_add_explicit(&p->arrived, 1, memory_order_acq_rel) == p->n_threads - 1) {
        /* Nobody arrives at the next barrier before the phase has advanced. */
        atomic_store_explicit(&p->arrived, 0, memory_order_relaxed);
        park_advance(&p->barrier);
        return;
    }
    park_wait(&p->barrier, phase, p->spin_ns);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;
    if (p->pin) {
        cpu_pin(w->index);
    }
    for (unsigned job = 0;; job++) {
        park_wait(&p->start, job, p->spin_ns);
        if (p->stop) {
            return NULL;
        }
        p->fn(p->arg, w->index, p->n_threads);
        pool_barrier(p, w->index);
    }
}

int pool_open(struct pool **ret, const struct pool_options *options, struct error *e)
{
    int cores = cpu_cores();
    int n = options->threads == 0 ? cores : options->threads;
    if (n < 1 || n > POOL_MAX_THREADS) {
        return fail(e, FAIL_RANGE, "%d compute threads, not 1 to %d", n, POOL_MAX_THREADS);
    }
    size_t size = sizeof(struct pool) + (size_t)n * sizeof(struct worker);
    struct pool *p = aligned_alloc(64, (size + 63) / 64 * 64);
    if (p == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a pool of %d threads", n);
    }
    memset(p, 0, size);
    park_init(&p->start);
    park_init(&p->barrier);
    atomic_init(&p->arrived, 0);
    p->n_threads = n;
    p->pin = options->pin && n <= cores;
    p->spin_ns = options->spin_ns == 0 ? POOL_SPIN_NS : options->spin_ns;
    p->n_started = 1;
    for (int i = 1; i < n; i++) {
        p->workers[i] = (struct worker){ .pool = p, .index = i };
        int code = thread_start(&p->workers[i].thread, worker_main, &p->workers[i], e);
        if (code != 0) {
            pool_close(p);
            return code;
        }
        p->n_started++;
    }
    *ret = p;
    return 0;
}

void pool_close(struct pool *p)
{
    if (p == NULL) {
        return;
    }
    p->stop = true;
    park_advance(&p->start);
    for (int i = 1; i < p->n_started; i++) {
        thread_join(&p->workers[i].thread);
    }
    park_done(&p->start);
    park_done(&p->barrier);
    free(p);
}

int pool_threads(const struct pool *p)
{
    return p->n_threads;
}

void pool_run(struct pool *p, void (*fn)(void *arg, int thread, int n_threads), void *arg)
{
    if (p->n_threads > 1) {
        p->fn = fn;
        p->arg = arg;
        park_advance(&p->start);
    }
    fn(arg, 0, p->n_threads);
    pool_barrier(p, 0);
}

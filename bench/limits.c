/* See limits.h. Each thread reads its part once a pass in large pieces. */
#include "bench/limits.h"

#include "os/clock.h"
#include "os/memory.h"
#include "os/pool.h"

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#define PIECE ((size_t)2 << 20)

struct reading {
    const uint64_t *data;
    size_t bytes;
    _Atomic size_t next;
    _Atomic uint64_t sum; /* keeps the reads from being dropped */
};

static void read_part(void *arg, int thread, int n_threads)
{
    struct reading *r = arg;
    uint64_t sum[8] = { 0 };
    (void)thread;
    (void)n_threads;
    for (;;) {
        size_t at = atomic_fetch_add_explicit(&r->next, PIECE, memory_order_relaxed);
        if (at >= r->bytes)
            break;
        size_t end = at + PIECE < r->bytes ? at + PIECE : r->bytes;
        const uint64_t *p = r->data + at / 8, *stop = r->data + end / 8;
        for (; p + 8 <= stop; p += 8)
            for (int i = 0; i < 8; i++)
                sum[i] ^= p[i];
    }
    uint64_t all = 0;
    for (int i = 0; i < 8; i++)
        all ^= sum[i];
    atomic_fetch_xor_explicit(&r->sum, all, memory_order_relaxed);
}

double limits_read(struct pool *pool, size_t bytes, int rounds)
{
    uint8_t *memory = memory_huge_alloc(bytes);
    double best = 0;
    if (!memory)
        return 0;
    memset(memory, 1, bytes);
    for (int i = 0; i < rounds; i++) {
        struct reading r = { .data = (const uint64_t *)(const void *)memory, .bytes = bytes };
        uint64_t start = clock_now_ns();
        pool_run(pool, read_part, &r);
        double seconds = (double)(clock_now_ns() - start) / (double)CLOCK_NS_PER_S;
        double rate = (double)bytes / seconds;
        best = rate > best ? rate : best;
    }
    memory_huge_free(memory, bytes);
    return best;
}

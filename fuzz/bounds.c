/* Runs one input and holds its cost against the target's bounds; see fuzz.h and bounds.def. */
#include "fuzz/fuzz.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct bound {
    const char *name;
    double ms;
    long long mib;
};

#define BOUND(name, ms, mib, bytes) { #name, ms, mib },
static const struct bound bounds[] = {
#include "fuzz/bounds.def"
};
#undef BOUND

/* The sanitizers' own interface (sanitizer/allocator_interface.h), there only with one. */
#pragma weak __sanitizer_install_malloc_and_free_hooks
#pragma weak __sanitizer_get_allocated_size
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *, size_t),
                                              void (*on_free)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *p);

/* Bytes of heap, by all threads. */
static atomic_llong held, most;

static void on_malloc(const volatile void *p, size_t size)
{
    if (p == NULL) {
        return;
    }
    long long now = atomic_fetch_add(&held, (long long)size) + (long long)size;
    long long before = atomic_load(&most);
    while (now > before && !atomic_compare_exchange_weak(&most, &before, now)) {
    }
}

static void on_free(const volatile void *p)
{
    if (p != NULL) {
        atomic_fetch_sub(&held, (long long)__sanitizer_get_allocated_size(p));
    }
}

static const struct bound *own_bound(void)
{
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        if (strcmp(bounds[i].name, FUZZ_TARGET) == 0) {
            return &bounds[i];
        }
    }
    fprintf(stderr, "%s has no row in bounds.def\n", FUZZ_TARGET);
    abort();
}

static double processor_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct bound *bound;
    if (bound == NULL) {
        bound = own_bound();
        if (__sanitizer_install_malloc_and_free_hooks != NULL) {
            __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
        }
    }
    long long before = atomic_load(&held);
    atomic_store(&most, before);
    double start = processor_ms();
    fuzz_one(data, size);
    double took = processor_ms() - start;
    long long peak = atomic_load(&most) - before;
    if (took > bound->ms || peak > bound->mib << 20) {
        fprintf(stderr,
                "%s: %zu bytes took %.0f ms and %lld KiB; %.0f ms and %lld MiB are its bound\n",
                bound->name, size, took, peak >> 10, bound->ms, bound->mib);
        abort();
    }
    return 0;
}

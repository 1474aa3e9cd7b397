/* Makes the digests of models' chunks: one list for each file, shared by all who have it open, kept
 * on disk, and completed by a thread of its own that gives way to everything else. */
#ifndef SHOAL_STORE_HASHER_H
#define SHOAL_STORE_HASHER_H

#include "base/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct chunks;
struct gguf;
struct hasher;

/* A model that is in use is hashed by at most this many threads while it is loaded: each does 0.2
 * (no SHA instructions) to 2 GB/s, and disks give less than four of them take. */
#define HASHER_MAX_THREADS 4

struct hasher_options {
    const char *folder; /* where lists are kept, made when needed; copied */
    /* A list is complete, or can't be completed since its file changed. In the hasher's thread; may
     * be NULL. */
    void (*on_done)(void *arg);
    void *arg;
};

/* FAIL_NOMEM. Its thread begins with the first list to be completed. */
int hasher_open(struct hasher **ret, const struct hasher_options *options, struct error *e);
/* Waits for the thread (for the reading of one chunk) and keeps what was made so far. All lists
 * have been released. NULL is fine. */
void hasher_close(struct hasher *h);

/* The list of the model that g has open: the one that others use, or the one kept on disk if the
 * files are unchanged since, or a new one. Reads files: not for an event loop. FAIL_NOMEM. */
int hasher_take(struct hasher *h, const struct gguf *g, struct chunks **ret, struct error *e);
/* May write the list to disk. NULL is fine. */
void hasher_release(struct hasher *h, struct chunks *list);

/* Asks for all digests of a list that the caller holds, sometime. Any thread. */
void hasher_complete(struct hasher *h, struct chunks *list);

/* Whether this device computes or loads: the thread then makes a chunk now and then only. Any
 * thread; never waits. */
void hasher_defer(struct hasher *h, bool busy);

/* Digests of these chunks (n), in their order, by the caller and up to threads - 1 others, while
 * *stop is false. *bytes (may be NULL) grows by what was done or was there. FAIL_CANCELLED, and
 * chunks_make's errors. */
struct hasher_work {
    struct chunks *list;
    const uint64_t *order;
    uint64_t n;
    int threads;
    atomic_bool *stop;
    atomic_ullong *bytes;
};
int hasher_run(struct hasher *h, const struct hasher_work *work, struct error *e);

#endif

/* All-reduce and all-gather among the ranks of a stage. */
#ifndef SHOAL_TRANSPORT_REDUCE_H
#define SHOAL_TRANSPORT_REDUCE_H

#include "transport/transport.h"

#define GROUP_MAX_RANKS 64
/* Up to here everyone sends everything to everyone: one round instead of two. */
#define GROUP_DIRECT_BYTES ((size_t)32 << 10)

struct group;

struct group_options {
    int rank;                        /* this one, 0..n_ranks-1 */
    int n_ranks;                     /* 1..GROUP_MAX_RANKS */
    struct channel *const *channels; /* (n_ranks) to each rank, NULL at our own; the array is
                                        copied, the channels are borrowed until group_close */
    size_t max_floats;               /* largest all-reduce */
};

/* Allocates the staging memory, so that nothing is allocated later. FAIL_ARG, FAIL_NOMEM. */
int group_open(struct group **ret, const struct group_options *options, struct error *e);

/* Frees; the channels stay open. NULL is fine. */
void group_close(struct group *g);

/* Sums x over all ranks, in place: x[i] = ((x0[i] + x1[i]) + x2[i]) + ... in rank order, so that
 * every rank gets the same bits, and the same ones whatever n is (the algorithm is chosen by size,
 * the order of additions isn't).
 *
 * x  (n) float32, n <= max_floats, the same n on every rank
 *
 * Errors as channels', with the rank named; x is then not meaningful and the group is of no more
 * use. Called by all ranks; one thread. */
int group_all_reduce(struct group *g, float *x, size_t n, uint64_t deadline_ns, struct error *e);

/* Puts all ranks' bytes side by side in rank order.
 *
 * mine   sizes[rank] bytes; may be its own place inside all
 * all    sum of sizes bytes
 * sizes  (n_ranks) bytes of each rank, the same on every rank */
int group_all_gather(struct group *g, const void *mine, void *all, const size_t *sizes,
                     uint64_t deadline_ns, struct error *e);

#endif

/* All-reduce: see reduce.h.
 *
 * Small: everyone sends its x to everyone, and adds all of them in rank order. Large: rank r gets
 * everyone's slice r, adds it in rank order, and sends the sum to everyone (reduce-scatter and
 * all-gather). An element is added in the same order either way. */
#include "transport/reduce.h"

#include <assert.h>
#include <stdlib.h>

#define SLICE 16 /* floats: slices begin at a cache line's granule */

struct group {
    int rank, n_ranks;
    size_t max_floats;
    float *staging; /* what the other ranks sent */
    struct channel *channels[GROUP_MAX_RANKS];
    struct transfer transfers[GROUP_MAX_RANKS];
    struct bytes parts[GROUP_MAX_RANKS];
    int ranks[GROUP_MAX_RANKS]; /* of each transfer */
};

static bool is_direct(const struct group *g, size_t n)
{
    return g->n_ranks == 2 || n * sizeof(float) <= GROUP_DIRECT_BYTES;
}

/* Rank r's slice of n floats begins here. */
static size_t slice_begin(const struct group *g, size_t n, int r)
{
    size_t granules = (n + SLICE - 1) / SLICE;
    size_t at = granules * (size_t)r / (size_t)g->n_ranks * SLICE;
    return at < n ? at : n;
}

int group_open(struct group **ret, const struct group_options *o, struct error *e)
{
    if (o->n_ranks < 1 || o->n_ranks > GROUP_MAX_RANKS || o->rank < 0 || o->rank >= o->n_ranks) {
        return fail(e, FAIL_ARG, "rank %d of %d", o->rank, o->n_ranks);
    }
    if (o->max_floats > SIZE_MAX / sizeof(float) / GROUP_MAX_RANKS) {
        return fail(e, FAIL_ARG, "all-reduce of %zu floats", o->max_floats);
    }
    for (int r = 0; r < o->n_ranks; r++) {
        if (r != o->rank && o->channels[r] == NULL) {
            return fail(e, FAIL_ARG, "rank %d has no channel to rank %d", o->rank, r);
        }
    }
    struct group *g = calloc(1, sizeof *g);
    if (g == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a group of %d ranks", o->n_ranks);
    }
    g->rank = o->rank;
    g->n_ranks = o->n_ranks;
    g->max_floats = o->max_floats;
    size_t direct = GROUP_DIRECT_BYTES / sizeof(float);
    direct = g->n_ranks == 2 || o->max_floats < direct ? o->max_floats : direct;
    size_t slice = o->max_floats / (size_t)g->n_ranks + 2 * SLICE;
    size_t largest = (direct > slice ? direct : slice) * (size_t)g->n_ranks;
    g->staging = malloc(largest * sizeof(float));
    if (g->staging == NULL) {
        free(g);
        return fail(e, FAIL_NOMEM, "memory for all-reduces of %zu floats", o->max_floats);
    }
    for (int r = 0; r < g->n_ranks; r++) {
        g->channels[r] = r == g->rank ? NULL : o->channels[r];
    }
    *ret = g;
    return 0;
}

void group_close(struct group *g)
{
    if (g != NULL) {
        free(g->staging);
        free(g);
    }
}

/* Runs transfers [0, n), with the rank in the error's text; checks the sizes received. */
static int run(struct group *g, int n, uint64_t deadline_ns, struct error *e)
{
    struct error local = { 0 };
    int code = channel_exchange(g->transfers, n, deadline_ns, &local);
    for (int i = 0; i < n && code == 0; i++) {
        const struct transfer *t = &g->transfers[i];
        if (t->in != NULL && t->size != t->capacity) {
            code = fail(&local, FAIL_FORMAT, "rank %d sent %zu bytes where %zu are due",
                        g->ranks[i], t->size, t->capacity);
        }
    }
    if (code == 0) {
        return 0;
    }
    int stuck = -1;
    for (int i = 0; i < n && stuck < 0; i++) {
        bool open = g->transfers[i].sending || g->transfers[i].receiving;
        stuck = open && channel_poll(g->transfers[i].channel, NULL) < 0 ? i : -1;
    }
    for (int i = 0; i < n && stuck < 0; i++) {
        stuck = g->transfers[i].sending || g->transfers[i].receiving ? i : -1;
    }
    return stuck < 0
               ? fail(e, code, "%s", local.text)
               : fail(e, code, "rank %d to rank %d: %s", g->rank, g->ranks[stuck], local.text);
}

static void set_transfer(struct group *g, int i, int rank, struct bytes out, void *in, size_t size)
{
    g->ranks[i] = rank;
    g->parts[i] = out;
    g->transfers[i] = (struct transfer){ .channel = g->channels[rank],
                                         .parts = &g->parts[i],
                                         .n_parts = out.size > 0,
                                         .in = size > 0 ? in : NULL,
                                         .capacity = size };
}

/* x (n) becomes the sum in rank order of itself, as rank `rank`, and staging (n_ranks - 1, n). */
static void add_in_order(const struct group *g, float *x, size_t n)
{
    enum { BLOCK = 256 };
    float sum[BLOCK];
    for (size_t at = 0; at < n; at += BLOCK) {
        size_t m = n - at < BLOCK ? n - at : BLOCK;
        const float *other = g->staging + at;
        for (int r = 0; r < g->n_ranks; r++) {
            const float *from = r == g->rank ? x + at : other;
            other += r == g->rank ? 0 : n;
            if (r == 0) {
                memcpy(sum, from, m * sizeof *sum);
                continue;
            }
            for (size_t i = 0; i < m; i++) {
                sum[i] += from[i];
            }
        }
        memcpy(x + at, sum, m * sizeof *sum);
    }
}

/* Every rank's slice of x, from the rank that owns it. */
static int gather_slices(struct group *g, float *x, size_t n, uint64_t deadline_ns, struct error *e)
{
    size_t own = slice_begin(g, n, g->rank);
    struct bytes mine = bytes_of(x + own, (slice_begin(g, n, g->rank + 1) - own) * sizeof *x);
    int k = 0;
    for (int r = 0; r < g->n_ranks; r++) {
        if (r != g->rank) {
            size_t begin = slice_begin(g, n, r), end = slice_begin(g, n, r + 1);
            set_transfer(g, k++, r, mine, x + begin, (end - begin) * sizeof *x);
        }
    }
    return run(g, k, deadline_ns, e);
}

int group_all_reduce(struct group *g, float *x, size_t n, uint64_t deadline_ns, struct error *e)
{
    if (n > g->max_floats) {
        return fail(e, FAIL_LIMIT, "all-reduce of %zu floats, the group's limit is %zu", n,
                    g->max_floats);
    }
    if (g->n_ranks == 1 || n == 0) {
        return 0;
    }
    bool direct = is_direct(g, n);
    size_t own = direct ? 0 : slice_begin(g, n, g->rank);
    size_t own_n = direct ? n : slice_begin(g, n, g->rank + 1) - own;
    int k = 0;
    for (int r = 0; r < g->n_ranks; r++) {
        if (r != g->rank) {
            size_t begin = direct ? 0 : slice_begin(g, n, r);
            size_t size = direct ? n : slice_begin(g, n, r + 1) - begin;
            set_transfer(g, k, r, bytes_of(x + begin, size * sizeof *x),
                         g->staging + (size_t)k * own_n, own_n * sizeof *x);
            k++;
        }
    }
    int code = run(g, k, deadline_ns, e);
    if (code != 0) {
        return code;
    }
    add_in_order(g, x + own, own_n);
    return direct ? 0 : gather_slices(g, x, n, deadline_ns, e);
}

int group_all_gather(struct group *g, const void *mine, void *all, const size_t *sizes,
                     uint64_t deadline_ns, struct error *e)
{
    uint8_t *at = all, *own = NULL;
    int k = 0;
    for (int r = 0; r < g->n_ranks; r++) {
        if (r == g->rank) {
            own = at;
        } else {
            set_transfer(g, k++, r, bytes_of(mine, sizes[g->rank]), at, sizes[r]);
        }
        at += sizes[r];
    }
    if (own != mine) {
        memmove(own, mine, sizes[g->rank]);
    }
    return run(g, k, deadline_ns, e);
}

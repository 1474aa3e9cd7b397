/* The life of a rank: load, wait for channels, serve, end. */
#include "stage/rank.h"

#include <stdlib.h>

#include "stage/share.h"
#include "stage/work.h"
#include "os/pool.h"
#include "os/thread.h"
#include "transport/transport.h"

/* A rank that is not closed by its owner looks at its flags this often while it waits. */
#define WAIT_NS 200000000u
/* An idle compute pool spins this long before it parks. */
#define SPIN_NS 50000u

struct rank {
    struct rank_options options;
    struct placement_plan plan;
    struct arena arena; /* the part and its segments; rank's life */
    struct program *part;
    struct segment *segments;
    int n_segments;
    int wires_due;               /* channels that this rank takes part in */
    int next_to[PLAN_MAX_RANKS]; /* whom each of wires.next leads to; under lock as they are */

    struct thread thread;
    atomic_bool stop;
    struct error failure; /* written by the thread before its state becomes RANK_ENDED */
    atomic_int state;
    atomic_ullong load_done, load_total, weight_bytes;

    /* Under lock until the rank serves; then the thread's own, except for shutting down. */
    struct mutex lock;
    struct condition attached;
    int wires_here;
    struct rank_wires wires;

    struct work work; /* owner: the thread */
};

static void set_state(struct rank *r, enum rank_state state)
{
    atomic_store_explicit(&r->state, (int)state, memory_order_release);
    if (r->options.on_state) {
        r->options.on_state(r->options.arg, state, r->failure.code != 0 ? &r->failure : NULL);
    }
}

/* --- channels --- */

/* Every channel this rank holds, once each. */
static int list_channels(struct rank *r, struct channel *ret[static 2 * PLAN_MAX_RANKS + 2])
{
    int n = 0;
    ret[n] = r->wires.steps;
    n += ret[n] != NULL;
    ret[n] = r->wires.previous;
    n += ret[n] != NULL;
    for (int i = 0; i < r->wires.n_next; i++) {
        ret[n++] = r->wires.next[i];
    }
    for (int i = 0; i < PLAN_MAX_RANKS; i++) {
        ret[n] = r->wires.group[i];
        n += ret[n] != NULL;
    }
    return n;
}

/* Where the link's channel goes; NULL when it isn't this rank's or is already there. */
static struct channel **slot_of(struct rank *r, const struct wire_link *link)
{
    int me = r->options.rank;
    struct rank_wires *w = &r->wires;
    const struct plan_stage *stage = &r->plan.stages[plan_stage_of(&r->plan, me)];
    struct channel **slot = NULL;
    if (link->kind == LINK_STEPS && link->to == me) {
        slot = &w->steps;
    } else if (link->kind == LINK_HIDDEN && link->to == me) {
        slot = &w->previous;
    } else if (link->kind == LINK_HIDDEN && link->from == me && w->n_next < PLAN_MAX_RANKS) {
        for (int i = 0; i < w->n_next; i++) {
            if (r->next_to[i] == link->to) {
                return NULL;
            }
        }
        r->next_to[w->n_next] = link->to;
        return &w->next[w->n_next++];
    } else if (link->kind == LINK_GROUP && (link->from == me || link->to == me)) {
        int other = (link->from == me ? link->to : link->from) - stage->rank;
        slot = other >= 0 && other < stage->n_ranks ? &w->group[other] : NULL;
    }
    return slot != NULL && *slot == NULL ? slot : NULL;
}

int rank_attach(struct rank *r, const struct wire_link *link, struct channel *channel,
                struct error *e)
{
    mutex_lock(&r->lock);
    bool open = r->wires_here < r->wires_due &&
                atomic_load_explicit(&r->state, memory_order_acquire) < RANK_SERVING &&
                !atomic_load_explicit(&r->stop, memory_order_acquire);
    struct channel **slot = open ? slot_of(r, link) : NULL;
    if (slot != NULL) {
        *slot = channel;
        r->wires_here++;
        condition_signal(&r->attached);
    }
    mutex_unlock(&r->lock);
    if (slot == NULL) {
        channel_close(channel);
        return fail(e, FAIL_STATE, "rank %d does not wait for a %s channel from %d to %d",
                    r->options.rank, link_kind_name(link->kind), link->from, link->to);
    }
    return 0;
}

size_t rank_max_message(const struct rank *r, const struct wire_link *link)
{
    return wire_max_message(link, r->options.rank, r->part, r->options.max_rows);
}

static void close_channels(struct rank *r)
{
    struct channel *list[2 * PLAN_MAX_RANKS + 2];
    mutex_lock(&r->lock);
    int n = list_channels(r, list);
    r->wires = (struct rank_wires){ 0 };
    r->wires_due = 0;
    mutex_unlock(&r->lock);
    for (int i = 0; i < n; i++) {
        channel_close(list[i]);
    }
}

void rank_stop(struct rank *r)
{
    struct channel *list[2 * PLAN_MAX_RANKS + 2];
    atomic_store_explicit(&r->stop, true, memory_order_release);
    mutex_lock(&r->lock);
    int n = list_channels(r, list);
    for (int i = 0; i < n; i++) {
        channel_shutdown(list[i]);
    }
    condition_signal(&r->attached);
    mutex_unlock(&r->lock);
}

/* --- the thread --- */

static int source_read(void *arg, const char *name, uint64_t offset, uint64_t size, void *into,
                       struct error *e)
{
    const struct weight_source *source = ((struct rank *)arg)->options.source;
    return source->read(source->arg, name, offset, size, into, e);
}

static int source_map(void *arg, const char *name, const uint8_t **data, uint64_t *size,
                      struct error *e)
{
    const struct weight_source *source = ((struct rank *)arg)->options.source;
    return source->map(source->arg, name, data, size, e);
}

static int load_progress(void *arg, uint64_t done, uint64_t total)
{
    struct rank *r = arg;
    atomic_store_explicit(&r->load_done, done, memory_order_relaxed);
    atomic_store_explicit(&r->load_total, total, memory_order_relaxed);
    atomic_fetch_add_explicit(&r->work.progress, 1, memory_order_relaxed);
    return atomic_load_explicit(&r->stop, memory_order_acquire) ? FAIL_CANCELLED : 0;
}

static int wait_channels(struct rank *r, struct error *e)
{
    bool stopped = false;
    mutex_lock(&r->lock);
    while (r->wires_here < r->wires_due && !stopped) {
        condition_wait(&r->attached, &r->lock, WAIT_NS);
        atomic_fetch_add_explicit(&r->work.progress, 1, memory_order_relaxed);
        stopped = atomic_load_explicit(&r->stop, memory_order_acquire);
    }
    mutex_unlock(&r->lock);
    return stopped ? fail(e, FAIL_CANCELLED, "stopped while waiting for channels") : 0;
}

/* Everything between load and end. */
static int serve(struct rank *r, struct backend_ctx *ctx, struct error *e)
{
    int code = wait_channels(r, e);
    if (code != 0) {
        return code;
    }
    const struct plan_stage *stage = &r->plan.stages[plan_stage_of(&r->plan, r->options.rank)];
    struct work *w = &r->work;
    w->ctx = ctx;
    w->part = r->part;
    w->segments = r->segments;
    w->n_segments = r->n_segments;
    w->wires = &r->wires;
    w->epoch = r->options.epoch;
    w->max_rows = r->options.max_rows;
    w->step_timeout_ns = r->options.step_timeout_ns;
    w->stop = &r->stop;
    code = work_open(w, r->options.rank - stage->rank, stage->n_ranks, e);
    if (code == 0) {
        set_state(r, RANK_SERVING);
        code = work_serve(w, e);
    } else if (!atomic_load_explicit(&r->stop, memory_order_acquire)) {
        work_tell(r->wires.steps, w->epoch, 0, false, e);
    }
    work_done(w);
    return code;
}

static int load_and_serve(struct rank *r, struct error *e)
{
    const struct rank_options *o = &r->options;
    struct pool *pool = NULL;
    struct backend_ctx *ctx = NULL;
    struct weight_source source = { o->source->read ? source_read : NULL,
                                    o->source->map ? source_map : NULL, load_progress, r };
    int code =
        pool_open(&pool, &(struct pool_options){ .threads = o->threads, .spin_ns = SPIN_NS }, e);
    if (code == 0) {
        code = backend_open(o->backend, &ctx, r->part, &source,
                            &(struct backend_options){ .pool = pool,
                                                       .kernels = o->kernels,
                                                       .exact = o->exact,
                                                       .max_rows = o->max_rows,
                                                       .max_sessions = o->max_sessions,
                                                       .state_tokens = o->state_tokens,
                                                       .session_tokens = o->session_tokens },
                            e);
    }
    if (code == 0) {
        atomic_store_explicit(&r->weight_bytes, backend_weight_bytes(ctx), memory_order_relaxed);
        set_state(r, RANK_LOADED);
        code = serve(r, ctx, e);
    }
    if (code == FAIL_NOMEM) {
        wrap(e, "not enough memory");
    }
    close_channels(r);
    backend_close(ctx);
    pool_close(pool);
    return code;
}

static void *rank_main(void *arg)
{
    struct rank *r = arg;
    struct error e = { 0 };
    int code = load_and_serve(r, &e);
    /* An end that was asked for is not a failure. */
    bool asked = atomic_load_explicit(&r->stop, memory_order_acquire);
    if (code != 0 && !asked) {
        r->failure = e;
    }
    set_state(r, RANK_ENDED);
    return NULL;
}

/* --- opening and closing --- */

static int count_wires(const struct placement_plan *plan, int rank)
{
    struct wire_link *links = malloc(WIRE_MAX_LINKS * sizeof *links);
    if (links == NULL) {
        return FAIL_NOMEM;
    }
    int mine = 0, n = wire_links(plan, links);
    for (int i = 0; i < n; i++) {
        mine += links[i].from == rank || links[i].to == rank;
    }
    free(links);
    return mine;
}

static void rank_free(struct rank *r)
{
    arena_done(&r->arena);
    condition_done(&r->attached);
    mutex_done(&r->lock);
    free(r);
}

int rank_open(struct rank **ret, const struct rank_options *options, struct error *e)
{
    struct rank *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a rank");
    }
    r->options = *options;
    r->plan = *options->plan;
    r->options.plan = &r->plan;
    mutex_init(&r->lock);
    condition_init(&r->attached);
    arena_init(&r->arena, 0);
    int code = rank_program(options->program, &r->plan, options->rank, &r->arena, &r->part, e);
    if (code == 0) {
        r->n_segments = program_segments(r->part, &r->arena, &r->segments);
        r->wires_due = count_wires(&r->plan, options->rank);
        if (r->n_segments < 0 || r->wires_due < 0) {
            code = fail(e, FAIL_NOMEM, "memory for a rank");
        }
    }
    if (code == 0) {
        code = thread_start(&r->thread, rank_main, r, e);
    }
    if (code != 0) {
        rank_free(r);
        return code;
    }
    *ret = r;
    return 0;
}

void rank_close(struct rank *r)
{
    if (r == NULL) {
        return;
    }
    rank_stop(r);
    thread_join(&r->thread);
    close_channels(r);
    rank_free(r);
}

bool rank_failure(const struct rank *r, struct error *e)
{
    bool ended = atomic_load_explicit(&r->state, memory_order_acquire) == RANK_ENDED;
    if (!ended || r->failure.code == 0) {
        return false;
    }
    *e = r->failure;
    return true;
}

void rank_facts(const struct rank *r, struct rank_facts *ret)
{
    *ret = (struct rank_facts){
        .state = (enum rank_state)atomic_load_explicit(&r->state, memory_order_acquire),
        .load_done = atomic_load_explicit(&r->load_done, memory_order_relaxed),
        .load_total = atomic_load_explicit(&r->load_total, memory_order_relaxed),
        .weight_bytes = atomic_load_explicit(&r->weight_bytes, memory_order_relaxed),
        .state_bytes = atomic_load_explicit(&r->work.state_bytes, memory_order_relaxed),
        .progress = atomic_load_explicit(&r->work.progress, memory_order_relaxed),
        .steps = atomic_load_explicit(&r->work.steps, memory_order_relaxed),
        .busy = atomic_load_explicit(&r->work.busy, memory_order_relaxed),
    };
    rank_vocab(r->part, &ret->vocab_first, &ret->vocab_count);
}

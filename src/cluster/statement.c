/* The head's statements: see statement.h. */
#include "cluster/statement.h"

#include <stdlib.h>

#include "base/random.h"
#include "cluster/check.h"
#include "cluster/claim.h"
#include "gguf/gguf.h"
#include "os/clock.h"
#include "os/log.h"
#include "os/memory.h"
#include "os/thread.h"
#include "stage/source.h"
#include "store/chunks.h"
#include "store/hasher.h"

#include <event2/event.h>
#include <stdio.h>
#include <string.h>

/* A list that the hasher completes in the background is looked at this often. */
#define LOOK_NS SECOND_NS
/* Messages of one statement to one device in a tick: 4,096 tensors, more than models have. */
#define PIECES_A_TICK 4

struct statement {
    struct cluster *owner;
    struct part_order order;
    struct model_file file;
    uint64_t seed;
    int threads;
    struct statement *next;

    struct thread thread;
    bool started;
    atomic_bool stop, ended;

    struct mutex lock; /* of what follows; digests don't change once they are there */
    struct condition changed;
    int tensors;
    uint8_t *sample, *whole, *shares[PLAN_MAX_RANKS]; /* (tensors, DIGEST_BYTES) or NULL */
    bool share_follows;
    char root[DIGEST_TEXT];
    char failed[ERROR_TEXT];

    /* The loop's: tensors that were told of each kind, the same to all ranks. */
    int told[CLAIM_KINDS];
    bool told_failed;
};

static bool is_remote(const struct statement *s, int rank)
{
    return strcmp(s->order.devices[rank], s->owner->self->id) != 0;
}

static bool any_remote(const struct statement *s)
{
    bool any = false;
    for (int r = 0; r < s->order.plan.n_ranks; r++) {
        any = any || is_remote(s, r);
    }
    return any;
}

/* --- the thread --- */

static bool stopped(const struct statement *s)
{
    return atomic_load_explicit(&s->stop, memory_order_acquire);
}

static int digests_of(const struct chunks *list, const uint8_t *selection, uint8_t **ret,
                      struct error *e)
{
    int n = chunks_tensors(list);
    uint8_t *all = malloc((size_t)n * DIGEST_BYTES + 1);
    int code = all != NULL ? chunks_tensor_digests(list, selection, all, e)
                           : fail(e, FAIL_NOMEM, "memory for the digests of %d tensors", n);
    if (code != 0) {
        free(all);
        return code;
    }
    *ret = all;
    return 0;
}

/* Reads what isn't known yet of one chunk of each tensor. */
static int make_sample(struct statement *s, struct chunks *list, uint8_t **ret, struct error *e)
{
    uint8_t *selection = malloc(chunks_selection_bytes(list));
    uint64_t *order = malloc(((size_t)chunks_tensors(list) + 1) * sizeof *order), n = 0;
    int code = selection != NULL && order != NULL
                   ? 0
                   : fail(e, FAIL_NOMEM, "memory for a sample of a model");
    if (code == 0) {
        n = chunks_draw(list, s->seed, selection, order);
        code = hasher_run(
            s->owner->hasher,
            &(struct hasher_work){
                .list = list, .order = order, .n = n, .threads = s->threads, .stop = &s->stop },
            e);
    }
    code = code ? code : digests_of(list, selection, ret, e);
    free(selection);
    free(order);
    return code;
}

static int make_shares(struct statement *s, const struct chunks *list, const struct program *whole,
                       uint8_t *ret[static PLAN_MAX_RANKS], struct error *e)
{
    int code = 0;
    for (int r = 0; r < s->order.plan.n_ranks && code == 0; r++) {
        struct check_share share = { 0 };
        if (!is_remote(s, r)) {
            continue;
        }
        code = check_share(list, whole, &s->order.plan, r, &share, e);
        code = code ? code : digests_of(list, share.selection, &ret[r], e);
        free(share.selection);
        free(share.order);
    }
    return code;
}

static int make_whole(struct statement *s, const struct chunks *list, struct error *e)
{
    uint8_t *whole = NULL, root[DIGEST_BYTES];
    int code = digests_of(list, NULL, &whole, e);
    code = code ? code : chunks_root(list, whole, root, e);
    if (code != 0) {
        free(whole);
        return code;
    }
    mutex_lock(&s->lock);
    s->whole = whole;
    digest_hex(root, s->root);
    mutex_unlock(&s->lock);
    return 0;
}

/* What is told before the ranks may serve. */
static int state_first(struct statement *s, struct chunks *list, const struct program *whole,
                       struct error *e)
{
    uint8_t *sample = NULL, *shares[PLAN_MAX_RANKS] = { NULL };
    bool complete = chunks_complete(list);
    int code = make_sample(s, list, &sample, e);
    code = code == 0 && complete ? make_shares(s, list, whole, shares, e) : code;
    if (code != 0) {
        free(sample);
        for (int r = 0; r < PLAN_MAX_RANKS; r++) {
            free(shares[r]);
        }
        return code;
    }
    mutex_lock(&s->lock);
    s->tensors = chunks_tensors(list);
    s->sample = sample;
    s->share_follows = complete;
    memcpy(s->shares, shares, sizeof shares);
    mutex_unlock(&s->lock);
    event_active(s->owner->wake, 0, 0);
    return 0;
}

static int state_rest(struct statement *s, struct chunks *list, struct error *e)
{
    hasher_complete(s->owner->hasher, list);
    while (!stopped(s) && !chunks_complete(list)) {
        mutex_lock(&s->lock);
        if (!stopped(s)) {
            condition_wait(&s->changed, &s->lock, LOOK_NS);
        }
        mutex_unlock(&s->lock);
    }
    int code = stopped(s) ? 0 : make_whole(s, list, e);
    event_active(s->owner->wake, 0, 0);
    return code;
}

static int state_all(struct statement *s, struct error *e)
{
    struct source *source = NULL;
    struct chunks *list = NULL;
    struct model_file now;
    int code = source_open(&source, s->file.path, e);
    code = code ? code : model_identify_open(source_gguf(source), &now, e);
    if (code == 0 && memcmp(now.stamp, s->file.stamp, DIGEST_BYTES) != 0) {
        code = fail(e, FAIL_IO, "%s was written to or replaced while it was being placed",
                    s->file.path);
    }
    code = code ? code : hasher_take(s->owner->hasher, source_gguf(source), &list, e);
    if (code == 0 && any_remote(s)) {
        code = state_first(s, list, source_program(source), e);
    }
    source_close(source);
    code = code ? code : state_rest(s, list, e);
    hasher_release(s->owner->hasher, list);
    return code;
}

static void *statement_main(void *arg)
{
    struct statement *s = arg;
    struct error e = { 0 };
    if (state_all(s, &e) != 0 && !stopped(s)) {
        mutex_lock(&s->lock);
        snprintf(s->failed, sizeof s->failed, "%s", e.text);
        mutex_unlock(&s->lock);
    }
    memory_trim(); /* of the header's tables, which the allocator keeps for this thread */
    atomic_store_explicit(&s->ended, true, memory_order_release);
    event_active(s->owner->wake, 0, 0);
    return NULL;
}

/* --- life --- */

static struct statement *statement_find(const struct cluster *c, int64_t placement, uint32_t epoch)
{
    struct statement *s = c->statements;
    while (s != NULL && (s->order.placement != placement || s->order.epoch != epoch)) {
        s = s->next;
    }
    return s;
}

static void statement_free(struct statement *s)
{
    if (s->started) {
        thread_join(&s->thread);
    }
    free(s->sample);
    free(s->whole);
    for (int r = 0; r < PLAN_MAX_RANKS; r++) {
        free(s->shares[r]);
    }
    condition_done(&s->changed);
    mutex_done(&s->lock);
    free(s);
}

static void statement_stop(struct statement *s)
{
    mutex_lock(&s->lock);
    atomic_store_explicit(&s->stop, true, memory_order_release);
    condition_signal(&s->changed);
    mutex_unlock(&s->lock);
}

void statement_begin(struct cluster *c, const struct part_order *order,
                     const struct model_file *file)
{
    struct error e = { 0 };
    struct statement *s = calloc(1, sizeof *s);
    if (s == NULL) {
        log_error("cluster", "%s: out of memory to say what its bytes are", file->id);
        return;
    }
    s->owner = c;
    s->order = *order;
    s->file = *file;
    s->seed = random_at(clock_now_ns(), (uint64_t)order->placement) & INT64_MAX;
    s->threads = statement_threads(c);
    mutex_init(&s->lock);
    condition_init(&s->changed);
    s->started = thread_start(&s->thread, statement_main, s, &e) == 0;
    if (!s->started) {
        snprintf(s->failed, sizeof s->failed, "%s", e.text);
        atomic_store_explicit(&s->ended, true, memory_order_release);
    }
    s->next = c->statements;
    c->statements = s;
}

void statement_end(struct cluster *c, int64_t placement, uint32_t epoch)
{
    struct statement *s = statement_find(c, placement, epoch);
    if (s != NULL) {
        statement_stop(s); /* freed when its thread has ended */
    }
}

int statements_open(struct cluster *c, struct error *e)
{
    char folder[4096];
    if ((size_t)snprintf(folder, sizeof folder, "%s/chunks", c->options.home) >= sizeof folder) {
        return fail(e, FAIL_LIMIT, "%s: the path is too long", c->options.home);
    }
    return hasher_open(&c->hasher, &(struct hasher_options){ .folder = folder }, e);
}

void statements_close(struct cluster *c)
{
    for (struct statement *s = c->statements; s != NULL; s = s->next) {
        statement_stop(s);
    }
    while (c->statements != NULL) {
        struct statement *s = c->statements;
        c->statements = s->next;
        statement_free(s);
    }
    hasher_close(c->hasher);
    c->hasher = NULL;
}

/* --- what others ask --- */

int statement_threads(const struct cluster *c)
{
    int half = c->self->threads / 2;
    return half < 1 ? 1 : half < HASHER_MAX_THREADS ? half : HASHER_MAX_THREADS;
}

const struct model_file *statement_own(const struct cluster *c, int64_t placement, uint32_t epoch)
{
    const struct statement *s = statement_find(c, placement, epoch);
    return s != NULL ? &s->file : NULL;
}

void statement_root(const struct cluster *c, int64_t placement, uint32_t epoch,
                    char ret[static DIGEST_TEXT])
{
    struct statement *s = statement_find(c, placement, epoch);
    ret[0] = '\0';
    if (s != NULL) {
        mutex_lock(&s->lock);
        memcpy(ret, s->root, DIGEST_TEXT);
        mutex_unlock(&s->lock);
    }
}

/* --- telling --- */

static void tell(struct statement *s, int rank, json_t *m)
{
    struct device *d = device_find(s->owner, s->order.devices[rank]);
    if (d != NULL && device_alive(d)) {
        device_send(s->owner, d, m);
    } else {
        json_decref(m);
    }
}

/* The next messages of one kind, the same tensors to every rank. True when all is told. */
static bool tell_kind(struct statement *s, enum claim_kind kind, const uint8_t *digests, int rank)
{
    int first = s->told[kind];
    for (int i = 0; i < PIECES_A_TICK && first < s->tensors; i++, first += CLAIM_PIECE) {
        tell(s, rank,
             claim_json(&(struct claim_piece){ .placement = s->order.placement,
                                               .epoch = s->order.epoch,
                                               .kind = kind,
                                               .seed = s->seed,
                                               .share_follows = s->share_follows,
                                               .tensors = s->tensors,
                                               .first = first,
                                               .digests = digests }));
    }
    return first >= s->tensors;
}

/* One kind after the other, in an order that every device can rely on. */
static void tell_statement(struct statement *s)
{
    bool go_on = true;
    for (int kind = 0; kind < CLAIM_KINDS && go_on; kind++) {
        bool share = kind == CLAIM_SHARE;
        const uint8_t *all = kind == CLAIM_SAMPLE ? s->sample : s->whole;
        if (share ? !s->share_follows : all == NULL) {
            go_on = share; /* without a share the whole may still follow */
            continue;
        }
        if (s->told[kind] >= s->tensors) {
            continue;
        }
        for (int r = 0; r < s->order.plan.n_ranks; r++) {
            if (is_remote(s, r)) {
                go_on = tell_kind(s, (enum claim_kind)kind, share ? s->shares[r] : all, r);
            }
        }
        s->told[kind] += PIECES_A_TICK * CLAIM_PIECE;
    }
    for (int r = 0; s->failed[0] != '\0' && !s->told_failed && r < s->order.plan.n_ranks; r++) {
        if (is_remote(s, r)) {
            tell(s, r, claim_failed_json(s->order.placement, s->order.epoch, s->failed));
        }
    }
    s->told_failed = s->failed[0] != '\0';
}

/* Whether any part of this device is being loaded or has done something since the last look. */
static bool computes(struct cluster *c)
{
    uint64_t work = 0;
    bool busy = false;
    for (int i = 0; i < c->self->n_parts; i++) {
        const struct rank_facts *f = &c->self->parts[i].facts;
        busy = busy || f->state == RANK_LOADING || f->busy;
        work += f->steps;
    }
    busy = busy || work != c->worked;
    c->worked = work;
    return busy;
}

void statements_tell(struct cluster *c)
{
    struct statement **at = &c->statements;
    while (*at != NULL) {
        struct statement *s = *at;
        bool stop = stopped(s);
        if (stop && atomic_load_explicit(&s->ended, memory_order_acquire)) {
            *at = s->next;
            statement_free(s);
            continue;
        }
        if (!stop) {
            mutex_lock(&s->lock);
            tell_statement(s);
            mutex_unlock(&s->lock);
        }
        at = &s->next;
    }
}

void statements_tick(struct cluster *c)
{
    hasher_defer(c->hasher, computes(c));
    statements_tell(c);
}

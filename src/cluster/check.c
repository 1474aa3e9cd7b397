/* Whether a part's file is the head's model: see check.h. */
#include "cluster/check.h"

#include <stdlib.h>

#include "cluster/claim.h"
#include "cluster/internal.h"
#include "gguf/gguf.h"
#include "graph/wants.h"
#include "os/clock.h"
#include "os/log.h"
#include "os/thread.h"
#include "stage/source.h"
#include "stage/share.h"
#include "store/chunks.h"
#include "store/hasher.h"

#include <stdio.h>
#include <string.h>

/* Chunks of the share between two looks at what the head has said meanwhile. */
#define BATCH 64
/* A head reads one chunk of every tensor before it says anything: a thousand of them from a card
 * that gives 20 MB/s take 50 s. */
#define CLAIM_WAIT_NS (120 * SECOND_NS)
/* A list that the hasher completes in the background is looked at this often. */
#define LOOK_NS SECOND_NS

struct check {
    struct check_options options; /* pointers into what follows */
    struct part_order order;
    struct model_list models;
    struct model_file own;
    char folder[MODEL_PATH_TEXT];

    struct thread thread;
    atomic_bool stop, loaded, ended;
    atomic_int state;
    atomic_ullong done, due; /* bytes */
    struct error failure;    /* written before the state becomes CHECK_FAILED */
    _Atomic(struct source *) opened;

    struct mutex lock; /* of the claims */
    struct condition changed;
    struct claims claims;

    /* The thread's own. */
    struct source *source; /* until it is published */
    struct model_file file;
    struct chunks *list;
    struct check_share share;
    uint64_t at_share; /* chunks of it that are done */
};

static bool stopped(const struct check *k)
{
    return atomic_load_explicit(&k->stop, memory_order_acquire);
}

static void set_state(struct check *k, enum check_state state)
{
    atomic_store_explicit(&k->state, (int)state, memory_order_release);
    k->options.on_state(k->options.arg);
}

/* --- claims --- */

/* What the head can't say fails the check; a claim that has come whole stays as it is from then on,
 * so that it may be read without the lock. */
static int claim_state(struct check *k, enum claim_kind kind, bool *complete, struct error *e)
{
    int code = 0;
    mutex_lock(&k->lock);
    *complete = claim_complete(&k->claims, kind);
    if (k->claims.failed[0] != '\0') {
        code = fail(e, FAIL_IO, "the head: %.400s", k->claims.failed);
    }
    mutex_unlock(&k->lock);
    return code;
}

static void wait_changed(struct check *k, uint64_t ns)
{
    mutex_lock(&k->lock);
    if (!stopped(k)) {
        condition_wait(&k->changed, &k->lock, ns);
    }
    mutex_unlock(&k->lock);
}

static int wait_claim(struct check *k, enum claim_kind kind, struct error *e)
{
    uint64_t until = clock_deadline(CLAIM_WAIT_NS);
    bool complete = false;
    for (;;) {
        int code = claim_state(k, kind, &complete, e);
        if (code != 0 || complete) {
            return code;
        }
        if (stopped(k)) {
            return fail(e, FAIL_CANCELLED, "stopped");
        }
        if (clock_now_ns() > until) {
            return fail(e, FAIL_TIMEOUT, "the head did not say what the bytes of %s are",
                        k->order.model_id);
        }
        wait_changed(k, LOOK_NS);
    }
}

/* The name of a file without its folder. */
static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* Compares digests over a selection (NULL: all) with the head's claim. FAIL_NOT_FOUND when the file
 * is another model. */
static int compare(struct check *k, enum claim_kind kind, const uint8_t *selection, struct error *e)
{
    const struct claim *claim = &k->claims.kinds[kind];
    int n = chunks_tensors(k->list), differs = 0;
    uint8_t *mine = n > 0 ? malloc((size_t)n * DIGEST_BYTES) : NULL;
    int code = mine != NULL ? chunks_tensor_digests(k->list, selection, mine, e)
                            : fail(e, FAIL_NOMEM, "memory for the digests of %d tensors", n);
    if (code == 0) {
        differs = claim->tensors == n ? claim_difference(claim, mine, n) : 0;
    }
    if (code == 0 && (claim->tensors != n || differs >= 0)) {
        code =
            fail(e, FAIL_NOT_FOUND,
                 "%s is another model than the head's %s, though its header is the same: tensor "
                 "%s differs. Copy the head's file",
                 file_name(k->file.path), k->order.model_id, chunks_tensor_name(k->list, differs));
    }
    free(mine);
    return code;
}

/* --- hashing --- */

static int hash(struct check *k, const uint64_t *order, uint64_t n, struct error *e)
{
    return hasher_run(k->options.hasher,
                      &(struct hasher_work){ .list = k->list,
                                             .order = order,
                                             .n = n,
                                             .threads = k->options.threads,
                                             .stop = &k->stop,
                                             .bytes = &k->done },
                      e);
}

static int hash_batch(struct check *k, struct error *e)
{
    uint64_t left = k->share.n - k->at_share, n = left < BATCH ? left : BATCH;
    int code = hash(k, k->share.order + k->at_share, n, e);
    k->at_share += code == 0 ? n : 0;
    return code;
}

/* One chunk of each tensor, as the head drew them. */
static int check_sample(struct check *k, struct error *e)
{
    uint64_t *order = malloc(((size_t)chunks_tensors(k->list) + 1) * sizeof *order), n = 0;
    uint8_t *selection = malloc(chunks_selection_bytes(k->list));
    int code =
        order != NULL && selection != NULL ? 0 : fail(e, FAIL_NOMEM, "memory for a comparison");
    if (code == 0) {
        n = chunks_draw(k->list, k->claims.seed, selection, order);
        atomic_fetch_add_explicit(&k->due, n * CHUNK_BYTES, memory_order_relaxed);
        code = hash(k, order, n, e);
    }
    code = code ? code : compare(k, CLAIM_SAMPLE, selection, e);
    free(order);
    free(selection);
    return code;
}

/* Adds the chunks of one rectangle, those that are new behind the others. */
static void add_want(const struct chunks *list, const struct want *want, uint8_t *ordered,
                     struct check_share *share)
{
    int t = chunks_find(list, want->tensor);
    if (t < 0) {
        return;
    }
    for (uint64_t r = 0; r < want_runs(want); r++) {
        chunks_select_bytes(list, t, want_offset(want, r), want->size, share->selection);
    }
    for (uint64_t c = chunks_first(list, t); c < chunks_first(list, t + 1); c++) {
        if (chunks_selected(share->selection, c) && !chunks_selected(ordered, c)) {
            chunks_select(ordered, c);
            share->order[share->n++] = c;
        }
    }
}

int check_share(const struct chunks *list, const struct program *whole,
                const struct placement_plan *plan, int rank, struct check_share *ret,
                struct error *e)
{
    struct arena arena;
    struct program *part = NULL;
    struct want *wants = NULL;
    struct check_share share = {
        .selection = calloc(chunks_selection_bytes(list), 1),
        .order = malloc((chunks_count(list) + 1) * sizeof *share.order),
    };
    uint8_t *ordered = calloc(chunks_selection_bytes(list), 1);
    arena_init(&arena, 0);
    int code = share.selection != NULL && share.order != NULL && ordered != NULL
                   ? rank_program(whole, plan, rank, &arena, &part, e)
                   : fail(e, FAIL_NOMEM, "memory for the chunks of a part");
    int n = code == 0 ? program_wants(part, &arena, &wants, e) : 0;
    code = n < 0 ? n : code;
    for (int i = 0; i < n; i++) {
        add_want(list, &wants[i], ordered, &share);
    }
    free(ordered);
    arena_done(&arena);
    if (code != 0) {
        free(share.selection);
        free(share.order);
        return code;
    }
    *ret = share;
    return 0;
}

/* --- finding the file --- */

static void let_go(struct check *k)
{
    hasher_release(k->options.hasher, k->list);
    source_close(k->source);
    free(k->share.selection);
    free(k->share.order);
    k->list = NULL;
    k->source = NULL;
    k->share = (struct check_share){ 0 };
    k->at_share = 0;
}

/* What this rank reads of the file that is open. */
static int find_share(struct check *k, struct error *e)
{
    const struct program *whole = source_program(k->source);
    if (whole->n_layers != k->order.plan.n_layers) {
        return fail(e, FAIL_FORMAT, "the model has %d layers, the plan %d", whole->n_layers,
                    k->order.plan.n_layers);
    }
    return check_share(k->list, whole, &k->order.plan, k->order.rank, &k->share, e);
}

/* Opens a file that may be the model; what is open then must be it, whatever the list says.
 * FAIL_NOT_FOUND when it isn't, or not any more. */
static int open_file(struct check *k, const struct model_file *file, struct error *e)
{
    int code = source_open(&k->source, file->path, e);
    code = code ? code : model_identify_open(source_gguf(k->source), &k->file, e);
    if (code == 0 && (k->file.size != k->order.model_size ||
                      strcmp(k->file.sha256, k->order.model_sha256) != 0)) {
        code =
            fail(e, FAIL_NOT_FOUND, "%s is no longer the model %s", file->path, k->order.model_id);
    }
    code = code ? code : hasher_take(k->options.hasher, source_gguf(k->source), &k->list, e);
    code = code ? code : find_share(k, e);
    if (code != 0) {
        let_go(k);
    }
    return code;
}

static int open_own(struct check *k, struct error *e)
{
    int code = open_file(k, &k->own, e);
    if (code == FAIL_NOT_FOUND ||
        (code == 0 && memcmp(k->file.stamp, k->own.stamp, DIGEST_BYTES))) {
        let_go(k);
        code = fail(e, FAIL_IO, "%s was written to or replaced while it was being placed",
                    k->own.path);
    }
    return code;
}

static int refuse(struct check *k, struct error *e)
{
    const struct part_order *o = &k->order;
    const struct model_file *other = models_by_name(&k->models, o->model_id);
    if (other != NULL) {
        return fail(e, FAIL_NOT_FOUND,
                    "has another %s: %llu bytes, header SHA-256 %.12s..., where %llu bytes, "
                    "%.12s... are asked for",
                    o->model_id, (unsigned long long)other->size, other->sha256,
                    (unsigned long long)o->model_size, o->model_sha256);
    }
    return fail(e, FAIL_NOT_FOUND,
                "lacks the model %s (%llu bytes, header SHA-256 %.12s...): put the file into %s",
                o->model_id, (unsigned long long)o->model_size, o->model_sha256, k->folder);
}

static int next_like(const struct check *k, int at)
{
    return models_like(&k->models, at, k->order.model_size, k->order.model_sha256);
}

/* The sample, and the share where the head knows it: the same as what is compared with one file
 * beside its loading. */
static int check_now(struct check *k, struct error *e)
{
    int code = check_sample(k, e);
    if (code != 0 || !k->claims.share_follows) {
        return code;
    }
    while (code == 0 && k->at_share < k->share.n) {
        code = hash_batch(k, e);
    }
    code = code ? code : wait_claim(k, CLAIM_SHARE, e);
    return code ? code : compare(k, CLAIM_SHARE, k->share.selection, e);
}

/* Of several files of this size and header, the one that is the head's as far as it says. */
static int choose(struct check *k, struct error *e)
{
    int code = wait_claim(k, CLAIM_SAMPLE, e);
    for (int i = next_like(k, 0); i >= 0 && code == 0; i = next_like(k, i + 1)) {
        struct error local = { 0 };
        code = open_file(k, &k->models.files[i], &local);
        code = code ? code : check_now(k, &local);
        if (code == 0) {
            return 0;
        }
        let_go(k);
        *e = local;
        code = stopped(k) ? code : 0; /* the next one may be it */
    }
    return e->code;
}

static int find(struct check *k, struct error *e)
{
    for (int round = 0; round < 2; round++) {
        *e = (struct error){ 0 };
        int i = next_like(k, 0);
        int code = i < 0                      ? FAIL_NOT_FOUND
                   : next_like(k, i + 1) >= 0 ? choose(k, e)
                                              : open_file(k, &k->models.files[i], e);
        if (code == 0 || code == FAIL_TIMEOUT || stopped(k)) {
            return code;
        }
        bool changed = false;
        if (round == 0) { /* files may have come, gone or changed since the folder was looked at */
            models_scan(&k->models, k->folder, &changed, NULL);
        }
    }
    return e->code != 0 ? e->code : refuse(k, e);
}

static int open_part(struct check *k, struct error *e)
{
    int code = k->options.own != NULL ? open_own(k, e) : find(k, e);
    if (code == 0) {
        atomic_fetch_add_explicit(&k->due, k->share.n * CHUNK_BYTES, memory_order_relaxed);
        atomic_store_explicit(&k->opened, k->source, memory_order_release);
        k->source = NULL;
        set_state(k, CHECK_OPENED);
    }
    return code;
}

/* --- comparing --- */

/* Hashes the share; the sample goes before the rest of it as soon as the head has said it, since
 * it may be all that is waited for. */
static int verify(struct check *k, struct error *e)
{
    bool sampled = false, come = false;
    int code = 0;
    while (code == 0) {
        code = claim_state(k, CLAIM_SAMPLE, &come, e);
        if (code == 0 && come && !sampled) {
            code = check_sample(k, e);
            sampled = code == 0;
        } else if (code == 0 && sampled && !k->claims.share_follows) {
            return 0;
        } else if (code == 0 && k->at_share < k->share.n) {
            code = hash_batch(k, e);
        } else if (code == 0 && !sampled) {
            code = wait_claim(k, CLAIM_SAMPLE, e);
        } else if (code == 0) {
            code = wait_claim(k, CLAIM_SHARE, e);
            return code ? code : compare(k, CLAIM_SHARE, k->share.selection, e);
        }
    }
    return code;
}

/* Whether the part is one of several, and still being loaded: what is hashed then costs no client
 * anything. */
static bool loads(const struct check *k)
{
    return k->order.plan.n_ranks > 1 && !atomic_load_explicit(&k->loaded, memory_order_acquire);
}

/* What is left once the part may serve. A file that changes from here on is no failure: what is
 * served was read before. */
static int compare_rest(struct check *k, struct error *e)
{
    bool come = k->options.own != NULL;
    struct error local = { 0 };
    while (loads(k) && k->at_share < k->share.n) {
        if (hash_batch(k, &local) != 0) {
            return stopped(k) ? FAIL_CANCELLED : 0;
        }
    }
    hasher_complete(k->options.hasher, k->list);
    while (k->options.own == NULL && !stopped(k)) {
        if (claim_state(k, CLAIM_WHOLE, &come, &local) != 0) {
            return 0; /* the head's file has changed: nobody can tell any more */
        }
        if (come && chunks_complete(k->list)) {
            return compare(k, CLAIM_WHOLE, NULL, e);
        }
        wait_changed(k, LOOK_NS);
    }
    return 0;
}

static void *check_main(void *arg)
{
    struct check *k = arg;
    struct error e = { 0 };
    int code = open_part(k, &e);
    if (code == 0 && k->options.own == NULL) {
        code = verify(k, &e);
    }
    if (code == 0) {
        set_state(k, CHECK_VERIFIED);
        code = compare_rest(k, &e);
    }
    hasher_release(k->options.hasher, k->list);
    k->list = NULL;
    if (code != 0 && !stopped(k)) {
        k->failure = e;
        set_state(k, CHECK_FAILED);
    }
    atomic_store_explicit(&k->ended, true, memory_order_release);
    k->options.on_state(k->options.arg);
    return NULL;
}

/* --- life --- */

int check_open(struct check **ret, const struct check_options *options, struct error *e)
{
    struct check *k = calloc(1, sizeof *k);
    int code = k != NULL ? models_copy(options->models, &k->models, e)
                         : fail(e, FAIL_NOMEM, "memory for a part");
    if (code != 0) {
        free(k);
        return code;
    }
    k->options = *options;
    k->order = *options->order;
    snprintf(k->folder, sizeof k->folder, "%s", options->folder);
    if (options->own != NULL) {
        k->own = *options->own;
        k->options.own = &k->own;
    }
    mutex_init(&k->lock);
    condition_init(&k->changed);
    code = thread_start(&k->thread, check_main, k, e);
    if (code != 0) {
        models_done(&k->models);
        mutex_done(&k->lock);
        condition_done(&k->changed);
        free(k);
        return code;
    }
    *ret = k;
    return 0;
}

void check_stop(struct check *k)
{
    if (k != NULL) {
        mutex_lock(&k->lock);
        atomic_store_explicit(&k->stop, true, memory_order_release);
        condition_signal(&k->changed);
        mutex_unlock(&k->lock);
    }
}

void check_loaded(struct check *k)
{
    atomic_store_explicit(&k->loaded, true, memory_order_release);
}

bool check_ended(const struct check *k)
{
    return k == NULL || atomic_load_explicit(&k->ended, memory_order_acquire);
}

void check_close(struct check *k)
{
    if (k == NULL) {
        return;
    }
    check_stop(k);
    thread_join(&k->thread);
    let_go(k);
    source_close(check_take_source(k));
    claims_done(&k->claims);
    models_done(&k->models);
    mutex_done(&k->lock);
    condition_done(&k->changed);
    free(k);
}

enum check_state check_state(const struct check *k, struct error *why)
{
    enum check_state state =
        (enum check_state)atomic_load_explicit(&k->state, memory_order_acquire);
    if (state == CHECK_FAILED) {
        *why = k->failure;
    }
    return state;
}

struct source *check_take_source(struct check *k)
{
    return atomic_exchange_explicit(&k->opened, NULL, memory_order_acq_rel);
}

void check_progress(const struct check *k, uint64_t *done, uint64_t *all)
{
    *done = atomic_load_explicit(&k->done, memory_order_relaxed);
    *all = atomic_load_explicit(&k->due, memory_order_relaxed);
}

int check_take(struct check *k, const json_t *m, struct error *e)
{
    mutex_lock(&k->lock);
    int code = claims_take(&k->claims, m, e);
    condition_signal(&k->changed);
    mutex_unlock(&k->lock);
    return code;
}

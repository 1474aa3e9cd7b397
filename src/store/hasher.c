/* The hasher: see hasher.h. */
#include "store/hasher.h"

#include <stdlib.h>

#include "os/clock.h"
#include "os/file.h"
#include "os/output.h"
#include "os/thread.h"
#include "store/chunks.h"

#include <stdio.h>
#include <string.h>

/* Between two chunks while this device computes: 20 MB/s of its memory's tens of GB/s. */
#define DEFERRED_NS (50 * CLOCK_NS_PER_MS)
/* How long the thread sleeps where nothing is to be done, unless it is woken. */
#define IDLE_NS CLOCK_NS_PER_S
/* Lists of more files than this: the oldest go. 32 bytes for each MiB of a model. */
#define KEPT_MAX 512
/* The largest list that is read: of a model of 32 TB. */
#define KEPT_BYTES (UINT64_C(1) << 30)
#define KEPT_ENDING ".chunks"
#define KEPT_PATH 4096

struct entry {
    struct chunks *list;
    int users; /* among them the hasher itself, while it is wanted */
    int runs;  /* of hasher_run: they go before the thread */
    bool wanted;
    uint64_t at;   /* the thread's next chunk; its own */
    uint64_t kept; /* digests that are on disk; the thread's, or the last user's */
    struct entry *next;
};

struct hasher {
    struct hasher_options options;
    char folder[KEPT_PATH];
    struct mutex lock; /* of all that follows */
    struct condition changed;
    struct entry *entries;
    struct thread thread;
    bool started, stop;
    atomic_bool busy; /* written by an event loop, which waits for no lock */
};

/* --- on disk --- */

static int kept_path(const struct hasher *h, const struct chunks *list, char ret[static KEPT_PATH],
                     struct error *e)
{
    char name[DIGEST_TEXT];
    int code = digest_of_text(chunks_path(list), name, e);
    if (code == 0 &&
        (size_t)snprintf(ret, KEPT_PATH, "%s/%s" KEPT_ENDING, h->folder, name) >= KEPT_PATH) {
        code = fail(e, FAIL_LIMIT, "the path of a list of chunks is too long");
    }
    return code;
}

/* A list that can't be read is made again: nothing of it is needed to go on. */
static void load_kept(const struct hasher *h, struct chunks *list)
{
    char path[KEPT_PATH];
    struct buffer text;
    buffer_init(&text, KEPT_BYTES);
    if (kept_path(h, list, path, NULL) == 0 && file_exists(path) &&
        file_read_all(path, &text, NULL) == 0) {
        chunks_decode(list, buffer_bytes(&text), NULL);
    }
    buffer_done(&text);
}

struct oldest {
    const struct hasher *hasher;
    int n;
    char path[KEPT_PATH];
    int64_t modified_ns;
};

static bool find_oldest(void *arg, const char *name)
{
    struct oldest *o = arg;
    char path[KEPT_PATH];
    struct file_identity now;
    size_t n = strlen(name), tail = strlen(KEPT_ENDING);
    if (n < tail || strcmp(name + n - tail, KEPT_ENDING) != 0 ||
        (size_t)snprintf(path, sizeof path, "%s/%s", o->hasher->folder, name) >= sizeof path ||
        file_identify(path, &now, NULL) != 0) {
        return true;
    }
    if (o->n++ == 0 || now.modified_ns < o->modified_ns) {
        o->modified_ns = now.modified_ns;
        memcpy(o->path, path, sizeof path);
    }
    return true;
}

/* Keeps what was made. Without a place for it, it is made again at the next start. */
static void save(const struct hasher *h, struct entry *entry)
{
    char path[KEPT_PATH];
    struct buffer text;
    uint64_t done = chunks_done(entry->list);
    if (done == entry->kept) {
        return;
    }
    buffer_init(&text, KEPT_BYTES);
    if (chunks_encode(entry->list, &text, NULL) == 0 &&
        kept_path(h, entry->list, path, NULL) == 0 &&
        file_make_directory(h->folder, 0700, NULL) == 0 &&
        file_write_atomic(path, buffer_bytes(&text), 0600, NULL) == 0) {
        struct oldest o = { .hasher = h };
        entry->kept = done;
        if (file_list(h->folder, find_oldest, &o, NULL) == 0 && o.n > KEPT_MAX) {
            file_remove(o.path);
        }
    }
    buffer_done(&text);
}

/* --- lists --- */

static struct entry *entry_of(struct hasher *h, const struct chunks *list)
{
    struct entry *x = h->entries;
    while (x != NULL && x->list != list) {
        x = x->next;
    }
    return x;
}

/* Takes one user from an entry, under the lock. The entry where that was the last one, to be
 * disposed of without the lock; NULL otherwise. */
static struct entry *release(struct hasher *h, struct entry *x)
{
    if (--x->users > 0) {
        return NULL;
    }
    struct entry **at = &h->entries;
    while (*at != x) {
        at = &(*at)->next;
    }
    *at = x->next;
    return x;
}

static void dispose(const struct hasher *h, struct entry *x)
{
    if (x != NULL) {
        save(h, x);
        chunks_close(x->list);
        free(x);
    }
}

void hasher_release(struct hasher *h, struct chunks *list)
{
    if (list != NULL) {
        mutex_lock(&h->lock);
        struct entry *last = release(h, entry_of(h, list));
        mutex_unlock(&h->lock);
        dispose(h, last);
    }
}

static struct entry *entry_like(struct hasher *h, const struct chunks *list)
{
    struct entry *x = h->entries;
    while (x != NULL && (strcmp(chunks_path(x->list), chunks_path(list)) != 0 ||
                         memcmp(chunks_stamp_of(x->list), chunks_stamp_of(list), DIGEST_BYTES))) {
        x = x->next;
    }
    return x;
}

int hasher_take(struct hasher *h, const struct gguf *g, struct chunks **ret, struct error *e)
{
    struct chunks *list = NULL;
    struct entry *mine = calloc(1, sizeof *mine);
    int code = mine != NULL ? chunks_open(&list, g, e)
                            : fail(e, FAIL_NOMEM, "memory for a list of chunks");
    if (code != 0) {
        free(mine);
        return code;
    }
    load_kept(h, list);
    mutex_lock(&h->lock);
    struct entry *there = entry_like(h, list);
    if (there == NULL) {
        *mine = (struct entry){ .list = list, .kept = chunks_done(list), .next = h->entries };
        h->entries = there = mine;
    }
    there->users++;
    *ret = there->list;
    mutex_unlock(&h->lock);
    if (there != mine) {
        chunks_close(list);
        free(mine);
    }
    return 0;
}

/* --- the thread --- */

static struct entry *next_entry(struct hasher *h)
{
    struct entry *x = h->entries;
    while (x != NULL && (!x->wanted || x->runs > 0)) {
        x = x->next;
    }
    return x;
}

/* One chunk of an entry, or its end; without the lock, which others would wait for longer than they
 * should: this thread rarely gets a core where many want one. The thread is a user of the entry. */
static void advance(struct hasher *h, struct entry *x, uint8_t *buffer)
{
    uint64_t count = chunks_count(x->list);
    int code = 0;
    while (x->at < count && chunks_have(x->list, x->at)) {
        x->at++;
    }
    if (x->at < count) {
        code = chunks_make(x->list, x->at, buffer, NULL);
    }
    if (code == 0 && !chunks_complete(x->list)) {
        return;
    }
    save(h, x);
    mutex_lock(&h->lock);
    x->wanted = false;
    struct entry *last = release(h, x);
    mutex_unlock(&h->lock);
    dispose(h, last);
    if (h->options.on_done != NULL) {
        h->options.on_done(h->options.arg);
    }
}

static void *hasher_main(void *arg)
{
    struct hasher *h = arg;
    uint8_t *buffer = malloc(CHUNK_BYTES);
    thread_background();
    mutex_lock(&h->lock);
    while (!h->stop && buffer != NULL) {
        struct entry *x = next_entry(h);
        if (x != NULL) {
            mutex_unlock(&h->lock);
            advance(h, x, buffer);
            mutex_lock(&h->lock);
        }
        if (!h->stop && (x == NULL || atomic_load_explicit(&h->busy, memory_order_relaxed))) {
            condition_wait(&h->changed, &h->lock, x == NULL ? IDLE_NS : DEFERRED_NS);
        }
    }
    mutex_unlock(&h->lock);
    free(buffer);
    return NULL;
}

void hasher_complete(struct hasher *h, struct chunks *list)
{
    mutex_lock(&h->lock);
    struct entry *x = entry_of(h, list);
    if (!x->wanted && !chunks_complete(list)) {
        x->wanted = true;
        x->users++;
        /* Without a thread there is no list; all else goes on. */
        h->started = h->started || thread_start(&h->thread, hasher_main, h, NULL) == 0;
        condition_signal(&h->changed);
    }
    mutex_unlock(&h->lock);
}

void hasher_defer(struct hasher *h, bool busy)
{
    atomic_store_explicit(&h->busy, busy, memory_order_relaxed);
}

/* --- in the foreground --- */

struct run {
    const struct hasher_work *work;
    atomic_ullong next;
    atomic_bool failed;
    struct mutex lock;
    struct error error; /* the first one */
};

static void *run_main(void *arg)
{
    struct run *r = arg;
    const struct hasher_work *w = r->work;
    struct error e = { 0 };
    uint8_t *buffer = malloc(CHUNK_BYTES);
    int code = buffer != NULL ? 0 : fail(&e, FAIL_NOMEM, "memory for reading a model");
    while (code == 0 && !atomic_load_explicit(&r->failed, memory_order_relaxed)) {
        uint64_t i = atomic_fetch_add_explicit(&r->next, 1, memory_order_relaxed);
        if (i >= w->n) {
            break;
        }
        code = atomic_load_explicit(w->stop, memory_order_acquire)
                   ? fail(&e, FAIL_CANCELLED, "hashing was cancelled")
                   : chunks_make(w->list, w->order[i], buffer, &e);
        if (code == 0 && w->bytes != NULL) {
            atomic_fetch_add_explicit(w->bytes, CHUNK_BYTES, memory_order_relaxed);
        }
    }
    free(buffer);
    if (code != 0) {
        mutex_lock(&r->lock);
        if (!atomic_exchange_explicit(&r->failed, true, memory_order_relaxed)) {
            r->error = e;
        }
        mutex_unlock(&r->lock);
    }
    return NULL;
}

static void count_runs(struct hasher *h, const struct chunks *list, int by)
{
    mutex_lock(&h->lock);
    entry_of(h, list)->runs += by;
    condition_signal(&h->changed);
    mutex_unlock(&h->lock);
}

int hasher_run(struct hasher *h, const struct hasher_work *work, struct error *e)
{
    struct run r = { .work = work };
    struct thread helpers[HASHER_MAX_THREADS];
    int n = 0;
    mutex_init(&r.lock);
    count_runs(h, work->list, 1);
    while (n < HASHER_MAX_THREADS - 1 && n < work->threads - 1 && (uint64_t)n + 1 < work->n &&
           thread_start(&helpers[n], run_main, &r, NULL) == 0) {
        n++;
    }
    run_main(&r);
    while (n > 0) {
        thread_join(&helpers[--n]);
    }
    count_runs(h, work->list, -1);
    mutex_done(&r.lock);
    if (atomic_load_explicit(&r.failed, memory_order_relaxed)) {
        return fail(e, r.error.code, "%s", r.error.text);
    }
    return 0;
}

/* --- life --- */

int hasher_open(struct hasher **ret, const struct hasher_options *options, struct error *e)
{
    struct hasher *h = calloc(1, sizeof *h);
    if (h == NULL) {
        return fail(e, FAIL_NOMEM, "memory for the hasher");
    }
    h->options = *options;
    snprintf(h->folder, sizeof h->folder, "%s", options->folder);
    mutex_init(&h->lock);
    condition_init(&h->changed);
    *ret = h;
    return 0;
}

void hasher_close(struct hasher *h)
{
    if (h == NULL) {
        return;
    }
    mutex_lock(&h->lock);
    h->stop = true;
    condition_signal(&h->changed);
    mutex_unlock(&h->lock);
    if (h->started) {
        thread_join(&h->thread);
    }
    while (h->entries != NULL) {
        dispose(h, release(h, h->entries));
    }
    condition_done(&h->changed);
    mutex_done(&h->lock);
    free(h);
}

/* Which GGUF files are in a folder, and what identifies them. */
#include "cluster/models.h"

#include <stdlib.h>

#include "base/display.h"
#include "base/model_name.h"
#include "gguf/gguf.h"
#include "os/file.h"
#include "os/log.h"
#include "os/thread.h"
#include "store/chunks.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static void stem_of(const char *path, char id[static MODEL_ID_TEXT])
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    /* Names of files may be any bytes; an id goes into JSON, logs and terminals. */
    display_copy(id, MODEL_ID_TEXT, bytes_of(name, model_name_parse(bytes_text(name)).stem));
}

int model_identify_open(const struct gguf *g, struct model_file *ret, struct error *e)
{
    struct model_file f = { .size = gguf_file_bytes(g), .parts = gguf_parts(g) };
    const char *path = gguf_part_path(g, 0);
    struct digest *d = NULL;
    if (strlen(path) >= sizeof f.path) {
        return fail(e, FAIL_LIMIT, "path of more than %d bytes", MODEL_PATH_TEXT - 1);
    }
    snprintf(f.path, sizeof f.path, "%s", path);
    stem_of(path, f.id);
    struct file_identity *parts = calloc((size_t)f.parts, sizeof *parts);
    int code = parts != NULL ? digest_open(&d, e) : fail(e, FAIL_NOMEM, "memory for %s", path);
    if (code == 0) {
        digest_add(d, gguf_header(g));
        digest_text(d, f.sha256);
        for (int i = 0; i < f.parts; i++) {
            parts[i] = *gguf_part_identity(g, i);
        }
        code = chunks_stamp(parts, f.parts, f.stamp, e);
    }
    digest_close(d);
    free(parts);
    if (code == 0) {
        *ret = f;
    }
    return code;
}

int model_identify(const char *path, struct model_file *ret, struct error *e)
{
    struct gguf *g = NULL;
    if (strlen(path) >= MODEL_PATH_TEXT) {
        return fail(e, FAIL_LIMIT, "path of more than %d bytes", MODEL_PATH_TEXT - 1);
    }
    int code = gguf_open(&g, path, e);
    if (code == 0) {
        code = model_identify_open(g, ret, e);
        gguf_close(g);
    }
    return code;
}

/* --- the folder --- */

struct scan {
    const char *folder;
    struct model_list *old;
    struct model_list new;
    bool changed;
    struct error *error;
};

static const struct model_file *known(const struct model_list *list, const char *path)
{
    for (int i = 0; i < list->n; i++) {
        if (strcmp(list->files[i].path, path) == 0) {
            return &list->files[i];
        }
    }
    return NULL;
}

/* True when the files at path are those that were read before. A model of which a part is missing
 * has a stamp of zeros until the part is there. */
static bool still_so(const struct model_file *f)
{
    uint8_t now[DIGEST_BYTES] = { 0 };
    if (f->parts == 0) {
        return false;
    }
    chunks_stamp_now(f->path, f->parts, now, NULL);
    return memcmp(now, f->stamp, sizeof now) == 0;
}

static bool scan_entry(void *arg, const char *name)
{
    struct scan *s = arg;
    struct model_name parsed = model_name_parse(bytes_text(name));
    int of = parsed.parts;
    if (!parsed.is_file || parsed.part > 1 || s->new.n == MODELS_MAX) {
        return true;
    }
    struct model_file *to = &s->new.files[s->new.n];
    char path[MODEL_PATH_TEXT];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", s->folder, name) >= sizeof path) {
        return true;
    }
    const struct model_file *before = known(s->old, path);
    if (before != NULL && still_so(before)) {
        *to = *before;
        s->new.n++;
        return true;
    }
    struct error e = { 0 };
    s->changed = true;
    *to = (struct model_file){ 0 };
    if (model_identify(path, to, &e) != 0) {
        log_warn("cluster", "not a model that can be served: %s", e.text);
        snprintf(to->path, sizeof to->path, "%s", path);
        stem_of(path, to->id);
        /* Without memory for a look at it there will be another look. */
        to->parts = e.code == FAIL_NOMEM ? 0 : of > 0 && of <= GGUF_MAX_PARTS ? of : 1;
        if (to->parts > 0) {
            chunks_stamp_now(path, to->parts, to->stamp, NULL);
        }
        to->bad = true;
    }
    s->new.n++;
    return true;
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const struct model_file *)a)->id, ((const struct model_file *)b)->id);
}

int models_scan(struct model_list *list, const char *folder, bool *changed, struct error *e)
{
    struct scan s = { .folder = folder, .old = list, .error = e };
    s.new.files = calloc(MODELS_MAX, sizeof *s.new.files);
    if (s.new.files == NULL) {
        return fail(e, FAIL_NOMEM, "memory for the list of models");
    }
    int code = file_exists(folder) ? file_list(folder, scan_entry, &s, e) : 0;
    if (code != 0) {
        free(s.new.files);
        return code;
    }
    qsort(s.new.files, (size_t)s.new.n, sizeof *s.new.files, by_id);
    *changed = s.changed || s.new.n != list->n;
    struct model_file *less =
        realloc(s.new.files, (size_t)(s.new.n ? s.new.n : 1) * sizeof *s.new.files);
    s.new.files = less ? less : s.new.files;
    models_done(list);
    *list = s.new;
    return 0;
}

void models_done(struct model_list *list)
{
    free(list->files);
    *list = (struct model_list){ 0 };
}

int models_copy(const struct model_list *list, struct model_list *ret, struct error *e)
{
    struct model_file *files = calloc(list->n ? (size_t)list->n : 1, sizeof *files);
    if (files == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a list of models");
    }
    if (list->n > 0) {
        memcpy(files, list->files, (size_t)list->n * sizeof *files);
    }
    *ret = (struct model_list){ files, list->n };
    return 0;
}

/* --- in a thread --- */

struct models_scan {
    struct thread thread;
    struct model_list list; /* the thread's until it has ended */
    char folder[MODEL_PATH_TEXT];
    bool changed, failed;
    atomic_bool ended;
    void (*wake)(void *arg);
    void *arg;
};

static void *scan_main(void *arg)
{
    struct models_scan *s = arg;
    s->failed = models_scan(&s->list, s->folder, &s->changed, NULL) != 0;
    atomic_store_explicit(&s->ended, true, memory_order_release);
    s->wake(s->arg);
    return NULL;
}

int models_scan_begin(struct models_scan **ret, const struct model_list *list, const char *folder,
                      void (*wake)(void *arg), void *arg, struct error *e)
{
    struct models_scan *s = calloc(1, sizeof *s);
    int code = s != NULL ? models_copy(list, &s->list, e)
                         : fail(e, FAIL_NOMEM, "memory for a look at the models");
    if (code == 0) {
        snprintf(s->folder, sizeof s->folder, "%s", folder);
        s->wake = wake;
        s->arg = arg;
        code = thread_start(&s->thread, scan_main, s, e);
    }
    if (code != 0) {
        if (s != NULL) {
            models_done(&s->list);
        }
        free(s);
        return code;
    }
    *ret = s;
    return 0;
}

bool models_scan_end(struct models_scan **scan, struct model_list *list, bool *changed)
{
    struct models_scan *s = *scan;
    if (!atomic_load_explicit(&s->ended, memory_order_acquire)) {
        return false;
    }
    thread_join(&s->thread);
    *changed = !s->failed && s->changed;
    if (!s->failed) {
        models_done(list);
        *list = s->list;
    } else {
        models_done(&s->list);
    }
    free(s);
    *scan = NULL;
    return true;
}

void models_scan_drop(struct models_scan *s)
{
    if (s != NULL) {
        thread_join(&s->thread);
        models_done(&s->list);
        free(s);
    }
}

/* --- finding --- */

int models_like(const struct model_list *list, int at, uint64_t size, const char *sha256)
{
    for (int i = at; i < list->n; i++) {
        const struct model_file *f = &list->files[i];
        if (!f->bad && f->size == size && strcmp(f->sha256, sha256) == 0) {
            return i;
        }
    }
    return -1;
}

const struct model_file *models_by_name(const struct model_list *list, const char *name)
{
    const struct model_file *best = NULL;
    enum model_name_match match = MODEL_NAME_OTHER;
    for (int i = 0; i < list->n; i++) {
        const struct model_file *f = &list->files[i];
        enum model_name_match m = f->bad ? MODEL_NAME_OTHER : model_name_compare(f->id, name);
        if (m > match) {
            match = m;
            best = f;
        }
    }
    return best;
}

/* Which GGUF files are in a folder, and what identifies them. */
#include "cluster/models.h"

#include <stdlib.h>

#include "base/display.h"
#include "gguf/gguf.h"
#include "os/file.h"
#include "os/log.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <openssl/evp.h>

#define ENDING ".gguf"
/* "-00001-of-00003" before the ending marks a part of a split model. */
#define PART_TEXT 15

static int hex_sha256(struct bytes data, char out[static MODEL_SHA_TEXT], struct error *e)
{
    unsigned char digest[32];
    unsigned size = sizeof digest;
    if (EVP_Digest(data.data, data.size, digest, &size, EVP_sha256(), NULL) != 1) {
        return fail(e, FAIL_STATE, "SHA-256 is not available");
    }
    for (unsigned i = 0; i < size; i++) {
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
    }
    return 0;
}

static bool ends_with(const char *name, const char *ending)
{
    size_t n = strlen(name), k = strlen(ending);
    if (n < k) {
        return false;
    }
    for (size_t i = 0; i < k; i++) {
        if (tolower((unsigned char)name[n - k + i]) != ending[i]) {
            return false;
        }
    }
    return true;
}

/* The number of a part of a split model ("NAME-00002-of-00003.gguf": 2), or 0. */
static int part_number(const char *stem, size_t n)
{
    if (n <= PART_TEXT) {
        return 0;
    }
    const char *p = stem + n - PART_TEXT;
    int part = 0;
    for (int i = 0; i < PART_TEXT; i++) {
        bool digit = isdigit((unsigned char)p[i]) != 0;
        bool fits = i == 0 || i == 6 || i == 9 ? p[i] == '-'
                    : i == 7                   ? p[i] == 'o'
                    : i == 8                   ? p[i] == 'f'
                                               : digit;
        if (!fits) {
            return 0;
        }
        part = i >= 1 && i <= 5 ? part * 10 + (p[i] - '0') : part;
    }
    return part;
}

static void stem_of(const char *path, char id[static MODEL_ID_TEXT])
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    size_t n = strlen(name) - (ends_with(name, ENDING) ? strlen(ENDING) : 0);
    if (part_number(name, n) > 0) {
        n -= PART_TEXT;
    }
    /* Names of files may be any bytes; an id goes into JSON, logs and terminals. */
    display_copy(id, MODEL_ID_TEXT, bytes_of(name, n));
}

int model_identify(const char *path, struct model_file *ret, struct error *e)
{
    struct model_file f = { 0 };
    struct file_identity identity;
    struct gguf *g = NULL;
    if (strlen(path) >= sizeof f.path) {
        return fail(e, FAIL_LIMIT, "path of more than %d bytes", MODEL_PATH_TEXT - 1);
    }
    int code = file_identify(path, &identity, e);
    if (code != 0) {
        return code;
    }
    f.changed_ns = identity.modified_ns;
    code = gguf_open(&g, path, e);
    if (code != 0) {
        return code;
    }
    snprintf(f.path, sizeof f.path, "%s", path);
    stem_of(path, f.id);
    f.size = gguf_file_bytes(g);
    code = hex_sha256(gguf_header(g), f.sha256, e);
    gguf_close(g);
    if (code == 0) {
        *ret = f;
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

/* True when the file at path is the one that was read before. */
static bool still_so(const struct model_file *f)
{
    struct file_identity now;
    return file_identify(f->path, &now, NULL) == 0 && now.modified_ns == f->changed_ns;
}

static bool scan_entry(void *arg, const char *name)
{
    struct scan *s = arg;
    size_t n = strlen(name);
    if (!ends_with(name, ENDING) || part_number(name, n - strlen(ENDING)) > 1 ||
        s->new.n == MODELS_MAX) {
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
        struct file_identity now;
        /* Without memory for a look at it there will be another look. */
        if (e.code != FAIL_NOMEM && file_identify(path, &now, NULL) == 0) {
            to->changed_ns = now.modified_ns;
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

const struct model_file *models_identified(const struct model_list *list, uint64_t size,
                                           const char *sha256)
{
    for (int i = 0; i < list->n; i++) {
        const struct model_file *f = &list->files[i];
        if (!f->bad && f->size == size && strcmp(f->sha256, sha256) == 0) {
            return f;
        }
    }
    return NULL;
}

static bool same_name(const char *a, const char *b, bool strict)
{
    if (strict) {
        return strcmp(a, b) == 0;
    }
    size_t n = strlen(b) - (ends_with(b, ENDING) ? strlen(ENDING) : 0);
    if (strlen(a) != n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (tolower((unsigned char)a[i]) != tolower((unsigned char)b[i])) {
            return false;
        }
    }
    return true;
}

const struct model_file *models_by_name(const struct model_list *list, const char *name)
{
    for (int strict = 1; strict >= 0; strict--) {
        for (int i = 0; i < list->n; i++) {
            if (!list->files[i].bad && same_name(list->files[i].id, name, strict)) {
                return &list->files[i];
            }
        }
    }
    return NULL;
}

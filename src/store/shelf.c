/* The models folder: see shelf.h. */
#include "store/shelf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/model_name.h"
#include "os/file.h"
#include "os/output.h"

#define UNFINISHED ".part" /* store/part.c: and ".part.json" beside it */
#define STATE ".json"

bool shelf_is_whole(const struct shelf_model *m)
{
    return m->files >= m->parts && !m->unfinished;
}

static bool take_ending(char *name, const char *ending)
{
    size_t n = strlen(name), k = strlen(ending);
    if (n <= k || strcmp(name + n - k, ending) != 0)
        return false;
    name[n - k] = '\0';
    return true;
}

/* What a file's name says: the model's name in place of it. False: it is no model's file. */
static bool parse(char name[static SHELF_NAME], struct model_name *ret, bool *unfinished)
{
    *unfinished = take_ending(name, UNFINISHED);
    *ret = model_name_parse(bytes_text(name));
    name[ret->stem] = '\0';
    return ret->is_file;
}

/* --- listing --- */

struct listing {
    const char *folder;
    struct shelf_model *models;
    int n;
};

static struct shelf_model *find_or_add(struct listing *l, const char *name)
{
    for (int i = 0; i < l->n; i++)
        if (strcmp(l->models[i].name, name) == 0)
            return &l->models[i];
    if (l->n == SHELF_MAX)
        return NULL;
    struct shelf_model *m = &l->models[l->n++];
    *m = (struct shelf_model){ .parts = 1 };
    memcpy(m->name, name, strlen(name) + 1);
    return m;
}

static bool take_entry(void *arg, const char *entry)
{
    struct listing *l = arg;
    struct model_name parsed;
    struct file_identity file;
    bool unfinished;
    char name[SHELF_NAME], path[SHELF_PATH];
    int n = snprintf(path, sizeof path, "%s/%s", l->folder, entry);
    if (strlen(entry) >= sizeof name || n >= (int)sizeof path)
        return true;
    memcpy(name, entry, strlen(entry) + 1);
    if (!parse(name, &parsed, &unfinished) || !file_is_regular(path) ||
        file_identify(path, &file, NULL) != 0)
        return true;
    struct shelf_model *m = find_or_add(l, name);
    if (m == NULL)
        return false;
    int64_t modified_s = file.modified_ns / 1000000000;
    m->bytes += file.size;
    m->modified_s = modified_s > m->modified_s ? modified_s : m->modified_s;
    m->files += !unfinished;
    m->parts = parsed.parts > m->parts ? parsed.parts : m->parts;
    m->unfinished |= unfinished;
    if (m->path[0] == '\0' || strcmp(path, m->path) < 0)
        memcpy(m->path, path, (size_t)n + 1);
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct shelf_model *)a)->name, ((const struct shelf_model *)b)->name);
}

int shelf_list(const char *folder, struct shelf_model **ret, int *n, struct error *e)
{
    struct listing l = { .folder = folder };
    l.models = calloc(SHELF_MAX, sizeof *l.models);
    if (!l.models)
        return fail(e, FAIL_NOMEM, "memory for the list of models");
    int code = file_exists(folder) ? file_list(folder, take_entry, &l, e) : 0;
    if (code != 0) {
        free(l.models);
        return code;
    }
    qsort(l.models, (size_t)l.n, sizeof *l.models, by_name);
    *ret = l.models;
    *n = l.n;
    return 0;
}

int shelf_find(const char *folder, const char *name, struct shelf_model *ret, struct error *e)
{
    struct shelf_model *all = NULL;
    int n = 0, code = shelf_list(folder, &all, &n, e);
    const struct shelf_model *best = NULL;
    enum model_name_match match = MODEL_NAME_OTHER;
    for (int i = 0; i < n; i++) {
        enum model_name_match m = model_name_compare(all[i].name, name);
        if (m > match) {
            match = m;
            best = &all[i];
        }
    }
    if (code == 0 && best)
        *ret = *best;
    else if (code == 0)
        code = fail(e, FAIL_NOT_FOUND, "no model \"%s\" in %s (shoal list names those that are)",
                    name, folder);
    free(all);
    return code;
}

/* --- removing --- */

struct removal {
    const char *folder;
    const struct shelf_model *model;
    struct error *error;
    int code, removed;
};

static bool remove_entry(void *arg, const char *entry)
{
    struct removal *r = arg;
    struct model_name parsed;
    bool unfinished;
    char name[SHELF_NAME], path[SHELF_PATH];
    int n = snprintf(path, sizeof path, "%s/%s", r->folder, entry);
    if (strlen(entry) >= sizeof name || n >= (int)sizeof path)
        return true;
    memcpy(name, entry, strlen(entry) + 1);
    bool state = take_ending(name, STATE);
    bool ours = parse(name, &parsed, &unfinished) && (unfinished || !state) &&
                strcmp(name, r->model->name) == 0;
    if (!ours)
        return true;
    if (file_remove(path))
        r->removed++;
    else
        r->code = fail(r->error, FAIL_AUTH, "%s can't be removed", path);
    return true;
}

int shelf_remove(const char *folder, const struct shelf_model *m, struct error *e)
{
    struct removal r = { .folder = folder, .model = m, .error = e };
    int code = 0, before;
    do { /* a folder that changes may leave entries out of its listing */
        before = r.removed;
        code = file_list(folder, remove_entry, &r, e);
    } while (code == 0 && r.code == 0 && r.removed > before);
    return code ? code : r.code;
}

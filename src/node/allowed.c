/* Hosts and origins that this device's owner allowed, kept in its home. */
#include "node/allowed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "os/file.h"

#define PATH_TEXT 1100
/* Two lists of the longest entries. */
#define MAX_FILE (2 * ALLOW_MAX * (ALLOW_TEXT + 8))
#define FILE_MODE 0600

typedef int check(const char *text, struct error *e);

struct kind {
    const char *key;
    check *check;
};

static const struct kind kinds[] = { { "origins", allow_check_origin },
                                     { "hosts", allow_check_host } };

static int load(const char *path, json_t **ret, struct error *e)
{
    struct buffer text;
    json_error_t why;
    if (!file_exists(path)) {
        *ret = json_object();
        return *ret != NULL ? 0 : fail(e, FAIL_NOMEM, "memory for what is allowed");
    }
    buffer_init(&text, MAX_FILE);
    int code = file_read_all(path, &text, e);
    *ret = code == 0 ? json_loadb(buffer_cstr(&text), text.size, 0, &why) : NULL;
    if (code == 0 && !json_is_object(*ret)) {
        code = fail(e, FAIL_FORMAT,
                    "%s is not what --allow-origin wrote: put it right or remove it", path);
    }
    buffer_done(&text);
    return code;
}

static bool has(const json_t *list, const char *text)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (strcmp(json_string_value(json_array_get(list, i)), text) == 0) {
            return true;
        }
    }
    return false;
}

/* Adds one list's texts; entries of the file are checked as those of the command line are. */
static int add(json_t *root, const struct kind *kind, const char *const *more, int n, bool *changed,
               struct error *e)
{
    json_t *list = json_array(), *old = json_object_get(root, kind->key);
    size_t i = 0;
    json_t *entry = NULL;
    int code = 0;
    json_array_foreach(old, i, entry)
    {
        const char *text = json_string_value(entry);
        code = code ? code : kind->check(text != NULL ? text : "", e);
        json_array_append(list, entry);
    }
    for (int k = 0; k < n && code == 0; k++) {
        bool none = strcmp(more[k], "none") == 0;
        code = none ? 0 : kind->check(more[k], e);
        if (none) {
            json_array_clear(list);
        } else if (code == 0 && !has(list, more[k])) {
            json_array_append_new(list, json_string(more[k]));
        }
    }
    if (code == 0 && json_array_size(list) > ALLOW_MAX) {
        code = fail(e, FAIL_LIMIT, "more than %d %s", ALLOW_MAX, kind->key);
    }
    *changed |=
        json_array_size(list) != json_array_size(old) || (old != NULL && !json_equal(list, old));
    json_object_set_new(root, kind->key, list);
    return code;
}

static int texts_of(const json_t *list, const char **ret)
{
    int n = (int)json_array_size(list);
    for (int i = 0; i < n; i++) {
        ret[i] = json_string_value(json_array_get(list, (size_t)i));
    }
    return n;
}

int allowed_open(struct allowed *ret, const char *home, const struct allowed_more *more,
                 struct error *e)
{
    char path[PATH_TEXT];
    json_t *root = NULL;
    bool changed = false;
    snprintf(path, sizeof path, "%s/allowed.json", home);
    int code = load(path, &root, e);
    code = code ? code : add(root, &kinds[0], more->origins, more->n_origins, &changed, e);
    code = code ? code : add(root, &kinds[1], more->hosts, more->n_hosts, &changed, e);
    if (code == 0 && changed) {
        char *text = json_dumps(root, JSON_INDENT(2));
        code = text != NULL ? file_write_atomic(path, bytes_text(text), FILE_MODE, e)
                            : fail(e, FAIL_NOMEM, "memory for what is allowed");
        free(text);
    }
    if (code != 0) {
        json_decref(root);
        return code;
    }
    *ret = (struct allowed){ .json = root };
    ret->allow.n_origins = texts_of(json_object_get(root, kinds[0].key), ret->origins);
    ret->allow.n_hosts = texts_of(json_object_get(root, kinds[1].key), ret->hosts);
    ret->allow.origins = ret->origins;
    ret->allow.hosts = ret->hosts;
    return 0;
}

void allowed_close(struct allowed *a)
{
    json_decref(a->json);
    *a = (struct allowed){ 0 };
}

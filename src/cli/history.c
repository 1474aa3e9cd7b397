/* See history.h. */
#include "cli/history.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "os/file.h"

#define FILE_MODE 0600
#define FOLDER_MODE 0700

/* The last whole lines of the file, HISTORY_KEEP bytes at most. */
static int read_end(const char *path, struct buffer *ret, struct error *e)
{
    struct file_identity file;
    int r = file_identify(path, &file, e);
    if (r)
        return r;
    size_t size = file.size < HISTORY_KEEP ? (size_t)file.size : HISTORY_KEEP;
    uint8_t *all = malloc(size + 1);
    r = all ? file_read_range(path, file.size - size, all, size, e)
            : fail(e, FAIL_NOMEM, "%zu bytes of %s", size, path);
    if (!r) {
        /* What is cut at the front begins in the middle of a line. */
        const uint8_t *first = size < file.size ? memchr(all, '\n', size) : NULL;
        size_t skip = first ? (size_t)(first + 1 - all) : 0;
        r = buffer_append(ret, bytes_of(all + skip, size - skip));
    }
    free(all);
    return r;
}

int history_load(const char *path, void (*fn)(void *arg, const char *text), void *arg,
                 struct error *e)
{
    struct buffer all;
    buffer_init(&all, HISTORY_KEEP);
    int r = read_end(path, &all, e);
    const char *at = buffer_cstr(&all), *end = at + all.size;
    while (!r && at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t n = (size_t)((stop ? stop : end) - at);
        json_t *text = json_loadb(at, n, JSON_DECODE_ANY, NULL);
        if (json_is_string(text))
            fn(arg, json_string_value(text));
        json_decref(text);
        at += n + 1;
    }
    buffer_done(&all);
    return r == FAIL_NOT_FOUND ? 0 : r;
}

static int cut(const char *path, struct error *e)
{
    struct buffer end;
    buffer_init(&end, HISTORY_KEEP);
    int r = read_end(path, &end, e);
    if (!r)
        r = file_write_atomic(path, buffer_bytes(&end), FILE_MODE, e);
    buffer_done(&end);
    return r;
}

static int make_folder(const char *path, struct error *e)
{
    const char *slash = strrchr(path, '/');
    struct buffer folder;
    if (!slash || slash == path)
        return 0;
    buffer_init(&folder, strlen(path));
    int r = buffer_append(&folder, bytes_of(path, (size_t)(slash - path)));
    if (!r)
        r = file_make_directory(buffer_cstr(&folder), FOLDER_MODE, e);
    buffer_done(&folder);
    return r;
}

int history_add(const char *path, const char *text, struct error *e)
{
    json_t *string = strlen(text) <= HISTORY_MAX_TEXT ? json_string(text) : NULL;
    char *line = json_dumps(string, JSON_ENCODE_ANY);
    json_decref(string);
    if (!line)
        return 0;
    struct buffer whole;
    struct file_identity file;
    buffer_init(&whole, SIZE_MAX);
    int r = make_folder(path, e);
    if (!r)
        r = buffer_printf(&whole, "%s\n", line);
    if (!r)
        r = file_append(path, buffer_bytes(&whole), FILE_MODE, e);
    if (!r)
        r = file_identify(path, &file, e);
    if (!r && file.size > 2 * HISTORY_KEEP)
        r = cut(path, e);
    buffer_done(&whole);
    free(line);
    return r;
}

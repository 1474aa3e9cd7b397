/* Files that are not all here yet: see part.h. */
#include "store/part.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#define STATE_VERSION 1
#define STATE_MAX_BYTES 4096 /* five short texts */

/* A member that is a text and fits, else "". */
static bool get_text(const json_t *o, const char *key, char *ret, size_t size)
{
    const json_t *v = json_object_get(o, key);
    const char *text = json_string_value(v);
    if (text == NULL || json_string_length(v) >= size || strlen(text) != json_string_length(v)) {
        return false;
    }
    for (const char *p = text; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            return false; /* these go into request headers */
        }
    }
    memcpy(ret, text, strlen(text) + 1);
    return true;
}

static bool is_digest(const char *text)
{
    char out[DIGEST_TEXT];
    return digest_parse(bytes_text(text), out);
}

int part_state_parse(struct bytes text, struct part_state *ret, struct error *e)
{
    struct part_state s = { .size = -1 };
    json_t *o = json_loadb((const char *)text.data, text.size, JSON_REJECT_DUPLICATES, NULL);
    const json_t *size = json_object_get(o, "size");
    bool ok = json_integer_value(json_object_get(o, "version")) == STATE_VERSION &&
              get_text(o, "source", s.source, sizeof s.source) && is_digest(s.source) &&
              get_text(o, "sha256", s.sha256, sizeof s.sha256) &&
              (s.sha256[0] == '\0' || is_digest(s.sha256)) &&
              get_text(o, "etag", s.etag, sizeof s.etag) &&
              get_text(o, "modified", s.modified, sizeof s.modified) && json_is_integer(size) &&
              json_integer_value(size) >= -1;
    s.size = ok ? (int64_t)json_integer_value(size) : -1;
    json_decref(o);
    if (!ok) {
        return fail(e, FAIL_FORMAT, "not the state of a download");
    }
    *ret = s;
    return 0;
}

int part_save(struct part *p, struct error *e)
{
    const struct part_state *s = &p->state;
    if (p->is_saved && memcmp(s, &p->saved, sizeof *s) == 0) {
        return 0;
    }
    json_t *o = json_pack("{s:i, s:s, s:s, s:s, s:s, s:I}", "version", STATE_VERSION, "source",
                          s->source, "sha256", s->sha256, "etag", s->etag, "modified", s->modified,
                          "size", (json_int_t)s->size);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (text == NULL) {
        /* Header values that are no UTF-8: the download goes on, but can't be resumed. */
        file_remove(p->state_path);
        p->is_saved = false;
        return 0;
    }
    int code = file_write_atomic(p->state_path, bytes_text(text), 0644, e);
    free(text);
    if (code == 0) {
        p->saved = *s;
        p->is_saved = true;
    }
    return code;
}

static bool load_state(struct part *p, const char *source)
{
    struct buffer text;
    buffer_init(&text, STATE_MAX_BYTES);
    bool ok = file_read_all(p->state_path, &text, NULL) == 0 &&
              part_state_parse(buffer_bytes(&text), &p->state, NULL) == 0 &&
              strcmp(p->state.source, source) == 0;
    buffer_done(&text);
    p->saved = p->state;
    p->is_saved = ok;
    return ok;
}

static void reset_state(struct part *p, const char *source)
{
    p->state = (struct part_state){ .size = -1 };
    snprintf(p->state.source, sizeof p->state.source, "%s", source);
}

int part_open(struct part *p, const char *target, const char *source,
              bool (*go_on)(void *arg, uint64_t done), void *arg, struct error *e)
{
    *p = (struct part){ .out = { .fd = -1 } };
    int n = snprintf(p->state_path, sizeof p->state_path, "%s.part.json", target);
    if (n < 0 || (size_t)n + 16 >= sizeof p->state_path) {
        return fail(e, FAIL_ARG, "a path of more than %d bytes", PART_PATH_TEXT - 32);
    }
    snprintf(p->target, sizeof p->target, "%.*s", n - 10, p->state_path);
    snprintf(p->path, sizeof p->path, "%.*s", n - 5, p->state_path);
    struct file_identity id;
    int code = digest_open(&p->digest, e);
    code = code ? code : file_output_open(&p->out, p->path, e);
    code = code ? code : file_identify(p->path, &id, e);
    if (code != 0) {
        part_close(p);
        return code;
    }
    p->size = id.size;
    bool known = load_state(p, source);
    if (!known || (p->state.size >= 0 && p->size > (uint64_t)p->state.size)) {
        reset_state(p, source);
        code = part_restart(p, e);
    } else {
        code = digest_add_file(p->digest, p->path, p->size, go_on, arg, e);
    }
    if (code != 0) {
        part_close(p);
    }
    return code;
}

void part_close(struct part *p)
{
    if (p->out.fd >= 0 && p->size == 0) {
        part_discard(p);
    }
    file_output_close(&p->out);
    digest_close(p->digest);
    p->digest = NULL;
}

int part_restart(struct part *p, struct error *e)
{
    char source[DIGEST_TEXT];
    memcpy(source, p->state.source, sizeof source);
    reset_state(p, source);
    p->size = 0;
    digest_clear(p->digest);
    return file_output_truncate(&p->out, 0, e);
}

int part_append(struct part *p, struct bytes more, struct error *e)
{
    size_t written = 0;
    int code = file_output_append(&p->out, more, &written, e);
    digest_add(p->digest, bytes_of(more.data, written));
    p->size += written;
    if (code == FAIL_LIMIT) {
        return fail(e, code,
                    "%s: the disk is full after %" PRIu64 " bytes: make room and run the same "
                    "command again; what came is kept",
                    p->path, p->size);
    }
    return code;
}

int part_finish(struct part *p, struct error *e)
{
    int code = file_output_sync(&p->out, e);
    code = code ? code : file_rename(p->path, p->target, e);
    if (code == 0) {
        file_remove(p->state_path);
        file_output_close(&p->out); /* the name is not ours any more */
    }
    return code;
}

void part_discard(struct part *p)
{
    if (p->out.fd >= 0) {
        file_remove(p->path);
        file_remove(p->state_path);
        file_output_close(&p->out);
    }
}

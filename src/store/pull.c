/* Models into their folder: see pull.h. */
#include "store/pull.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf/gguf.h"
#include "os/clock.h"
#include "store/meter.h"
#include "store/source.h"

#define COPY_PIECE (1u << 20)
#define PROGRESS_NS 200000000ull

static int check_model(const char *path, struct error *e)
{
    struct gguf *g = NULL;
    int code = gguf_open(&g, path, e);
    gguf_close(g);
    return code;
}

static int target_path(const struct pull_options *o, const struct source *s,
                       char ret[static PART_PATH_TEXT], struct error *e)
{
    int n = snprintf(ret, PART_PATH_TEXT, "%s/%s", o->folder, s->name);
    return n > 0 && n < PART_PATH_TEXT
               ? 0
               : fail(e, FAIL_ARG, "a path of more than %d bytes", PART_PATH_TEXT - 1);
}

/* --- files of this machine --- */

/* A copy under way. */
struct copy {
    const struct pull_options *o;
    const char *name;
    struct meter meter;
    uint64_t size, shown_ns;
};

static bool show_copy(struct copy *c, uint64_t done, const char *state)
{
    uint64_t now = clock_now_ns();
    meter_add(&c->meter, now, done);
    if (c->o->progress == NULL || now < c->shown_ns + PROGRESS_NS) {
        return true;
    }
    c->shown_ns = now;
    return c->o->progress(c->o->arg, &(struct download_progress){
                                         .name = c->name,
                                         .bytes = done,
                                         .size = (int64_t)c->size,
                                         .bytes_per_s = meter_rate(&c->meter),
                                         .left_s = meter_left_s(&c->meter, c->size),
                                         .state = state,
                                     });
}

static bool checking(void *arg, uint64_t done)
{
    return show_copy(arg, done, "checking");
}

static int check_room(const struct pull_options *o, uint64_t need, struct error *e)
{
    uint64_t room = 0;
    if (file_free_space(o->folder, &room, NULL) == 0 &&
        (room < DOWNLOAD_DISK_RESERVE || need > room - DOWNLOAD_DISK_RESERVE)) {
        return fail(e, FAIL_LIMIT,
                    "%s has %.1f GB free and the copy needs %.1f GB: make room or choose another "
                    "folder by --models DIR",
                    o->folder, (double)room / 1e9, (double)need / 1e9);
    }
    return 0;
}

static int copy_bytes(struct copy *c, const char *from, struct part *p, struct error *e)
{
    uint8_t *piece = malloc(COPY_PIECE);
    int code = piece ? 0 : fail(e, FAIL_NOMEM, "memory for copying %s", from);
    for (uint64_t at = 0; code == 0 && at < c->size;) {
        size_t n = c->size - at < COPY_PIECE ? (size_t)(c->size - at) : COPY_PIECE;
        code = file_read_range(from, at, piece, n, e);
        code = code ? code : part_append(p, bytes_of(piece, n), e);
        at += n;
        if (code == 0 && !show_copy(c, at, NULL)) {
            code = fail(e, FAIL_CANCELLED, "%s: cancelled while it was copied", from);
        }
    }
    free(piece);
    return code;
}

/* Puts the file under its name: as a second name of the same bytes where that is possible. */
static int place(struct copy *c, const char *from, const char *target, bool *linked,
                 struct error *e)
{
    struct part p;
    char source[DIGEST_TEXT];
    int code = digest_of_text(from, source, e);
    code = code ? code : part_open(&p, target, source, NULL, NULL, e);
    if (code != 0) {
        return code;
    }
    code = part_restart(&p, e); /* holds the lock; a copy always begins at its start */
    file_remove(p.path);
    int link = code ? code : file_link(from, p.path, e);
    *linked = link == 0;
    if (link == 0) {
        code = file_rename(p.path, target, e);
        file_remove(p.state_path);
        file_output_close(&p.out);
    } else if (code == 0) {
        part_close(&p);
        code = check_room(c->o, c->size, e);
        code = code ? code : part_open(&p, target, source, NULL, NULL, e);
        if (code != 0) {
            return code;
        }
        code = copy_bytes(c, from, &p, e);
        code = code ? code : part_finish(&p, e);
        if (code != 0) {
            part_discard(&p);
        }
    }
    part_close(&p);
    return code;
}

static int hash_file(struct copy *c, const char *path, char ret[static DIGEST_TEXT],
                     struct error *e)
{
    struct digest *d = NULL;
    int code = digest_open(&d, e);
    code = code ? code : digest_add_file(d, path, c->size, checking, c, e);
    if (code == 0) {
        digest_text(d, ret);
    }
    digest_close(d);
    return code;
}

/* One file of this machine. */
static int take_file(const struct pull_options *o, const struct source *s, struct pull_result *r,
                     struct error *e)
{
    char target[PART_PATH_TEXT];
    struct file_identity from, to;
    int code = target_path(o, s, target, e);
    code = code ? code : file_identify(s->from, &from, e);
    if (code != 0) {
        return code;
    }
    struct copy c = { .o = o, .name = s->name, .size = from.size };
    r->bytes += from.size;
    if (o->sha256 != NULL) {
        char expected[DIGEST_TEXT];
        if (!digest_parse(bytes_text(o->sha256), expected)) {
            return fail(e, FAIL_ARG, "\"%s\" is not a sha256: it has 64 hex digits", o->sha256);
        }
        code = hash_file(&c, s->from, r->sha256, e);
        if (code == 0 && strcmp(expected, r->sha256) != 0) {
            code =
                fail(e, FAIL_FORMAT, "%s: its sha256 is %s, not %s", s->from, r->sha256, expected);
        }
    }
    if (code != 0 || (file_identify(target, &to, NULL) == 0 && to.device == from.device &&
                      to.inode == from.inode)) {
        return code; /* wrong, or there already */
    }
    r->present = false;
    bool linked = false;
    code = place(&c, s->from, target, &linked, e);
    r->linked = r->linked || linked;
    return code;
}

/* --- files of servers --- */

static int take_url(const struct pull_options *o, const struct source *s, struct pull_result *r,
                    struct error *e)
{
    char target[PART_PATH_TEXT];
    struct download_result d;
    int code = target_path(o, s, target, e);
    if (code != 0) {
        return code;
    }
    bool whole = s->parts == 1; /* parts are checked together */
    code = download(&(struct download_options){ .url = s->from,
                                                .target = target,
                                                .sha256 = o->sha256,
                                                .hub = o->hub ? o->hub : SOURCE_HUB_ENDPOINT,
                                                .token = o->token,
                                                .page = s->page,
                                                .model = true,
                                                .check = whole ? check_model : NULL,
                                                .progress = o->progress,
                                                .arg = o->arg,
                                                .stall_s = o->stall_s,
                                                .retry_wait_ns = o->retry_wait_ns },
                    &d, e);
    if (code == 0) {
        r->present = r->present && d.present;
        r->verified = r->verified && d.verified;
        r->bytes += d.bytes;
        if (whole) {
            memcpy(r->sha256, d.sha256, sizeof r->sha256);
        }
    }
    return code;
}

/* All files; the first part last. */
static int take_all(const struct pull_options *o, const struct source *s, struct pull_result *r,
                    struct error *e)
{
    int code = 0;
    for (int i = 1; code == 0 && i <= s->parts; i++) {
        struct source part;
        int number = i == s->parts ? 1 : i + 1;
        code = source_part(s, number, &part, e);
        code = code                       ? code
               : part.kind == SOURCE_FILE ? take_file(o, &part, r, e)
                                          : take_url(o, &part, r, e);
        if (code == 0 && number == 1) {
            code = target_path(o, &part, r->path, e);
        }
        if (code != 0 && s->parts > 1) {
            wrap(e, "part %d of %d", number, s->parts);
        }
    }
    return code;
}

/* Parts that don't make a model: the first is taken away, so that nothing is offered. */
static int check_parts(struct pull_result *r, struct error *e)
{
    int code = check_model(r->path, e);
    if (code == FAIL_FORMAT && !r->present) {
        file_remove(r->path);
        return wrap(e, "its parts don't make a model, the first was removed");
    }
    return code;
}

int pull(const struct pull_options *o, struct pull_result *ret, struct error *e)
{
    struct error local = { 0 };
    e = e ? e : &local;
    struct source *s = calloc(2, sizeof *s);
    if (s == NULL) {
        return fail(e, FAIL_NOMEM, "memory for an address");
    }
    struct pull_result r = { .present = true, .verified = true };
    int code = source_parse(o->spec, o->hub ? o->hub : SOURCE_HUB_ENDPOINT, s, e);
    r.parts = s->parts;
    if (code == 0 && o->sha256 != NULL && s->parts > 1) {
        code =
            fail(e, FAIL_ARG, "--sha256 is for one file, and %s has %d parts", s->name, s->parts);
    }
    if (code == 0 && s->kind == SOURCE_FILE) {
        r.local = true;
        r.verified = o->sha256 != NULL;
        code = source_part(s, 1, &s[1], e);
        code = code ? code : check_model(s[1].from, e); /* before anything is copied */
        if (code == FAIL_NOT_FOUND && !file_exists(s[1].from)) {
            code = fail(e, code,
                        "%s: there is no such file here; from elsewhere: shoal pull "
                        "https://HOST/NAME.gguf or shoal pull hf:OWNER/REPO/NAME.gguf",
                        s[1].from);
        }
    }
    code = code ? code : file_make_directory(o->folder, 0755, e);
    code = code ? code : take_all(o, s, &r, e);
    if (code == 0 && s->parts > 1) {
        code = check_parts(&r, e);
    }
    free(s);
    if (code == 0) {
        *ret = r;
    }
    return code;
}

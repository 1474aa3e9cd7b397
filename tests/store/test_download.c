/* Downloads from a server that misbehaves, in every way we know of. */
#include "tests/test.h"

#include "base/random.h"
#include "os/clock.h"
#include "os/output.h"
#include "store/download.h"
#include "store/part.h"
#include "tests/store/server.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define SIZE 300000

struct world {
    char folder[64], target[128], part[160];
    uint8_t data[SIZE], other[SIZE];
    char sha[DIGEST_TEXT], other_sha[DIGEST_TEXT];
};

static void sha_of(const uint8_t *data, char ret[static DIGEST_TEXT])
{
    struct digest *d = NULL;
    assert_int_equal(digest_open(&d, NULL), 0);
    digest_add(d, bytes_of(data, SIZE));
    digest_text(d, ret);
    digest_close(d);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct random r = { 7 };
    snprintf(w->folder, sizeof w->folder, "/tmp/shoal-pull-XXXXXX");
    if (mkdtemp(w->folder) == NULL) {
        return -1;
    }
    snprintf(w->target, sizeof w->target, "%s/m.gguf", w->folder);
    snprintf(w->part, sizeof w->part, "%s.part", w->target);
    for (size_t i = 0; i < SIZE; i++) {
        w->data[i] = (uint8_t)random_next(&r);
        w->other[i] = (uint8_t)random_next(&r);
    }
    memcpy(w->data, "GGUF", 4);
    memcpy(w->other, "GGUF", 4);
    sha_of(w->data, w->sha);
    sha_of(w->other, w->other_sha);
    *state = w;
    return 0;
}

static bool remove_entry(void *arg, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", (const char *)arg, name);
    unlink(path);
    return true;
}

static int teardown(void **state)
{
    struct world *w = *state;
    file_list(w->folder, remove_entry, w->folder, NULL);
    rmdir(w->folder);
    free(w);
    return 0;
}

/* One download of /m.gguf with quick retries. */
static int get_with(struct world *w, struct server *s, struct download_options o,
                    struct download_result *r, struct error *e)
{
    char url[SERVER_TEXT];
    server_url(s, "/m.gguf?secret=1", url);
    o.url = o.url ? o.url : url;
    o.target = w->target;
    o.model = true;
    o.stall_s = 1;
    o.retry_wait_ns = 1;
    e->text[0] = '\0';
    return download(&o, r, e);
}

static int get(struct world *w, struct server *s, struct download_result *r, struct error *e)
{
    return get_with(w, s, (struct download_options){ 0 }, r, e);
}

static void expect_file(struct world *w, const uint8_t *data)
{
    struct buffer b;
    buffer_init(&b, SIZE + 1);
    assert_int_equal(file_read_all(w->target, &b, NULL), 0);
    assert_int_equal(b.size, SIZE);
    assert_memory_equal(b.data, data, SIZE);
    buffer_done(&b);
    assert_false(file_exists(w->part));
    char state[200];
    snprintf(state, sizeof state, "%s.json", w->part);
    assert_false(file_exists(state));
}

static void expect_text(const struct error *e, const char *text)
{
    if (strstr(e->text, text) == NULL) {
        fail_test("no \"%s\" in: %s", text, e->text);
    }
    assert_null(strstr(e->text, "secret"));
}

static void a_file_comes(void **state)
{
    struct world *w = *state;
    struct server s;
    struct download_result r;
    struct error e = { 0 };
    server_start(&s, bytes_of(w->data, SIZE), NULL, NULL);
    assert_int_equal(get(w, &s, &r, &e), 0);
    expect_file(w, w->data);
    assert_string_equal(r.sha256, w->sha);
    assert_false(r.verified);
    assert_false(r.present);
    /* A second time nothing is fetched: by size; by sha256 nobody is even asked. */
    assert_int_equal(get(w, &s, &r, &e), 0);
    assert_true(r.present);
    assert_int_equal(s.requests, 2);
    struct download_options o = { .sha256 = w->sha };
    assert_int_equal(get_with(w, &s, o, &r, &e), 0);
    assert_true(r.present && r.verified);
    assert_int_equal(s.requests, 2);
    /* Another file of the same size gives way to the one with the sha256. */
    assert_int_equal(file_write_atomic(w->target, bytes_of(w->other, SIZE), 0644, &e), 0);
    assert_int_equal(get_with(w, &s, o, &r, &e), 0);
    assert_true(!r.present && r.verified);
    expect_file(w, w->data);
    server_stop(&s);
}

/* Cuts every answer at a random place; every third by a reset. */
struct cutter {
    struct random random;
    uint64_t most;
};

static void cut(void *arg, const struct asked *q, struct answer *a)
{
    struct cutter *c = arg;
    uint64_t n = random_below(&c->random, c->most);
    if (n < a->send) {
        a->send = n;
        a->ending = random_below(&c->random, 3) == 0 ? ENDING_RESET : ENDING_CLOSE;
    }
}

static void cuts_are_gone_on_with(void **state)
{
    struct world *w = *state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct cutter c = { .random = { seed }, .most = SIZE / 2 };
        struct server s;
        struct download_result r;
        struct error e = { 0 };
        server_start(&s, bytes_of(w->data, SIZE), cut, &c);
        int code = get_with(w, &s, (struct download_options){ .sha256 = w->sha }, &r, &e);
        if (code != 0) {
            fail_test("seed %d: %s", (int)seed, e.text);
        }
        expect_file(w, w->data);
        assert_true(r.verified);
        assert_string_equal(r.sha256, w->sha);
        server_stop(&s);
        assert_true(s.last.index == 0 || s.last.ranged);
        unlink(w->target);
    }
}

/* Fails with a status from request `first` on. */
struct refuser {
    int first, status;
    uint64_t cut;
    const char *more;
};

static void refuse(void *arg, const struct asked *q, struct answer *a)
{
    struct refuser *f = arg;
    if (q->index >= f->first) {
        a->status = f->status;
        a->range[0] = a->etag[0] = '\0';
        snprintf(a->more, sizeof a->more, "%s", f->more ? f->more : "");
        a->length = 0;
        a->send = 0;
    } else if (f->cut > 0) {
        a->send = f->cut;
    }
}

static void a_later_run_goes_on(void **state)
{
    struct world *w = *state;
    struct refuser f = { .first = 1, .status = 500, .cut = 100000 };
    struct server s;
    struct download_result r;
    struct error e = { 0 };
    server_start(&s, bytes_of(w->data, SIZE), refuse, &f);
    assert_int_equal(get(w, &s, &r, &e), FAIL_BUSY);
    expect_text(&e, "answered 500");
    server_stop(&s);
    struct file_identity id;
    assert_int_equal(file_identify(w->part, &id, &e), 0);
    assert_int_equal(id.size, 100000);
    assert_false(file_exists(w->target));
    /* The port is another one in the next run, and so is the address: it must begin again. */
    server_start(&s, bytes_of(w->data, SIZE), refuse, &(struct refuser){ .first = 9 });
    assert_int_equal(get(w, &s, &r, &e), 0);
    expect_file(w, w->data);
    server_stop(&s);
    assert_int_equal(s.sent, SIZE);
    unlink(w->target);
    /* The same address: only the rest is fetched, by If-Range. */
    f = (struct refuser){ .first = 1, .status = 503, .cut = 100000 };
    server_start(&s, bytes_of(w->data, SIZE), refuse, &f);
    assert_int_equal(get(w, &s, &r, &e), FAIL_BUSY);
    f.first = 1000;
    f.cut = 0;
    assert_int_equal(get(w, &s, &r, &e), 0);
    expect_file(w, w->data);
    assert_string_equal(r.sha256, w->sha);
    server_stop(&s);
    assert_int_equal(s.sent, SIZE);
    assert_int_equal(s.last.offset, 100000);
    assert_string_equal(s.last.if_range, "\"one\"");
}

static bool cancel(void *arg, const struct download_progress *p)
{
    *(uint64_t *)arg = p->bytes;
    return p->bytes == 0;
}

static void stall_once(void *arg, const struct asked *q, struct answer *a)
{
    if (q->index == 0) {
        a->send = 70000;
        a->ending = ENDING_STALL;
    }
}

static void a_stall_is_noticed(void **state)
{
    struct world *w = *state;
    struct server s;
    struct download_result r;
    struct error e = { 0 };
    server_start(&s, bytes_of(w->data, SIZE), stall_once, NULL);
    uint64_t begin = clock_now_ns();
    assert_int_equal(get(w, &s, &r, &e), 0);
    assert_true(clock_now_ns() - begin < 8 * CLOCK_NS_PER_S);
    expect_file(w, w->data);
    server_stop(&s);
    assert_int_equal(s.requests, 2);
    assert_int_equal(s.last.offset, 70000);
}

static void a_person_can_cancel(void **state)
{
    struct world *w = *state;
    struct server s;
    struct download_result r;
    struct error e = { 0 };
    uint64_t bytes = 0;
    server_start(&s, bytes_of(w->data, SIZE), stall_once, NULL);
    struct download_options o = { .progress = cancel, .arg = &bytes };
    assert_int_equal(get_with(w, &s, o, &r, &e), FAIL_CANCELLED);
    expect_text(&e, "kept");
    assert_true(bytes > 0 && file_exists(w->part));
    assert_int_equal(get(w, &s, &r, &e), 0);
    expect_file(w, w->data);
    server_stop(&s);
}

static void no_ranges(void *arg, const struct asked *q, struct answer *a)
{
    a->status = 200;
    a->from = 0;
    a->send = q->index == 0 ? 50000 : SIZE;
    a->length = SIZE;
    a->range[0] = '\0';
}

static void refused_ranges_begin_again(void **state)
{
    struct world *w = *state;
    struct server s;
    struct download_result r;
    struct error e = { 0 };
    server_start(&s, bytes_of(w->data, SIZE), no_ranges, NULL);
    assert_int_equal(get(w, &s, &r, &e), 0);
    expect_file(w, w->data);
    server_stop(&s);
    assert_int_equal(s.requests, 2);
}

/* Cut once; the file is another one from then on. `honour` tells whether If-Range is. */
struct changer {
    struct world *w;
    bool honour;
    bool quiet; /* and the tag doesn't tell */
};

static void change(void *arg, const struct asked *q, struct answer *a)
{
    struct changer *c = arg;
    if (q->index == 0) {
        a->send = 120000;
        return;
    }
    a->content = bytes_of(c->w->other, SIZE);
    if (!c->quiet) {
        snprintf(a->etag, sizeof a->etag, "\"two\"");
    }
    if (c->honour && q->ranged && strcmp(q->if_range, a->etag) != 0) {
        no_ranges(NULL, q, a);
    }
}

static void a_file_that_changes_begins_again(void **state)
{
    struct world *w = *state;
    for (int honour = 0; honour < 2; honour++) {
        struct changer c = { .w = w, .honour = honour };
        struct server s;
        struct download_result r;
        struct error e = { 0 };
        server_start(&s, bytes_of(w->data, SIZE), change, &c);
        assert_int_equal(get(w, &s, &r, &e), 0);
        expect_file(w, w->other);
        assert_string_equal(r.sha256, w->other_sha);
        server_stop(&s);
        unlink(w->target);
    }
    /* A server that hides the change: the sha256 tells, and one whole new try is made. */
    struct changer c = { .w = w, .quiet = true };
    struct server s;
    struct download_result r;
    struct error e = { 0 };
    server_start(&s, bytes_of(w->data, SIZE), change, &c);
    assert_int_equal(get_with(w, &s, (struct download_options){ .sha256 = w->other_sha }, &r, &e),
                     0);
    expect_file(w, w->other);
    server_stop(&s);
}

/* What the server says instead of the truth. */
struct liar {
    int64_t length;
    const char *range; /* of ranged answers */
    uint64_t send;
    int from; /* first request that lies */
    int until;
};

static void lie(void *arg, const struct asked *q, struct answer *a)
{
    struct liar *l = arg;
    if (q->index == 0 && l->from > 0) {
        a->send = 100000;
    }
    if (q->index < l->from || q->index >= l->until) {
        return;
    }
    a->length = l->length ? l->length : a->length;
    a->send = l->send ? l->send : a->send;
    if (l->range && q->ranged) {
        snprintf(a->range, sizeof a->range, "%s", l->range);
    }
}

static int get_lied(struct world *w, struct liar l, struct download_result *r, struct error *e)
{
    struct server s;
    l.until = l.until ? l.until : 1000;
    server_start(&s, bytes_of(w->data, SIZE), lie, &l);
    int code = get_with(w, &s, (struct download_options){ .sha256 = w->sha }, r, e);
    server_stop(&s);
    return code;
}

static void lies_about_sizes_are_found_out(void **state)
{
    struct world *w = *state;
    struct download_result r;
    struct error e = { 0 };
    /* More announced than there is: the rest is asked for, and never comes. */
    assert_int_not_equal(get_lied(w, (struct liar){ .length = SIZE + 1000 }, &r, &e), 0);
    assert_false(file_exists(w->target));
    unlink(w->part);
    /* More than any disk has. */
    assert_int_equal(get_lied(w, (struct liar){ .length = INT64_C(900000000000000000) }, &r, &e),
                     FAIL_LIMIT);
    expect_text(&e, "--models DIR");
    /* Less than there is: the sha256 tells. */
    assert_int_equal(get_lied(w, (struct liar){ .length = SIZE - 1000 }, &r, &e), FAIL_FORMAT);
    expect_text(&e, "sha256");
    assert_false(file_exists(w->target) || file_exists(w->part));
    /* Ranges that are not the one asked for: without one it works. */
    static const char *const ranges[] = { "bytes 0-299999/300000",
                                          "bytes 99999-299999/300000",
                                          "bytes 100001-299999/300000",
                                          "bytes 100000-299999/400000",
                                          "bytes 100000-199999/200000",
                                          "bytes 100000-299998/300000",
                                          "bytes 5-4/3",
                                          "nonsense",
                                          "" };
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        int code = get_lied(w, (struct liar){ .range = ranges[i], .from = 1 }, &r, &e);
        if (code != 0) {
            fail_test("%s: %s", ranges[i], e.text);
        }
        expect_file(w, w->data);
        unlink(w->target);
    }
}

static void without_a_length_the_end_is_the_end(void **state)
{
    struct world *w = *state;
    struct download_result r;
    struct error e = { 0 };
    assert_int_equal(get_lied(w, (struct liar){ .length = -1 }, &r, &e), 0);
    expect_file(w, w->data);
}

/* A byte more with each request, and never the end. */
static void dribble(void *arg, const struct asked *q, struct answer *a)
{
    a->send = 1;
}

static void patience_ends(void **state)
{
    struct world *w = *state;
    struct server s;
    struct download_result r;
    struct error e = { 0 };
    server_start(&s, bytes_of(w->data, SIZE), dribble, NULL);
    assert_int_equal(get(w, &s, &r, &e), FAIL_CLOSED);
    expect_text(&e, "are kept");
    server_stop(&s);
    assert_true(s.requests <= 100);
    /* Nothing at all. */
    unlink(w->part);
    server_start(&s, bytes_of(w->data, SIZE), lie, &(struct liar){ .until = 0 });
    server_stop(&s); /* nobody listens any more */
    assert_int_equal(get(w, &s, &r, &e), FAIL_IO);
    expect_text(&e, "no connection");
    assert_false(file_exists(w->part));
}

static void statuses_are_explained(void **state)
{
    static const struct {
        int status, code;
        const char *more, *text;
    } rows[] = {
        { 401, FAIL_AUTH, NULL, "NAME:PASSWORD@" },
        { 403, FAIL_AUTH, NULL, "answered 403" },
        { 404, FAIL_NOT_FOUND, NULL, "check the address" },
        { 429, FAIL_BUSY, "Retry-After: 600\r\n", "in 600 s" },
        { 500, FAIL_BUSY, NULL, "answered 500" },
    };
    struct world *w = *state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct refuser f = { .status = rows[i].status, .more = rows[i].more };
        struct server s;
        struct download_result r;
        struct error e = { 0 };
        server_start(&s, bytes_of(w->data, SIZE), refuse, &f);
        assert_int_equal(get(w, &s, &r, &e), rows[i].code);
        expect_text(&e, rows[i].text);
        server_stop(&s);
        assert_int_equal(s.requests, rows[i].status == 500 ? 5 : 1);
        assert_false(file_exists(w->part) || file_exists(w->target));
    }
}

/* 429 and 503 twice, then the file. */
static void busy_twice(void *arg, const struct asked *q, struct answer *a)
{
    if (q->index < 2) {
        refuse(&(struct refuser){ .status = q->index ? 503 : 429 }, q, a);
    }
}

static void trouble_passes(void **state)
{
    struct world *w = *state;
    struct server s;
    struct download_result r;
    struct error e = { 0 };
    server_start(&s, bytes_of(w->data, SIZE), busy_twice, NULL);
    assert_int_equal(get(w, &s, &r, &e), 0);
    expect_file(w, w->data);
    server_stop(&s);
}

struct redirector {
    const char *to; /* "": to itself */
    char more[SERVER_TEXT];
};

static void redirect(void *arg, const struct asked *q, struct answer *a)
{
    struct redirector *d = arg;
    a->status = 302;
    a->length = 0;
    a->send = 0;
    a->range[0] = a->etag[0] = '\0';
    snprintf(a->location, sizeof a->location, "%s", d->to);
    snprintf(a->more, sizeof a->more, "%s", d->more);
}

static void redirections_end(void **state)
{
    struct world *w = *state;
    struct server s;
    struct download_result r;
    struct error e = { 0 };
    struct redirector d = { .to = "/m.gguf" };
    server_start(&s, bytes_of(w->data, SIZE), redirect, &d);
    assert_int_equal(get(w, &s, &r, &e), FAIL_FORMAT);
    expect_text(&e, "redirects more than 10 times");
    d.to = "file:///etc/passwd";
    assert_int_equal(get(w, &s, &r, &e), FAIL_FORMAT);
    d.to = "";
    assert_int_equal(get(w, &s, &r, &e), FAIL_FORMAT);
    server_stop(&s);
    assert_int_equal(s.requests, 13);
}

static void the_hub_sends_elsewhere(void **state)
{
    struct world *w = *state;
    struct server hub, store;
    struct download_result r;
    struct error e = { 0 };
    char to[SERVER_TEXT], origin[SERVER_TEXT];
    struct redirector d = { .to = to };
    struct cutter c = { .random = { 3 }, .most = SIZE / 2 };
    server_start(&store, bytes_of(w->data, SIZE), cut, &c);
    server_url(&store, "/blob?sig=secret", to);
    server_start(&hub, bytes_of(w->data, SIZE), redirect, &d);
    server_url(&hub, "", origin);
    struct download_options o = { .hub = origin, .token = "hf_secret" };
    snprintf(d.more, sizeof d.more, "X-Linked-Size: %d\r\nX-Linked-ETag: \"%s\"\r\n", SIZE, w->sha);
    assert_int_equal(get_with(w, &hub, o, &r, &e), 0);
    assert_true(r.verified); /* by what the hub said */
    expect_file(w, w->data);
    /* Another sha256 than the one that the person asks for: nothing is fetched. */
    unlink(w->target);
    o.sha256 = w->other_sha;
    unsigned long long sent = store.sent;
    assert_int_equal(get_with(w, &hub, o, &r, &e), FAIL_FORMAT);
    expect_text(&e, "says that its sha256");
    assert_int_equal(store.sent, sent);
    /* A store that sends another file than the hub speaks of. */
    o.sha256 = NULL;
    snprintf(d.more, sizeof d.more, "X-Linked-ETag: \"%s\"\r\n", w->other_sha);
    assert_int_equal(get_with(w, &hub, o, &r, &e), FAIL_FORMAT);
    expect_text(&e, "but the hub says");
    snprintf(d.more, sizeof d.more, "X-Linked-Size: 77\r\n");
    assert_int_equal(get_with(w, &hub, o, &r, &e), FAIL_FORMAT);
    expect_text(&e, "that has 77 bytes");
    assert_false(file_exists(w->target) || file_exists(w->part));
    server_stop(&hub);
    server_stop(&store);
    assert_string_equal(hub.last.authorization, "Bearer hf_secret");
    assert_string_equal(store.last.authorization, "");
}

static void what_is_no_model_is_refused_at_once(void **state)
{
    struct world *w = *state;
    static const char *const begins[][2] = {
        { "<!doctype html>", "web page" },
        { "version https://git-lfs.github.com/spec/v1", "git LFS" },
        { "PK\x03\x04", "another kind" },
    };
    for (size_t i = 0; i < ARRAY_LEN(begins); i++) {
        struct server s;
        struct download_result r;
        struct error e = { 0 };
        memcpy(w->other, begins[i][0], strlen(begins[i][0]));
        server_start(&s, bytes_of(w->other, SIZE), NULL, NULL);
        assert_int_equal(get(w, &s, &r, &e), FAIL_FORMAT);
        expect_text(&e, begins[i][1]);
        assert_false(file_exists(w->target) || file_exists(w->part));
        server_stop(&s);
    }
}

static void a_full_disk_keeps_what_came(void **state)
{
    struct world *w = *state;
    struct server s;
    struct download_result r;
    struct error e = { 0 };
    struct rlimit before, small;
    server_start(&s, bytes_of(w->data, SIZE), NULL, NULL);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 90001;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int code = get(w, &s, &r, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(code, FAIL_LIMIT);
    expect_text(&e, "the disk is full after 90001 bytes: make room");
    assert_int_equal(get(w, &s, &r, &e), 0);
    expect_file(w, w->data);
    server_stop(&s);
    assert_int_equal(s.last.offset, 90001);
}

/* The room of a disk that others fill: so much for a start, then nothing beside the reserve. */
static uint64_t first_room;

static int tell_room(const char *folder, uint64_t *ret, struct error *e)
{
    (void)e;
    assert_true(folder[0] == '/');
    *ret = DOWNLOAD_DISK_RESERVE + first_room;
    first_room = 0;
    return 0;
}

static void a_disk_s_reserve_is_kept(void **state)
{
    struct world *w = *state;
    struct download_options o = { .free_space = tell_room };
    struct download_result r;
    struct error e = { 0 };
    struct file_identity part;
    struct server s;
    struct liar l = { .length = -1, .until = 1 }; /* then the truth */
    server_start(&s, bytes_of(w->data, SIZE), lie, &l);
    first_room = 100000;
    assert_int_equal(get_with(w, &s, o, &r, &e), FAIL_LIMIT);
    expect_text(&e, "more is still to come, but ");
    assert_int_equal(file_identify(w->part, &part, &e), 0);
    assert_in_range(part.size, 1, 100000);
    first_room = SIZE;
    assert_int_equal(get_with(w, &s, o, &r, &e), 0);
    expect_file(w, w->data);
    server_stop(&s);
}

static void a_damaged_part_is_found_out(void **state)
{
    struct world *w = *state;
    struct server s;
    struct download_result r;
    struct error e = { 0 };
    struct refuser f = { .first = 1, .status = 503, .cut = 150000 };
    struct download_options o = { .sha256 = w->sha };
    server_start(&s, bytes_of(w->data, SIZE), refuse, &f);
    assert_int_equal(get_with(w, &s, o, &r, &e), FAIL_BUSY);
    FILE *file = fopen(w->part, "r+b");
    assert_non_null(file);
    fseek(file, 1000, SEEK_SET);
    fputc(w->data[1000] ^ 1, file);
    fclose(file);
    f.first = 1000;
    f.cut = 0;
    assert_int_equal(get_with(w, &s, o, &r, &e), 0);
    expect_file(w, w->data);
    server_stop(&s);
}

static void two_at_once_are_kept_apart(void **state)
{
    struct world *w = *state;
    struct server s;
    struct part p;
    struct download_result r;
    struct error e = { 0 };
    server_start(&s, bytes_of(w->data, SIZE), NULL, NULL);
    assert_int_equal(part_open(&p, w->target, w->sha, NULL, NULL, &e), 0);
    assert_int_equal(get(w, &s, &r, &e), FAIL_BUSY);
    expect_text(&e, "another process");
    part_close(&p);
    assert_int_equal(get(w, &s, &r, &e), 0);
    expect_file(w, w->data);
    server_stop(&s);
}

/* Everything at once, by chance. */
static void torment(void *arg, const struct asked *q, struct answer *a)
{
    struct random *r = arg;
    switch (random_below(r, 12)) {
    case 0:
        refuse(&(struct refuser){ .status = 503 }, q, a);
        break;
    case 1:
        refuse(&(struct refuser){ .status = 416 }, q, a);
        break;
    case 2:
        no_ranges(NULL, q, a);
        break;
    case 3:
        snprintf(a->range, sizeof a->range, "bytes %d-%d/%d", (int)random_below(r, SIZE), SIZE - 1,
                 SIZE);
        break;
    case 4:
        snprintf(a->etag, sizeof a->etag, "\"%d\"", (int)random_below(r, 3));
        break;
    case 5:
        a->length = (int64_t)random_below(r, 2 * SIZE);
        break;
    case 6:
        snprintf(a->location, sizeof a->location, "/elsewhere");
        a->status = 307;
        break;
    case 7:
        a->length = -1;
        break;
    default:
        a->send = a->send ? random_below(r, a->send) : 0;
        break;
    }
}

static void nothing_wrong_ever_gets_the_name(void **state)
{
    struct world *w = *state;
    int got = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct random random = { seed };
        struct server s;
        struct download_result r;
        struct error e = { 0 };
        server_start(&s, bytes_of(w->data, SIZE), torment, &random);
        for (int i = 0; i < 3; i++) {
            int code = get_with(w, &s, (struct download_options){ .sha256 = w->sha }, &r, &e);
            if (code == 0) {
                expect_file(w, w->data);
                got++;
                break;
            }
            if (file_exists(w->target) || e.text[0] == '\0') {
                fail_test("seed %d: a file, or no reason: %s", (int)seed, e.text);
            }
        }
        server_stop(&s);
        unlink(w->target);
        unlink(w->part);
    }
    print_message("%d of 60 servers were survived\n", got);
    assert_true(got > 20);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_comes),
        TEST(cuts_are_gone_on_with),
        TEST(a_later_run_goes_on),
        TEST(a_stall_is_noticed),
        TEST(a_person_can_cancel),
        TEST(refused_ranges_begin_again),
        TEST(a_file_that_changes_begins_again),
        TEST(lies_about_sizes_are_found_out),
        TEST(without_a_length_the_end_is_the_end),
        TEST(patience_ends),
        TEST(statuses_are_explained),
        TEST(trouble_passes),
        TEST(redirections_end),
        TEST(the_hub_sends_elsewhere),
        TEST(what_is_no_model_is_refused_at_once),
        TEST(a_full_disk_keeps_what_came),
        TEST(a_disk_s_reserve_is_kept),
        TEST(a_damaged_part_is_found_out),
        TEST(two_at_once_are_kept_apart),
        TEST(nothing_wrong_ever_gets_the_name),
    };
    setenv("no_proxy", "*", 1); /* loopback needs none, whatever this machine is set to */
    return cmocka_run_group_tests(tests, NULL, NULL);
}

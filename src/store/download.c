/* The loop around the requests: see download.h. */
#include "store/download.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "os/clock.h"
#include "store/internal.h"

#define MAX_REDIRECTS 10
/* Requests in a row that bring no new byte. */
#define MAX_FRUITLESS 5
/* The same while nobody ever answered: most likely the address is wrong. */
#define MAX_UNANSWERED 2
/* Requests for each piece of this size, so that a server that sends a byte a time is given up. */
#define PIECE_BYTES (64u << 20)
#define MAX_REQUESTS 100
#define MAX_RESTARTS 3
#define RETRY_WAIT_NS CLOCK_NS_PER_S
#define RETRY_DOUBLINGS 5
/* A server that asks for a longer pause is better asked again by the person. */
#define MAX_WAIT_S 60
#define WAIT_SLICE_NS 50000000ull

/* How patient we still are. */
struct patience {
    uint64_t most;  /* bytes that were ever here */
    uint64_t piece; /* bytes at which `requests` began to count */
    int fruitless, requests, restarts;
    bool answered;    /* somebody is there */
    bool resumed;     /* some bytes came by an earlier request than the others */
    bool sha_retried; /* such a file had the wrong sha256 once */
};

static bool hashing(void *arg, uint64_t done)
{
    struct transfer *t = arg;
    (void)done;
    return transfer_progress(t, "checking what is here");
}

static int wait_between(struct transfer *t, uint64_t ns, struct error *e)
{
    uint64_t end = clock_deadline(ns);
    for (uint64_t now = clock_now_ns(); now < end; now = clock_now_ns()) {
        if (!transfer_progress(t, "waiting to try again")) {
            return fail(e, FAIL_CANCELLED, "%s: cancelled; what came is kept", t->shown);
        }
        clock_sleep(end - now < WAIT_SLICE_NS ? end - now : WAIT_SLICE_NS);
    }
    return 0;
}

/* After trouble that may pass: waits, or gives up with the trouble as error. */
static int be_patient(struct transfer *t, struct patience *p, struct error *e)
{
    if (t->part.size > p->most) {
        p->most = t->part.size;
        p->fruitless = 0;
    }
    if (t->part.size >= p->piece + PIECE_BYTES) {
        p->piece = t->part.size;
        p->requests = 0;
    }
    p->requests++;
    p->fruitless++;
    p->answered = p->answered || t->answered || t->part.size > 0;
    int64_t asked = t->reply.retry_after_s;
    if (p->fruitless >= (p->answered ? MAX_FRUITLESS : MAX_UNANSWERED) ||
        p->requests >= MAX_REQUESTS || asked > MAX_WAIT_S) {
        *e = t->error;
        if (t->part.size > 0 && (e->code == FAIL_CLOSED || e->code == FAIL_TIMEOUT)) {
            return fail(e, t->error.code,
                        "%s; gave up after %d tries without a new byte; %" PRIu64 " bytes are "
                        "kept: the same command goes on there",
                        t->error.text, p->fruitless, t->part.size);
        }
        return e->code;
    }
    int doublings = p->fruitless - 1 < RETRY_DOUBLINGS ? p->fruitless - 1 : RETRY_DOUBLINGS;
    uint64_t ns = (t->o->retry_wait_ns ? t->o->retry_wait_ns : RETRY_WAIT_NS) << doublings;
    if (asked > 0 && (uint64_t)asked * CLOCK_NS_PER_S > ns) {
        ns = (uint64_t)asked * CLOCK_NS_PER_S;
    }
    p->resumed = p->resumed || t->part.size > 0;
    return wait_between(t, ns, e);
}

/* Throws what came away and asks again, not without end. */
static int start_again(struct transfer *t, struct patience *p, struct error *e)
{
    if (p->restarts++ >= MAX_RESTARTS) {
        return fail(e, FAIL_FORMAT,
                    "%s: the server answers requests for the rest of the file with something else "
                    "each time, or the file changes all the time: try again later",
                    t->shown);
    }
    p->resumed = false;
    return part_restart(&t->part, e);
}

/* One request with its redirections. */
static enum step ask(struct transfer *t)
{
    t->hop = t->first;
    for (int i = 0; i <= MAX_REDIRECTS; i++) {
        enum step s = transfer_request(t);
        if (s != STEP_NEXT) {
            return s;
        }
    }
    fail(&t->error, FAIL_FORMAT, "%s: redirects more than %d times, the last time to %s", t->shown,
         MAX_REDIRECTS, t->hop.origin);
    return STEP_FAILED;
}

/* Whether the file that has the target's name is the expected one. */
static int compare_target(struct transfer *t, struct download_result *r, bool *same,
                          struct error *e)
{
    struct file_identity id;
    struct digest *d = NULL;
    int code = file_identify(t->o->target, &id, e);
    code = code ? code : digest_open(&d, e);
    code = code ? code : digest_add_file(d, t->o->target, id.size, hashing, t, e);
    if (code == 0) {
        char text[DIGEST_TEXT];
        digest_text(d, text);
        *same = strcmp(text, t->expected) == 0;
        if (*same) {
            *r = (struct download_result){ .present = true, .verified = true, .bytes = id.size };
            memcpy(r->sha256, text, sizeof text);
        }
    }
    digest_close(d);
    return code;
}

/* The server says that the target has the file's size. */
static int found(struct transfer *t, struct download_result *r, bool *done, struct error *e)
{
    struct file_identity id;
    *done = true;
    if (t->expected[0] != '\0') {
        int code = compare_target(t, r, done, e);
        t->compared = true;
        return code;
    }
    int code = file_identify(t->o->target, &id, e);
    if (code == 0) {
        *r = (struct download_result){ .present = true, .bytes = id.size };
    }
    return code;
}

/* All bytes are here: are they the right ones? */
static int complete(struct transfer *t, struct patience *p, struct download_result *r, bool *done,
                    struct error *e)
{
    char text[DIGEST_TEXT];
    digest_text(t->part.digest, text);
    if (t->expected[0] != '\0' && strcmp(text, t->expected) != 0) {
        if (p->resumed && !p->sha_retried) {
            p->sha_retried = true;
            return start_again(t, p, e);
        }
        part_discard(&t->part);
        return fail(e, FAIL_FORMAT,
                    "%s: the sha256 of what came is %s, but %s %s: it was removed; is this the "
                    "right file?",
                    t->shown, text, t->o->sha256 ? "--sha256 asks for" : "the hub says",
                    t->expected);
    }
    int code = t->o->check ? t->o->check(t->part.path, e) : 0;
    if (code == FAIL_FORMAT) {
        part_discard(&t->part);
        return wrap(e, "%s: what came is no model that can be used and was removed", t->shown);
    }
    uint64_t bytes = t->part.size;
    code = code ? code : part_finish(&t->part, e);
    if (code == 0) {
        *r = (struct download_result){ .verified = t->expected[0] != '\0', .bytes = bytes };
        memcpy(r->sha256, text, sizeof text);
        *done = true;
    }
    return code;
}

/* A body ended without complaint of the connection. */
static bool is_whole(struct transfer *t)
{
    int64_t size = t->part.state.size;
    if (size < 0 || t->part.size == (uint64_t)size) {
        return true;
    }
    fail(&t->error, FAIL_CLOSED, "%s: %s ended after %" PRIu64 " of %" PRId64 " bytes", t->shown,
         t->hop.origin, t->part.size, size);
    return false;
}

static int fetch(struct transfer *t, struct download_result *r, struct error *e)
{
    struct patience p = { .resumed = t->part.size > 0, .most = t->part.size };
    bool done = false;
    int code = 0;
    if (t->part.size > 0 && t->part.state.size == (int64_t)t->part.size) {
        code = complete(t, &p, r, &done, e); /* only its name was missing */
    }
    while (code == 0 && !done) {
        enum step s = ask(t);
        s = s == STEP_DONE && !is_whole(t) ? STEP_RETRY : s;
        switch (s) {
        case STEP_DONE:
            code = complete(t, &p, r, &done, e);
            break;
        case STEP_PRESENT:
            code = found(t, r, &done, e);
            break;
        case STEP_AGAIN:
            code = start_again(t, &p, e);
            break;
        case STEP_RETRY:
            code = be_patient(t, &p, e);
            break;
        default:
            *e = t->error;
            code = e->code;
            break;
        }
    }
    return code;
}

/* The part from earlier, as far as it is of use. */
static int open_part(struct transfer *t, struct error *e)
{
    char source[DIGEST_TEXT];
    int code = digest_of_text(t->first.clean, source, e);
    code = code ? code : part_open(&t->part, t->o->target, source, hashing, t, e);
    if (code != 0) {
        return code;
    }
    const char *before = t->part.state.sha256;
    if (t->expected[0] == '\0') {
        memcpy(t->expected, before, DIGEST_TEXT);
    } else if (before[0] != '\0' && strcmp(before, t->expected) != 0) {
        code = part_restart(&t->part, e);
    }
    return code;
}

static int prepare(struct transfer *t, const struct download_options *o, struct error *e)
{
    t->o = o;
    t->linked_size = -1;
    t->part.out.fd = -1;
    int code = url_parse(o->url, &t->first, e);
    if (code != 0) {
        return code;
    }
    url_show(&t->first, t->shown, sizeof t->shown);
    struct url hub;
    if (o->hub != NULL) {
        code = url_parse(o->hub, &hub, e);
        if (code != 0) {
            return wrap(e, "HF_ENDPOINT");
        }
        memcpy(t->hub_origin, hub.origin, sizeof hub.origin);
    }
    for (const char *c = o->token ? o->token : ""; *c != '\0'; c++) {
        if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f) {
            return fail(e, FAIL_ARG, "HF_TOKEN holds spaces or other bytes that no token has");
        }
    }
    if (o->sha256 != NULL && !digest_parse(bytes_text(o->sha256), t->expected)) {
        return fail(e, FAIL_ARG, "\"%s\" is not a sha256: it has 64 hex digits", o->sha256);
    }
    return 0;
}

int download(const struct download_options *o, struct download_result *ret, struct error *e)
{
    struct error local = { 0 };
    e = e ? e : &local;
    struct transfer *t = calloc(1, sizeof *t);
    if (t == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(t);
        return fail(e, FAIL_NOMEM, "memory for a download");
    }
    struct download_result r = { 0 };
    bool same = false;
    int code = prepare(t, o, e);
    if (code == 0 && t->expected[0] != '\0' && file_exists(o->target)) {
        code = compare_target(t, &r, &same, e);
        t->compared = true;
    }
    if (code == 0 && !same) {
        t->curl = curl_easy_init();
        code = t->curl ? open_part(t, e) : fail(e, FAIL_NOMEM, "memory for a download");
        code = code ? code : fetch(t, &r, e);
        part_close(&t->part);
        curl_easy_cleanup(t->curl);
    }
    curl_global_cleanup();
    free(t);
    if (code == 0) {
        *ret = r;
    }
    return code;
}

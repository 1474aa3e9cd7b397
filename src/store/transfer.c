/* One request for (the rest of) a file. */
#include "store/internal.h"

#include <inttypes.h>
#include <stdio.h>

#include "os/clock.h"

#define CONNECT_SECONDS 20
#define STALL_SECONDS 30
/* Below this a model of one gigabyte takes three weeks: a new connection is worth a try. */
#define STALL_BYTES_PER_S 512
/* How much comes before the disk is asked again: others fill it too, and a body may be longer than
 * it said, or say nothing. */
#define ROOM_STEP (16ull << 20)
#define PROGRESS_NS 200000000ull
#define HEADER_TEXT 1024
#define TOKEN_MAX 512

/* The names of the option changed in curl 7.85. */
#if LIBCURL_VERSION_NUM >= 0x075500
static CURLcode allow_http_only(CURL *curl)
{
    return curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
}
#else
static CURLcode allow_http_only(CURL *curl)
{
    return curl_easy_setopt(curl, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
}
#endif

static bool stop(struct transfer *t, enum step step)
{
    t->step = step;
    return false;
}

bool transfer_progress(struct transfer *t, const char *state)
{
    uint64_t now = clock_now_ns();
    if (state == NULL) {
        meter_add(&t->meter, now, t->part.size);
    }
    if (t->o->progress == NULL || now < t->shown_ns + PROGRESS_NS) {
        return true;
    }
    t->shown_ns = now;
    const char *slash = strrchr(t->o->target, '/');
    int64_t size = t->part.state.size;
    struct download_progress p = { .name = slash ? slash + 1 : t->o->target,
                                   .bytes = t->part.size,
                                   .size = size,
                                   .bytes_per_s = state ? 0 : meter_rate(&t->meter),
                                   .left_s = -1,
                                   .state = state };
    if (state == NULL && size >= 0) {
        p.left_s = meter_left_s(&t->meter, (uint64_t)size);
    }
    return t->o->progress(t->o->arg, &p);
}

/* --- the head --- */

/* What the first server says of the file that it sends us to. */
static bool note_linked(struct transfer *t)
{
    const struct reply *r = &t->reply;
    if (strcmp(t->hop.origin, t->first.origin) != 0) {
        return true; /* others don't know better than who was asked */
    }
    if (r->linked_size >= 0) {
        t->linked_size = r->linked_size;
    }
    if (r->linked_sha256[0] == '\0') {
        return true;
    }
    memcpy(t->linked, r->linked_sha256, DIGEST_TEXT);
    if (t->o->sha256 != NULL) {
        if (strcmp(t->linked, t->expected) == 0) {
            return true;
        }
        fail(&t->error, FAIL_FORMAT, "%s: the server says that its sha256 is %s, not %s", t->shown,
             t->linked, t->expected);
        return stop(t, STEP_FAILED);
    }
    memcpy(t->expected, t->linked, DIGEST_TEXT);
    bool other = t->part.size > 0 && t->part.state.sha256[0] != '\0' &&
                 strcmp(t->part.state.sha256, t->expected) != 0;
    return other ? stop(t, STEP_AGAIN) : true; /* the file changed since */
}

/* Whether `need` more bytes may come, the last ones if is_all; *t notes how many surely may. */
static bool has_room(struct transfer *t, uint64_t need, bool is_all)
{
    char folder[PART_PATH_TEXT];
    const char *slash = strrchr(t->part.target, '/');
    uint64_t room = 0;
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - t->part.target) : 1,
             slash ? t->part.target : ".");
    int (*ask)(const char *, uint64_t *, struct error *) =
        t->o->free_space ? t->o->free_space : file_free_space;
    t->room_until = t->part.size + ROOM_STEP;
    if (ask(folder[0] ? folder : "/", &room, NULL) != 0) {
        return true; /* writing will tell */
    }
    uint64_t usable = room > DOWNLOAD_DISK_RESERVE ? room - DOWNLOAD_DISK_RESERVE : 0;
    if (usable > 0 && need <= usable) {
        t->room_until = t->part.size + (usable < ROOM_STEP ? usable : ROOM_STEP);
        return true;
    }
    char more[64] = "more is";
    if (is_all) {
        snprintf(more, sizeof more, "%.1f GB are", (double)need / 1e9);
    }
    fail(&t->error, FAIL_LIMIT,
         "%s: %s still to come, but %s has %.1f GB free (%.1f GB are kept for the system): make "
         "room or choose another folder by --models DIR; what came is kept",
         t->shown, more, folder, (double)room / 1e9, (double)DOWNLOAD_DISK_RESERVE / 1e9);
    return stop(t, STEP_FAILED);
}

/* Whether the finished file stands there already. */
static bool is_present(struct transfer *t, int64_t size)
{
    struct file_identity id;
    return size >= 0 && !t->compared && (t->expected[0] != '\0' || t->part.size == 0) &&
           file_identify(t->part.target, &id, NULL) == 0 && id.size == (uint64_t)size;
}

/* The body is (the rest of) the file: begins to take it. */
static bool accept_body(struct transfer *t, bool start)
{
    const struct reply *r = &t->reply;
    struct part_state *s = &t->part.state;
    int64_t size = reply_size(r);
    size = size < 0 && !start ? s->size : size;
    if (t->linked_size >= 0 && size >= 0 && size != t->linked_size) {
        fail(&t->error, FAIL_FORMAT,
             "%s: %s sends %" PRId64 " bytes of a file that has %" PRId64 " bytes", t->shown,
             t->hop.origin, size, t->linked_size);
        return stop(t, STEP_FAILED);
    }
    size = size < 0 ? t->linked_size : size;
    if (is_present(t, size)) {
        return stop(t, STEP_PRESENT);
    }
    uint64_t have = start ? 0 : t->part.size, freed = start ? t->part.size : 0;
    uint64_t need = size > (int64_t)have ? (uint64_t)size - have : 0;
    if (!has_room(t, need > freed ? need - freed : 0, size >= 0)) {
        return false;
    }
    if (start && part_restart(&t->part, &t->error) != 0) {
        return stop(t, STEP_FAILED);
    }
    if (start) {
        memcpy(s->etag, r->etag, sizeof s->etag);
        memcpy(s->modified, r->modified, sizeof s->modified);
    }
    s->size = size;
    memcpy(s->sha256, t->expected, DIGEST_TEXT);
    if (part_save(&t->part, &t->error) != 0) {
        return stop(t, STEP_FAILED);
    }
    t->taking = true;
    return true;
}

static bool judge(struct transfer *t)
{
    const struct reply *r = &t->reply;
    if (!note_linked(t)) {
        return false;
    }
    const struct reply_request q = { .offset = t->part.size,
                                     .size = t->part.state.size,
                                     .etag = t->part.state.etag };
    enum reply_action action = reply_judge(r, &q);
    switch (action) {
    case REPLY_TAKE:
    case REPLY_START:
        return accept_body(t, action == REPLY_START);
    case REPLY_AGAIN:
        return stop(t, STEP_AGAIN);
    case REPLY_REDIRECT: {
        struct url next;
        if (url_redirect(&t->hop, r->location, &next, &t->error) != 0) {
            return stop(t, STEP_FAILED);
        }
        t->hop = next;
        return stop(t, STEP_NEXT);
    }
    default: {
        bool hub = strcmp(t->hop.origin, t->hub_origin) == 0;
        const struct reply_asked asked = { .url = t->shown,
                                           .page = t->o->page ? t->o->page : "",
                                           .host = hub ? t->o->hub : t->hop.origin,
                                           .hub = hub,
                                           .token = hub && t->o->token && t->o->token[0],
                                           .login = t->first.login[0] != '\0' };
        reply_explain(r, &asked, &t->error);
        return stop(t, action == REPLY_RETRY ? STEP_RETRY : STEP_FAILED);
    }
    }
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    if (t->answered) {
        return size * n; /* trailers */
    }
    reply_line(&t->reply, bytes_of(data, size * n));
    if (!t->reply.ended || t->reply.status < 200) {
        return size * n;
    }
    t->answered = true;
    return judge(t) ? size * n : 0;
}

/* --- the body --- */

/* The first bytes tell a web page from a model, long before the last ones. */
static bool begins_right(struct transfer *t, uint64_t have)
{
    const char *what = "another kind of file";
    if (!t->o->model || have < 4 || memcmp(t->head, "GGUF", 4) == 0) {
        return true;
    }
    if (bytes_starts_with(bytes_of(t->head, (size_t)have), "version https://git-lfs")) {
        what = "only a pointer to it (git LFS): use the address with /resolve/ in it";
    } else if (t->head[0] == '<') {
        what = "a web page: use the address of the file itself (on the hub: /resolve/)";
    }
    fail(&t->error, FAIL_FORMAT, "%s: no GGUF file comes from there, but %s", t->shown, what);
    part_discard(&t->part);
    return stop(t, STEP_FAILED);
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    size *= n;
    if (!t->taking) {
        return size > 0 ? 0 : size;
    }
    int64_t whole = t->part.state.size;
    if (whole >= 0 && size > (uint64_t)whole - t->part.size) {
        fail(&t->error, FAIL_FORMAT, "%s: more bytes come than the %" PRId64 " that were announced",
             t->shown, whole);
        part_discard(&t->part);
        stop(t, STEP_FAILED);
        return 0;
    }
    if (t->part.size < HEAD_BYTES) {
        size_t room = HEAD_BYTES - (size_t)t->part.size;
        memcpy(t->head + t->part.size, data, size < room ? size : room);
        uint64_t have = t->part.size + size;
        if (!begins_right(t, have < HEAD_BYTES ? have : HEAD_BYTES)) {
            return 0;
        }
    }
    if (t->part.size + size > t->room_until &&
        !has_room(t, whole >= 0 ? (uint64_t)whole - t->part.size : size, whole >= 0)) {
        return 0;
    }
    if (part_append(&t->part, bytes_of(data, size), &t->error) != 0) {
        stop(t, STEP_FAILED);
        return 0;
    }
    return size;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a, (void)b, (void)c, (void)d;
    return transfer_progress(arg, NULL) ? 0 : 1;
}

/* --- the request --- */

static bool add(struct curl_slist **list, const char *format, const char *value)
{
    char line[HEADER_TEXT];
    int n = snprintf(line, sizeof line, format, value);
    struct curl_slist *more =
        n > 0 && (size_t)n < sizeof line ? curl_slist_append(*list, line) : NULL;
    *list = more ? more : *list;
    return more != NULL;
}

/* The part is only gone on with if the server can tell that the file is still the same, or if the
 * sha256 will tell. */
static bool may_continue(const struct transfer *t)
{
    const struct part_state *s = &t->part.state;
    return t->part.size > 0 && (s->etag[0] || s->modified[0] || s->sha256[0]);
}

static bool set_headers(struct transfer *t, struct curl_slist **list)
{
    const struct part_state *s = &t->part.state;
    char range[64];
    bool ok = add(list, "Accept-Encoding: %s", "identity");
    if (t->part.size > 0) {
        snprintf(range, sizeof range, "%" PRIu64 "-", t->part.size);
        ok = ok && curl_easy_setopt(t->curl, CURLOPT_RANGE, range) == CURLE_OK;
        if (s->etag[0] || s->modified[0]) {
            ok = ok && add(list, "If-Range: %s", s->etag[0] ? s->etag : s->modified);
        }
    }
    if (t->o->token && t->o->token[0] && strcmp(t->hop.origin, t->hub_origin) == 0) {
        ok = ok && strlen(t->o->token) < TOKEN_MAX &&
             add(list, "Authorization: Bearer %s", t->o->token);
    } else if (t->first.login[0] && strcmp(t->hop.origin, t->first.origin) == 0) {
        ok = ok && curl_easy_setopt(t->curl, CURLOPT_USERPWD, t->first.login) == CURLE_OK;
    }
    return ok && curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, *list) == CURLE_OK;
}

#define SET(option, value) (ok = ok && curl_easy_setopt(c, option, value) == CURLE_OK)
static bool set_options(struct transfer *t, char *why)
{
    CURL *c = t->curl;
    bool ok = allow_http_only(c) == CURLE_OK;
    SET(CURLOPT_URL, t->hop.clean);
    SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    SET(CURLOPT_USERAGENT, "shoal/" SHOAL_VERSION);
    SET(CURLOPT_FOLLOWLOCATION, 0L); /* each step is checked by us */
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_ERRORBUFFER, why);
    SET(CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    SET(CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES_PER_S);
    SET(CURLOPT_LOW_SPEED_TIME, (long)(t->o->stall_s ? t->o->stall_s : STALL_SECONDS));
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, t);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(CURLOPT_XFERINFODATA, t);
    SET(CURLOPT_NOPROGRESS, 0L);
    return ok;
}
#undef SET

/* A transfer that ended by itself, not by us. */
static enum step explain(struct transfer *t, CURLcode code, const char *why)
{
    const char *text = why[0] ? why : curl_easy_strerror(code);
    switch (code) {
    case CURLE_ABORTED_BY_CALLBACK:
        fail(&t->error, FAIL_CANCELLED, "%s: cancelled; what came is kept", t->shown);
        return STEP_FAILED;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CACERT_BADFILE:
        fail(&t->error, FAIL_AUTH,
             "%s: %s can't prove who it is (%s): is this machine's date right, and are its "
             "certificates (ca-certificates) installed?",
             t->shown, t->hop.origin, text);
        return STEP_FAILED;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
        fail(&t->error, FAIL_ARG, "%s: %s", t->shown, text);
        return STEP_FAILED;
    case CURLE_OUT_OF_MEMORY:
        fail(&t->error, FAIL_NOMEM, "%s: %s", t->shown, text);
        return STEP_FAILED;
    case CURLE_OPERATION_TIMEDOUT:
        fail(&t->error, FAIL_TIMEOUT, "%s: %s stopped sending (%s)", t->shown, t->hop.origin, text);
        return STEP_RETRY;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
        fail(&t->error, FAIL_IO, "%s: no connection: %s: is the network up, the address right?",
             t->shown, text);
        return STEP_RETRY;
    default:
        fail(&t->error, FAIL_CLOSED, "%s: the connection to %s broke: %s", t->shown, t->hop.origin,
             text);
        return STEP_RETRY;
    }
}

enum step transfer_request(struct transfer *t)
{
    char why[CURL_ERROR_SIZE] = "";
    struct curl_slist *list = NULL;
    if (t->part.size > 0 && !may_continue(t)) {
        return STEP_AGAIN;
    }
    reply_init(&t->reply);
    t->answered = t->taking = false;
    t->step = STEP_COUNT;
    curl_easy_reset(t->curl);
    CURLcode code = CURLE_OUT_OF_MEMORY;
    if (set_options(t, why) && set_headers(t, &list)) {
        code = curl_easy_perform(t->curl);
    }
    curl_slist_free_all(list);
    if (t->step != STEP_COUNT) {
        return t->step; /* ours */
    }
    if (code != CURLE_OK) {
        return explain(t, code, why);
    }
    return t->taking ? STEP_DONE : explain(t, CURLE_GOT_NOTHING, why);
}

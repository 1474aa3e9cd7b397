/* One HTTP connection: reads a request, has it handled, writes the answer, reads the next.
 *
 * libevent's evhttp is not used: in 2.1 it answers transport errors in HTML, has no deadline for a
 * whole request, and calls back into a request under way when the client resets. What HTTP means
 * is in http.c, free of I/O; here are only states and bounds. */
#include "api/connection.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/allow.h"
#include "api/http.h"
#include "api/id.h"
#include "api/problem.h"
#include "os/clock.h"
#include "os/log.h"
#include "os/socket.h"

/* Input that is read ahead: a whole head fits. */
#define READ_AHEAD (64u << 10)
/* A whole answer that isn't streamed: a text of the longest context with log probabilities. */
#define MAX_ANSWER (256u << 20)
/* How long the answer of a client's system to a probe takes; this machine's own comes at once. */
#define PROBE_MS 20
#define PROBE ": \n\n"
/* How long a client has to close after the last answer. */
#define LINGER_MS 1000
/* Header names of a preflight: the openai packages ask for about 250 bytes. */
#define MAX_ASKED 1024
/* How long a browser keeps a preflight's answer. */
#define PREFLIGHT_S 600
/* When a client may come again: a queue moves on within a second; a model is loaded, or placed
 * again after a loss, within some. */
#define BUSY_S 1
#define UNAVAILABLE_S 2

enum state { STATE_HEAD, STATE_BODY, STATE_ANSWER, STATE_FLUSH, STATE_LINGER };

/* What a connection waits for, in the order in which it gives way to others. */
enum use {
    USE_IDLE,   /* for a request, or for the client's close */
    USE_HEAD,   /* a head is on its way */
    USE_BODY,   /* a body is */
    USE_TAKES,  /* a whole answer that the client doesn't take */
    USE_WORKED, /* it is being answered: never */
};

struct connection {
    struct responder responder; /* first; open in STATE_ANSWER */
    struct connections *set;    /* NULL once the server closed */
    struct connection *next, **back;
    struct bufferevent *bev; /* NULL once the client is gone */
    struct event *deadline;
    enum state state;
    bool started; /* bytes of the next head have come */
    bool busy;    /* inside advance(): freeing waits */
    bool doomed;
    bool client_done; /* it has closed its own side */
    bool keep_alive, head_only, stream, chunked;
    struct http_head head;
    struct http_chunks chunks;
    uint64_t body_left;
    struct buffer body, answer;
    uint64_t since_ns; /* when the present state began */
    size_t waiting;    /* bytes of a whole answer that the client hasn't taken */
    int status;
    char type[64], extra[320];
    char request_id[API_ID_TEXT];
    char origin[ALLOW_TEXT];       /* of a page that may use the server; "": no page */
    char asked_headers[MAX_ASKED]; /* of its preflight */
};

static void advance(struct connection *c);

/* --- life --- */

static void enter(struct connection *c, enum state state)
{
    c->state = state;
    c->since_ns = clock_now_ns();
}

static void answer_release(struct connection *c)
{
    if (c->set != NULL) {
        c->set->answer_bytes -= c->waiting;
    }
    c->waiting = 0;
}

static void body_release(struct connection *c)
{
    if (c->set != NULL) {
        c->set->body_bytes -= c->body.size;
    }
    buffer_done(&c->body);
}

static void connection_free(struct connection *c)
{
    if (c->busy) {
        c->doomed = true;
        return;
    }
    struct connections *s = c->set;
    body_release(c);
    answer_release(c);
    buffer_done(&c->answer);
    if (c->bev != NULL) {
        bufferevent_free(c->bev);
    }
    if (c->deadline != NULL) {
        event_free(c->deadline);
    }
    if (c->back != NULL) {
        *c->back = c->next;
        if (c->next != NULL) {
            c->next->back = c->back;
        }
    }
    free(c);
    if (s != NULL) {
        s->n--;
        s->changed(s->arg);
    }
}

/* The client can't be spoken to any more. */
static void lose_client(struct connection *c)
{
    if (c->bev != NULL) {
        bufferevent_free(c->bev);
        c->bev = NULL;
    }
    if (c->state != STATE_ANSWER) {
        connection_free(c);
        return;
    }
    void (*closed)(void *) = c->responder.closed;
    c->responder.closed = NULL;
    if (closed != NULL) {
        closed(c->responder.closed_arg); /* ends the responder, now or later */
    }
}

static void connection_close(struct connection *c)
{
    struct connections *s = c->set;
    *c->back = c->next;
    if (c->next != NULL) {
        c->next->back = c->back;
    }
    c->back = NULL;
    s->n--;
    s->body_bytes -= c->body.size;
    s->answer_bytes -= c->waiting;
    c->set = NULL;
    lose_client(c);
}

static enum use use_of(const struct connection *c)
{
    switch (c->state) {
    case STATE_HEAD:
        return c->started ? USE_HEAD : USE_IDLE;
    case STATE_BODY:
        return USE_BODY;
    case STATE_LINGER:
        return USE_IDLE;
    case STATE_FLUSH:
        return c->waiting > 0 ? USE_TAKES : USE_WORKED;
    default:
        return USE_WORKED;
    }
}

/* The one that has been at it for longest; NULL when there is none. Never `except`. */
static struct connection *oldest_of(const struct connections *s, enum use use,
                                    const struct connection *except)
{
    struct connection *oldest = NULL;
    for (struct connection *c = s->first; c != NULL; c = c->next) {
        if (c != except && use_of(c) == use && (oldest == NULL || c->since_ns < oldest->since_ns)) {
            oldest = c;
        }
    }
    return oldest;
}

static void set_deadline(struct connection *c, int ms)
{
    struct timeval t = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
    event_add(c->deadline, &t);
}

/* --- writing --- */

/* What a page of another origin may do and see. Source: the Fetch Standard, "CORS protocol". */
static void put_cors(const struct connection *c, struct evbuffer *out)
{
    evbuffer_add_printf(out,
                        "Access-Control-Allow-Origin: %s\r\nVary: Origin\r\n"
                        "Access-Control-Expose-Headers: x-request-id, retry-after\r\n",
                        c->origin);
    if (strcmp(c->head.method, "OPTIONS") != 0) {
        return;
    }
    evbuffer_add_printf(out, "Access-Control-Allow-Headers: %s\r\nAccess-Control-Max-Age: %d\r\n",
                        c->asked_headers, PREFLIGHT_S);
    if (c->head.private_network) {
        evbuffer_add_printf(out, "Access-Control-Allow-Private-Network: true\r\n");
    }
}

static void put_head(struct connection *c, int64_t length)
{
    struct evbuffer *out = bufferevent_get_output(c->bev);
    char date[40] = "";
    time_t now = (time_t)clock_wall_s();
    struct tm tm;
    if (gmtime_r(&now, &tm) != NULL) {
        strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    }
    evbuffer_add_printf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", c->status, http_reason(c->status),
                        date);
    if (c->type[0] != '\0') {
        evbuffer_add_printf(out, "Content-Type: %s\r\nX-Content-Type-Options: nosniff\r\n",
                            c->type);
    }
    evbuffer_add_printf(out, "X-Request-Id: %s\r\n", c->request_id);
    if (c->origin[0] != '\0') {
        put_cors(c, out);
    }
    int wait_s = c->status == 429 ? BUSY_S : c->status == 503 ? UNAVAILABLE_S : 0;
    if (wait_s > 0) {
        evbuffer_add_printf(out, "Retry-After: %d\r\n", wait_s);
    }
    evbuffer_add_printf(out, "%s", c->extra);
    if (c->stream) {
        evbuffer_add_printf(out, "Cache-Control: no-cache\r\n");
    }
    if (c->chunked) {
        evbuffer_add_printf(out, "Transfer-Encoding: chunked\r\n");
    } else if (!c->stream && c->status != 204) {
        evbuffer_add_printf(out, "Content-Length: %lld\r\n", (long long)length);
    }
    evbuffer_add_printf(out, "Connection: %s\r\n\r\n", c->keep_alive ? "keep-alive" : "close");
}

static void respond_begin(struct responder *r, int status, const char *content_type, bool stream,
                          const char *headers)
{
    struct connection *c = (struct connection *)r;
    c->status = status;
    c->stream = stream;
    c->chunked = stream && c->head.minor == 1;
    c->keep_alive = c->keep_alive && (!stream || c->chunked);
    snprintf(c->type, sizeof c->type, "%s", content_type != NULL ? content_type : "");
    snprintf(c->extra, sizeof c->extra, "%s", headers != NULL ? headers : "");
    if (stream && c->bev != NULL) {
        put_head(c, 0);
    }
}

static int respond_write(struct responder *r, struct bytes data)
{
    struct connection *c = (struct connection *)r;
    if (c->bev == NULL) {
        return FAIL_CLOSED;
    }
    if (!c->stream) {
        return buffer_append(&c->answer, data);
    }
    if (c->head_only || data.size == 0) {
        return 0;
    }
    struct evbuffer *out = bufferevent_get_output(c->bev);
    if (c->set != NULL && evbuffer_get_length(out) > c->set->options.max_waiting) {
        c->doomed = true;
        return FAIL_LIMIT;
    }
    if (c->chunked) {
        evbuffer_add_printf(out, "%zx\r\n", data.size);
    }
    evbuffer_add(out, data.data, data.size);
    if (c->chunked) {
        evbuffer_add(out, "\r\n", 2);
    }
    return 0;
}

/* Large answers that nobody takes give way to the next, the oldest first. */
static void count_answer(struct connection *c)
{
    struct connections *s = c->set;
    if (s == NULL) {
        return;
    }
    c->waiting = c->answer.size;
    s->answer_bytes += c->waiting;
    while (s->answer_bytes > s->options.max_answers) {
        struct connection *oldest = oldest_of(s, USE_TAKES, c);
        if (oldest == NULL) {
            break;
        }
        log_limited(LOG_WARN, "api", "answers that nobody takes", "",
                    "answers of %zu MB wait for their clients: the oldest was dropped",
                    s->answer_bytes >> 20);
        connection_close(oldest);
    }
}

static void free_answer(const void *data, size_t size, void *arg)
{
    free((void *)data); /* a buffer's memory */
}

static void respond_end(struct responder *r)
{
    struct connection *c = (struct connection *)r;
    c->responder.closed = NULL;
    enter(c, STATE_FLUSH);
    evtimer_del(c->deadline); /* of a probe */
    if (c->bev == NULL || c->doomed || c->status == 0 || c->answer.failed) {
        connection_free(c); /* an answer that can't be completed isn't made to look complete */
        return;
    }
    struct evbuffer *out = bufferevent_get_output(c->bev);
    if (!c->stream) {
        put_head(c, (int64_t)c->answer.size);
        count_answer(c);
        bool body = !c->head_only && c->status != 204 && c->answer.size > 0;
        /* By reference: a large answer isn't held twice. */
        if (body &&
            evbuffer_add_reference(out, c->answer.data, c->answer.size, free_answer, NULL) == 0) {
            c->answer.data = NULL;
        }
        buffer_done(&c->answer);
        buffer_init(&c->answer, MAX_ANSWER);
    } else if (c->chunked) {
        evbuffer_add(out, "0\r\n\r\n", 5);
    }
    if (evbuffer_get_length(out) == 0) {
        bufferevent_trigger(c->bev, EV_WRITE, BEV_TRIG_DEFER_CALLBACKS);
    }
}

static const struct responder_ops responder_ops = { .begin = respond_begin,
                                                    .write = respond_write,
                                                    .end = respond_end };

/* Answers in place of the handlers and closes afterwards. */
static void refuse(struct connection *c, int status, const char *text)
{
    struct api_problem p = { 0 };
    problem_set(&p, status, NULL, NULL, "%s", text);
    json_t *json = problem_json(&p);
    char *body = json != NULL ? json_dumps(json, API_JSON_FLAGS) : NULL;
    json_decref(json);
    evtimer_del(c->deadline);
    body_release(c);
    c->keep_alive = false;
    enter(c, STATE_ANSWER);
    respond_begin(&c->responder, status, "application/json", false, NULL);
    respond_write(&c->responder, bytes_text(body));
    respond_end(&c->responder);
    free(body);
}

static void give_way(struct connection *c)
{
    refuse(c, 503, "Too many large requests at once: this one made room. Try again soon.");
}

/* --- reading --- */

/* Header names that a preflight asks for, as they may be said back: all of them, for a page whose
 * origin is allowed may do what a program may. */
static void take_asked_headers(struct connection *c)
{
    struct bytes asked = c->head.asked_headers;
    bool plain = asked.size > 0 && asked.size < sizeof c->asked_headers;
    for (size_t i = 0; i < asked.size; i++) {
        plain = plain && asked.data[i] < 0x7f;
    }
    snprintf(c->asked_headers, sizeof c->asked_headers, "%.*s", plain ? (int)asked.size : INT_MAX,
             plain ? (const char *)asked.data : "authorization, content-type");
}

/* Refuses what a page of another site could send here. */
static bool is_allowed(struct connection *c)
{
    const struct http_head *h = &c->head;
    const struct allow *allow = &c->set->options.allow;
    bool origin =
        h->origin.size > 0 && h->origin.size < sizeof c->origin && allow_origin(allow, h->origin);
    char text[400];
    if (h->host.size > 0 && !allow_host(allow, h->host)) {
        struct bytes name = allow_host_of(h->host); /* the option takes no port */
        snprintf(text, sizeof text,
                 "The Host header doesn't name this machine; use 127.0.0.1 or localhost%s%.*s",
                 name.size > 0 ? ", or start with: shoal up --allow-host " : "",
                 (int)(name.size < 200 ? name.size : 200), (const char *)name.data);
        refuse(c, 403, text);
    } else if (h->origin.size > 0 && !origin) {
        snprintf(text, sizeof text,
                 "Pages of this origin may not use this server, unless it is started with: shoal "
                 "up --allow-origin %.*s",
                 (int)(h->origin.size < 200 ? h->origin.size : 200), (const char *)h->origin.data);
        refuse(c, 403, text);
    } else if (h->cross_site && !origin && !(h->navigation && strcmp(h->method, "GET") == 0)) {
        /* An image, a form, a script: without an Origin nobody can say whose it is. */
        refuse(c, 403, "Pages of other sites may not use this server.");
    } else {
        snprintf(c->origin, sizeof c->origin, "%.*s", origin ? (int)h->origin.size : 0,
                 origin ? (const char *)h->origin.data : "");
        take_asked_headers(c);
        return true;
    }
    return false;
}

/* Takes a head from the input. False when the connection waits or is done. */
static bool read_head(struct connection *c)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);
    size_t n = evbuffer_get_length(in);
    if (n == 0) {
        return false;
    }
    if (!c->started) {
        c->started = true;
        enter(c, STATE_HEAD);
        id_make(c->request_id, "req_");
        set_deadline(c, c->set->options.head_timeout_ms);
    }
    n = n < HTTP_MAX_HEAD ? n : HTTP_MAX_HEAD;
    struct bytes input = bytes_of(evbuffer_pullup(in, (ev_ssize_t)n), n);
    int64_t size = http_head_size(input);
    struct error e = { 0 };
    if (size == 0 && n < HTTP_MAX_HEAD) {
        return false;
    }
    if (size <= 0) {
        refuse(c, size < 0 ? 400 : 431,
               size < 0 ? "A line of the headers doesn't end with CR LF."
                        : "The headers are larger than 16 KiB.");
        return false;
    }
    c->head = (struct http_head){ .minor = 1 };
    int status = http_head_parse(bytes_of(input.data, (size_t)size), &c->head, &e);
    if (status != 0) {
        refuse(c, status, e.text);
        return false;
    }
    c->keep_alive = c->head.keep_alive;
    c->head_only = strcmp(c->head.method, "HEAD") == 0;
    if (!is_allowed(c)) {
        return false;
    }
    evbuffer_drain(in, (size_t)size); /* what is borrowed ends here */
    c->head.host = c->head.origin = c->head.asked_headers = (struct bytes){ 0 };
    if (c->head.content_length > (int64_t)c->set->options.max_body) {
        char text[80];
        snprintf(text, sizeof text, "The body is larger than %zu bytes.", c->set->options.max_body);
        refuse(c, 413, text);
        return false;
    }
    c->chunks = (struct http_chunks){ 0 };
    c->body_left = c->head.content_length > 0 ? (uint64_t)c->head.content_length : 0;
    buffer_init(&c->body, c->set->options.max_body);
    if (c->head.expect_continue && c->head.minor == 1 && (c->head.chunked || c->body_left > 0)) {
        bufferevent_write(c->bev, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    }
    enter(c, STATE_BODY);
    set_deadline(c, c->set->options.body_timeout_ms);
    return true;
}

/* While bodies take too much memory those that began first give way: whoever sends one without
 * ever ending it holds the others up no longer than it takes them to come. */
static bool make_room_for_bodies(struct connection *c)
{
    struct connections *s = c->set;
    while (s->body_bytes > s->options.max_bodies) {
        struct connection *oldest = oldest_of(s, USE_BODY, c);
        if (oldest == NULL || oldest->since_ns > c->since_ns) {
            return false;
        }
        log_limited(LOG_WARN, "api", "bodies that don't end", "",
                    "requests under way take %zu MB: the oldest made room", s->body_bytes >> 20);
        give_way(oldest);
    }
    return true;
}

/* Takes what has come of the body. True when it is complete. */
static bool read_body(struct connection *c)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);
    size_t n = evbuffer_get_length(in), before = c->body.size, used = 0;
    int status = 0;
    struct error e = { 0 };
    if (!c->head.chunked && n > c->body_left) {
        n = (size_t)c->body_left;
    }
    struct bytes input = bytes_of(n > 0 ? evbuffer_pullup(in, (ev_ssize_t)n) : NULL, n);
    if (c->head.chunked) {
        status = http_chunks_feed(&c->chunks, input, &c->body, &used, &e);
    } else {
        used = n;
        c->body_left -= n;
        if (buffer_append(&c->body, input) != 0) {
            status = 413;
            fail(&e, FAIL_LIMIT, "The body is too large.");
        }
    }
    evbuffer_drain(in, used);
    c->set->body_bytes += c->body.size - before;
    if (status == 0 && !make_room_for_bodies(c)) {
        status = 503;
        fail(&e, FAIL_BUSY, "Too many large requests at once. Try again soon.");
    }
    if (status != 0) {
        refuse(c, status, e.text);
        return false;
    }
    return c->head.chunked ? c->chunks.done : c->body_left == 0;
}

static void handle(struct connection *c)
{
    const struct api_request q = { .method = c->head.method,
                                   .path = c->head.target,
                                   .body = buffer_bytes(&c->body) };
    evtimer_del(c->deadline);
    enter(c, STATE_ANSWER);
    c->status = 0;
    c->responder = (struct responder){ .ops = &responder_ops };
    api_handle(c->set->options.api, &q, &c->responder);
    body_release(c);
}

/* Goes as far as the input allows. */
static void advance(struct connection *c)
{
    c->busy = true;
    if (c->state == STATE_HEAD && !read_head(c)) {
        /* waits, or was refused */
    } else if (c->state == STATE_BODY && read_body(c)) {
        handle(c);
    }
    if (c->state == STATE_LINGER) {
        struct evbuffer *in = bufferevent_get_input(c->bev);
        evbuffer_drain(in, evbuffer_get_length(in));
    }
    c->busy = false;
    bool ended = c->client_done && (c->state == STATE_HEAD || c->state == STATE_BODY);
    if ((c->doomed || ended) && c->state != STATE_ANSWER) {
        connection_free(c);
    }
}

static void on_read(struct bufferevent *bev, void *arg)
{
    advance(arg);
}

/* The output is empty. */
static void on_write(struct bufferevent *bev, void *arg)
{
    struct connection *c = arg;
    if (c->state != STATE_FLUSH || evbuffer_get_length(bufferevent_get_output(bev)) > 0) {
        return;
    }
    answer_release(c);
    if (c->client_done && !c->keep_alive) {
        connection_free(c);
        return;
    }
    if (!c->keep_alive) {
        socket_end_writing(bufferevent_getfd(bev));
        enter(c, STATE_LINGER);
        set_deadline(c, LINGER_MS);
    } else {
        enter(c, STATE_HEAD);
        c->started = false;
        c->origin[0] = '\0';
        set_deadline(c, c->set->options.idle_timeout_ms);
        c->set->changed(c->set->arg);
    }
    advance(c); /* a request may have come meanwhile */
}

/* A client that closed its own side may wait for its answer, or be gone: who is gone refuses what
 * is sent to it. Other sockets than TCP's fail at once when they are written to: there an interim
 * response (RFC 9110, 15.2) or a stream's comment will do, which everybody skips. */
static bool probe(struct connection *c)
{
    struct evbuffer *out = bufferevent_get_output(c->bev);
    if (socket_probe(bufferevent_getfd(c->bev))) {
        return true;
    }
    if (c->stream && c->chunked) {
        evbuffer_add_printf(out, "%zx\r\n%s\r\n", strlen(PROBE), PROBE);
    } else if (c->stream) {
        evbuffer_add_printf(out, PROBE);
    } else if (c->head.minor == 1) {
        evbuffer_add_printf(out, "HTTP/1.1 100 Continue\r\n\r\n");
    } else {
        return false;
    }
    return true;
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    struct connection *c = arg;
    if ((what & BEV_EVENT_EOF) != 0 && c->state == STATE_FLUSH) {
        c->client_done = true;
    } else if ((what & BEV_EVENT_EOF) != 0 && c->state == STATE_ANSWER && probe(c)) {
        c->client_done = true;
        set_deadline(c, PROBE_MS);
    } else {
        lose_client(c);
    }
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    struct connection *c = arg;
    if (c->state == STATE_BODY || (c->state == STATE_HEAD && c->started)) {
        refuse(c, 408, "The request took too long to arrive.");
        return;
    }
    if (c->state == STATE_ANSWER && c->client_done && !socket_is_reset(bufferevent_getfd(c->bev)) &&
        probe(c)) {
        set_deadline(c, PROBE_MS);
        return;
    }
    lose_client(c);
}

int connection_open(struct connections *s, evutil_socket_t fd)
{
    struct connection *c = calloc(1, sizeof *c);
    struct bufferevent *bev = bufferevent_socket_new(s->options.base, fd, BEV_OPT_CLOSE_ON_FREE);
    struct event *deadline = c != NULL ? evtimer_new(s->options.base, on_deadline, c) : NULL;
    if (c == NULL || bev == NULL || deadline == NULL) {
        if (bev != NULL) {
            bufferevent_free(bev);
        } else {
            evutil_closesocket(fd);
        }
        if (deadline != NULL) {
            event_free(deadline);
        }
        free(c);
        return FAIL_NOMEM;
    }
    socket_no_delay(fd);
    *c = (struct connection){ .set = s,
                              .bev = bev,
                              .deadline = deadline,
                              .responder = { .ops = &responder_ops },
                              .head = { .minor = 1 },
                              .since_ns = clock_now_ns(),
                              .next = s->first,
                              .back = &s->first };
    if (c->next != NULL) {
        c->next->back = &c->next;
    }
    s->first = c;
    s->n++;
    buffer_init(&c->body, s->options.max_body);
    buffer_init(&c->answer, MAX_ANSWER);
    int ms = s->options.write_timeout_ms;
    struct timeval stuck = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
    bufferevent_setcb(bev, on_read, on_write, on_event, c);
    bufferevent_set_timeouts(bev, NULL, &stuck);
    bufferevent_setwatermark(bev, EV_READ, 0, READ_AHEAD);
    set_deadline(c, s->options.head_timeout_ms);
    bufferevent_enable(bev, EV_READ | EV_WRITE);
    return 0;
}

bool connections_make_room(struct connections *set)
{
    struct connection *victim = NULL;
    for (int use = USE_IDLE; use < USE_WORKED && victim == NULL; use++) {
        victim = oldest_of(set, (enum use)use, set->first);
        /* One whose next request has just come is idle no longer. */
        for (int i = 0; use == USE_IDLE && victim != NULL && i < set->n &&
                        socket_has_input(bufferevent_getfd(victim->bev));
             i++) {
            victim->since_ns = clock_now_ns();
            victim = i + 1 < set->n ? oldest_of(set, USE_IDLE, set->first) : NULL;
        }
    }
    if (victim != NULL) {
        connection_close(victim);
    }
    return victim != NULL;
}

void connections_finish(struct connections *set)
{
    for (struct connection *c = set->first, *next; c != NULL; c = next) {
        next = c->next;
        c->keep_alive = false;
        if (c->state == STATE_HEAD || c->state == STATE_BODY) {
            connection_close(c);
        }
    }
}

bool connections_are_done(const struct connections *set)
{
    const struct connection *c = set->first;
    while (c != NULL && c->state == STATE_LINGER) {
        c = c->next;
    }
    return c == NULL;
}

void connections_close(struct connections *set)
{
    while (set->first != NULL) {
        connection_close(set->first);
    }
}

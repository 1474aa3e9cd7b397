/* Requests that travel, both ends. What one request does wrong, or too much of, ends that request
 * and never the link, which carries those of others. */
#include "peer/stream_internal.h"

#include <stdlib.h>

#include "peer/link.h"

#include <stdio.h>
#include <string.h>

/* One request under way. Where it is answered it is also a peer_reply, where it comes from a
 * peer_ask. */
struct stream {
    struct peers *owner;
    struct peer *peer; /* the other end; NULL once it is lost or the request was cancelled */
    uint32_t id;       /* chosen by the one that asks */
    bool incoming;     /* it is answered here */
    bool answering;    /* the handler has it, or the reply has begun */
    char method[STREAM_MAX_METHOD], path[STREAM_MAX_PATH];
    struct buffer body;
    uint64_t moved_ns; /* the last piece of a body */
    struct peer_sink sink;
    void (*closed)(void *arg);
    void *arg;
    struct stream *next;
};

const struct message_field stream_id_fields[STREAM_ID_FIELDS] = {
    { MESSAGE_INTEGER(struct stream_id, id, 0, UINT32_MAX) },
};

const struct message_field stream_request_fields[STREAM_REQUEST_FIELDS] = {
    { MESSAGE_INTEGER(struct stream_request, id, 0, UINT32_MAX) },
    { MESSAGE_TEXT(struct stream_request, method) },
    { MESSAGE_TEXT(struct stream_request, path) },
};

const struct message_field stream_reply_fields[STREAM_REPLY_FIELDS] = {
    { MESSAGE_INTEGER(struct stream_reply, id, 0, UINT32_MAX) },
    { MESSAGE_INT(struct stream_reply, status, 100, 599) },
    { MESSAGE_TEXT(struct stream_reply, content_type) },
};

static struct stream *of_reply(struct peer_reply *r)
{
    return (struct stream *)r;
}

static struct stream *find(struct peers *all, const struct peer *p, int64_t id, bool incoming)
{
    for (struct stream *s = all->streams; s != NULL; s = s->next) {
        if (s->peer == p && s->id == id && s->incoming == incoming) {
            return s;
        }
    }
    return NULL;
}

static void stream_free(struct stream *s)
{
    struct stream **at = &s->owner->streams;
    while (*at != s) {
        at = &(*at)->next;
    }
    *at = s->next;
    buffer_done(&s->body);
    free(s);
}

static struct stream *stream_new(struct peer *p, uint32_t id, bool incoming)
{
    struct peers *all = p->owner;
    struct stream *s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->owner = all;
        s->peer = p;
        s->id = id;
        s->incoming = incoming;
        s->moved_ns = all->now_ns;
        buffer_init(&s->body, STREAM_MAX_BODY);
        s->next = all->streams;
        all->streams = s;
    }
    return s;
}

static void send_pieces(struct peer *p, uint32_t id, struct bytes data)
{
    while (data.size > 0) {
        size_t n = data.size < MESSAGE_DATA_MAX ? data.size : MESSAGE_DATA_MAX;
        link_send_data(p->link, id, bytes_of(data.data, n));
        data = bytes_of(data.data + n, data.size - n);
    }
}

static void end_stream(struct stream *s, const char *why)
{
    if (s->incoming) {
        s->peer = NULL;
        if (!s->answering) {
            stream_free(s);
        } else if (s->closed != NULL) {
            s->closed(s->arg);
        }
        return;
    }
    struct peer_sink sink = s->sink;
    struct error e = { 0 };
    fail(&e, FAIL_CLOSED, "%s", why);
    stream_free(s);
    sink.failed(sink.arg, &e);
}

static json_t *simple(const char *type, uint32_t id)
{
    return json_pack("{s:s, s:I}", "type", type, "id", (json_int_t)id);
}

/* --- the one that answers --- */

/* What is under way to be answered: of everybody, and of one peer. */
struct load {
    int all, of_peer;
    size_t bodies, bodies_of_peer;
};

static struct load count(const struct peers *all, const struct peer *p)
{
    struct load n = { 0 };
    for (const struct stream *s = all->streams; s != NULL; s = s->next) {
        if (s->incoming) {
            size_t body = s->answering ? 0 : s->body.size;
            n.all++;
            n.bodies += body;
            n.of_peer += s->peer == p;
            n.bodies_of_peer += s->peer == p ? body : 0;
        }
    }
    return n;
}

/* Answers a request that no stream is for. */
static void refuse(struct peer *to, uint32_t id, int status, const char *why)
{
    json_t *problem = json_pack("{s:{s:s, s:s, s:n, s:n}}", "error", "message", why, "type",
                                "server_error", "param", "code");
    char *text = problem != NULL ? json_dumps(problem, JSON_COMPACT) : NULL;
    link_send(to->link, json_pack("{s:s, s:I, s:i, s:s}", "type", "reply", "id", (json_int_t)id,
                                  "status", status, "content_type", "application/json"));
    send_pieces(to, id, bytes_text(text != NULL ? text : ""));
    link_send(to->link, simple("reply_end", id));
    free(text);
    json_decref(problem);
}

enum peer_verdict on_request(void *arg, struct peer *from, const void *fields, struct error *e)
{
    struct peers *all = arg;
    const struct stream_request *m = fields;
    uint32_t id = (uint32_t)m->id;
    struct stream *same = find(all, from, id, true);
    if (same != NULL) { /* whose answer would be whose? neither gets any */
        end_stream(same, "its id was used again");
        refuse(from, id, 503, "A request of this id is already under way.");
        return PEER_DONE;
    }
    struct load n = count(all, from);
    bool room = n.of_peer < STREAM_KEPT_FOR_PEER ||
                (n.all < STREAM_MAX_COUNT && n.of_peer < STREAM_MAX_OF_PEER);
    struct stream *s = room ? stream_new(from, id, true) : NULL;
    if (s == NULL) {
        refuse(from, id, 503, "Too many requests travel to this device. Try again soon.");
        return PEER_DONE;
    }
    snprintf(s->method, sizeof s->method, "%s", m->method);
    snprintf(s->path, sizeof s->path, "%s", m->path);
    return PEER_DONE;
}

enum peer_verdict on_request_end(void *arg, struct peer *from, const void *fields, struct error *e)
{
    struct peers *all = arg;
    struct stream *s = find(all, from, ((const struct stream_id *)fields)->id, true);
    if (s == NULL || s->answering) {
        return PEER_DONE;
    }
    s->answering = true;
    if (s->body.failed) {
        refuse(from, s->id, 413, "The body is too large to be forwarded.");
        stream_free(s);
        return PEER_DONE;
    }
    all->options.events->request(
        all->options.arg, from,
        &(struct peer_request){ s->method, s->path, buffer_bytes(&s->body) },
        (struct peer_reply *)s);
    (void)e;
    return PEER_DONE;
}

enum peer_verdict on_cancel(void *arg, struct peer *from, const void *fields, struct error *e)
{
    struct stream *s = find(arg, from, ((const struct stream_id *)fields)->id, true);
    if (s == NULL) {
        return PEER_DONE;
    }
    s->peer = NULL;
    if (!s->answering) {
        stream_free(s);
    } else if (s->closed != NULL) {
        s->closed(s->arg);
    }
    (void)e;
    return PEER_DONE;
}

void peer_reply_begin(struct peer_reply *r, int status, const char *content_type)
{
    struct stream *s = of_reply(r);
    if (s->peer != NULL) {
        link_send(s->peer->link,
                  json_pack("{s:s, s:I, s:i, s:s}", "type", "reply", "id", (json_int_t)s->id,
                            "status", status, "content_type", content_type));
    }
}

int peer_reply_write(struct peer_reply *r, struct bytes data)
{
    struct stream *s = of_reply(r);
    if (s->peer == NULL) {
        return FAIL_CLOSED;
    }
    if (link_waiting(s->peer->link) > STREAM_MAX_WAITING) {
        return FAIL_LIMIT;
    }
    send_pieces(s->peer, s->id, data);
    return 0;
}

void peer_reply_end(struct peer_reply *r)
{
    struct stream *s = of_reply(r);
    if (s->peer != NULL) {
        link_send(s->peer->link, simple("reply_end", s->id));
    }
    stream_free(s);
}

void peer_reply_on_close(struct peer_reply *r, void (*closed)(void *arg), void *arg)
{
    struct stream *s = of_reply(r);
    s->closed = closed;
    s->arg = arg;
}

/* --- the one that asks --- */

int peer_ask(struct peer *to, const struct peer_request *request, const struct peer_sink *sink,
             struct peer_ask **ret, struct error *e)
{
    if (to->link == NULL) {
        return fail(e, FAIL_CLOSED, "%s is not connected", to->name);
    }
    if (request->body.size > STREAM_MAX_BODY || strlen(request->path) >= STREAM_MAX_PATH ||
        strlen(request->method) >= STREAM_MAX_METHOD) {
        return fail(e, FAIL_LIMIT, "request is too large to be forwarded");
    }
    struct stream *s = stream_new(to, ++to->owner->next_stream, false);
    if (s == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a request");
    }
    s->sink = *sink;
    link_send(to->link,
              json_pack("{s:s, s:I, s:s, s:s}", "type", "request", "id", (json_int_t)s->id,
                        "method", request->method, "path", request->path));
    send_pieces(to, s->id, request->body);
    link_send(to->link, simple("request_end", s->id));
    *ret = (struct peer_ask *)s;
    return 0;
}

void peer_ask_cancel(struct peer_ask *f)
{
    struct stream *s = (struct stream *)f;
    if (s->peer != NULL) {
        link_send(s->peer->link, simple("cancel", s->id));
    }
    stream_free(s);
}

enum peer_verdict on_reply(void *arg, struct peer *from, const void *fields, struct error *e)
{
    const struct stream_reply *m = fields;
    struct stream *s = find(arg, from, m->id, false);
    /* It becomes a header of an HTTP answer. */
    for (const char *p = m->content_type; *p != '\0'; p++) {
        if (*p < ' ' || *p > '~') {
            fail(e, FAIL_FORMAT, "a content type with foreign characters");
            return PEER_VIOLATION;
        }
    }
    if (s != NULL && !s->answering) {
        s->answering = true;
        s->sink.begin(s->sink.arg, m->status, m->content_type);
    }
    return PEER_DONE;
}

enum peer_verdict on_reply_end(void *arg, struct peer *from, const void *fields, struct error *e)
{
    struct stream *s = find(arg, from, ((const struct stream_id *)fields)->id, false);
    if (s != NULL) {
        struct peer_sink sink = s->sink;
        bool begun = s->answering;
        struct error why = { 0 };
        stream_free(s);
        if (begun) {
            sink.end(sink.arg);
        } else {
            fail(&why, FAIL_FORMAT, "the reply ended before it began");
            sink.failed(sink.arg, &why);
        }
    }
    (void)e;
    return PEER_DONE;
}

/* --- both --- */

static void take_body(struct stream *s, struct peer *from, struct bytes data)
{
    struct load n = count(s->owner, from);
    if (n.bodies + data.size > STREAM_MAX_BODIES ||
        n.bodies_of_peer + data.size > STREAM_MAX_BODIES_OF_PEER) {
        refuse(from, s->id, 503, "Too much is being sent to this device. Try again soon.");
        stream_free(s);
        return;
    }
    s->moved_ns = s->owner->now_ns;
    buffer_append(&s->body, data); /* too much is answered at the request's end */
}

void on_stream_data(struct peers *all, struct peer *from, uint32_t id, struct bytes data)
{
    struct stream *asked = find(all, from, id, true), *mine = find(all, from, id, false);
    if (asked != NULL && !asked->answering) {
        take_body(asked, from, data);
    } else if (asked == NULL && mine != NULL && mine->answering) {
        mine->sink.write(mine->sink.arg, data);
    }
    /* Else it was cancelled or refused a moment ago. */
}

/* Callbacks may end other streams, so the list is read afresh after each. */
static bool end_one(struct peers *all, const struct peer *p, const char *why)
{
    for (struct stream *s = all->streams; s != NULL; s = s->next) {
        if (s->peer != NULL && (p == NULL || s->peer == p)) {
            end_stream(s, why);
            return true;
        }
    }
    return false;
}

void streams_peer_lost(struct peers *all, struct peer *p, const char *why)
{
    while (end_one(all, p, why)) {
    }
}

void streams_stop(struct peers *all)
{
    struct stream *s = all->streams;
    while (s != NULL) {
        bool outgoing = !s->incoming;
        if (outgoing) {
            end_stream(s, "this device is shutting down");
        }
        s = outgoing ? all->streams : s->next; /* afresh, as above */
    }
}

void streams_tick(struct peers *all)
{
    for (struct stream *s = all->streams, *next; s != NULL; s = next) {
        next = s->next;
        if (s->incoming && !s->answering && all->now_ns - s->moved_ns > STREAM_BODY_NS) {
            refuse(s->peer, s->id, 408, "The request did not come in time.");
            stream_free(s);
        }
    }
}

void streams_close(struct peers *all)
{
    while (end_one(all, NULL, "shutting down")) {
    }
    while (all->streams != NULL) {
        stream_free(all->streams);
    }
}

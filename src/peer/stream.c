/* Requests that travel, both ends, over a link of their own (link_dial_requests). What one request
 * does wrong, or too much of, ends that request and never the link, which carries those of others;
 * each has a queue of its own, and the link takes from them in turn. */
#include "peer/stream_internal.h"

#include <stdlib.h>

#include "base/array.h"
#include "peer/link.h"

#include <event2/buffer.h>
#include <stdio.h>
#include <string.h>

/* Bytes in a link at which its requests wait in their queues. */
#define HIGH_WATER (256u << 10)

/* Token ids that grow; of those to be told, the first `sent` are gone. */
struct ids {
    int32_t *items;
    size_t n, capacity, sent;
};

/* One request under way. Where it is answered it is also a peer_reply, where it comes from a
 * peer_ask. */
struct stream {
    struct peers *owner;
    struct peer *peer; /* the other end; NULL once it is lost or the request was cancelled */
    struct link *link; /* that it travels on; NULL before that is open */
    uint32_t id;       /* chosen by the one that asks */
    bool incoming;     /* it is answered here */
    bool answering;    /* the handler has it, or the reply has begun */
    bool whole;        /* an answer that is no stream of events */
    bool finishing;    /* its end goes when the queue is empty */
    bool released;     /* answered: only the queue is left */
    char method[STREAM_MAX_METHOD], path[STREAM_MAX_PATH];
    struct buffer body;
    struct evbuffer *out;       /* not yet taken by the link */
    uint64_t turn;              /* of the link, when it last took something */
    uint64_t moved_ns;          /* the last piece of a body */
    struct ids prompt, sampled; /* see stream_log: told so far, or still to be told */
    uint64_t seed, bytes;
    bool lost_ids; /* there were too many, or no memory */
    struct peer_sink sink;
    void (*closed)(void *arg);
    void *arg;
    struct stream *next;
};

static const struct message_field id_fields[] = {
    { MESSAGE_INTEGER(struct stream_id, id, 0, UINT32_MAX) },
};

static const struct message_field request_fields[] = {
    { MESSAGE_INTEGER(struct stream_request, id, 0, UINT32_MAX) },
    { MESSAGE_TEXT(struct stream_request, method) },
    { MESSAGE_TEXT(struct stream_request, path) },
};

static const struct message_field reply_fields[] = {
    { MESSAGE_INTEGER(struct stream_reply, id, 0, UINT32_MAX) },
    { MESSAGE_INT(struct stream_reply, status, 100, 599) },
    { MESSAGE_TEXT(struct stream_reply, content_type) },
};

/* What an answer is made of, in pieces. */
struct stream_ids {
    int64_t id, seed;
    bool prompt; /* the ids are the prompt's, else sampled */
    const json_t *ids;
};

/* Ids of one message. */
#define LOG_PIECE 8192

static const struct message_field log_fields[] = {
    { MESSAGE_INTEGER(struct stream_ids, id, 0, UINT32_MAX) },
    { MESSAGE_INTEGER(struct stream_ids, seed, INT64_MIN, INT64_MAX) },
    { MESSAGE_FLAG(struct stream_ids, prompt) },
    { MESSAGE_ARRAY(struct stream_ids, ids, LOG_PIECE) },
};

static struct stream *of_reply(struct peer_reply *r)
{
    return (struct stream *)r;
}

static struct stream *find(const struct link *l, int64_t id, bool incoming)
{
    for (struct stream *s = link_peers(l)->streams; s != NULL; s = s->next) {
        if (s->link == l && s->peer != NULL && s->id == id && s->incoming == incoming &&
            !s->released) {
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
    evbuffer_free(s->out);
    free(s->prompt.items);
    free(s->sampled.items);
    free(s);
}

static struct stream *stream_new(struct peer *p, uint32_t id, bool incoming)
{
    struct peers *all = p->owner;
    struct stream *s = calloc(1, sizeof *s);
    if (s != NULL && (s->out = evbuffer_new()) == NULL) {
        free(s);
        s = NULL;
    }
    if (s != NULL) {
        s->owner = all;
        s->peer = p;
        s->id = id;
        s->incoming = incoming;
        s->moved_ns = all->now_ns;
        buffer_init(&s->body, STREAM_MAX_BODY);
        struct stream **at = &all->streams; /* the oldest first */
        while (*at != NULL) {
            at = &(*at)->next;
        }
        *at = s;
    }
    return s;
}

static json_t *simple(const char *type, uint32_t id)
{
    return json_pack("{s:s, s:I}", "type", type, "id", (json_int_t)id);
}

/* --- queues --- */

/* The stream of a link that has waited longest with something to send; NULL for none. */
static bool ids_due(const struct stream *s)
{
    return s->incoming && (s->prompt.n > 0 || s->sampled.n > 0);
}

static struct stream *next_to_send(const struct link *l)
{
    struct stream *next = NULL;
    for (struct stream *s = link_peers(l)->streams; s != NULL; s = s->next) {
        bool due = s->link == l && s->peer != NULL &&
                   (s->finishing || evbuffer_get_length(s->out) > 0 || ids_due(s));
        if (due && (next == NULL || s->turn < next->turn)) {
            next = s;
        }
    }
    return next;
}

/* Without ids it says that some were lost. */
static void send_piece(struct stream *s, bool prompt, json_t *ids)
{
    link_send(s->link,
              json_pack("{s:s, s:I, s:I, s:b, s:o}", "type", "log", "id", (json_int_t)s->id, "seed",
                        (json_int_t)s->seed, "prompt", (int)prompt, "ids", ids));
}

/* The next piece of what an answer is made of, the prompt first. */
static void send_ids(struct stream *s)
{
    bool prompt = s->prompt.n > 0;
    struct ids *from = prompt ? &s->prompt : &s->sampled;
    size_t end = from->n - from->sent > LOG_PIECE ? from->sent + LOG_PIECE : from->n;
    json_t *piece = json_array();
    for (; from->sent < end; from->sent++) {
        json_array_append_new(piece, json_integer(from->items[from->sent]));
    }
    send_piece(s, prompt, piece);
    if (from->sent == from->n) {
        from->n = from->sent = 0;
    }
}

/* One frame, or the end. */
static void send_some(struct stream *s)
{
    size_t n = evbuffer_get_length(s->out);
    n = n < MESSAGE_DATA_MAX ? n : MESSAGE_DATA_MAX;
    s->turn = ++s->owner->stream_turns;
    if (ids_due(s)) { /* no byte comes before the ids that it is of */
        send_ids(s);
        return;
    }
    if (n > 0) {
        link_send_data(s->link, s->id, bytes_of(evbuffer_pullup(s->out, (ev_ssize_t)n), n));
        evbuffer_drain(s->out, n);
        return;
    }
    s->finishing = false;
    link_send(s->link, simple(s->incoming ? "reply_end" : "request_end", s->id));
    if (s->released) {
        stream_free(s);
    }
}

void streams_pump(struct link *l)
{
    struct stream *s = NULL;
    while (link_state(l) == LINK_OPEN && link_waiting(l) < HIGH_WATER &&
           (s = next_to_send(l)) != NULL) {
        send_some(s);
    }
}

bool streams_busy(const struct link *l)
{
    const struct stream *s = link_peers(l)->streams;
    while (s != NULL && s->link != l) {
        s = s->next;
    }
    return s != NULL;
}

static void end_stream(struct stream *s, const char *why)
{
    if (s->incoming) {
        s->peer = NULL;
        if (!s->answering || s->released) {
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
static void refuse(struct link *to, uint32_t id, int status, const char *why)
{
    json_t *problem = json_pack("{s:{s:s, s:s, s:n, s:n}}", "error", "message", why, "type",
                                "server_error", "param", "code");
    char *text = problem != NULL ? json_dumps(problem, JSON_COMPACT) : NULL;
    link_send(to, json_pack("{s:s, s:I, s:i, s:s}", "type", "reply", "id", (json_int_t)id, "status",
                            status, "content_type", "application/json"));
    link_send_data(to, id, bytes_text(text != NULL ? text : ""));
    link_send(to, simple("reply_end", id));
    free(text);
    json_decref(problem);
}

static enum peer_verdict on_request(struct link *l, const void *fields, struct error *e)
{
    const struct stream_request *m = fields;
    struct peers *all = link_peers(l);
    struct peer *from = link_peer(l);
    uint32_t id = (uint32_t)m->id;
    struct stream *same = find(l, id, true);
    if (same != NULL) { /* whose answer would be whose? neither gets any */
        end_stream(same, "its id was used again");
        refuse(l, id, 503, "A request of this id is already under way.");
        return PEER_DONE;
    }
    struct load n = count(all, from);
    bool room = n.of_peer < STREAM_KEPT_FOR_PEER ||
                (n.all < STREAM_MAX_COUNT && n.of_peer < STREAM_MAX_OF_PEER);
    struct stream *s = room ? stream_new(from, id, true) : NULL;
    if (s == NULL) {
        refuse(l, id, 503, "Too many requests travel to this device. Try again soon.");
        return PEER_DONE;
    }
    s->link = l;
    snprintf(s->method, sizeof s->method, "%s", m->method);
    snprintf(s->path, sizeof s->path, "%s", m->path);
    (void)e;
    return PEER_DONE;
}

static enum peer_verdict on_request_end(struct link *l, const void *fields, struct error *e)
{
    struct peers *all = link_peers(l);
    struct stream *s = find(l, ((const struct stream_id *)fields)->id, true);
    if (s == NULL || s->answering) {
        return PEER_DONE;
    }
    s->answering = true;
    if (s->body.failed) {
        refuse(l, s->id, 413, "The body is too large to be forwarded.");
        stream_free(s);
        return PEER_DONE;
    }
    all->options.events->request(
        all->options.arg, s->peer,
        &(struct peer_request){ s->method, s->path, buffer_bytes(&s->body) },
        (struct peer_reply *)s);
    (void)e;
    return PEER_DONE;
}

static enum peer_verdict on_cancel(struct link *l, const void *fields, struct error *e)
{
    struct stream *s = find(l, ((const struct stream_id *)fields)->id, true);
    if (s != NULL) {
        end_stream(s, "its client went");
    }
    (void)e;
    return PEER_DONE;
}

void peer_reply_begin(struct peer_reply *r, int status, const char *content_type)
{
    static const char events[] = "text/event-stream";
    struct stream *s = of_reply(r);
    s->whole = strncmp(content_type, events, sizeof events - 1) != 0;
    if (s->peer != NULL) {
        link_send(s->link,
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
    size_t most = s->whole ? STREAM_MAX_WHOLE : STREAM_MAX_WAITING;
    if (evbuffer_get_length(s->out) > most || evbuffer_add(s->out, data.data, data.size) != 0) {
        return FAIL_LIMIT;
    }
    streams_pump(s->link);
    return 0;
}

void peer_reply_end(struct peer_reply *r)
{
    struct stream *s = of_reply(r);
    if (s->peer == NULL) {
        stream_free(s);
        return;
    }
    s->released = s->finishing = true;
    s->closed = NULL;
    streams_pump(s->link);
}

void peer_reply_on_close(struct peer_reply *r, void (*closed)(void *arg), void *arg)
{
    struct stream *s = of_reply(r);
    s->closed = closed;
    s->arg = arg;
}

static bool add_ids(struct ids *to, const int32_t *ids, int n)
{
    if (n == 0) {
        return true;
    }
    int32_t *items =
        array_grow(to->items, &to->capacity, to->n + (size_t)n, sizeof *items, STREAM_MAX_IDS);
    if (items == NULL) {
        return false;
    }
    memcpy(items + to->n, ids, (size_t)n * sizeof *items);
    to->items = items;
    to->n += (size_t)n;
    return true;
}

int peer_reply_log(struct peer_reply *r, const struct stream_log *more)
{
    struct stream *s = of_reply(r);
    if (s->peer == NULL) {
        return FAIL_CLOSED;
    }
    s->seed = more->seed;
    if (s->lost_ids) {
        return FAIL_LIMIT;
    }
    if (!add_ids(&s->prompt, more->prompt, more->n_prompt) ||
        !add_ids(&s->sampled, more->ids, more->n_ids)) {
        s->lost_ids = true;
        s->prompt.n = s->prompt.sent = s->sampled.n = s->sampled.sent = 0;
        send_piece(s, false, json_array());
        return FAIL_LIMIT;
    }
    streams_pump(s->link);
    return 0;
}

/* --- the one that asks --- */

static bool take_ids(struct ids *to, const json_t *ids)
{
    int32_t piece[LOG_PIECE];
    int n = (int)json_array_size(ids);
    for (int i = 0; i < n; i++) {
        piece[i] = (int32_t)json_integer_value(json_array_get(ids, (size_t)i));
    }
    return add_ids(to, piece, n);
}

static enum peer_verdict on_log(struct link *l, const void *fields, struct error *e)
{
    const struct stream_ids *m = fields;
    const json_t *one = NULL;
    size_t i = 0;
    json_array_foreach(m->ids, i, one)
    {
        if (!json_is_integer(one) || json_integer_value(one) < 0 ||
            json_integer_value(one) > INT32_MAX) {
            fail(e, FAIL_FORMAT, "element %zu is no token's id", i);
            return PEER_VIOLATION;
        }
    }
    struct stream *s = find(l, m->id, false);
    if (s != NULL) {
        s->seed = (uint64_t)m->seed;
        s->lost_ids = s->lost_ids || json_array_size(m->ids) == 0 ||
                      !take_ids(m->prompt ? &s->prompt : &s->sampled, m->ids);
    }
    return PEER_DONE;
}

bool peer_ask_log(const struct peer_ask *f, struct stream_log *ret, uint64_t *bytes)
{
    const struct stream *s = (const struct stream *)f;
    *ret = (struct stream_log){ .prompt = s->prompt.items,
                                .n_prompt = (int)s->prompt.n,
                                .ids = s->sampled.items,
                                .n_ids = (int)s->sampled.n,
                                .seed = s->seed };
    *bytes = s->bytes;
    return !s->lost_ids && s->prompt.n > 0;
}

/* The link is open. */
static void start(struct stream *s, struct link *l)
{
    s->link = l;
    s->finishing = true;
    link_send(l, json_pack("{s:s, s:I, s:s, s:s}", "type", "request", "id", (json_int_t)s->id,
                           "method", s->method, "path", s->path));
}

void streams_link_ready(struct link *l)
{
    for (struct stream *s = link_peers(l)->streams; s != NULL; s = s->next) {
        if (!s->incoming && s->link == NULL && s->peer == link_peer(l)) {
            start(s, l);
        }
    }
    streams_pump(l);
}

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
    struct link *l = link_for_requests(to);
    int code = l == NULL ? link_dial_requests(to, e) : 0;
    if (code != 0) {
        return code;
    }
    struct stream *s = stream_new(to, ++to->owner->next_stream, false);
    if (s == NULL || evbuffer_add(s->out, request->body.data, request->body.size) != 0) {
        if (s != NULL) {
            stream_free(s);
        }
        return fail(e, FAIL_NOMEM, "memory for a request");
    }
    s->sink = *sink;
    snprintf(s->method, sizeof s->method, "%s", request->method);
    snprintf(s->path, sizeof s->path, "%s", request->path);
    *ret = (struct peer_ask *)s;
    if (l != NULL && link_state(l) == LINK_OPEN) {
        start(s, l);
        streams_pump(l);
    }
    return 0;
}

void peer_ask_cancel(struct peer_ask *f)
{
    struct stream *s = (struct stream *)f;
    if (s->peer != NULL && s->link != NULL) {
        link_send(s->link, simple("cancel", s->id));
    }
    stream_free(s);
}

static enum peer_verdict on_reply(struct link *l, const void *fields, struct error *e)
{
    const struct stream_reply *m = fields;
    struct stream *s = find(l, m->id, false);
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

static enum peer_verdict on_reply_end(struct link *l, const void *fields, struct error *e)
{
    struct stream *s = find(l, ((const struct stream_id *)fields)->id, false);
    if (s != NULL && s->answering) {
        struct peer_sink sink = s->sink;
        stream_free(s);
        sink.end(sink.arg);
    } else if (s != NULL) {
        end_stream(s, "the reply ended before it began");
    }
    (void)e;
    return PEER_DONE;
}

/* --- both --- */

static void take_body(struct stream *s, struct bytes data)
{
    struct load n = count(s->owner, s->peer);
    if (n.bodies + data.size > STREAM_MAX_BODIES ||
        n.bodies_of_peer + data.size > STREAM_MAX_BODIES_OF_PEER) {
        refuse(s->link, s->id, 503, "Too much is being sent to this device. Try again soon.");
        stream_free(s);
        return;
    }
    s->moved_ns = s->owner->now_ns;
    buffer_append(&s->body, data); /* too much is answered at the request's end */
}

static void on_data(struct link *l, uint32_t id, struct bytes data)
{
    struct stream *asked = find(l, id, true), *mine = find(l, id, false);
    if (asked != NULL && !asked->answering) {
        take_body(asked, data);
    } else if (asked == NULL && mine != NULL && mine->answering) {
        mine->bytes += data.size;
        mine->sink.write(mine->sink.arg, data);
    }
    /* Else it was cancelled or refused a moment ago. */
}

#define ROW(name, table, kind, handler)                                                            \
    {                                                                                              \
        name, table, ARRAY_LEN(table), handler                                                     \
    }
static const struct {
    const char *type;
    const struct message_field *fields;
    int n_fields;
    enum peer_verdict (*handle)(struct link *l, const void *fields, struct error *e);
} messages[] = {
    ROW("request", request_fields, struct stream_request, on_request),
    ROW("request_end", id_fields, struct stream_id, on_request_end),
    ROW("cancel", id_fields, struct stream_id, on_cancel),
    ROW("reply", reply_fields, struct stream_reply, on_reply),
    ROW("reply_end", id_fields, struct stream_id, on_reply_end),
    ROW("log", log_fields, struct stream_ids, on_log),
};
#undef ROW

/* Any of them. */
union stream_fields {
    struct stream_id id;
    struct stream_request request;
    struct stream_reply reply;
    struct stream_ids ids;
};

enum peer_verdict streams_message(struct link *l, const struct message *m, struct error *e)
{
    union stream_fields fields;
    if (m->body == NULL) {
        on_data(l, m->stream, m->data);
        return PEER_DONE;
    }
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        if (strcmp(messages[i].type, m->type) != 0) {
            continue;
        }
        memset(&fields, 0, sizeof fields);
        if (message_read(m->body, messages[i].fields, messages[i].n_fields, &fields, e) != 0) {
            wrap(e, "message '%s'", m->type);
            return PEER_VIOLATION;
        }
        return messages[i].handle(l, &fields, e);
    }
    return PEER_DONE; /* a later minor version may say more */
}

/* Callbacks may end other streams, so the list is read afresh after each. */
static bool end_one(struct peers *all, const struct peer *p, const struct link *l, const char *why)
{
    for (struct stream *s = all->streams; s != NULL; s = s->next) {
        if (s->peer != NULL && (p == NULL || s->peer == p) &&
            (l == NULL || s->link == l || (s->link == NULL && link_is_client(l)))) {
            end_stream(s, why);
            return true;
        }
    }
    return false;
}

void streams_peer_lost(struct peers *all, struct peer *p, const char *why)
{
    while (end_one(all, p, NULL, why)) {
    }
}

void streams_link_ended(struct peer *p, const struct link *l, const char *why)
{
    while (end_one(p->owner, p, l, why)) {
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
            refuse(s->link, s->id, 408, "The request did not come in time.");
            stream_free(s);
        }
    }
}

void streams_close(struct peers *all)
{
    while (end_one(all, NULL, NULL, "shutting down")) {
    }
    while (all->streams != NULL) {
        stream_free(all->streams);
    }
}

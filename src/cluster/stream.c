/* Forwarded requests, both ends. */
#include "cluster/stream.h"

#include <stdlib.h>

#include "cluster/link.h"
#include "os/log.h"

#include <stdio.h>
#include <string.h>

/* One request under way. At the head it is also a cluster_reply, at a member a cluster_forward. */
struct stream {
    struct cluster *owner;
    struct device *device; /* the other end; NULL once it is lost or the request was cancelled */
    uint32_t id;           /* chosen by the member */
    bool incoming;         /* we are the head */
    bool answering;        /* the handler has it */
    char method[STREAM_MAX_METHOD], path[STREAM_MAX_PATH];
    struct buffer body;
    struct cluster_sink sink;
    void (*closed)(void *arg);
    void *arg;
    struct stream *next;
};

static struct stream *of_reply(struct cluster_reply *r)
{
    return (struct stream *)r;
}

static struct stream *find(struct cluster *c, const struct device *d, uint32_t id, bool incoming)
{
    for (struct stream *s = c->streams; s != NULL; s = s->next) {
        if (s->device == d && s->id == id && s->incoming == incoming) {
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

static struct stream *stream_new(struct cluster *c, struct device *d, uint32_t id, bool incoming)
{
    struct stream *s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->owner = c;
        s->device = d;
        s->id = id;
        s->incoming = incoming;
        buffer_init(&s->body, STREAM_MAX_BODY);
        s->next = c->streams;
        c->streams = s;
    }
    return s;
}

static void send_pieces(struct device *d, uint32_t id, struct bytes data)
{
    while (data.size > 0) {
        size_t n = data.size < MESSAGE_DATA_MAX ? data.size : MESSAGE_DATA_MAX;
        link_send_data(d->link, id, bytes_of(data.data, n));
        data = bytes_of(data.data + n, data.size - n);
    }
}

static void end_stream(struct stream *s, const char *why)
{
    if (s->incoming) {
        s->device = NULL;
        if (!s->answering) {
            stream_free(s);
        } else if (s->closed != NULL) {
            s->closed(s->arg);
        }
        return;
    }
    struct cluster_sink sink = s->sink;
    struct error e = { 0 };
    fail(&e, FAIL_CLOSED, "%s", why);
    stream_free(s);
    sink.failed(sink.arg, &e);
}

static json_t *simple(const char *type, uint32_t id)
{
    return json_pack("{s:s, s:I}", "type", type, "id", (json_int_t)id);
}

static int read_id(const json_t *m, uint32_t *ret, struct error *e)
{
    int64_t id = 0;
    int code = message_integer(m, "id", 0, UINT32_MAX, &id, e);
    *ret = (uint32_t)id;
    return code;
}

/* --- the head --- */

/* Answers a request that no stream is for. */
static void refuse(struct device *to, uint32_t id, int status, const char *why)
{
    json_t *problem = json_pack("{s:{s:s, s:s, s:n, s:n}}", "error", "message", why, "type",
                                "server_error", "param", "code");
    char *text = problem != NULL ? json_dumps(problem, JSON_COMPACT) : NULL;
    link_send(to->link, json_pack("{s:s, s:I, s:i, s:s}", "type", "reply", "id", (json_int_t)id,
                                  "status", status, "content_type", "application/json"));
    send_pieces(to, id, bytes_text(text));
    link_send(to->link, simple("reply_end", id));
    free(text);
    json_decref(problem);
}

int on_request(struct cluster *c, struct device *from, const json_t *m, struct error *e)
{
    uint32_t id = 0;
    const char *method = "", *path = "";
    int code = read_id(m, &id, e);
    code = code ? code : message_text(m, "method", STREAM_MAX_METHOD - 1, &method, e);
    code = code ? code : message_text(m, "path", STREAM_MAX_PATH - 1, &path, e);
    if (code != 0) {
        return code;
    }
    int count = 0;
    for (struct stream *s = c->streams; s != NULL; s = s->next) {
        count++;
    }
    struct stream *same = find(c, from, id, true);
    if (same != NULL) { /* whose answer would be whose? neither gets any */
        end_stream(same, "its id was used again");
        refuse(from, id, 503, "A request of this id is already under way.");
        return 0;
    }
    if (count >= STREAM_MAX_COUNT) { /* a limit of requests is no fault of the link */
        refuse(from, id, 503, "Too many requests travel to this device. Try again soon.");
        return 0;
    }
    struct stream *s = stream_new(c, from, id, true);
    if (s == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a request");
    }
    snprintf(s->method, sizeof s->method, "%s", method);
    snprintf(s->path, sizeof s->path, "%s", path);
    return 0;
}

int on_request_end(struct cluster *c, struct device *from, const json_t *m, struct error *e)
{
    uint32_t id = 0;
    int code = read_id(m, &id, e);
    struct stream *s = code == 0 ? find(c, from, id, true) : NULL;
    if (code != 0 || s == NULL || s->answering) {
        return code;
    }
    s->answering = true;
    struct cluster_reply *reply = (struct cluster_reply *)s;
    if (s->body.failed || c->options.on_request == NULL) {
        refuse(from, id, s->body.failed ? 413 : 503,
               s->body.failed ? "The body is too large to be forwarded."
                              : "This device answers no requests.");
        stream_free(s);
        return 0;
    }
    c->options.on_request(c->options.arg,
                          &(struct cluster_request){ s->method, s->path, buffer_bytes(&s->body) },
                          reply);
    return 0;
}

int on_cancel(struct cluster *c, struct device *from, const json_t *m, struct error *e)
{
    uint32_t id = 0;
    int code = read_id(m, &id, e);
    struct stream *s = code == 0 ? find(c, from, id, true) : NULL;
    if (s == NULL) {
        return code;
    }
    s->device = NULL;
    if (!s->answering) {
        stream_free(s);
    } else if (s->closed != NULL) {
        s->closed(s->arg);
    }
    return 0;
}

void cluster_reply_begin(struct cluster_reply *r, int status, const char *content_type)
{
    struct stream *s = of_reply(r);
    if (s->device != NULL) {
        link_send(s->device->link,
                  json_pack("{s:s, s:I, s:i, s:s}", "type", "reply", "id", (json_int_t)s->id,
                            "status", status, "content_type", content_type));
    }
}

int cluster_reply_write(struct cluster_reply *r, struct bytes data)
{
    struct stream *s = of_reply(r);
    if (s->device == NULL) {
        return FAIL_CLOSED;
    }
    if (link_waiting(s->device->link) > STREAM_MAX_WAITING) {
        return FAIL_LIMIT;
    }
    send_pieces(s->device, s->id, data);
    return 0;
}

void cluster_reply_end(struct cluster_reply *r)
{
    struct stream *s = of_reply(r);
    if (s->device != NULL) {
        link_send(s->device->link, simple("reply_end", s->id));
    }
    stream_free(s);
}

void cluster_reply_on_close(struct cluster_reply *r, void (*closed)(void *arg), void *arg)
{
    struct stream *s = of_reply(r);
    s->closed = closed;
    s->arg = arg;
}

/* --- a member --- */

int cluster_forward(struct cluster *c, const struct cluster_request *request,
                    const struct cluster_sink *sink, struct cluster_forward **ret, struct error *e)
{
    struct device *head = device_head(c);
    if (head == NULL || head->link == NULL) {
        return fail(e, FAIL_CLOSED, "the cluster's head is not connected");
    }
    if (request->body.size > STREAM_MAX_BODY || strlen(request->path) >= STREAM_MAX_PATH ||
        strlen(request->method) >= STREAM_MAX_METHOD) {
        return fail(e, FAIL_LIMIT, "request is too large to be forwarded");
    }
    struct stream *s = stream_new(c, head, ++c->next_stream, false);
    if (s == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a request");
    }
    s->sink = *sink;
    link_send(head->link,
              json_pack("{s:s, s:I, s:s, s:s}", "type", "request", "id", (json_int_t)s->id,
                        "method", request->method, "path", request->path));
    send_pieces(head, s->id, request->body);
    link_send(head->link, simple("request_end", s->id));
    *ret = (struct cluster_forward *)s;
    return 0;
}

void cluster_forward_cancel(struct cluster_forward *f)
{
    struct stream *s = (struct stream *)f;
    if (s->device != NULL) {
        link_send(s->device->link, simple("cancel", s->id));
    }
    stream_free(s);
}

int on_reply(struct cluster *c, struct device *from, const json_t *m, struct error *e)
{
    uint32_t id = 0;
    int status = 0;
    const char *type = "";
    int code = read_id(m, &id, e);
    code = code ? code : message_int(m, "status", 100, 599, &status, e);
    code = code ? code : message_text(m, "content_type", STREAM_MAX_TYPE - 1, &type, e);
    struct stream *s = code == 0 ? find(c, from, id, false) : NULL;
    if (s != NULL && !s->answering) {
        s->answering = true;
        s->sink.begin(s->sink.arg, status, type);
    }
    return code;
}

int on_reply_end(struct cluster *c, struct device *from, const json_t *m, struct error *e)
{
    uint32_t id = 0;
    int code = read_id(m, &id, e);
    struct stream *s = code == 0 ? find(c, from, id, false) : NULL;
    if (s != NULL) {
        struct cluster_sink sink = s->sink;
        stream_free(s);
        sink.end(sink.arg);
    }
    return code;
}

/* --- both --- */

int on_stream_data(struct cluster *c, struct device *from, uint32_t id, struct bytes data,
                   struct error *e)
{
    struct stream *s = find(c, from, id, c->self->head);
    if (s == NULL) {
        return 0; /* cancelled a moment ago */
    }
    if (s->incoming && s->answering) {
        return fail(e, FAIL_STATE, "more body after the end of request %u", id);
    }
    if (s->incoming) {
        buffer_append(&s->body, data); /* too much is answered at the request's end */
    } else if (s->answering) {
        s->sink.write(s->sink.arg, data);
    }
    return 0;
}

/* Callbacks may end other streams, so the list is read afresh after each. */
static bool end_one(struct cluster *c, const struct device *d, const char *why)
{
    for (struct stream *s = c->streams; s != NULL; s = s->next) {
        if (s->device != NULL && (d == NULL || s->device == d)) {
            end_stream(s, why);
            return true;
        }
    }
    return false;
}

void streams_device_lost(struct cluster *c, struct device *d)
{
    while (end_one(c, d, "the cluster's head was lost")) {
    }
}

void streams_stop(struct cluster *c)
{
    struct stream *s = c->streams;
    while (s != NULL) {
        bool outgoing = !s->incoming;
        if (outgoing) {
            end_stream(s, "this device is shutting down");
        }
        s = outgoing ? c->streams : s->next; /* afresh, as above */
    }
}

void streams_close(struct cluster *c)
{
    while (end_one(c, NULL, "shutting down")) {
    }
    while (c->streams != NULL) {
        stream_free(c->streams);
    }
}

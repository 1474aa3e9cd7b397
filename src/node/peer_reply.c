/* Answers over peer links, both ends. */
#include "node/peer_reply.h"

#include <stdlib.h>

#include <stdio.h>
#include <string.h>

#define UNAVAILABLE 503
#define JSON_TYPE "application/json"
#define EVENTS_TYPE "text/event-stream"

/* --- the head: a reply as a responder --- */

struct peer_responder {
    struct responder base; /* first: the API sees only this */
    struct cluster_reply *reply;
};

static void reply_begin(struct responder *r, int status, const char *content_type, bool stream,
                        const char *headers)
{
    cluster_reply_begin(((struct peer_responder *)r)->reply, status, content_type);
    (void)stream;
    (void)headers;
}

static int reply_write(struct responder *r, struct bytes data)
{
    return cluster_reply_write(((struct peer_responder *)r)->reply, data);
}

static void reply_end(struct responder *r)
{
    cluster_reply_end(((struct peer_responder *)r)->reply);
    free(r);
}

/* What can't be told doesn't end the answer: its device finds the log cut. */
static void reply_log(struct responder *r, const struct responder_log *more)
{
    cluster_reply_log(((struct peer_responder *)r)->reply,
                      &(struct stream_log){ .prompt = more->prompt,
                                            .n_prompt = more->n_prompt,
                                            .ids = more->ids,
                                            .n_ids = more->n_ids,
                                            .seed = more->seed });
}

static const struct responder_ops reply_ops = { reply_begin, reply_write, reply_end, reply_log };

static void reply_closed(void *arg)
{
    struct peer_responder *p = arg;
    if (p->base.closed != NULL) {
        p->base.closed(p->base.closed_arg);
    }
}

void peer_request(void *arg, const struct cluster_request *request, struct cluster_reply *reply)
{
    struct api *api = *(struct api **)arg;
    struct peer_responder *p = api != NULL ? calloc(1, sizeof *p) : NULL;
    if (p == NULL) {
        cluster_reply_begin(reply, UNAVAILABLE, "text/plain");
        cluster_reply_end(reply);
        return;
    }
    p->base.ops = &reply_ops;
    p->reply = reply;
    cluster_reply_on_close(reply, reply_closed, p);
    struct api_request q = { request->method, request->path, request->body };
    api_handle(api, &q, &p->base);
}

/* --- a member: a responder fed from the link --- */

struct forwarded {
    struct responder *to;
    struct cluster_forward *forward;
    bool begun, stream;
};

static void finish(struct forwarded *f)
{
    struct responder *to = f->to;
    to->closed = NULL;
    free(f);
    to->ops->end(to);
}

static void sink_begin(void *arg, int status, const char *content_type)
{
    struct forwarded *f = arg;
    bool stream = strncmp(content_type, EVENTS_TYPE, strlen(EVENTS_TYPE)) == 0;
    f->begun = true;
    f->stream = stream;
    f->to->ops->begin(f->to, status, content_type, stream, NULL);
}

static void sink_write(void *arg, struct bytes data)
{
    struct forwarded *f = arg;
    if (f->to->ops->write(f->to, data) != 0) {
        cluster_forward_cancel(f->forward);
        finish(f);
    }
}

static void sink_end(void *arg)
{
    finish(arg);
}

/* The head went: an error instead of an answer, or in the middle of a stream. */
static void sink_failed(void *arg, const struct error *error)
{
    struct forwarded *f = arg;
    json_t *problem = json_pack("{s:{s:s, s:s, s:n, s:n}}", "error", "message", error->text, "type",
                                "server_error", "param", "code");
    char *text = problem ? json_dumps(problem, JSON_COMPACT) : NULL;
    if (text != NULL && !f->begun) {
        f->to->ops->begin(f->to, UNAVAILABLE, JSON_TYPE, false, NULL);
        f->to->ops->write(f->to, bytes_text(text));
    } else if (text != NULL && f->stream) { /* half a whole answer stays half a one */
        f->to->ops->write(f->to, bytes_text("data: "));
        f->to->ops->write(f->to, bytes_text(text));
        f->to->ops->write(f->to, bytes_text("\n\n"));
    }
    free(text);
    json_decref(problem);
    finish(f);
}

/* The client went: the head stops the work. */
static void client_closed(void *arg)
{
    struct forwarded *f = arg;
    cluster_forward_cancel(f->forward);
    finish(f);
}

int peer_forward(struct cluster *c, const struct api_request *request, struct responder *to,
                 struct error *e)
{
    struct forwarded *f = calloc(1, sizeof *f);
    if (f == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a request");
    }
    f->to = to;
    struct cluster_request q = { request->method, request->path, request->body };
    struct cluster_sink sink = { sink_begin, sink_write, sink_end, sink_failed, f };
    int code = cluster_forward(c, &q, &sink, &f->forward, e);
    if (code != 0) {
        free(f);
        return code;
    }
    to->closed = client_closed;
    to->closed_arg = f;
    return 0;
}

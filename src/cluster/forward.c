/* A member sends its clients' requests to the head; which device that is, is decided here. */
#include "cluster/forward.h"

static struct peer_reply *peer_side(struct cluster_reply *r)
{
    return (struct peer_reply *)r;
}

void forward_request(void *arg, struct peer *from, const struct peer_request *q,
                     struct peer_reply *reply)
{
    struct cluster *c = arg;
    if (!c->self->head || c->options.on_request == NULL) {
        peer_reply_begin(reply, 503, "text/plain");
        peer_reply_write(reply, bytes_text("This device answers no requests of others.\n"));
        peer_reply_end(reply);
        return;
    }
    c->options.on_request(c->options.arg, &(struct cluster_request){ q->method, q->path, q->body },
                          (struct cluster_reply *)reply);
    (void)from;
}

void cluster_reply_begin(struct cluster_reply *r, int status, const char *content_type)
{
    peer_reply_begin(peer_side(r), status, content_type);
}

int cluster_reply_write(struct cluster_reply *r, struct bytes data)
{
    return peer_reply_write(peer_side(r), data);
}

void cluster_reply_end(struct cluster_reply *r)
{
    peer_reply_end(peer_side(r));
}

int cluster_reply_log(struct cluster_reply *r, const struct stream_log *more)
{
    return peer_reply_log(peer_side(r), more);
}

void cluster_reply_on_close(struct cluster_reply *r, void (*closed)(void *arg), void *arg)
{
    peer_reply_on_close(peer_side(r), closed, arg);
}

int cluster_forward(struct cluster *c, const struct cluster_request *request,
                    const struct cluster_sink *sink, struct cluster_forward **ret, struct error *e)
{
    struct device *head = device_head(c);
    struct peer_ask *f = NULL;
    if (head == NULL || !device_alive(head)) {
        return fail(e, FAIL_CLOSED, "the cluster's head is not connected");
    }
    int code = peer_ask(
        head->peer, &(struct peer_request){ request->method, request->path, request->body },
        &(struct peer_sink){ sink->begin, sink->write, sink->end, sink->failed, sink->arg }, &f, e);
    if (code == 0) {
        *ret = (struct cluster_forward *)f;
    }
    return code;
}

bool cluster_forward_log(const struct cluster_forward *f, struct stream_log *ret, uint64_t *bytes)
{
    return peer_ask_log((const struct peer_ask *)f, ret, bytes);
}

void cluster_forward_cancel(struct cluster_forward *f)
{
    peer_ask_cancel((struct peer_ask *)f);
}

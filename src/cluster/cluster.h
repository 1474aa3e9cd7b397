/* One device of a shoal cluster: finds its place among the others, loads parts of models, serves
 * those that it is the head of, and forwards requests otherwise.
 *
 * Everything here belongs to the thread that runs the event loop given at open. */
#ifndef SHOAL_CLUSTER_CLUSTER_H
#define SHOAL_CLUSTER_CLUSTER_H

#include "base/bytes.h"
#include "base/error.h"
#include "peer/stream.h"

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>

struct backend;
struct cluster;
struct cluster_reply;
struct cluster_request;
struct engine;
struct event_base;
struct kernels;
struct chat_model;

/* Texts are borrowed until cluster_close. */
struct cluster_options {
    struct event_base *base;
    const char *home; /* keys live here; made when missing */
    const char *models_dir;
    const char *name;   /* for people; NULL: the host's name */
    int peer_port;      /* 0: any free one */
    const char *join;   /* host or host:port of a member; NULL: this device is the head */
    const char *invite; /* invitation text that stands for the cluster key; or NULL */
    const char *split;  /* SPEC for every model; NULL: by memory */
    int threads;        /* of compute; 0: all usable cores */
    const struct backend *backend; /* that computes this device's parts */
    const struct kernels *kernels;
    const char *isa; /* name of the kernels, for people */
    int context;     /* most positions of one session; 0: as fits, see plan/context.h */
    bool exact;
    uint32_t protocol_version; /* 0: this program's; another one only in tests */
    bool seal;                 /* also data channels within this host are sealed */
    /* A request that a member forwarded. It must be answered through the reply, now or later.
     * Never called when NULL. */
    void (*on_request)(void *arg, const struct cluster_request *request,
                       struct cluster_reply *reply);
    void *arg;
};

/* Reads or makes the keys, opens the peer port and starts. FAIL_BUSY when the port is taken or
 * another device runs in the same home,
 * FAIL_IO, FAIL_FORMAT for files or an invitation that can't be read. */
int cluster_open(struct cluster **ret, const struct cluster_options *options, struct error *e);

/* Ends placements and closes their engines, so that no callback of a request can come any more, and
 * the requests that this device sent to the head; replies to other devices may still be ended.
 * cluster_close does it too. */
void cluster_stop(struct cluster *c);

/* Ends requests, placements and links. Takes at most about a second. NULL is fine. */
void cluster_close(struct cluster *c);

/* A model to be served by this head: a name in the models folder or a path. See service_add. */
int cluster_add_model(struct cluster *c, const char *name, struct error *e);

/* The head is the device that was started without joining. */
bool cluster_is_head(const struct cluster *c);
/* The port that this device's peers connect to. */
int cluster_peer_port(const struct cluster *c);
/* Hex id of this device; the first 8 digits are its short form. */
const char *cluster_device_id(const struct cluster *c);

/* --- models --- */

enum cluster_model_state { MODEL_WAITING, MODEL_LOADING, MODEL_READY };

/* A model that the cluster serves, as seen from here. Borrowed until the next turn of the loop. */
struct cluster_model {
    const char *id;
    enum cluster_model_state state;
    const char *why;         /* what a model that isn't ready waits for */
    struct engine *engine;   /* at the head, when ready; NULL at other devices: forward */
    struct chat_model *text; /* at the head */
    int context;
    int64_t created_s;
};
int cluster_model_count(const struct cluster *c);
void cluster_model_at(const struct cluster *c, int index, struct cluster_model *ret);

/* --- requests that travel --- */

struct cluster_request {
    const char *method, *path;
    struct bytes body; /* borrowed for the call */
};

/* The head's side: in order begin, any number of writes, end. The reply is gone after end. write
 * returns FAIL_LIMIT when the member doesn't take its bytes, FAIL_CLOSED when it is gone; end is
 * still due then. */
void cluster_reply_begin(struct cluster_reply *r, int status, const char *content_type);
int cluster_reply_write(struct cluster_reply *r, struct bytes data);
void cluster_reply_end(struct cluster_reply *r);
/* See peer_reply_log. */
int cluster_reply_log(struct cluster_reply *r, const struct stream_log *more);
/* closed(arg) is called once if the client or its device goes away before end; end is still due. */
void cluster_reply_on_close(struct cluster_reply *r, void (*closed)(void *arg), void *arg);

/* The member's side. Exactly one of end and failed is called, last. */
struct cluster_sink {
    void (*begin)(void *arg, int status, const char *content_type);
    void (*write)(void *arg, struct bytes data);
    void (*end)(void *arg);
    void (*failed)(void *arg, const struct error *error);
    void *arg;
};
/* Sends a request to the head. *ret may be cancelled until end or failed. FAIL_CLOSED when there is
 * no head now. */
struct cluster_forward;
int cluster_forward(struct cluster *c, const struct cluster_request *request,
                    const struct cluster_sink *sink, struct cluster_forward **ret, struct error *e);
/* What came of the answer so far, see peer_ask_log. */
bool cluster_forward_log(const struct cluster_forward *f, struct stream_log *ret, uint64_t *bytes);
/* The client is gone: the head stops the work; nothing of the sink is called any more. */
void cluster_forward_cancel(struct cluster_forward *f);

/* --- status --- */

/* {devices: [...], models: [...], links: [...]}: a new reference, NULL without memory. At a member
 * it is what the head told last, and its own view while there is none. */
json_t *cluster_status(struct cluster *c);

#endif

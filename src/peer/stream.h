/* Requests that travel over a link of their own to another device, and their replies. owner:
 * control thread. */
#ifndef SHOAL_PEER_STREAM_H
#define SHOAL_PEER_STREAM_H

#include "peer/peer.h"

/* Bytes of a request's body: the API's own bound for a body, which it enforces first. */
#define STREAM_MAX_BODY (16u << 20)
#define STREAM_MAX_METHOD 16
#define STREAM_MAX_PATH 1024
#define STREAM_MAX_TYPE 128
/* Requests of all peers under way at once, and of one; a peer with few is taken beyond the former.
 */
#define STREAM_MAX_COUNT 1024
#define STREAM_MAX_OF_PEER 256
#define STREAM_KEPT_FOR_PEER 8
/* Bytes of bodies that are still coming, of all peers and of one. */
#define STREAM_MAX_BODIES (256u << 20)
#define STREAM_MAX_BODIES_OF_PEER (64u << 20)
/* A body that stands still for longer is given up. */
#define STREAM_BODY_NS 30000000000ull
/* Bytes of a reply that may wait for a slow peer before the request is given up: of a stream of
 * events, and of an answer that comes in one piece. */
#define STREAM_MAX_WAITING (8u << 20)
#define STREAM_MAX_WHOLE (256u << 20)

struct peer_request {
    const char *method, *path;
    struct bytes body; /* borrowed for the call */
};

/* Token ids of a request that are kept at most: a session's longest context. */
#define STREAM_MAX_IDS (1 << 20)

/* What an answer was made of. With it another device can go on with the answer where this one
 * stopped: it goes through the ids anew, and the first `bytes` of its reply are there already. */
struct stream_log {
    const int32_t *prompt; /* (n_prompt) the prompt's ids */
    int n_prompt;
    const int32_t *ids; /* (n_ids) each id that was sampled, in order */
    int n_ids;
    uint64_t seed;
};

/* --- the one that answers --- */

struct peer_reply;

/* In order begin, any number of writes, end. The reply is gone after end. write returns FAIL_LIMIT
 * when the peer doesn't take its bytes, FAIL_CLOSED when it is gone; end is still due then. */
void peer_reply_begin(struct peer_reply *r, int status, const char *content_type);
int peer_reply_write(struct peer_reply *r, struct bytes data);
void peer_reply_end(struct peer_reply *r);
/* Tells what the answer is made of, beside its bytes: the prompt and the seed once, each sampled id
 * as it comes (the log then has those only). Borrowed for the call. Goes in the request's own turn,
 * before bytes that are written later. FAIL_CLOSED when the peer is gone; FAIL_LIMIT beyond
 * STREAM_MAX_IDS and without memory, which the peer is told. */
int peer_reply_log(struct peer_reply *r, const struct stream_log *more);
/* closed(arg) is called once if the client or its device goes away before end; end is still due. */
void peer_reply_on_close(struct peer_reply *r, void (*closed)(void *arg), void *arg);

/* --- the one that asks --- */

/* Exactly one of end and failed is called, last. */
struct peer_sink {
    void (*begin)(void *arg, int status, const char *content_type);
    void (*write)(void *arg, struct bytes data);
    void (*end)(void *arg);
    void (*failed)(void *arg, const struct error *error);
    void *arg;
};

/* Sends a request. *ret may be cancelled until end or failed, which never come within this call.
 * FAIL_CLOSED when the peer is not linked, FAIL_LIMIT, FAIL_NOMEM. */
struct peer_ask;
int peer_ask(struct peer *to, const struct peer_request *request, const struct peer_sink *sink,
             struct peer_ask **ret, struct error *e);
/* What came of the reply so far: what it is made of, and how many bytes the sink was given.
 * Borrowed until the next turn of the loop. False when the log is not whole, or there is none (a
 * request with several answers has none): the request can't be gone on with. */
bool peer_ask_log(const struct peer_ask *f, struct stream_log *ret, uint64_t *bytes);
/* The client is gone: the peer stops the work; nothing of the sink is called any more. */
void peer_ask_cancel(struct peer_ask *f);

#endif

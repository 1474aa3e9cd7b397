/* Where an answer goes: an HTTP connection of this device, or a peer that forwarded the request. */
#ifndef SHOAL_API_RESPONDER_H
#define SHOAL_API_RESPONDER_H

#include "base/bytes.h"

#include <stdbool.h>

/* A request as the handlers see it. Borrowed for the call. */
struct api_request {
    const char *method; /* "GET" */
    const char *path;   /* "/v1/models", a query may follow */
    struct bytes body;
};

struct responder;

/* What an answer is made of: with it another device can go on where this one stopped. */
struct responder_log {
    const int32_t *prompt; /* (n_prompt) ids */
    int n_prompt;
    const int32_t *ids; /* (n_ids) sampled, in order */
    int n_ids;
    uint64_t seed;
};

struct responder_ops {
    /* First, once. stream: pieces go out as they are written; otherwise the whole answer at end.
     * headers: more header lines, each with CR LF, or NULL; a peer link may drop them. */
    void (*begin)(struct responder *r, int status, const char *content_type, bool stream,
                  const char *headers);
    /* Any number of times. FAIL_LIMIT: the client doesn't read what it was sent, stop the work;
     * FAIL_CLOSED: it is gone. end is still due after either. */
    int (*write)(struct responder *r, struct bytes data);
    /* Last, once, also after a close; r is gone then. Without begin before it the connection is
     * closed without an answer. */
    void (*end)(struct responder *r);
    /* Beside the bytes, of a request with one answer: the prompt once and before anything is
     * sampled, then ids as they come, before what is written of them. NULL where nobody keeps it.
     */
    void (*log)(struct responder *r, const struct responder_log *more);
};

/* Embedded at the start of each implementation. owner: the event loop's thread. */
struct responder {
    const struct responder_ops *ops;
    /* Set by the handler. Called at most once, when the client goes away before end; the handler
     * may call end from it. */
    void (*closed)(void *arg);
    void *closed_arg;
};

#endif

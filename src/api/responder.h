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

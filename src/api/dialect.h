/* What differs between the APIs that clients speak: how a request is read, how its answer is told.
 * A dialect is one table; whatever else it needs are files in api/dialects/. */
#ifndef SHOAL_API_DIALECT_H
#define SHOAL_API_DIALECT_H

#include "api/problem.h"
#include "api/responder.h"
#include "chat/event.h"
#include "chat/request.h"

struct answer;

/* What a body asks for. chat is owned: chat_request_done. */
struct ask {
    const char *model; /* borrowed from chat.root */
    bool stream;
    bool include_usage; /* a stream tells at its end what was used */
    struct chat_request chat;
};

struct dialect {
    /* Reads a body. Any thread; knows neither models nor the API. Returns 0, or -1 with the
     * problem; *ret is then untouched. */
    int (*parse)(struct bytes body, struct ask *ret, struct api_problem *p);
    /* A request's identity is known: what its answer is called. The loop's thread, as all below. */
    void (*begin)(struct answer *a);
    /* One event of a stream. Not 0: the client doesn't take it. */
    int (*event)(struct answer *a, const struct chat_event *e);
    /* All answers have ended well: the stream's last words, or the whole answer. Ends the
     * responder, which is no more the answer's. */
    void (*end)(struct answer *a, struct responder *r);
    /* Says what went wrong and ends the responder. streaming: the status is out already. */
    void (*error)(struct responder *r, const struct api_problem *p, bool streaming);
    /* A stream has been silent for long: how far the prompt is, in tokens; total 0: it waits. Not 0
     * as above. */
    int (*keep_alive)(struct answer *a, int done, int total);
    const char *stream_type; /* content type */
    const void *own;         /* what the functions above need to know of their dialect, or NULL */
};

#endif

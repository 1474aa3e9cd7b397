/* One request on its way: its tokens are the whole truth of it. What an executor holds for it can
 * be lost at any time and is made again from them. owner: the head thread, unless a field says
 * otherwise. */
#ifndef SHOAL_ENGINE_REQUEST_H
#define SHOAL_ENGINE_REQUEST_H

#include "engine/ask.h"
#include "engine/sessions.h"

enum request_phase { REQUEST_WAITING, REQUEST_PREFILL, REQUEST_DECODE };

struct request {
    struct request *next; /* of those that wait; while submitted under the engine's lock */
    uint64_t ticket;
    enum request_phase phase;
    struct engine_request ask; /* prompt points into tokens; its constraint is owned */
    int32_t *tokens;           /* (capacity) the prompt, then what was generated */
    int n_tokens, capacity, n_prompt;
    int n_sent;              /* tokens that are in submitted steps */
    int n_done;              /* tokens whose step came back */
    int n_told;              /* rows of the prompt that were handed out, counted from its start */
    int n_progress;          /* of the prompt, as last told */
    int in_flight;           /* steps that hold rows of it */
    struct session *session; /* NULL while it waits */
    bool held;               /* gives its room back as soon as no step holds rows of it */
    uint64_t due;            /* for the order of prefill: see schedule.c */
    _Atomic bool cancelled;  /* set by any thread */
    uint64_t submitted_ns, started_ns, first_ns;
    int cached; /* of the prompt, when it was first admitted */
};

/* A copy of what is asked for, for a context of so many positions. FAIL_NOMEM. The constraint is
 * the request's only when this succeeds. */
int request_open(struct request **ret, const struct engine_request *ask, int context,
                 struct error *e);
void request_close(struct request *r);

/* Its session is gone or was given back: it waits, to be computed again from its tokens. */
void request_rewind(struct request *r);

/* First in, first out. Zero-initialise. */
struct request_queue {
    struct request *first, *last;
};
void request_queue_add(struct request_queue *q, struct request *r);
void request_queue_add_first(struct request_queue *q, struct request *r);
/* NULL when empty. */
struct request *request_queue_take(struct request_queue *q);

#endif

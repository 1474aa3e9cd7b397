/* Forms steps out of the requests that run: decodes of all streams first, then chunks of prefill,
 * in a fair order. Pure: no clock, no executor. owner: the head thread. */
#ifndef SHOAL_ENGINE_SCHEDULE_H
#define SHOAL_ENGINE_SCHEDULE_H

#include "engine/overlap.h"
#include "engine/request.h"

/* Steps in flight at the most. */
#define SCHEDULE_MAX_DEPTH 16

/* One run of a submitted step. Of its rows the last n_wanted have results. */
struct flight_run {
    struct request *request;
    int first, count;
    int n_wanted;
    bool samples; /* the last row's logits choose the next token */
    bool hidden;  /* results are hidden states */
};

struct flight {
    uint64_t id, submitted_ns; /* the head's */
    struct flight_run *runs;   /* (max_requests) */
    int n_runs;
    int n_decodes;          /* runs of streams that decode */
    int n_wanted, n_hidden; /* rows with results, as struct step has them */
};

struct schedule_options {
    int max_requests;
    int prefill_chunk; /* rows of prefill in one step, 0: by the number of stages */
    int max_rows;      /* of one step */
    int depth;         /* steps in flight, 1 to SCHEDULE_MAX_DEPTH */
    struct sessions_grant grant;
};

struct schedule {
    struct schedule_options options;
    struct request **active; /* (max_requests) by the time they were admitted */
    int n_active;
    struct commands commands;
    struct sessions sessions;
    struct overlap overlap;

    struct step step; /* being formed, of these: */
    struct step_run *runs;
    int32_t *ids;
    uint8_t *wanted;
    struct flight flights[SCHEDULE_MAX_DEPTH]; /* a ring */
    int first_flight, n_flights;

    uint64_t prefilled; /* rows of all prompts so far */
    int turn;           /* whose turn among those that decode when steps overlap */
    bool short_of;      /* room: the last step left out who could not grow */
};

/* FAIL_NOMEM. done takes a zeroed one. */
int schedule_init(struct schedule *s, const struct schedule_options *options, struct error *e);
void schedule_done(struct schedule *s);

/* For another executor, whose options may differ in all but max_requests. Nothing is active. On
 * failure (FAIL_NOMEM) s is as it was. */
int schedule_restart(struct schedule *s, const struct schedule_options *options, struct error *e);

/* The executor is gone: flights, commands and sessions with it. Requests stay where they are. */
void schedule_forget(struct schedule *s);

/* Makes r active with a session; false while there is no room for it. */
bool schedule_admit(struct schedule *s, struct request *r);

/* Takes r out of the active; its session is kept for others. Nothing of it is in flight. */
void schedule_remove(struct schedule *s, struct request *r);

/* The next step into s->step and its flight, or NULL when nothing is ready. Whoever submits it
 * calls schedule_sent. A request that could not get room is left out, and the one that was
 * admitted last is held: it is to be removed when no step holds rows of it, and admitted again. */
struct flight *schedule_form(struct schedule *s);
void schedule_sent(struct schedule *s);

/* The oldest flight; there is one. pop: it came back. */
struct flight *schedule_oldest(struct schedule *s);
void schedule_pop(struct schedule *s);

#endif

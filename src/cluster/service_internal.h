/* What the parts of a service share; for service*.c only. */
#ifndef SHOAL_CLUSTER_SERVICE_INTERNAL_H
#define SHOAL_CLUSTER_SERVICE_INTERNAL_H

#include "cluster/part.h"
#include "cluster/service.h"
#include "cluster/service_core.h"
#include "plan/context.h"

struct channel;
struct source;

/* Rows of one step: large enough for prefill to be efficient. */
#define SERVICE_MAX_ROWS 512
/* Requests at once; more wait. */
#define SERVICE_MAX_REQUESTS 16
#define SERVICE_MAX_QUEUE 256
/* Sessions: requests and remembered prefixes. */
#define SERVICE_MAX_SESSIONS (2 * SERVICE_MAX_REQUESTS)
_Static_assert(SERVICE_MAX_SESSIONS <= PART_MAX_SESSIONS, "or devices refuse the order");

/* The driver's side of one placement. */
struct attempt {
    uint32_t epoch; /* 0: free */
    struct part_order order;
    struct wire_link links[WIRE_MAX_LINKS];
    int n_links;
    struct {
        int vocab_first, vocab_count;
        int64_t weight_bytes;
        uint64_t promised; /* bytes of weights and of state up to the pool: what the plan counts */
        struct channel *steps; /* owned until the executor takes it */
    } ranks[PLAN_MAX_RANKS];
    struct engine *engine;
};

/* An event that waits for its turn: effects are done one after the other, and never inside one
 * another. */
struct queued_event {
    struct service_event event;
    char text[ERROR_TEXT];
    struct queued_event *next;
};

struct service {
    struct cluster *owner;
    int64_t id;
    struct model_file file;
    bool answered; /* it served at least once */
    struct source *source;
    struct chat_model *text;
    uint64_t *layer_bytes;  /* (n_layers) weights and KV of one context, as last planned */
    uint64_t *weight_bytes; /* (n_layers) weights alone */
    uint64_t *token_bytes;  /* (n_layers) KV of one position */
    struct split_need need; /* layer_bytes: weight_bytes */
    int context;            /* of the plan; before one the most that it may be */
    uint64_t pool;          /* positions that all sessions share, of the plan */
    int64_t created_s;

    struct service_core core;
    struct attempt attempts[SERVICE_PLACEMENTS];
    struct part_order last; /* of the newest attempt, for status */
    /* The answer to PLAN, until its orders are made. */
    struct placement_plan planned;
    char devices[PLAN_MAX_RANKS][DEVICE_ID_TEXT]; /* by rank */
    char labels[PLAN_MAX_RANKS][PLACEMENT_LABEL];
    const char *label_list[PLAN_MAX_RANKS];

    struct engine *waiting; /* its requests wait for an executor; NULL: none */

    bool busy; /* effects are being done: further events queue up */
    struct queued_event *first, **last_event;
};

/* --- service_queue.c --- */

/* Puts an event behind those that wait; its text is copied. What does effects only posts: service.c
 * takes the events out, one after the other. */
void service_post(struct service *s, const struct service_event *event);
/* The same for one of its placements. */
void service_post_placement(struct service *s, const struct placement_event *event);
/* The oldest one, which the caller frees; NULL when none waits. */
struct queued_event *service_next(struct service *s);
struct attempt *service_attempt(struct service *s, uint32_t epoch);
const struct program *service_program(const struct service *s);

/* --- service_plan.c --- */

/* Lays the model out over the devices that are there, and posts PLANNED or UNPLANNED. */
void service_plan(struct service *s);

/* --- service_do.c --- */

/* The head's channel of steps to a rank has come (owned), or there is none. */
void service_wired(struct service *s, struct attempt *a, int rank, struct channel *channel);
void service_not_wired(struct service *s, uint32_t epoch, int rank, const char *why);

/* Does one effect of a placement. */
void service_do(struct service *s, const struct placement_effect *f);
/* The engine of a placement ends; its requests are told why. */
void service_retire(struct service *s, uint32_t epoch);
/* The engine of a placement gives up its executor; its requests wait for the next placement. */
void service_suspend(struct service *s, uint32_t epoch);
/* They waited in vain. */
void service_give_up(struct service *s);
/* Frees engines that were retired a while ago; all: at once. */
void retired_close(struct cluster *c, bool all);

#endif

/* What a service does when: it waits, has its model placed, serves, has it placed again when a
 * device is lost, and moves to a better placement beside the one that serves. A state machine over
 * placements, without I/O, clock or memory of its own. Pure.
 *
 * Its invariants (service_check): at most one placement serves, at most one is being built, at
 * most one drains; epochs rise; requests are suspended only while nothing serves. */
#ifndef SHOAL_CLUSTER_SERVICE_CORE_H
#define SHOAL_CLUSTER_SERVICE_CORE_H

#include "cluster/placement.h"

/* The one that serves or is built, and the one that replaces it or is replaced. */
#define SERVICE_PLACEMENTS 2

struct service_limits {
    struct placement_limits placement;
    uint64_t retry_ns, retry_max_ns; /* pauses between attempts, doubled up to the latter */
    uint64_t suspend_ns;             /* that long requests wait for another placement; 0: they end
                                      * with theirs. What fails again within this time of going on,
                                      * and lost no device, would fail for ever: its requests end */
};

struct service_core {
    struct service_limits limits;
    struct placement placements[SERVICE_PLACEMENTS];
    bool used[SERVICE_PLACEMENTS];
    uint32_t epoch;         /* of the newest placement */
    uint64_t retry_at;      /* of the next attempt; 0: none is due */
    uint64_t pause_ns;      /* before the next but one */
    bool planning;          /* PLAN was asked for and not answered */
    bool suspended;         /* requests wait for the next placement */
    uint64_t suspend_until; /* and no longer than this */
    uint64_t resumed_ns;    /* when requests last went on after a wait; 0: never */
    bool stopped;
    char why[ERROR_TEXT];   /* what it waits for; "" while it serves */
    char ended[ERROR_TEXT]; /* why the last placement ended: what suspended requests are told */
};

enum service_event_kind {
    SERVICE_TICK,
    SERVICE_DEVICES,   /* one came: an attempt may be worthwhile */
    SERVICE_REPLAN,    /* another plan is wanted while this one serves */
    SERVICE_PLANNED,   /* the answer to PLAN: ranks */
    SERVICE_UNPLANNED, /* or this: text */
    SERVICE_PLACEMENT, /* placement: an event for one of its placements */
    SERVICE_STOP       /* text */
};

/* Borrowed for the call. */
struct service_event {
    enum service_event_kind kind;
    struct placement_ranks ranks;
    const char *text;
    struct placement_event placement;
};

enum service_effect_kind {
    SERVICE_PLAN,    /* lay the model out over what is there: answer with PLANNED or UNPLANNED */
    SERVICE_DO,      /* do: an effect of a placement */
    SERVICE_SUSPEND, /* the engine on `epoch`, if it has one, keeps its requests without executor */
    SERVICE_RETIRE,  /* the engine on `epoch` ends; its requests are told core->ended */
    SERVICE_FAIL,    /* the suspended engine ends; its requests are told core->ended */
    SERVICE_CHANGED  /* what clients see did: state, or why it waits */
};

struct service_effect {
    enum service_effect_kind kind;
    uint32_t epoch;
    struct placement_effect placement; /* of DO */
};

#define SERVICE_MAX_EFFECTS (SERVICE_PLACEMENTS * PLACEMENT_MAX_EFFECTS + 8)

struct service_effects {
    int n;
    struct service_effect items[SERVICE_MAX_EFFECTS];
};

/* Waits; the first attempt is due at once. */
void service_start(struct service_core *s, const struct service_limits *limits, uint64_t now);

/* Takes one event; *out (emptied first) says what to do, in order. Doing may give events of its
 * own: they are for after the whole list. */
void service_step(struct service_core *s, const struct service_event *event, uint64_t now,
                  struct service_effects *out);

/* The placement that takes requests; NULL: none does. The one being built; the one of an epoch. */
const struct placement *service_serving(const struct service_core *s);
const struct placement *service_building(const struct service_core *s);
const struct placement *service_placement(const struct service_core *s, uint32_t epoch);

/* Why the placement of an epoch ended; "" when that isn't known any more. Borrowed until the next
 * event. */
const char *service_ended_why(const struct service_core *s, uint32_t epoch);

/* When a TICK is due at the latest. */
uint64_t service_deadline(const struct service_core *s);

/* NULL, or which invariant doesn't hold. */
const char *service_check(const struct service_core *s);

#endif

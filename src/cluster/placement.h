/* One placement of a model: its ranks from the order to load until the last one is told to unload.
 * A state machine without I/O, clock or memory of its own: events go in, effects come out, and the
 * service that owns it (cluster/service.c) does them. Pure.
 *
 * A placement never changes its plan: what is to be laid out in another way is another placement,
 * with the next epoch. */
#ifndef SHOAL_CLUSTER_PLACEMENT_H
#define SHOAL_CLUSTER_PLACEMENT_H

#include "base/error.h"
#include "plan/split.h"

#include <stdbool.h>
#include <stdint.h>

enum placement_state {
    PLACEMENT_LOADING,    /* the orders are out, ranks read their weights */
    PLACEMENT_CONNECTING, /* all are loaded and open their channels */
    PLACEMENT_OPENING,    /* all ranks serve, the head's executor is being made */
    PLACEMENT_SERVING,    /* takes requests */
    PLACEMENT_DRAINING,   /* replaced: takes no new request, ends with its last one */
    PLACEMENT_ENDED,      /* every rank was told to unload; no way leads out of here */
    PLACEMENT_STATE_COUNT
};

/* How long a state may last without what it waits for. In nanoseconds. */
struct placement_limits {
    uint64_t load_ns;    /* a rank reads less than load_bytes in this time: it hangs */
    uint64_t load_bytes; /* so a load ends after load_ns for each load_bytes at the latest */
    uint64_t connect_ns; /* from the last rank's load to the last channel */
    uint64_t hang_ns;    /* a backend computes without progress */
    uint64_t blame_ns;   /* a rank that lost its neighbour says so, and an executor breaks, before
                          * the device's own end is seen: that long it may be named instead */
    uint64_t drain_ns;   /* the last request of a replaced placement */
};

/* Long enough for "NAME (ID)". */
#define PLACEMENT_LABEL 80

struct placement_rank {
    char label[PLACEMENT_LABEL]; /* the device, for people */
    bool loaded, serving, wired; /* wired: the head's channel of steps to it is open */
    bool gone;                   /* its device is: nobody is there to be told anything */
    uint64_t done, progress;     /* the last heartbeat's that counted as movement, and when */
    uint64_t moved_ns;
};

struct placement {
    enum placement_state state;
    uint32_t epoch;
    int n_ranks;
    struct placement_rank ranks[PLAN_MAX_RANKS];
    uint64_t since_ns;    /* when this state began */
    uint64_t blame_ns;    /* end then, for `why`; 0: nothing is wrong */
    char why[ERROR_TEXT]; /* why it ends; "" before */
    bool resumes;         /* the service's: its executor goes to an engine whose requests wait */
    struct placement_limits limits;
};

enum placement_event_kind {
    PLACEMENT_RANK_LOADED,
    PLACEMENT_RANK_SERVES,
    PLACEMENT_RANK_FAILED, /* code, text */
    PLACEMENT_RANK_MOVED,  /* done, progress, busy: what its heartbeat says */
    PLACEMENT_RANK_LOST,   /* text */
    PLACEMENT_WIRED,       /* the head's channel to the rank */
    PLACEMENT_NOT_WIRED,   /* text */
    PLACEMENT_OPENED,      /* the executor was made */
    PLACEMENT_NOT_OPENED,  /* text */
    PLACEMENT_BROKEN,      /* the engine says that the executor failed: text */
    PLACEMENT_REPLACED,    /* another one takes its requests from now on */
    PLACEMENT_DRAINED,     /* its last request ended */
    PLACEMENT_END,         /* text */
    PLACEMENT_TICK,
    PLACEMENT_EVENT_COUNT
};

/* Borrowed for the call. */
struct placement_event {
    enum placement_event_kind kind;
    uint32_t epoch; /* of the placement that it is about: another one's events change nothing */
    int rank;       /* of the RANK and WIRED kinds */
    int code;
    const char *text;
    uint64_t done, progress;
    bool busy;
};

enum placement_effect_kind {
    PLACEMENT_ORDER,   /* the rank's device is to load */
    PLACEMENT_CONNECT, /* the rank is to open its channels to the others */
    PLACEMENT_WIRE,    /* the head opens its channel to the rank */
    PLACEMENT_OPEN,    /* make the executor; answer with OPENED or NOT_OPENED */
    PLACEMENT_SERVE,   /* requests may come */
    PLACEMENT_BREAK,   /* the executor is to be broken: `why` says what for */
    PLACEMENT_UNLOAD,  /* the rank's device frees its part */
    PLACEMENT_GONE,    /* the last effect of a placement */
    PLACEMENT_EFFECT_COUNT
};

/* Most effects of one event: an unload for each rank, and what ends it. */
#define PLACEMENT_MAX_EFFECTS (2 * PLAN_MAX_RANKS + 4)

struct placement_effect {
    enum placement_effect_kind kind;
    uint32_t epoch;
    int rank;
};

struct placement_effects {
    int n;
    struct placement_effect items[PLACEMENT_MAX_EFFECTS];
};

/* What a placement begins with. Borrowed for the call. */
struct placement_ranks {
    int n_ranks;
    const char *const *labels; /* (n_ranks) names of the devices */
};

/* Begins a placement: an ORDER for each rank. */
void placement_start(struct placement *p, uint32_t epoch, const struct placement_ranks *ranks,
                     const struct placement_limits *limits, uint64_t now,
                     struct placement_effects *out);

/* Takes one event and appends what is to be done, in order. Events of another epoch, of ranks that
 * it does not have, or that come late or twice change nothing. */
void placement_step(struct placement *p, const struct placement_event *event, uint64_t now,
                    struct placement_effects *out);

/* When a TICK is due at the latest for the state's deadline to be kept; UINT64_MAX: never. */
uint64_t placement_deadline(const struct placement *p);

/* Whether a device of it was lost. */
bool placement_lost_device(const struct placement *p);

/* Whether the program may be in this state with these ranks: NULL, or what is wrong. */
const char *placement_check(const struct placement *p);

#endif

/* A cluster in one process on a virtual clock: a head with one service and its real engines, up to
 * eight devices that load, serve, hang and are lost, a network that delays, repeats and reorders,
 * clients, and executors with rules (tests/engine/fake.h: a token is a hash of the history). No
 * sockets, threads or sleeps: a run is a function of its seed. */
#ifndef SHOAL_TESTS_CLUSTER_SIM_WORLD_H
#define SHOAL_TESTS_CLUSTER_SIM_WORLD_H

#include "base/random.h"
#include "cluster/part_table.h"
#include "cluster/service_core.h"
#include "tests/engine/fake.h"

#define SIM_DEVICES 8
#define SIM_REQUESTS 24
#define SIM_EPOCHS 256
#define SIM_EVENTS 4096
#define SIM_TOKENS 24
#define SIM_PROMPT 12
#define MS UINT64_C(1000000)

enum sim_kind {
    SIM_TICK,
    SIM_ORDER, /* to a device: load, connect, unload */
    SIM_CONNECT,
    SIM_UNLOAD,
    SIM_LOADED, /* to the head: what a rank says */
    SIM_SERVES,
    SIM_FAILED,
    SIM_WIRED,
    SIM_OPENED,
    SIM_LOSE, /* of a device: link gone, back, stands still, goes on */
    SIM_RETURN,
    SIM_SUBMIT, /* of a client */
    SIM_CANCEL,
    SIM_REPLAN
};

struct sim_event {
    uint64_t at;
    uint64_t order; /* of equal times */
    enum sim_kind kind;
    int device, rank;
    uint32_t epoch;
    int link; /* of which link to the device: what one held ends with it */
};

struct sim_part {
    int rank;
    uint64_t loaded_at; /* when its weights are there; UINT64_MAX: it hangs while loading */
    uint64_t begun_at, total;
    bool loaded, connected, serves, hangs;
    uint64_t progress, hangs_at;
};

struct sim_device {
    bool alive;
    int link;
    struct part_table table;
    struct sim_part parts[PART_TABLE_SLOTS];
};

/* What the head did for an epoch, and where its ranks are. */
struct sim_epoch {
    int n_ranks, device[SIM_DEVICES];
    int orders[SIM_DEVICES], unloads[SIM_DEVICES];
    bool lost[SIM_DEVICES], serves[SIM_DEVICES], wired[SIM_DEVICES];
    bool served, replaced, gone, settled;
    struct engine *engine; /* with its executor; NULL: none, or it went on */
    struct fake *fake;     /* until the end of the run */
    uint64_t born;
    uint64_t busy_at; /* since when it has had requests without a break; 0: it has none */
};

struct sim_request {
    struct sim *owner;
    struct engine *engine; /* whose it is; valid until its end */
    uint64_t ticket;
    int32_t ids[SIM_PROMPT + SIM_TOKENS]; /* prompt, then what came */
    int n, ends;
};

struct sim {
    uint64_t seed, now, horizon;
    struct random random;
    struct sim_event events[SIM_EVENTS]; /* a heap */
    int n_events;
    uint64_t n_ordered;
    struct service_core core;
    struct service_event queue[64];
    int n_queued;
    struct sim_device devices[SIM_DEVICES];
    int n_devices;
    int planned[SIM_DEVICES];
    struct sim_epoch epochs[SIM_EPOCHS];
    struct sim_request requests[SIM_REQUESTS];
    int n_requests;
    struct engine *waiting; /* suspended; NULL: none */
    bool trace;
    const char *wrong;                              /* the first invariant that did not hold */
    int served, ended, suspended, tokens, answered; /* what happened: not nothing, it is hoped */
};

/* Runs one seed to its end; NULL, or what went wrong. */
const char *sim_run(struct sim *s, uint64_t seed, bool trace);

/* sim_check.c: what must hold after each event, and at the end. */
void sim_check(struct sim *s);
void sim_check_end(struct sim *s);
void sim_wrong(struct sim *s, const char *what);

struct sim_part *sim_part(struct sim *s, int device, uint32_t epoch);
/* The token that follows when nothing disturbs a request. */
int32_t sim_next(const int32_t *ids, int n);

#endif

/* The invariants of a simulated cluster. */
#include "tests/cluster/sim_world.h"

#include <stdio.h>
#include <string.h>

/* Between two ticks, and a heartbeat. */
#define SLACK (2000 * MS)

void sim_wrong(struct sim *s, const char *what)
{
    if (s->wrong == NULL) {
        s->wrong = what;
    }
}

uint64_t sim_history(uint64_t prompt, int n)
{
    uint64_t history = prompt;
    for (int i = 0; i < n; i++) {
        history = random_at(history, 1);
    }
    return history;
}

/* A rank that computes without progress is noticed. */
static void check_hang(struct sim *s, const struct sim_epoch *epoch, uint32_t number, int rank)
{
    const struct sim_part *part = sim_part(s, epoch->device[rank], number);
    if (part == NULL || !part->hangs || epoch->busy_at == 0) {
        return;
    }
    uint64_t since = part->hangs_at > epoch->busy_at ? part->hangs_at : epoch->busy_at;
    if (s->now - since > s->core.limits.placement.hang_ns + SLACK) {
        sim_wrong(s, "a rank hangs and its placement goes on");
    }
}

static void check_deadlines(struct sim *s)
{
    if (s->core.suspended && s->now > s->core.suspend_until + SLACK) {
        sim_wrong(s, "requests wait for longer than they should");
    }
    const struct placement_limits *l = &s->core.limits.placement;
    for (int i = 0; i < SERVICE_PLACEMENTS; i++) {
        const struct placement *p = &s->core.placements[i];
        if (!s->core.used[i]) {
            continue;
        }
        if (placement_deadline(p) != UINT64_MAX && s->now > placement_deadline(p) + SLACK) {
            sim_wrong(s, "a placement outlived the deadline of its state");
        }
        /* Whatever is answered or not: 64 pieces are the most that a rank here loads. */
        if (p->state < PLACEMENT_SERVING &&
            s->now - s->epochs[p->epoch].born > 66 * l->load_ns + 2 * l->connect_ns + SLACK) {
            sim_wrong(s, "a placement neither serves nor ends");
        }
        for (int r = 0; p->state == PLACEMENT_SERVING && r < p->n_ranks; r++) {
            check_hang(s, &s->epochs[p->epoch], p->epoch, r);
        }
    }
}

void sim_check_tokens(struct sim *s)
{
    for (int i = 0; i < s->n_requests; i++) {
        const struct sim_request *r = &s->requests[i];
        if (r->state != REQUEST_OVER && r->history != sim_history(r->prompt, r->n)) {
            sim_wrong(s, "a token was lost, doubled or changed");
        }
    }
}

static void check_requests(struct sim *s)
{
    for (int i = 0; i < s->n_requests; i++) {
        const struct sim_request *r = &s->requests[i];
        if (r->ends != (r->state == REQUEST_OVER)) {
            sim_wrong(s, "a request ended not exactly once");
        }
        if (r->state == REQUEST_WAITS && !s->core.suspended) {
            sim_wrong(s, "a request waits for a placement that will not come");
        }
        if (r->state == REQUEST_RUNS && !s->epochs[r->epoch].open) {
            sim_wrong(s, "a request runs on an epoch that has no executor");
        }
    }
}

static void check_epochs(struct sim *s)
{
    int open = 0;
    for (uint32_t e = 1; e <= s->core.epoch && e < SIM_EPOCHS; e++) {
        struct sim_epoch *p = &s->epochs[e];
        if (p->settled) {
            continue;
        }
        const struct placement *now = service_placement(&s->core, e);
        open += now != NULL && now->state == PLACEMENT_SERVING;
        for (int r = 0; r < p->n_ranks; r++) {
            if (p->orders[r] > 1 || p->unloads[r] > p->orders[r]) {
                sim_wrong(s, "a rank was ordered twice, or unloaded more often than ordered");
            }
            if (p->lost[r] && now != NULL) {
                sim_wrong(s, "a device was lost and its placement goes on");
            }
            if (p->gone && p->orders[r] == 1 && p->unloads[r] == 0 && !p->lost[r]) {
                sim_wrong(s, "a load was never unloaded");
            }
        }
        if (p->gone && p->open) {
            sim_wrong(s, "a placement ended and its executor did not");
        }
        p->settled = p->gone;
    }
    if (open > 1) {
        sim_wrong(s, "two epochs take requests");
    }
}

void sim_check(struct sim *s)
{
    const char *wrong = service_check(&s->core);
    if (wrong != NULL) {
        sim_wrong(s, wrong);
    }
    check_deadlines(s);
    check_requests(s);
    check_epochs(s);
}

void sim_check_end(struct sim *s)
{
    for (int i = 0; i < s->n_requests; i++) {
        if (s->requests[i].state != REQUEST_OVER) {
            sim_wrong(s, "a request never ended");
        }
    }
    for (uint32_t e = 1; e <= s->core.epoch && e < SIM_EPOCHS; e++) {
        if (!s->epochs[e].gone) {
            sim_wrong(s, "a placement outlived its service");
        }
        s->epochs[e].settled = false;
    }
    for (int d = 0; d < s->n_devices; d++) {
        for (int i = 0; i < PART_TABLE_SLOTS; i++) {
            if (s->devices[d].alive && s->devices[d].table.slots[i].used) {
                sim_wrong(s, "a device holds a part that nobody wants any more");
            }
        }
    }
    sim_check_tokens(s);
    sim_check(s);
}

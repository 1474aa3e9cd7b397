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

int32_t sim_next(const int32_t *ids, int n)
{
    float logits[VOCAB];
    int best = 0;
    fake_logits(ids, n, logits);
    for (int i = 1; i < VOCAB; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

/* A rank that computes without progress is noticed. */
static void check_hang(struct sim *s, const struct placement *p, int rank)
{
    const struct sim_epoch *epoch = &s->epochs[p->epoch];
    const struct sim_part *part = sim_part(s, epoch->device[rank], p->epoch);
    if (part == NULL || !part->hangs || epoch->busy_at == 0) {
        return;
    }
    uint64_t since = part->hangs_at > epoch->busy_at ? part->hangs_at : epoch->busy_at;
    since = since > p->since_ns ? since : p->since_ns;
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
            check_hang(s, p, r);
        }
    }
}

static bool is_alive(const struct sim *s, const struct engine *g)
{
    bool alive = g == s->waiting;
    for (uint32_t e = 1; e <= s->core.epoch && e < SIM_EPOCHS; e++) {
        alive = alive || s->epochs[e].engine == g;
    }
    return alive;
}

static void check_requests(struct sim *s)
{
    if (s->waiting != NULL && !s->core.suspended) {
        sim_wrong(s, "requests wait for a placement that will not come");
    }
    for (int i = 0; i < s->n_requests; i++) {
        const struct sim_request *r = &s->requests[i];
        if (r->ends > 1) {
            sim_wrong(s, "a request ended twice");
        }
        if (r->ends == 0 && !is_alive(s, r->engine)) {
            sim_wrong(s, "a request's engine is gone and it has not ended");
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
        if (p->gone && (p->engine != NULL || (p->fake != NULL && p->fake->closed != 1))) {
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
        if (s->requests[i].ends != 1) {
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
    sim_check(s);
}

/* The policy of a service: one placement after another, and never two that take requests. */
#include "cluster/service_core.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

static void emit(struct service_effects *out, enum service_effect_kind kind, uint32_t epoch)
{
    assert(out->n < SERVICE_MAX_EFFECTS);
    out->items[out->n++] = (struct service_effect){ .kind = kind, .epoch = epoch };
}

static void set_why(struct service_core *s, const char *why, struct service_effects *out)
{
    if (strcmp(s->why, why) != 0) {
        snprintf(s->why, sizeof s->why, "%s", why);
        emit(out, SERVICE_CHANGED, s->epoch);
    }
}

/* --- finding --- */

static bool is_built(const struct placement *p)
{
    return p->state < PLACEMENT_SERVING;
}

static struct placement *find_state(struct service_core *s, bool building)
{
    for (int i = 0; i < SERVICE_PLACEMENTS; i++) {
        struct placement *p = &s->placements[i];
        if (s->used[i] && (building ? is_built(p) : p->state == PLACEMENT_SERVING)) {
            return p;
        }
    }
    return NULL;
}

const struct placement *service_serving(const struct service_core *s)
{
    return find_state((struct service_core *)s, false);
}

const struct placement *service_building(const struct service_core *s)
{
    return find_state((struct service_core *)s, true);
}

const struct placement *service_placement(const struct service_core *s, uint32_t epoch)
{
    for (int i = 0; i < SERVICE_PLACEMENTS; i++) {
        if (s->used[i] && s->placements[i].epoch == epoch) {
            return &s->placements[i];
        }
    }
    return NULL;
}

const char *service_ended_why(const struct service_core *s, uint32_t epoch)
{
    for (int i = 0; i < SERVICE_PLACEMENTS; i++) {
        if (s->placements[i].epoch == epoch) {
            return s->placements[i].why;
        }
    }
    return "";
}

/* --- attempts --- */

static void plan(struct service_core *s, struct service_effects *out)
{
    if (!s->planning && !s->stopped) {
        s->planning = true;
        s->retry_at = 0;
        emit(out, SERVICE_PLAN, 0);
    }
}

static void retry_later(struct service_core *s, uint64_t now)
{
    s->retry_at = now + s->pause_ns;
    s->pause_ns =
        2 * s->pause_ns < s->limits.retry_max_ns ? 2 * s->pause_ns : s->limits.retry_max_ns;
}

/* Requests that wait for another placement have waited in vain. */
static void give_up(struct service_core *s, struct service_effects *out)
{
    if (s->suspended) {
        s->suspended = false;
        emit(out, SERVICE_FAIL, s->epoch);
    }
}

/* --- effects of placements --- */

/* The executor of a placement goes: what becomes of its requests. */
static void broke(struct service_core *s, const struct placement *p, enum placement_state was,
                  uint64_t now, struct service_effects *out)
{
    snprintf(s->ended, sizeof s->ended, "%s", p->why);
    bool again = was == PLACEMENT_OPENING && p->resumes && s->suspended;
    bool hopeless = s->resumed_ns != 0 && now - s->resumed_ns < s->limits.suspend_ns &&
                    !placement_lost_device(p);
    bool waits = was == PLACEMENT_SERVING && !s->stopped && s->limits.suspend_ns > 0 && !hopeless;
    if (waits) {
        s->suspended = true;
        s->suspend_until = now + s->limits.suspend_ns;
    }
    emit(out, waits || again ? SERVICE_SUSPEND : SERVICE_RETIRE, p->epoch);
}

static void gone(struct service_core *s, const struct placement *p, enum placement_state was,
                 uint64_t now, struct service_effects *out)
{
    s->used[p - s->placements] = false;
    if (s->stopped || was == PLACEMENT_DRAINING) {
        return;
    }
    if (find_state(s, false) != NULL) {
        return; /* the other one goes on */
    }
    set_why(s, p->why, out);
    if (find_state(s, true) != NULL) {
        return; /* the next one is being built already */
    }
    if (was == PLACEMENT_SERVING) {
        s->pause_ns = s->limits.retry_ns;
    }
    if (s->suspended) {
        plan(s, out);
    }
    retry_later(s, now);
}

static void begin_to_serve(struct service_core *s, const struct placement *p, uint64_t now,
                           struct service_effects *out)
{
    struct placement_effects none = { 0 };
    if (s->suspended && !p->resumes) {
        give_up(s, out); /* they began to wait when this one had its engine already */
    } else {
        s->ended[0] = '\0';
    }
    if (s->suspended) { /* the executor went to the engine that waited */
        s->suspended = false;
        s->resumed_ns = now;
    }
    s->pause_ns = s->limits.retry_ns;
    s->retry_at = 0;
    for (int i = 0; i < SERVICE_PLACEMENTS; i++) {
        if (s->used[i] && &s->placements[i] != p) {
            placement_step(&s->placements[i],
                           &(struct placement_event){ .kind = PLACEMENT_REPLACED,
                                                      .epoch = s->placements[i].epoch },
                           now, &none);
        }
    }
    assert(none.n == 0); /* being replaced asks for nothing at once */
    s->why[0] = '\0';
}

static void pass_on(const struct placement_effect *f, struct service_effects *out)
{
    emit(out, SERVICE_DO, f->epoch);
    out->items[out->n - 1].placement = *f;
}

/* Passes an event to a placement and its effects on. */
static void step(struct service_core *s, struct placement *p, const struct placement_event *event,
                 uint64_t now, struct service_effects *out)
{
    struct placement_effects done = { 0 };
    enum placement_state was = p->state;
    placement_step(p, event, now, &done);
    for (int i = 0; i < done.n; i++) {
        const struct placement_effect *f = &done.items[i];
        switch (f->kind) {
        case PLACEMENT_BREAK:
            broke(s, p, was, now, out);
            break;
        case PLACEMENT_GONE:
            pass_on(f, out);
            gone(s, p, was, now, out);
            break;
        case PLACEMENT_OPEN:
            p->resumes = s->suspended;
            pass_on(f, out);
            break;
        case PLACEMENT_SERVE:
            begin_to_serve(s, p, now, out);
            pass_on(f, out);
            emit(out, SERVICE_CHANGED, f->epoch);
            break;
        default:
            pass_on(f, out);
            break;
        }
    }
}

/* --- events --- */

static void planned(struct service_core *s, const struct service_event *event, uint64_t now,
                    struct service_effects *out)
{
    bool asked = s->planning;
    int slot = 0;
    s->planning = false;
    while (slot < SERVICE_PLACEMENTS && s->used[slot]) {
        slot++;
    }
    if (!asked || s->stopped || slot == SERVICE_PLACEMENTS || find_state(s, true) != NULL) {
        return;
    }
    struct placement_effects orders = { 0 };
    s->used[slot] = true;
    placement_start(&s->placements[slot], ++s->epoch, &event->ranks, &s->limits.placement, now,
                    &orders);
    for (int i = 0; i < orders.n; i++) {
        pass_on(&orders.items[i], out);
    }
    s->retry_at = 0;
    if (find_state(s, false) == NULL) {
        set_why(s, "it is being loaded", out);
    }
}

static void unplanned(struct service_core *s, const struct service_event *event, uint64_t now,
                      struct service_effects *out)
{
    s->planning = false;
    if (s->stopped || find_state(s, false) != NULL) {
        return;
    }
    const char *text = event->text ? event->text : "it can't be placed";
    char why[ERROR_TEXT];
    if (s->ended[0] != '\0') { /* who went, and what is missing since */
        snprintf(why, sizeof why, "%.*s; %.200s", ERROR_TEXT - 220, s->ended, text);
    } else {
        snprintf(why, sizeof why, "%s", text);
    }
    utf8_repair(why);
    set_why(s, why, out);
    give_up(s, out);
    s->retry_at = now + s->limits.retry_ns;
}

static void tick(struct service_core *s, uint64_t now, struct service_effects *out)
{
    for (int i = 0; i < SERVICE_PLACEMENTS; i++) {
        if (s->used[i]) {
            step(s, &s->placements[i],
                 &(struct placement_event){ .kind = PLACEMENT_TICK,
                                            .epoch = s->placements[i].epoch },
                 now, out);
        }
    }
    if (s->suspended && now >= s->suspend_until) {
        give_up(s, out);
    }
    if (s->retry_at != 0 && now >= s->retry_at && find_state(s, true) == NULL) {
        plan(s, out);
    }
}

static void stop(struct service_core *s, const struct service_event *event, uint64_t now,
                 struct service_effects *out)
{
    s->stopped = true;
    s->retry_at = 0;
    snprintf(s->ended, sizeof s->ended, "%s", event->text ? event->text : "stopped");
    give_up(s, out);
    for (int i = 0; i < SERVICE_PLACEMENTS; i++) {
        if (s->used[i]) {
            step(s, &s->placements[i],
                 &(struct placement_event){
                     .kind = PLACEMENT_END, .epoch = s->placements[i].epoch, .text = s->ended },
                 now, out);
        }
    }
}

void service_start(struct service_core *s, const struct service_limits *limits, uint64_t now)
{
    *s = (struct service_core){ .limits = *limits,
                                .pause_ns = limits->retry_ns,
                                .retry_at = now != 0 ? now : 1 };
}

void service_step(struct service_core *s, const struct service_event *event, uint64_t now,
                  struct service_effects *out)
{
    out->n = 0;
    switch (event->kind) {
    case SERVICE_TICK:
        tick(s, now, out);
        break;
    case SERVICE_DEVICES:
        if (find_state(s, false) == NULL && find_state(s, true) == NULL) {
            s->pause_ns = s->limits.retry_ns;
            plan(s, out);
        }
        break;
    case SERVICE_REPLAN:
        if (find_state(s, false) != NULL && find_state(s, true) == NULL) {
            plan(s, out);
        }
        break;
    case SERVICE_PLANNED:
        planned(s, event, now, out);
        break;
    case SERVICE_UNPLANNED:
        unplanned(s, event, now, out);
        break;
    case SERVICE_PLACEMENT: {
        struct placement *p = (struct placement *)service_placement(s, event->placement.epoch);
        if (p != NULL) {
            step(s, p, &event->placement, now, out);
        }
        break;
    }
    case SERVICE_STOP:
        stop(s, event, now, out);
        break;
    }
}

uint64_t service_deadline(const struct service_core *s)
{
    uint64_t first = s->retry_at != 0 ? s->retry_at : UINT64_MAX;
    first = s->suspended && s->suspend_until < first ? s->suspend_until : first;
    for (int i = 0; i < SERVICE_PLACEMENTS; i++) {
        uint64_t at = s->used[i] ? placement_deadline(&s->placements[i]) : UINT64_MAX;
        first = at < first ? at : first;
    }
    return first;
}

const char *service_check(const struct service_core *s)
{
    int serving = 0, building = 0, draining = 0;
    for (int i = 0; i < SERVICE_PLACEMENTS; i++) {
        const struct placement *p = &s->placements[i];
        const char *wrong = s->used[i] ? placement_check(p) : NULL;
        if (wrong != NULL) {
            return wrong;
        }
        serving += s->used[i] && p->state == PLACEMENT_SERVING;
        building += s->used[i] && is_built(p);
        draining += s->used[i] && p->state == PLACEMENT_DRAINING;
        if (s->used[i] && (p->state == PLACEMENT_ENDED || p->epoch > s->epoch)) {
            return "a placement that ended, or of an epoch to come, is kept";
        }
    }
    if (serving > 1 || building > 1 || draining > 1) {
        return "two placements of one kind";
    }
    if (s->suspended && serving > 0) {
        return "requests are suspended while another placement serves";
    }
    if (!s->stopped && serving + building == 0 && s->retry_at == 0 && !s->planning) {
        return "nothing serves, nothing is built and nothing will be tried";
    }
    return NULL;
}

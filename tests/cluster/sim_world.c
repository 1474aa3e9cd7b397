/* The world around a service: see sim_world.h. */
#include "tests/cluster/sim_world.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define TICK (250 * MS)
#define HORIZON (240000 * MS)
#define PIECE (UINT64_C(1) << 20)

static const struct service_limits limits = { .placement = { .load_ns = 3000 * MS,
                                                             .load_bytes = PIECE,
                                                             .connect_ns = 2500 * MS,
                                                             .hang_ns = 4000 * MS,
                                                             .blame_ns = 500 * MS,
                                                             .drain_ns = 9000 * MS },
                                              .retry_ns = 1000 * MS,
                                              .retry_max_ns = 8000 * MS,
                                              .suspend_ns = 20000 * MS };

/* --- time --- */

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void schedule(struct sim *s, uint64_t after, struct sim_event event)
{
    if (s->n_events == SIM_EVENTS) {
        sim_wrong(s, "too many events at once");
        return;
    }
    event.at = s->now + after;
    event.link = s->devices[event.device].link;
    event.order = s->n_ordered++;
    int i = s->n_events++;
    for (; i > 0 && before(&event, &s->events[(i - 1) / 2]); i = (i - 1) / 2) {
        s->events[i] = s->events[(i - 1) / 2];
    }
    s->events[i] = event;
}

static struct sim_event pop(struct sim *s)
{
    struct sim_event first = s->events[0], last = s->events[--s->n_events];
    int i = 0;
    for (int child = 1; child < s->n_events; child = 2 * i + 1) {
        child += child + 1 < s->n_events && before(&s->events[child + 1], &s->events[child]);
        if (!before(&s->events[child], &last)) {
            break;
        }
        s->events[i] = s->events[child];
        i = child;
    }
    s->events[i] = last;
    return first;
}

static bool chance(struct sim *s, unsigned percent)
{
    return random_below(&s->random, 100) < percent;
}

static uint64_t some(struct sim *s, uint64_t least, uint64_t most)
{
    return least + random_below(&s->random, most - least + 1);
}

/* A message arrives late, twice, behind later ones, or, rarely, not at all. */
static void send(struct sim *s, struct sim_event event)
{
    int copies = chance(s, 4) ? 2 : 1;
    if (s->now < s->horizon && chance(s, 1)) {
        copies = 0;
    }
    for (int i = 0; i < copies; i++) {
        schedule(s, chance(s, 90) ? some(s, 1, 20) * MS : some(s, 1, 3000) * MS, event);
    }
}

/* --- the head's driver, as cluster/service.c and service_do.c do it --- */

static void feed(struct sim *s, struct service_event event)
{
    assert(s->n_queued < (int)(sizeof s->queue / sizeof s->queue[0]));
    s->queue[s->n_queued++] = event;
}

static void feed_placement(struct sim *s, struct placement_event event)
{
    feed(s, (struct service_event){ .kind = SERVICE_PLACEMENT, .placement = event });
}

/* Ends an engine: its requests are told, its executor is closed. */
static void end_engine(struct sim *s, struct engine **g)
{
    struct error why = { 0 };
    if (*g != NULL) {
        struct engine *ended = *g;
        fail(&why, FAIL_CLOSED, "%s", s->core.ended);
        engine_fail(ended, &why);
        while (engine_turn(ended)) {
        }
        engine_close(ended);
        *g = NULL;
    }
}

static void on_lost(void *arg, const struct error *why)
{
    (void)arg;
    (void)why;
}

static void plan(struct sim *s)
{
    static const char *const labels[SIM_DEVICES] = { "a", "b", "c", "d", "e", "f", "g", "h" };
    int n = 0, want = (int)some(s, 1, 4);
    for (int d = 0; d < s->n_devices && n < want; d++) {
        if (s->devices[d].alive && chance(s, 60)) {
            s->planned[n++] = d;
        }
    }
    if (n == 0 || s->core.epoch + 1 >= SIM_EPOCHS) {
        feed(s, (struct service_event){ .kind = SERVICE_UNPLANNED, .text = "waits for devices" });
    } else {
        feed(s, (struct service_event){ .kind = SERVICE_PLANNED, .ranks = { n, labels } });
    }
}

static void order(struct sim *s, uint32_t epoch, int rank)
{
    struct sim_epoch *p = &s->epochs[epoch];
    const struct placement *state = service_placement(&s->core, epoch);
    if (p->born == 0) {
        p->born = s->now;
        p->n_ranks = state->n_ranks;
        memcpy(p->device, s->planned, sizeof p->device);
    }
    p->orders[rank]++;
    send(s, (struct sim_event){
                .kind = SIM_ORDER, .device = p->device[rank], .rank = rank, .epoch = epoch });
}

static void open_executor(struct sim *s, uint32_t epoch)
{
    struct sim_epoch *p = &s->epochs[epoch];
    const struct placement *state = service_placement(&s->core, epoch);
    bool good = chance(s, 95);
    for (int r = 0; r < p->n_ranks; r++) {
        if (!p->serves[r] || !p->wired[r]) {
            sim_wrong(s, "an executor is made before all its ranks serve and are connected");
        }
    }
    if (good && (p->fake = malloc(sizeof *p->fake)) != NULL) {
        struct error e = { 0 };
        fake_init(p->fake, 1);
        p->fake->hasty = true;
        if (state->resumes && s->waiting != NULL) {
            if (engine_resume(s->waiting, &p->fake->x, &e) != 0) {
                sim_wrong(s, "an engine that waits does not go on");
            }
            p->engine = s->waiting;
            s->waiting = NULL;
        } else {
            p->engine = open_with(
                p->fake,
                &(struct engine_options){ .max_requests = 4, .on_lost = on_lost, .stepped = true });
        }
    }
    if (good) { /* at once, or while other things happen */
        schedule(s, chance(s, 70) ? 0 : some(s, 1, 3000) * MS,
                 (struct sim_event){ .kind = SIM_OPENED, .epoch = epoch });
    } else {
        feed_placement(s, (struct placement_event){
                              .kind = PLACEMENT_NOT_OPENED, .epoch = epoch, .text = "no memory" });
    }
}

static void do_placement(struct sim *s, const struct placement_effect *f)
{
    struct sim_epoch *p = &s->epochs[f->epoch];
    struct sim_event to = { .device = p->device[f->rank], .rank = f->rank, .epoch = f->epoch };
    switch (f->kind) {
    case PLACEMENT_ORDER:
        order(s, f->epoch, f->rank);
        break;
    case PLACEMENT_CONNECT:
        to.kind = SIM_CONNECT;
        send(s, to);
        break;
    case PLACEMENT_WIRE:
        to.kind = SIM_WIRED;
        send(s, to);
        break;
    case PLACEMENT_OPEN:
        open_executor(s, f->epoch);
        break;
    case PLACEMENT_SERVE:
        p->served = true;
        s->served++;
        break;
    case PLACEMENT_UNLOAD:
        p->unloads[f->rank]++;
        to.kind = SIM_UNLOAD; /* an unload that is lost would be a link that ended */
        schedule(s, some(s, 1, 3000) * MS, to);
        break;
    case PLACEMENT_GONE:
        p->gone = true;
        s->ended++;
        break;
    default:
        sim_wrong(s, "an effect that a driver does not know");
    }
}

static void suspend(struct sim *s, struct sim_epoch *p)
{
    struct error e = { 0 };
    if (p->engine != NULL) {
        s->suspended++;
        if (s->waiting != NULL || engine_suspend(p->engine, s->core.ended, &e) != 0) {
            sim_wrong(s, "an engine can't be suspended");
        }
        s->waiting = p->engine;
        p->engine = NULL;
    }
}

static void do_effect(struct sim *s, const struct service_effect *f)
{
    if (f->kind == SERVICE_PLAN) {
        plan(s);
    } else if (f->kind == SERVICE_DO) {
        do_placement(s, &f->placement);
    } else if (f->kind == SERVICE_SUSPEND) {
        suspend(s, &s->epochs[f->epoch]);
    } else if (f->kind == SERVICE_RETIRE) {
        end_engine(s, &s->epochs[f->epoch].engine);
    } else if (f->kind == SERVICE_FAIL) {
        end_engine(s, &s->waiting);
    }
}

static void drain_queue(struct sim *s)
{
    for (int at = 0; at < s->n_queued; at++) {
        struct service_event event = s->queue[at];
        struct service_effects effects;
        service_step(&s->core, &event, s->now, &effects);
        for (int i = 0; i < effects.n; i++) {
            do_effect(s, &effects.items[i]);
        }
    }
    s->n_queued = 0;
}

/* --- devices --- */

struct sim_part *sim_part(struct sim *s, int device, uint32_t epoch)
{
    int slot = part_table_find(&s->devices[device].table, 1, epoch);
    return slot >= 0 ? &s->devices[device].parts[slot] : NULL;
}

static void say(struct sim *s, enum sim_kind kind, int device, int rank, uint32_t epoch)
{
    send(s, (struct sim_event){ .kind = kind, .device = device, .rank = rank, .epoch = epoch });
}

static void on_order(struct sim *s, const struct sim_event *e)
{
    struct sim_device *d = &s->devices[e->device];
    int slot = -1;
    enum part_verdict verdict = part_table_order(&d->table, 1, e->epoch, &slot);
    if (verdict == PART_TAKE) {
        uint64_t takes = chance(s, 5) ? UINT64_MAX : some(s, 1, 6000) * MS;
        d->parts[slot] =
            (struct sim_part){ .rank = e->rank,
                               .begun_at = s->now,
                               .loaded_at = takes == UINT64_MAX ? takes : s->now + takes,
                               .total = some(s, 1, 64) * PIECE };
    } else if (verdict == PART_FULL) {
        say(s, SIM_FAILED, e->device, e->rank, e->epoch);
    }
}

static void on_unload(struct sim *s, const struct sim_event *e)
{
    struct part_table *t = &s->devices[e->device].table;
    int slot = part_table_find(t, 1, e->epoch);
    part_table_end(t, 1, e->epoch);
    if (slot >= 0) {
        part_table_free(t, slot);
    }
}

/* What goes on inside one part between two ticks. */
static void work(struct sim *s, int device, uint32_t epoch, struct sim_part *p)
{
    if (!p->loaded && s->now >= p->loaded_at) {
        p->loaded = true;
        say(s, chance(s, 95) ? SIM_LOADED : SIM_FAILED, device, p->rank, epoch);
    }
    if (p->loaded && p->connected && !p->serves && chance(s, 97)) {
        p->serves = true;
        say(s, SIM_SERVES, device, p->rank, epoch);
    }
    if (!p->hangs && p->serves && random_below(&s->random, 1000) == 0) {
        p->hangs = true;
        p->hangs_at = s->now;
    }
    p->progress += !p->hangs;
}

/* --- the token path --- */

static bool computes(struct sim *s, uint32_t epoch)
{
    const struct sim_epoch *p = &s->epochs[epoch];
    for (int r = 0; r < p->n_ranks; r++) {
        const struct sim_part *part = sim_part(s, p->device[r], epoch);
        if (!s->devices[p->device[r]].alive || part == NULL || !part->serves || part->hangs) {
            return false;
        }
    }
    return true;
}

/* The head thread's turns of this tick: a step or two of each engine that has an executor. */
static void run_engines(struct sim *s)
{
    for (uint32_t e = 1; e <= s->core.epoch && e < SIM_EPOCHS; e++) {
        struct sim_epoch *p = &s->epochs[e];
        if (p->engine != NULL) {
            p->fake->silent = !computes(s, e);
            if (p->fake->silent && s->seed % 2 && chance(s, 10)) {
                p->fake->down = true; /* a channel broke */
            }
            /* A third of the clusters is slow: answers outlast a placement's deadlines. */
            int turns = s->seed % 3 ? 2 : chance(s, 15);
            for (int i = 0; i < turns && engine_turn(p->engine); i++) {
            }
        }
    }
    if (s->waiting != NULL) {
        engine_turn(s->waiting);
    }
}

static bool has_requests(const struct sim *s, uint32_t epoch)
{
    struct engine_stats stats = { 0 };
    if (s->epochs[epoch].engine != NULL) {
        engine_stats(s->epochs[epoch].engine, &stats);
    }
    return stats.active + stats.queued > 0;
}

static enum engine_verdict on_token(void *arg, const struct engine_token *t)
{
    struct sim_request *r = arg;
    if (t->id != sim_next(r->ids, r->n)) {
        sim_wrong(r->owner, "a token was lost, doubled or changed");
    }
    r->ids[r->n++] = t->id;
    r->owner->tokens++;
    return ENGINE_CONTINUE;
}

static void on_end(void *arg, enum engine_finish finish, const struct engine_usage *usage,
                   const struct error *error)
{
    struct sim_request *r = arg;
    r->ends++;
    r->owner->answered += finish == FINISH_STOP || finish == FINISH_LENGTH;
    (void)usage;
    (void)error;
}

static void submit_request(struct sim *s)
{
    const struct placement *p = service_serving(&s->core);
    if (p == NULL || s->n_requests == SIM_REQUESTS) {
        return; /* 503 */
    }
    struct sim_epoch *epoch = &s->epochs[p->epoch];
    if (epoch->replaced || epoch->engine == NULL) {
        sim_wrong(s, "a replaced epoch takes a new request");
        return;
    }
    struct sim_request *r = &s->requests[s->n_requests++];
    *r = (struct sim_request){ .owner = s, .engine = epoch->engine };
    for (r->n = 0; r->n < SIM_PROMPT; r->n++) {
        r->ids[r->n] = (int32_t)random_below(&s->random, VOCAB);
    }
    struct error e = { 0 };
    const struct engine_request ask = { .prompt = r->ids,
                                        .n_prompt = SIM_PROMPT,
                                        .max_tokens = SIM_TOKENS,
                                        .on_token = on_token,
                                        .on_end = on_end,
                                        .arg = r };
    if (engine_submit(r->engine, &ask, &r->ticket, &e) != 0) {
        s->n_requests--; /* refused with a reason */
    }
}

static void cancel(struct sim *s)
{
    struct sim_request *r = &s->requests[random_below(&s->random, SIM_REQUESTS)];
    if (r->ends == 0 && r->engine != NULL) {
        engine_cancel(r->engine, r->ticket);
    }
}

/* --- what the head hears --- */

static void lose(struct sim *s, int device)
{
    struct sim_device *d = &s->devices[device];
    if (!d->alive) {
        return;
    }
    d->alive = false;
    d->link++;
    d->table = (struct part_table){ 0 };
    for (uint32_t e = 1; e <= s->core.epoch && e < SIM_EPOCHS; e++) {
        struct sim_epoch *p = &s->epochs[e];
        for (int r = 0; r < p->n_ranks; r++) {
            if (p->device[r] == device) {
                p->lost[r] = true;
                feed_placement(
                    s, (struct placement_event){
                           .kind = PLACEMENT_RANK_LOST, .epoch = e, .rank = r, .text = "gone" });
            }
        }
        drain_queue(s);
    }
}

static void heartbeats(struct sim *s)
{
    for (int d = 0; d < s->n_devices; d++) {
        for (int i = 0; i < PART_TABLE_SLOTS && s->devices[d].alive; i++) {
            if (!s->devices[d].table.slots[i].used) {
                continue;
            }
            uint32_t epoch = s->devices[d].table.slots[i].epoch;
            struct sim_part *p = &s->devices[d].parts[i];
            work(s, d, epoch, p);
            uint64_t spent = s->now - p->begun_at;
            uint64_t takes = p->loaded_at - p->begun_at;
            uint64_t done = p->loaded_at == UINT64_MAX ? p->total / 2
                            : s->now >= p->loaded_at   ? p->total
                                                       : p->total * (spent / MS) / (takes / MS + 1);
            feed_placement(s,
                           (struct placement_event){ .kind = PLACEMENT_RANK_MOVED,
                                                     .epoch = epoch,
                                                     .rank = p->rank,
                                                     .done = done,
                                                     .progress = p->progress,
                                                     .busy = p->serves && has_requests(s, epoch) });
            drain_queue(s);
        }
    }
}

/* As cluster/service.c watches its engines. */
static void watch_engine(struct sim *s, uint32_t epoch)
{
    struct engine_stats stats;
    struct placement_event event = { .kind = PLACEMENT_BROKEN, .epoch = epoch };
    if (s->epochs[epoch].engine == NULL) {
        return;
    }
    engine_stats(s->epochs[epoch].engine, &stats);
    if (stats.broken || stats.suspended) {
        event.text = "no answer";
        feed_placement(s, event);
    } else if (stats.active + stats.queued == 0) {
        event.kind = PLACEMENT_DRAINED;
        feed_placement(s, event);
    }
}

static void tick(struct sim *s)
{
    heartbeats(s);
    run_engines(s);
    for (uint32_t e = 1; e <= s->core.epoch && e < SIM_EPOCHS; e++) {
        const struct placement *p = service_placement(&s->core, e);
        if (p == NULL) {
            continue;
        }
        s->epochs[e].replaced = p->state == PLACEMENT_DRAINING;
        s->epochs[e].busy_at = !has_requests(s, e)         ? 0
                               : s->epochs[e].busy_at != 0 ? s->epochs[e].busy_at
                                                           : s->now;
        watch_engine(s, e);
    }
    feed(s, (struct service_event){ .kind = SERVICE_TICK });
}

static void on_word(struct sim *s, const struct sim_event *e, enum placement_event_kind kind)
{
    s->epochs[e->epoch].serves[e->rank] |= kind == PLACEMENT_RANK_SERVES;
    s->epochs[e->epoch].wired[e->rank] |= kind == PLACEMENT_WIRED;
    feed_placement(s, (struct placement_event){ .kind = kind,
                                                .epoch = e->epoch,
                                                .rank = e->rank,
                                                .code = chance(s, 50) ? FAIL_CLOSED : FAIL_NOMEM,
                                                .text = "said so" });
}

static void on_device_event(struct sim *s, const struct sim_event *e)
{
    struct sim_part *p = sim_part(s, e->device, e->epoch);
    if (!s->devices[e->device].alive || s->devices[e->device].link != e->link) {
        return;
    }
    if (e->kind == SIM_ORDER) {
        on_order(s, e);
    } else if (e->kind == SIM_UNLOAD) {
        on_unload(s, e);
    } else if (p != NULL) {
        p->connected = true;
    }
}

static void on_event(struct sim *s, const struct sim_event *e)
{
    switch (e->kind) {
    case SIM_TICK:
        tick(s);
        schedule(s, TICK, (struct sim_event){ .kind = SIM_TICK });
        break;
    case SIM_ORDER:
    case SIM_CONNECT:
    case SIM_UNLOAD:
        on_device_event(s, e);
        break;
    case SIM_LOADED:
        on_word(s, e, PLACEMENT_RANK_LOADED);
        break;
    case SIM_SERVES:
        on_word(s, e, PLACEMENT_RANK_SERVES);
        break;
    case SIM_FAILED:
        on_word(s, e, PLACEMENT_RANK_FAILED);
        break;
    case SIM_WIRED:
        on_word(s, e, chance(s, 97) ? PLACEMENT_WIRED : PLACEMENT_NOT_WIRED);
        break;
    case SIM_OPENED:
        feed_placement(s, (struct placement_event){ .kind = PLACEMENT_OPENED, .epoch = e->epoch });
        break;
    case SIM_LOSE:
        lose(s, e->device);
        break;
    case SIM_RETURN:
        s->devices[e->device].alive = true;
        feed(s, (struct service_event){ .kind = SERVICE_DEVICES });
        break;
    case SIM_SUBMIT:
        submit_request(s);
        break;
    case SIM_CANCEL:
        cancel(s);
        break;
    case SIM_REPLAN:
        feed(s, (struct service_event){ .kind = SERVICE_REPLAN });
        break;
    }
    drain_queue(s);
}

/* --- a run --- */

static void fill(struct sim *s)
{
    s->n_devices = (int)some(s, 1, SIM_DEVICES);
    for (int d = 0; d < s->n_devices; d++) {
        s->devices[d].alive = chance(s, 70);
        for (int i = 0, n = (int)some(s, 0, 4); i < n && d > 0; i++) {
            uint64_t at = some(s, 1, HORIZON / MS - 20000) * MS;
            schedule(s, at, (struct sim_event){ .kind = SIM_LOSE, .device = d });
            schedule(s, at + some(s, 1, 20000) * MS,
                     (struct sim_event){ .kind = SIM_RETURN, .device = d });
        }
    }
    s->devices[0].alive = true;
    for (int i = 0; i < 2 * SIM_REQUESTS; i++) {
        schedule(s, some(s, 1, HORIZON / MS) * MS, (struct sim_event){ .kind = SIM_SUBMIT });
    }
    for (int i = 0; i < 6; i++) {
        schedule(s, some(s, 1, HORIZON / MS) * MS,
                 (struct sim_event){ .kind = i % 2 ? SIM_CANCEL : SIM_REPLAN });
    }
    schedule(s, 0, (struct sim_event){ .kind = SIM_TICK });
}

static void free_fakes(struct sim *s)
{
    for (int e = 0; e < SIM_EPOCHS; e++) {
        free(s->epochs[e].fake);
    }
}

const char *sim_run(struct sim *s, uint64_t seed, bool trace)
{
    memset(s, 0, sizeof *s);
    s->seed = seed;
    s->trace = trace;
    s->random.state = seed;
    s->now = MS;
    s->horizon = HORIZON;
    fill(s);
    service_start(&s->core, &limits, s->now);
    while (s->wrong == NULL && s->now < HORIZON) {
        struct sim_event e = pop(s);
        s->now = e.at;
        if (trace) {
            printf("%8llu ms kind %d device %d rank %d epoch %u\n",
                   (unsigned long long)(s->now / MS), (int)e.kind, e.device, e.rank, e.epoch);
        }
        on_event(s, &e);
        sim_check(s);
    }
    feed(s, (struct service_event){ .kind = SERVICE_STOP, .text = "shutting down" });
    drain_queue(s);
    while (s->wrong == NULL && s->n_events > 0) {
        struct sim_event e = pop(s);
        s->now = e.at;
        if (e.kind <= SIM_UNLOAD && e.kind != SIM_TICK) {
            on_device_event(s, &e);
        }
    }
    if (s->wrong == NULL) {
        sim_check_end(s);
        free_fakes(s);
    }
    return s->wrong;
}

/* Doing what a placement's state machine says: orders, channels, executors, engines. */
#include <stdlib.h>

#include "cluster/statement.h"
#include "cluster/service_internal.h"
#include "engine/engine.h"
#include "chat/model.h"
#include "os/log.h"
#include "os/memory.h"
#include "stage/distributed.h"
#include "stage/share.h"
#include "stage/source.h"
#include "transport/transport.h"

#include <assert.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>

/* Requests of a broken engine are told at once; its struct stays this long for late callers. */
#define RETIRE_NS (2 * SECOND_NS)

struct retired {
    struct engine *engine;
    uint64_t close_at;
    struct retired *next;
};

/* --- orders --- */

static void begin_attempt(struct service *s, uint32_t epoch)
{
    struct attempt *a = service_attempt(s, 0);
    *a = (struct attempt){ .epoch = epoch };
    struct part_order *o = &a->order;
    *o = (struct part_order){ .placement = s->id,
                              .epoch = epoch,
                              .model_size = s->file.size,
                              .plan = s->planned,
                              .max_rows = SERVICE_MAX_ROWS,
                              .max_sessions = SERVICE_MAX_SESSIONS,
                              .context = s->context,
                              .state_tokens = s->pool,
                              .exact = s->owner->options.exact };
    snprintf(o->model_id, sizeof o->model_id, "%s", s->file.id);
    snprintf(o->model_sha256, sizeof o->model_sha256, "%s", s->file.sha256);
    snprintf(o->head, sizeof o->head, "%s", s->owner->self->id);
    memcpy(o->devices, s->devices, sizeof o->devices);
    a->n_links = wire_links(&o->plan, a->links);
    struct split_need need = s->need;
    for (int i = 0; i < need.n_layers; i++) {
        s->layer_bytes[i] = s->weight_bytes[i] + s->token_bytes[i] * s->pool;
    }
    need.layer_bytes = s->layer_bytes;
    for (int r = 0; r < o->plan.n_ranks; r++) {
        a->ranks[r].promised = plan_rank_bytes(&need, &o->plan, r);
    }
    s->last = *o;
    statement_begin(s->owner, o, &s->file);
}

static void order_rank(struct service *s, struct attempt *a, int rank)
{
    struct cluster *c = s->owner;
    struct device *to = device_find(c, a->order.devices[rank]);
    if (to == NULL) {
        return;
    }
    a->order.rank = rank;
    for (int r = 0; r < a->order.plan.n_ranks; r++) {
        const struct device *d = device_find(c, a->order.devices[r]);
        a->order.addresses[r][0] = '\0';
        if (d != NULL && d != to) {
            device_address_for(c, d, to, a->order.addresses[r]);
        }
    }
    device_send(c, to, part_order_json(&a->order));
}

/* "unload" and "connect" say no more than which placement is meant. */
static void tell_rank(struct service *s, const struct attempt *a, int rank, const char *type)
{
    struct device *d = device_find(s->owner, a->order.devices[rank]);
    if (d != NULL && device_alive(d)) {
        device_send(s->owner, d,
                    json_pack("{s:s, s:I, s:I}", "type", type, "placement", (json_int_t)s->id,
                              "epoch", (json_int_t)a->epoch));
    }
}

/* --- channels --- */

void service_not_wired(struct service *s, uint32_t epoch, int rank, const char *why)
{
    service_post_placement(
        s, &(struct placement_event){
               .kind = PLACEMENT_NOT_WIRED, .epoch = epoch, .rank = rank, .text = why });
}

void service_wired(struct service *s, struct attempt *a, int rank, struct channel *channel)
{
    channel_close(a->ranks[rank].steps);
    a->ranks[rank].steps = channel;
    service_post_placement(
        s, &(struct placement_event){ .kind = PLACEMENT_WIRED, .epoch = a->epoch, .rank = rank });
}

static void wire_rank(struct service *s, struct attempt *a, int rank)
{
    struct cluster *c = s->owner;
    struct device *d = device_find(c, a->order.devices[rank]);
    int link = 0;
    while (link < a->n_links && (a->links[link].from != WIRE_HEAD || a->links[link].to != rank)) {
        link++;
    }
    if (d == NULL || link == a->n_links) {
        service_not_wired(s, a->epoch, rank, "its device is not known any more");
        return;
    }
    size_t most =
        wire_max_message(&a->links[link], WIRE_HEAD, service_program(s), SERVICE_MAX_ROWS);
    if (!d->self) {
        peer_channel_open(d->peer, &(struct channel_purpose){ s->id, a->epoch, link }, most);
    } else {
        struct channel *mine = NULL, *theirs = NULL;
        struct error e = { 0 };
        if (memory_pair(&mine, &theirs, &(struct memory_options){ .channel.max_message = most },
                        &e) != 0) {
            service_not_wired(s, a->epoch, rank, e.text);
            return;
        }
        service_wired(s, a, rank, mine);
        part_channel(c, s->id, a->epoch, link, theirs);
    }
}

/* --- the executor and its engine --- */

static int open_executor(struct service *s, struct attempt *a, struct executor **ret,
                         struct error *e)
{
    const struct part_order *o = &a->order;
    const struct program *program = service_program(s);
    struct distributed_rank ranks[PLAN_MAX_RANKS];
    for (int r = 0; r < o->plan.n_ranks; r++) {
        const struct device *d = device_find(s->owner, o->devices[r]);
        ranks[r] = (struct distributed_rank){ .channel = a->ranks[r].steps,
                                              .name = d ? d->name : "device",
                                              .vocab_first = a->ranks[r].vocab_first,
                                              .vocab_count = a->ranks[r].vocab_count };
        a->ranks[r].steps = NULL;
    }
    return distributed_open(
        ret,
        &(struct distributed_options){ .plan = &o->plan,
                                       .ranks = ranks,
                                       .epoch = a->epoch,
                                       .vocab = program->vocab,
                                       .width = rank_hidden_width(program),
                                       .max_rows = SERVICE_MAX_ROWS,
                                       .max_context = s->context,
                                       .max_sessions = SERVICE_MAX_SESSIONS,
                                       .state_tokens = o->state_tokens,
                                       .can_truncate = rank_can_truncate(program) },
        e);
}

/* On an engine's thread: its executor broke, and the loop is to look at it at once. */
static void on_lost(void *arg, const struct error *why)
{
    const struct cluster *c = arg;
    (void)why;
    event_active(c->wake, 0, 0);
}

static void open_engine(struct service *s, struct attempt *a)
{
    struct error e = { 0 };
    struct executor *executor = NULL;
    bool resumes = service_placement(&s->core, a->epoch)->resumes && s->waiting != NULL;
    int code = open_executor(s, a, &executor, &e);
    if (code == 0 && resumes) {
        code = engine_resume(s->waiting, executor, &e);
        if (code == 0) {
            a->engine = s->waiting;
            s->waiting = NULL;
        }
    } else if (code == 0) {
        code = engine_open(&a->engine,
                           &(struct engine_options){ .executor = executor,
                                                     .vocab = service_program(s)->vocab,
                                                     .is_eog = chat_model_eog(s->text),
                                                     .max_requests = SERVICE_MAX_REQUESTS,
                                                     .max_queue = SERVICE_MAX_QUEUE,
                                                     .step_timeout_ns = STEP_TIMEOUT_NS,
                                                     .on_lost = on_lost,
                                                     .lost_arg = s->owner },
                           &e);
    }
    service_post_placement(
        s, &(struct placement_event){ .kind = code ? PLACEMENT_NOT_OPENED : PLACEMENT_OPENED,
                                      .epoch = a->epoch,
                                      .text = e.text });
}

/* Each device's layers and memory, for the person who started this. */
static void show_devices(struct service *s, const struct attempt *a)
{
    const struct placement_plan *plan = &a->order.plan;
    int n = plan->n_ranks;
    for (int r = 0; r < n; r++) {
        const struct plan_stage *stage = &plan->stages[plan_stage_of(plan, r)];
        const struct device *d = device_find(s->owner, a->order.devices[r]);
        char label[DEVICE_LABEL] = "device", share[48] = "";
        if (d != NULL) {
            device_label(d, label);
        }
        if (stage->n_ranks > 1) {
            snprintf(share, sizeof share, ", rank %d of %d, share %d", r - stage->rank + 1,
                     stage->n_ranks, plan->shares[r]);
        }
        log_info("cluster", "%s: %s holds layers %d-%d%s: %.1f MB of weights", s->file.id, label,
                 stage->first, stage->end - 1, share, (double)a->ranks[r].weight_bytes / 1e6);
    }
    int native = service_program(s)->context;
    log_info("cluster", "%s: serving on %d device%s, context %d%s", s->file.id, n,
             n == 1 ? "" : "s", s->context,
             s->context == native            ? ", all of the model's"
             : s->owner->options.context > 0 ? ""
             : s->context == CONTEXT_MOST    ? " unless --context says more"
                                             : ", what fits into memory");
}

/* Its requests are told why they end; the struct stays for a while. */
static void retire(struct service *s, struct engine *engine)
{
    struct error end = { 0 };
    fail(&end, FAIL_CLOSED, "%s", s->core.ended);
    engine_fail(engine, &end);
    struct retired *r = calloc(1, sizeof *r);
    if (r == NULL) {
        engine_close(engine);
        return;
    }
    r->engine = engine;
    r->close_at = s->owner->time.now_ns + RETIRE_NS;
    r->next = s->owner->retired;
    s->owner->retired = r;
}

void service_retire(struct service *s, uint32_t epoch)
{
    struct attempt *a = service_attempt(s, epoch);
    if (a != NULL && a->engine != NULL) {
        retire(s, a->engine);
        a->engine = NULL;
    }
}

void service_suspend(struct service *s, uint32_t epoch)
{
    struct attempt *a = service_attempt(s, epoch);
    struct error e = { 0 };
    if (a == NULL || a->engine == NULL) {
        return;
    }
    assert(s->waiting == NULL); /* the core lets one placement's requests wait at a time */
    if (engine_suspend(a->engine, s->core.ended, &e) == 0) {
        s->waiting = a->engine;
    } else {
        retire(s, a->engine);
    }
    a->engine = NULL;
}

void service_give_up(struct service *s)
{
    if (s->waiting != NULL) {
        retire(s, s->waiting);
        s->waiting = NULL;
    }
}

void retired_close(struct cluster *c, bool all)
{
    struct retired **at = &c->retired;
    while (*at != NULL) {
        struct retired *r = *at;
        if (!all && c->time.now_ns < r->close_at) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        engine_close(r->engine);
        free(r);
        memory_trim();
    }
}

/* The last of a placement: channels that nobody took, and its place among the attempts. */
static void end_attempt(struct service *s, struct attempt *a)
{
    if (!s->core.stopped) {
        log_error("cluster", "%s: placement ended: %s", s->file.id,
                  service_ended_why(&s->core, a->epoch));
    }
    peers_channels_forget(s->owner->peers, s->id, a->epoch);
    statement_end(s->owner, s->id, a->epoch);
    for (int r = 0; r < a->order.plan.n_ranks; r++) {
        channel_close(a->ranks[r].steps);
    }
    *a = (struct attempt){ 0 };
}

void service_do(struct service *s, const struct placement_effect *f)
{
    if (f->kind == PLACEMENT_ORDER && service_attempt(s, f->epoch) == NULL) {
        begin_attempt(s, f->epoch);
    }
    struct attempt *a = service_attempt(s, f->epoch);
    switch (f->kind) {
    case PLACEMENT_ORDER:
        order_rank(s, a, f->rank);
        break;
    case PLACEMENT_CONNECT:
        tell_rank(s, a, f->rank, "connect");
        break;
    case PLACEMENT_WIRE:
        wire_rank(s, a, f->rank);
        break;
    case PLACEMENT_OPEN:
        open_engine(s, a);
        break;
    case PLACEMENT_SERVE:
        s->answered = true;
        source_loaded(s->source, NULL); /* only its program and text are used here */
        show_devices(s, a);
        break;
    case PLACEMENT_UNLOAD:
        tell_rank(s, a, f->rank, "unload");
        break;
    case PLACEMENT_GONE:
        end_attempt(s, a);
        break;
    case PLACEMENT_BREAK: /* the service's core turns it into RETIRE or SUSPEND */
    case PLACEMENT_EFFECT_COUNT:
        break;
    }
}

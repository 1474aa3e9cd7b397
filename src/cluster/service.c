/* Services: their life, their events, what others see of them. */
#include "cluster/service.h"

#include <stdlib.h>

#include "cluster/service_internal.h"
#include "engine/engine.h"
#include "chat/model.h"
#include "os/log.h"
#include "stage/source.h"
#include "transport/transport.h"

#include <event2/event.h>
#include <stdio.h>
#include <string.h>

/* Longest pause between attempts to place. */
#define RETRY_MAX_NS (30 * SECOND_NS)
/* A rank that lost its neighbour tells of it before the neighbour's own end is seen here: that is
 * given this long to be named instead. */
#define BLAME_NS (SECOND_NS / 2)
/* A disk that reads less than this in that time does not read any more (an old SD card gives 10
 * MB/s). */
#define LOAD_NS (30 * SECOND_NS)
#define LOAD_BYTES (UINT64_C(1) << 20)
/* A client waits this long for its model to be placed again. */
#define SUSPEND_NS (30 * SECOND_NS)
/* The last requests of a placement that was replaced. */
#define DRAIN_NS (600 * SECOND_NS)

static const struct service_limits limits = {
    .placement = { .load_ns = LOAD_NS,
                   .load_bytes = LOAD_BYTES,
                   .connect_ns = CONNECT_NS,
                   .hang_ns = HANG_NS,
                   .blame_ns = BLAME_NS,
                   .drain_ns = DRAIN_NS },
    .retry_ns = RETRY_NS,
    .retry_max_ns = RETRY_MAX_NS,
    .suspend_ns = SUSPEND_NS,
};

/* --- the driver --- */

static void do_effect(struct service *s, const struct service_effect *f)
{
    switch (f->kind) {
    case SERVICE_PLAN:
        service_plan(s);
        break;
    case SERVICE_DO:
        service_do(s, &f->placement);
        break;
    case SERVICE_SUSPEND:
        service_suspend(s, f->epoch);
        break;
    case SERVICE_RETIRE:
        service_retire(s, f->epoch);
        break;
    case SERVICE_FAIL:
        service_give_up(s);
        break;
    case SERVICE_CHANGED:
        if (s->core.why[0] != '\0') {
            log_info("cluster", "%s: %s", s->file.id, s->core.why);
        }
        s->owner->changed = true;
        event_active(s->owner->wake, 0, 0);
        break;
    }
}

/* Does what the events that wait ask for, and what comes of that. */
static void run(struct service *s)
{
    struct queued_event *q;
    if (s->busy) {
        return;
    }
    s->busy = true;
    while ((q = service_next(s)) != NULL) {
        struct service_effects effects;
        service_step(&s->core, &q->event, s->owner->time.now_ns, &effects);
        for (int i = 0; i < effects.n; i++) {
            do_effect(s, &effects.items[i]);
        }
        free(q);
    }
    s->busy = false;
}

static void feed(struct service *s, const struct service_event *event)
{
    service_post(s, event);
    run(s);
}

static void feed_placement(struct service *s, const struct placement_event *event)
{
    service_post_placement(s, event);
    run(s);
}

/* --- what ranks say --- */

static struct service *find(struct cluster *c, int64_t id)
{
    for (int i = 0; i < c->n_services; i++) {
        if (c->services[i]->id == id) {
            return c->services[i];
        }
    }
    return NULL;
}

static int take_loaded(struct service *s, struct attempt *a, int rank, const json_t *m,
                       struct error *e)
{
    int vocab = service_program(s)->vocab, first = 0, count = 0;
    int64_t weights = 0;
    int code = message_int(m, "vocab_first", 0, vocab, &first, e);
    code = code ? code : message_int(m, "vocab_count", 0, vocab, &count, e);
    code = code ? code : message_integer(m, "weights", 0, INT64_MAX, &weights, e);
    if (code == 0) {
        a->ranks[rank].vocab_first = first;
        a->ranks[rank].vocab_count = count;
        a->ranks[rank].weight_bytes = weights;
    }
    return code;
}

/* A device that lacks the model after all, or has another one of this size and header, is asked
 * again when its models change. */
static void disown(struct device *d, const struct model_file *file)
{
    for (int i = 0; i < d->n_models; i++) {
        struct model_file *f = &d->models[i];
        f->bad = f->bad || (f->size == file->size && strcmp(f->sha256, file->sha256) == 0);
    }
}

struct part_state {
    int64_t placement, epoch;
    int rank, code;
    char state[16], text[ERROR_TEXT];
};

static const struct message_field part_state_fields[] = {
    { MESSAGE_INTEGER(struct part_state, placement, 1, INT64_MAX) },
    { MESSAGE_INTEGER(struct part_state, epoch, 1, UINT32_MAX) },
    { MESSAGE_INT(struct part_state, rank, 0, PLAN_MAX_RANKS - 1) },
    { MESSAGE_TEXT(struct part_state, state) },
    { MESSAGE_INT(struct part_state, code, INT32_MIN, 0), .optional = true },
    { MESSAGE_TEXT(struct part_state, text), .optional = true },
};

enum peer_verdict on_part_state(void *arg, struct peer *from, const void *fields, struct error *e)
{
    const json_t *body = ((const struct whole_message *)fields)->body;
    struct part_state m = { .text = "" };
    if (message_read(body, part_state_fields, ARRAY_LEN(part_state_fields), &m, e) != 0) {
        return PEER_VIOLATION;
    }
    struct service *s = find(arg, m.placement);
    struct attempt *a = s != NULL ? service_attempt(s, (uint32_t)m.epoch) : NULL;
    if (a == NULL || m.rank >= a->order.plan.n_ranks ||
        strcmp(a->order.devices[m.rank], peer_id(from)) != 0) {
        return PEER_DONE;
    }
    struct placement_event event = { .epoch = a->epoch, .rank = m.rank };
    if (strcmp(m.state, "failed") == 0) {
        if (m.code == FAIL_NOT_FOUND) {
            disown(peer_user(from), &s->file);
        }
        event.kind = PLACEMENT_RANK_FAILED;
        event.code = m.code;
        event.text = m.text[0] != '\0' ? m.text : "no reason given";
    } else {
        event.kind =
            strcmp(m.state, "serving") == 0 ? PLACEMENT_RANK_SERVES : PLACEMENT_RANK_LOADED;
        if (take_loaded(s, a, m.rank, body, e) != 0) {
            return PEER_VIOLATION;
        }
    }
    feed_placement(s, &event);
    return PEER_DONE;
}

/* What the last heartbeats say of the ranks. */
static void take_progress(struct service *s, struct attempt *a)
{
    for (int r = 0; r < a->order.plan.n_ranks; r++) {
        const struct device *d = device_find(s->owner, a->order.devices[r]);
        const struct part_report *report = device_part(d, s->id, a->epoch);
        if (report != NULL) {
            feed_placement(s, &(struct placement_event){ .kind = PLACEMENT_RANK_MOVED,
                                                         .epoch = a->epoch,
                                                         .rank = r,
                                                         .done = report->facts.load_done,
                                                         .progress = report->facts.progress,
                                                         .busy = report->facts.busy });
        }
    }
}

bool service_channel(struct cluster *c, const struct channel_purpose *purpose,
                     struct channel *channel, const struct error *error)
{
    struct service *s = find(c, purpose->subject);
    struct attempt *a = s != NULL ? service_attempt(s, purpose->epoch) : NULL;
    bool mine =
        a != NULL && purpose->index < a->n_links && a->links[purpose->index].from == WIRE_HEAD;
    if (!mine) {
        return false;
    }
    if (a->engine != NULL) {
        channel_close(channel);
    } else if (channel == NULL) {
        service_not_wired(s, a->epoch, a->links[purpose->index].to, error->text);
    } else {
        service_wired(s, a, a->links[purpose->index].to, channel);
    }
    run(s);
    return true;
}

/* --- events --- */

void services_device_joined(struct cluster *c)
{
    for (int i = 0; i < c->n_services; i++) {
        feed(c->services[i], &(struct service_event){ .kind = SERVICE_DEVICES });
    }
}

void services_device_lost(struct cluster *c, struct device *d, const char *why)
{
    for (int i = 0; i < c->n_services; i++) {
        struct service *s = c->services[i];
        for (int k = 0; k < SERVICE_PLACEMENTS; k++) {
            struct attempt *a = &s->attempts[k];
            for (int r = 0; a->epoch != 0 && r < a->order.plan.n_ranks; r++) {
                if (strcmp(a->order.devices[r], d->id) == 0) {
                    feed_placement(s, &(struct placement_event){ .kind = PLACEMENT_RANK_LOST,
                                                                 .epoch = a->epoch,
                                                                 .rank = r,
                                                                 .text = why });
                }
            }
        }
    }
}

/* Whether its executor is still there, and whether anybody uses it. */
static void watch_engine(struct service *s, struct attempt *a)
{
    struct engine_stats stats;
    struct placement_event event = { .kind = PLACEMENT_BROKEN, .epoch = a->epoch };
    if (a->engine == NULL) {
        return;
    }
    engine_stats(a->engine, &stats);
    if (stats.broken || stats.suspended) {
        event.text = stats.why;
        feed_placement(s, &event);
    } else if (stats.active + stats.queued == 0) {
        event.kind = PLACEMENT_DRAINED;
        feed_placement(s, &event);
    }
}

void services_poll(struct cluster *c)
{
    for (int i = 0; i < c->n_services; i++) {
        for (int k = 0; k < SERVICE_PLACEMENTS; k++) {
            watch_engine(c->services[i], &c->services[i]->attempts[k]);
        }
    }
}

void services_tick(struct cluster *c)
{
    retired_close(c, false);
    for (int i = 0; i < c->n_services; i++) {
        struct service *s = c->services[i];
        for (int k = 0; k < SERVICE_PLACEMENTS; k++) {
            if (s->attempts[k].epoch != 0) {
                take_progress(s, &s->attempts[k]);
            }
        }
    }
    services_poll(c);
    for (int i = 0; i < c->n_services; i++) {
        feed(c->services[i], &(struct service_event){ .kind = SERVICE_TICK });
    }
}

/* --- life --- */

static int measure(struct service *s, struct error *e)
{
    const struct program *program = service_program(s);
    size_t n = (size_t)program->n_layers;
    const struct source_state state = { .element_bytes = s->owner->options.exact ? 4 : 2,
                                        .sequences = SERVICE_MAX_SESSIONS };
    s->layer_bytes = calloc(n, sizeof *s->layer_bytes);
    s->weight_bytes = calloc(n, sizeof *s->weight_bytes);
    s->token_bytes = calloc(n, sizeof *s->token_bytes);
    if (s->layer_bytes == NULL || s->weight_bytes == NULL || s->token_bytes == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a plan");
    }
    return source_need(s->source, &state, s->weight_bytes, s->token_bytes, &s->need, e);
}

static void service_free(struct service *s)
{
    if (s != NULL) {
        chat_model_release(s->text);
        source_close(s->source);
        free(s->layer_bytes);
        free(s->weight_bytes);
        free(s->token_bytes);
        free(s);
    }
}

static int find_model(struct cluster *c, const char *name, struct model_file *ret, struct error *e)
{
    const struct model_file *f = models_by_name(&c->models, name);
    if (f != NULL) {
        *ret = *f;
        return 0;
    }
    struct error local = { 0 };
    if (model_identify(name, ret, &local) == 0) {
        return 0;
    }
    if (strchr(name, '/') != NULL || local.code != FAIL_NOT_FOUND) {
        return fail(e, local.code, "model '%s': %s", name, local.text);
    }
    const char *const endings[] = { "", ".gguf" }; /* a file of the folder that was left out? */
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        char path[MODEL_PATH_TEXT];
        int n = snprintf(path, sizeof path, "%s/%s%s", c->options.models_dir, name, endings[i]);
        struct error why = { 0 };
        if (n < (int)sizeof path && model_identify(path, ret, &why) != 0 &&
            why.code != FAIL_NOT_FOUND) {
            return fail(e, why.code, "model '%s': %s", name, why.text);
        }
    }
    return fail(e, FAIL_NOT_FOUND, "no model '%s' in %s, and no such file", name,
                c->options.models_dir);
}

int service_add(struct cluster *c, const char *name, struct error *e)
{
    if (c->n_services == CLUSTER_MAX_SERVICES) {
        return fail(e, FAIL_LIMIT, "more than %d models", CLUSTER_MAX_SERVICES);
    }
    struct service *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a service");
    }
    s->owner = c;
    s->id = ++c->next_placement;
    s->created_s = clock_wall_s();
    s->last_event = &s->first;
    int code = find_model(c, name, &s->file, e);
    code = code ? code : source_open(&s->source, s->file.path, e);
    if (code == 0) {
        int native = service_program(s)->context, asked = c->options.context;
        int most = asked > 0 ? asked : CONTEXT_MOST;
        s->context = most < native ? most : native;
        if (asked > native) {
            log_warn("cluster",
                     "%s: a context of %d tokens was asked for, the model's own %d is given",
                     s->file.id, asked, native);
        }
        code = chat_model_open(&s->text, source_gguf(s->source), service_program(s)->vocab, e);
    }
    if (code == 0 && *source_notes(s->source)) {
        log_warn("cluster", "%s: %s", s->file.id, source_notes(s->source));
    }
    if (code == 0 && chat_model_extra(s->text) > 0) {
        log_warn("cluster",
                 "%s: its vocabulary has %d tokens more than the model has weights for: they are "
                 "never answered, and prompts with them are refused",
                 s->file.id, chat_model_extra(s->text));
    }
    code = code ? code : measure(s, e);
    if (code == 0 && c->options.split != NULL) {
        struct placement_plan plan;
        code = split_parse(c->options.split, service_program(s)->n_layers, &plan, e);
    }
    if (code != 0) {
        if (s->file.path[0] != '\0' && e != NULL && strstr(e->text, s->file.path) == NULL) {
            wrap(e, "%s", s->file.path);
        }
        service_free(s);
        return code;
    }
    service_start(&s->core, &limits, c->time.now_ns);
    c->services[c->n_services++] = s;
    return 0;
}

void services_close(struct cluster *c)
{
    for (int i = 0; i < c->n_services; i++) {
        feed(c->services[i],
             &(struct service_event){ .kind = SERVICE_STOP, .text = "shutting down" });
    }
    retired_close(c, true);
    for (int i = 0; i < c->n_services; i++) {
        service_free(c->services[i]);
    }
    c->n_services = 0;
}

/* --- views --- */

int service_count(const struct cluster *c)
{
    return c->n_services;
}

void service_view(const struct cluster *c, int index, struct service_view *ret)
{
    struct service *s = c->services[index];
    const struct placement *serving = service_serving(&s->core);
    const struct placement *building = service_building(&s->core);
    const struct attempt *a = serving != NULL ? service_attempt(s, serving->epoch) : NULL;
    bool loading = building != NULL && building->state == PLACEMENT_LOADING;
    *ret = (struct service_view){ .id = s->file.id,
                                  .state = serving    ? MODEL_READY
                                           : building ? MODEL_LOADING
                                                      : MODEL_WAITING,
                                  .phase = serving    ? "serving"
                                           : loading  ? "loading"
                                           : building ? "connecting"
                                                      : "waiting",
                                  .why = serving ? "" : s->core.why,
                                  .engine = a ? a->engine : NULL,
                                  .text = s->text,
                                  .file = &s->file,
                                  .order = a ? &a->order : &s->last,
                                  .context = s->context,
                                  .created_s = s->created_s };
}

/* Placing models: the head's state machine. One place for each model asked for. */
#include "cluster/place.h"

#include <stdlib.h>

#include "cluster/data.h"
#include "stage/distributed.h"
#include "cluster/link.h"
#include "cluster/part.h"
#include "stage/source.h"
#include "engine/engine.h"
#include "engine/served_text.h"
#include "os/clock.h"
#include "os/log.h"
#include "os/memory.h"
#include "transport/transport.h"

#include <stdio.h>
#include <string.h>

/* Kept back for the system and for buffers when a model is placed by memory. */
#define MEMORY_RESERVE (UINT64_C(256) << 20)
/* Rows of one step: large enough for prefill to be efficient. */
#define PLACE_MAX_ROWS 512
/* Requests at once; more wait. */
#define PLACE_MAX_REQUESTS 16
#define PLACE_MAX_QUEUE 256
/* Sessions: requests and remembered prefixes. */
#define PLACE_MAX_SESSIONS (2 * PLACE_MAX_REQUESTS)
_Static_assert(PLACE_MAX_SESSIONS <= PART_MAX_SESSIONS, "or devices refuse the order");
/* Streams at full context that the rule by memory counts; memory of state is only touched as it is
 * used. */
#define PLACE_COUNTED_STREAMS 2
/* Longest pause between attempts to place. */
#define RETRY_MAX_NS (30 * SECOND_NS)
/* Requests of a broken engine are told at once; its struct stays this long for late callers. */
#define RETIRE_NS (2 * SECOND_NS)
/* A rank that lost its neighbour tells of it before the neighbour's own end is seen here: that is
 * given this long to be named instead. */
#define BLAME_NS (SECOND_NS / 2)

struct place {
    struct cluster *owner;
    int64_t id;
    uint32_t epoch;
    struct model_file file;
    struct source *source;
    struct served_text *text;
    uint64_t *layer_bytes; /* (n_layers) */
    struct split_need need;
    int context;
    int64_t created_s;

    enum place_state state;
    char why[ERROR_TEXT];
    uint64_t retry_at, retry_ns, connect_until;
    uint64_t blame_at; /* break then, for `blamed`; 0: nothing is wrong */
    char blamed[ERROR_TEXT];

    /* Of the present attempt. */
    struct part_order order;
    struct wire_link links[WIRE_MAX_LINKS];
    int n_links;
    struct {
        bool loaded, serving;
        int vocab_first, vocab_count;
        int64_t weight_bytes;
        struct channel *steps;
        uint64_t progress, moved_ns; /* last seen heartbeat's progress, and when it changed */
    } ranks[PLAN_MAX_RANKS];
    struct executor *executor; /* owned by the engine */
    struct engine *engine;
};

struct retired {
    struct engine *engine;
    uint64_t close_at;
    struct retired *next;
};

static const struct program *whole(const struct place *p)
{
    return source_program(p->source);
}

static void set_why(struct place *p, const char *why)
{
    if (strcmp(p->why, why) != 0) {
        snprintf(p->why, sizeof p->why, "%s", why);
        if (why[0] != '\0') {
            log_info("cluster", "%s: %s", p->file.id, why);
        }
    }
}

/* --- planning --- */

static bool has_model(const struct cluster *c, const struct place *p, const struct device *d)
{
    bool found = d->self;
    for (int i = 0; i < d->n_models && !found; i++) {
        found =
            d->models[i].size == p->file.size && strcmp(d->models[i].sha256, p->file.sha256) == 0;
    }
    (void)c;
    return found;
}

/* Devices in the order in which they get ranks: the head, those that have the model in the order
 * they came, then the others (which will say that they lack it). *n_with counts the former. */
static int list_devices(struct cluster *c, const struct place *p,
                        struct device *ret[static CLUSTER_MAX_DEVICES], int *n_with)
{
    int n = 0;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < c->n_devices; i++) {
            struct device *d = c->devices[i];
            if (device_alive(d) && has_model(c, p, d) == (round == 0)) {
                ret[n++] = d;
            }
        }
        *n_with = round == 0 ? n : *n_with;
    }
    return n;
}

static int plan_place(struct cluster *c, struct place *p, struct device **devices, int n,
                      int n_with, struct placement_plan *plan)
{
    struct error e = { 0 };
    if (c->options.split != NULL) {
        if (split_parse(c->options.split, whole(p)->n_layers, plan, &e) != 0) {
            set_why(p, e.text);
            return e.code;
        }
        if (plan->n_ranks > n) {
            snprintf(e.text, sizeof e.text, "waits for %d more device%s (split %s)",
                     plan->n_ranks - n, plan->n_ranks - n == 1 ? "" : "s", c->options.split);
            set_why(p, e.text);
            return FAIL_NOT_FOUND;
        }
        return 0;
    }
    uint64_t memory[CLUSTER_MAX_DEVICES];
    for (int i = 0; i < n_with; i++) {
        uint64_t usable = devices[i]->self ? memory_usable() : devices[i]->memory_usable;
        memory[i] = usable > MEMORY_RESERVE ? usable - MEMORY_RESERVE : 0;
    }
    int code = split_by_memory(&p->need, memory, n_with, plan, &e);
    if (code != 0) {
        set_why(p, e.text);
    }
    return code;
}

static void show_plan(struct place *p, struct device **devices)
{
    const struct placement_plan *plan = &p->order.plan;
    struct buffer text;
    buffer_init(&text, 4096);
    for (int r = 0; r < plan->n_ranks; r++) {
        const struct plan_stage *s = &plan->stages[plan_stage_of(plan, r)];
        buffer_printf(&text, "%s%s layers %d-%d", r ? ", " : "", devices[plan->device[r]]->name,
                      s->first, s->end - 1);
        if (s->n_ranks > 1) {
            buffer_printf(&text, " share %d", plan->shares[r]);
        }
    }
    log_info("cluster", "%s: placing on %s", p->file.id, buffer_cstr(&text));
    buffer_done(&text);
}

/* --- breaking --- */

static void release_attempt(struct place *p)
{
    struct cluster *c = p->owner;
    data_forget(c, p->id);
    for (int r = 0; r < p->order.plan.n_ranks; r++) {
        channel_close(p->ranks[r].steps);
        struct device *d = device_find(c, p->order.devices[r]);
        if (d != NULL && device_alive(d)) {
            device_send(c, d,
                        json_pack("{s:s, s:I, s:I}", "type", "unload", "placement",
                                  (json_int_t)p->id, "epoch", (json_int_t)p->epoch));
        }
    }
    memset(p->ranks, 0, sizeof p->ranks);
}

static void retire(struct place *p, const char *why)
{
    struct cluster *c = p->owner;
    if (p->engine == NULL) {
        return;
    }
    distributed_break(p->executor, why);
    struct retired *r = calloc(1, sizeof *r);
    if (r == NULL) {
        engine_close(p->engine);
    } else {
        r->engine = p->engine;
        r->close_at = clock_now_ns() + RETIRE_NS;
        r->next = c->retired;
        c->retired = r;
    }
    p->engine = NULL;
    p->executor = NULL;
}

static void place_break(struct place *p, const char *why)
{
    if (p->state == PLACE_WAITING) {
        return;
    }
    bool served = p->state == PLACE_SERVING;
    log_error("cluster", "%s: placement ended: %s", p->file.id, why);
    retire(p, why);
    release_attempt(p);
    p->state = PLACE_WAITING;
    p->blame_at = 0;
    p->retry_ns = served || p->retry_ns == 0 ? RETRY_NS : p->retry_ns * 2;
    p->retry_ns = p->retry_ns < RETRY_MAX_NS ? p->retry_ns : RETRY_MAX_NS;
    p->retry_at = clock_now_ns() + p->retry_ns;
    snprintf(p->why, sizeof p->why, "%s", why);
    places_announce(p->owner, NULL);
}

/* --- an attempt --- */

static void order_addresses(struct cluster *c, struct place *p, const struct device *to)
{
    for (int r = 0; r < p->order.plan.n_ranks; r++) {
        const struct device *d = device_find(c, p->order.devices[r]);
        p->order.addresses[r][0] = '\0';
        if (d != NULL && d != to) {
            device_address_for(c, d, to, p->order.addresses[r]);
        }
    }
}

static void place_try(struct cluster *c, struct place *p)
{
    struct device *devices[CLUSTER_MAX_DEVICES];
    struct placement_plan plan;
    int n_with = 0;
    int n = list_devices(c, p, devices, &n_with);
    if (plan_place(c, p, devices, n, n_with, &plan) != 0) {
        p->retry_at = clock_now_ns() + RETRY_NS;
        return;
    }
    p->epoch++;
    p->order =
        (struct part_order){ .placement = p->id,
                             .epoch = p->epoch,
                             .model_size = p->file.size,
                             .plan = plan,
                             .max_rows = PLACE_MAX_ROWS,
                             .max_sessions = PLACE_MAX_SESSIONS,
                             .state_tokens = (uint64_t)PLACE_MAX_SESSIONS * (uint64_t)p->context,
                             .exact = c->options.exact };
    snprintf(p->order.model_id, sizeof p->order.model_id, "%s", p->file.id);
    snprintf(p->order.model_sha256, sizeof p->order.model_sha256, "%s", p->file.sha256);
    snprintf(p->order.head, sizeof p->order.head, "%s", c->self->id);
    for (int r = 0; r < plan.n_ranks; r++) {
        snprintf(p->order.devices[r], DEVICE_ID_TEXT, "%s", devices[plan.device[r]]->id);
    }
    p->n_links = wire_links(&plan, p->links);
    p->state = PLACE_LOADING;
    snprintf(p->why, sizeof p->why, "it is being loaded");
    show_plan(p, devices);
    for (int r = 0; r < plan.n_ranks; r++) {
        struct device *d = devices[plan.device[r]];
        p->order.rank = r;
        p->ranks[r].moved_ns = clock_now_ns();
        order_addresses(c, p, d);
        device_send(c, d, part_order_json(&p->order));
    }
}

/* Each device's layers and memory, for the person who started this. */
static void show_devices(struct cluster *c, const struct place *p)
{
    const struct placement_plan *plan = &p->order.plan;
    for (int r = 0; r < plan->n_ranks; r++) {
        const struct plan_stage *s = &plan->stages[plan_stage_of(plan, r)];
        const struct device *d = device_find(c, p->order.devices[r]);
        char label[DEVICE_LABEL] = "device", share[48] = "";
        if (d != NULL) {
            device_label(d, label);
        }
        if (s->n_ranks > 1) {
            snprintf(share, sizeof share, ", rank %d of %d, share %d", r - s->rank + 1, s->n_ranks,
                     plan->shares[r]);
        }
        log_info("cluster", "%s: %s holds layers %d-%d%s: %.1f MB of weights", p->file.id, label,
                 s->first, s->end - 1, share, (double)p->ranks[r].weight_bytes / 1e6);
    }
}

static void place_serve(struct cluster *c, struct place *p)
{
    struct distributed_rank ranks[PLAN_MAX_RANKS];
    int n = p->order.plan.n_ranks;
    for (int r = 0; r < n; r++) {
        const struct device *d = device_find(c, p->order.devices[r]);
        ranks[r] = (struct distributed_rank){ .channel = p->ranks[r].steps,
                                              .name = d ? d->name : "device",
                                              .vocab_first = p->ranks[r].vocab_first,
                                              .vocab_count = p->ranks[r].vocab_count };
        p->ranks[r].steps = NULL;
    }
    struct error e = { 0 };
    int code = distributed_open(
        &p->executor,
        &(struct distributed_options){ .plan = &p->order.plan,
                                       .ranks = ranks,
                                       .epoch = p->epoch,
                                       .vocab = whole(p)->vocab,
                                       .max_rows = PLACE_MAX_ROWS,
                                       .max_context = p->context,
                                       .max_sessions = PLACE_MAX_SESSIONS,
                                       .state_tokens = p->order.state_tokens,
                                       .can_truncate = rank_can_truncate(whole(p)) },
        &e);
    if (code == 0) {
        code = engine_open(&p->engine,
                           &(struct engine_options){ .executor = p->executor,
                                                     .vocab = whole(p)->vocab,
                                                     .is_eog = served_text_eog(p->text),
                                                     .max_requests = PLACE_MAX_REQUESTS,
                                                     .max_queue = PLACE_MAX_QUEUE,
                                                     .step_timeout_ns = STEP_TIMEOUT_NS },
                           &e);
    }
    if (code != 0) {
        p->engine = NULL;
        p->executor = NULL;
        place_break(p, e.text);
        return;
    }
    p->state = PLACE_SERVING;
    source_loaded(p->source, NULL); /* only its program and text are used here */
    p->retry_ns = 0;
    set_why(p, "");
    show_devices(c, p);
    log_info("cluster", "%s: serving on %d device%s, context %d", p->file.id, n, n == 1 ? "" : "s",
             p->context);
    places_announce(c, NULL);
}

static void maybe_serve(struct cluster *c, struct place *p)
{
    bool ready = p->state == PLACE_CONNECTING;
    for (int r = 0; r < p->order.plan.n_ranks && ready; r++) {
        ready = p->ranks[r].serving && p->ranks[r].steps != NULL;
    }
    if (ready) {
        place_serve(c, p);
    }
}

/* --- connecting --- */

static struct place *place_find(struct cluster *c, int64_t id, uint32_t epoch)
{
    for (int i = 0; i < c->n_places; i++) {
        if (c->places[i]->id == id && c->places[i]->epoch == epoch) {
            return c->places[i];
        }
    }
    return NULL;
}

static void on_steps_channel(struct cluster *c, const struct data_purpose *purpose,
                             struct channel *channel, const struct error *error)
{
    struct place *p = place_find(c, purpose->placement, purpose->epoch);
    if (p == NULL || p->state != PLACE_CONNECTING) {
        channel_close(channel);
    } else if (channel == NULL) {
        place_break(p, error->text);
    } else {
        int rank = p->links[purpose->link].to;
        channel_close(p->ranks[rank].steps);
        p->ranks[rank].steps = channel;
        maybe_serve(c, p);
    }
}

static void connect_own_rank(struct cluster *c, struct place *p, int link)
{
    struct channel *mine = NULL, *theirs = NULL;
    struct error e = { 0 };
    if (memory_pair(&mine, &theirs, NULL, &e) != 0) {
        place_break(p, e.text);
        return;
    }
    p->ranks[p->links[link].to].steps = mine;
    part_channel(c, p->id, p->epoch, link, theirs);
}

static void place_connect(struct cluster *c, struct place *p)
{
    p->state = PLACE_CONNECTING;
    p->connect_until = clock_now_ns() + CONNECT_NS;
    for (int r = 0; r < p->order.plan.n_ranks; r++) {
        struct device *d = device_find(c, p->order.devices[r]);
        if (d != NULL) {
            device_send(c, d,
                        json_pack("{s:s, s:I, s:I}", "type", "connect", "placement",
                                  (json_int_t)p->id, "epoch", (json_int_t)p->epoch));
        }
    }
    for (int i = 0; i < p->n_links && p->state == PLACE_CONNECTING; i++) {
        if (p->links[i].from != WIRE_HEAD) {
            continue;
        }
        struct device *d = device_find(c, p->order.devices[p->links[i].to]);
        if (d != NULL && d->self) {
            connect_own_rank(c, p, i);
        } else if (d != NULL) {
            data_open(c, d, &(struct data_purpose){ p->id, p->epoch, i }, on_steps_channel);
        }
    }
}

static void rank_failed(struct cluster *c, struct place *p, struct device *from, const json_t *m)
{
    char label[DEVICE_LABEL], why[ERROR_TEXT];
    const char *text = "no reason given";
    message_text(m, "text", ERROR_TEXT - 1, &text, NULL);
    snprintf(why, sizeof why, "%s: %.400s", device_label(from, label), text);
    int failure = 0;
    message_int(m, "code", INT32_MIN, 0, &failure, NULL);
    if (p->state == PLACE_SERVING && failure == FAIL_CLOSED) {
        if (p->blame_at == 0) {
            p->blame_at = clock_now_ns() + BLAME_NS;
            snprintf(p->blamed, sizeof p->blamed, "%s", why);
        }
    } else {
        place_break(p, why);
    }
    (void)c;
}

static void rank_loaded(struct cluster *c, struct place *p, int rank)
{
    p->ranks[rank].loaded = true;
    for (int r = 0; r < p->order.plan.n_ranks; r++) {
        if (!p->ranks[r].loaded) {
            return;
        }
    }
    if (p->state == PLACE_LOADING) {
        place_connect(c, p);
    }
}

int on_part_state(struct cluster *c, struct device *from, const json_t *m, struct error *e)
{
    int64_t placement = 0, epoch = 0;
    int rank = 0;
    const char *state = "";
    int code = message_integer(m, "placement", 1, INT64_MAX, &placement, e);
    code = code ? code : message_integer(m, "epoch", 1, UINT32_MAX, &epoch, e);
    code = code ? code : message_int(m, "rank", 0, PLAN_MAX_RANKS - 1, &rank, e);
    code = code ? code : message_text(m, "state", 16, &state, e);
    struct place *p = code == 0 ? place_find(c, placement, (uint32_t)epoch) : NULL;
    if (p == NULL || p->state == PLACE_WAITING || rank >= p->order.plan.n_ranks ||
        strcmp(p->order.devices[rank], from->id) != 0) {
        return code;
    }
    if (strcmp(state, "failed") == 0) {
        rank_failed(c, p, from, m);
        return 0;
    }
    int vocab = whole(p)->vocab;
    code = message_int(m, "vocab_first", 0, vocab, &p->ranks[rank].vocab_first, e);
    code = code ? code : message_int(m, "vocab_count", 0, vocab, &p->ranks[rank].vocab_count, e);
    code =
        code ? code : message_integer(m, "weights", 0, INT64_MAX, &p->ranks[rank].weight_bytes, e);
    if (code != 0) {
        return code;
    }
    if (strcmp(state, "serving") == 0) {
        p->ranks[rank].serving = true;
        maybe_serve(c, p);
    }
    if (!p->ranks[rank].loaded) {
        rank_loaded(c, p, rank);
    }
    return 0;
}

/* --- events --- */

void places_device_joined(struct cluster *c, struct device *d)
{
    places_announce(c, d);
    for (int i = 0; i < c->n_places; i++) {
        c->places[i]->retry_ns = 0;
        c->places[i]->retry_at = clock_now_ns();
    }
}

void places_device_lost(struct cluster *c, struct device *d, const char *why)
{
    char label[DEVICE_LABEL], text[ERROR_TEXT];
    snprintf(text, sizeof text, "device %s was lost: %.300s", device_label(d, label), why);
    for (int i = 0; i < c->n_places; i++) {
        struct place *p = c->places[i];
        for (int r = 0; r < p->order.plan.n_ranks && p->state != PLACE_WAITING; r++) {
            if (strcmp(p->order.devices[r], d->id) == 0) {
                place_break(p, text);
            }
        }
    }
}

/* A rank whose backend computes one segment for too long hangs, though its device's control thread
 * still beats. */
static void watch_progress(struct cluster *c, struct place *p)
{
    uint64_t now = clock_now_ns();
    for (int r = 0; r < p->order.plan.n_ranks && p->state == PLACE_SERVING; r++) {
        const struct device *d = device_find(c, p->order.devices[r]);
        for (int i = 0; d != NULL && i < d->n_parts; i++) {
            const struct part_report *report = &d->parts[i];
            if (report->placement != p->id || report->epoch != p->epoch) {
                continue;
            }
            if (!report->facts.busy || report->facts.progress != p->ranks[r].progress) {
                p->ranks[r].progress = report->facts.progress;
                p->ranks[r].moved_ns = now;
            }
            if (now - p->ranks[r].moved_ns > HANG_NS) {
                char label[DEVICE_LABEL], why[ERROR_TEXT];
                snprintf(why, sizeof why, "device %s hangs: no progress for %d s",
                         device_label(d, label), (int)(HANG_NS / SECOND_NS));
                place_break(p, why);
                break;
            }
        }
    }
}

static void close_retired(struct cluster *c, bool all)
{
    struct retired **at = &c->retired;
    while (*at != NULL) {
        struct retired *r = *at;
        if (!all && clock_now_ns() < r->close_at) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        engine_close(r->engine);
        free(r);
        memory_trim();
    }
}

void places_tick(struct cluster *c)
{
    uint64_t now = clock_now_ns();
    close_retired(c, false);
    for (int i = 0; i < c->n_places; i++) {
        struct place *p = c->places[i];
        if (p->state == PLACE_WAITING && now >= p->retry_at) {
            place_try(c, p);
        } else if (p->state == PLACE_CONNECTING && now > p->connect_until) {
            place_break(p, "the devices did not connect to each other in time");
        } else if (p->state == PLACE_SERVING) {
            struct engine_stats stats;
            engine_stats(p->engine, &stats);
            if (stats.broken) {
                place_break(p, stats.broken_text);
            } else if (p->blame_at != 0 && now >= p->blame_at) {
                place_break(p, p->blamed);
            } else {
                watch_progress(c, p);
            }
        }
    }
}

/* --- life --- */

static int measure(struct place *p, struct error *e)
{
    const struct program *program = whole(p);
    p->layer_bytes = calloc((size_t)program->n_layers, sizeof *p->layer_bytes);
    if (p->layer_bytes == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a plan");
    }
    p->need = (struct split_need){ .n_layers = program->n_layers, .layer_bytes = p->layer_bytes };
    return source_need(p->source, (uint64_t)PLACE_COUNTED_STREAMS * (uint64_t)p->context,
                       p->owner->options.exact ? 4 : 2, p->layer_bytes, &p->need, e);
}

static void place_free(struct place *p)
{
    if (p != NULL) {
        served_text_close(p->text);
        source_close(p->source);
        free(p->layer_bytes);
        free(p);
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
    return fail(e, FAIL_NOT_FOUND, "no model '%s' in %s, and no such file", name,
                c->options.models_dir);
}

int place_add(struct cluster *c, const char *name, struct error *e)
{
    if (c->n_places == CLUSTER_MAX_PLACES) {
        return fail(e, FAIL_LIMIT, "more than %d models", CLUSTER_MAX_PLACES);
    }
    struct place *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a placement");
    }
    p->owner = c;
    p->id = ++c->next_placement;
    p->created_s = clock_wall_s();
    int code = find_model(c, name, &p->file, e);
    code = code ? code : source_open(&p->source, p->file.path, e);
    if (code == 0) {
        int native = whole(p)->context;
        p->context = c->options.context < native ? c->options.context : native;
        code = served_text_open(&p->text, source_gguf(p->source), whole(p)->vocab, e);
    }
    code = code ? code : measure(p, e);
    if (code == 0 && c->options.split != NULL) {
        struct placement_plan plan;
        code = split_parse(c->options.split, whole(p)->n_layers, &plan, e);
    }
    if (code != 0) {
        place_free(p);
        return code;
    }
    c->places[c->n_places++] = p;
    return 0;
}

void places_close(struct cluster *c)
{
    for (int i = 0; i < c->n_places; i++) {
        retire(c->places[i], "shutting down");
        release_attempt(c->places[i]);
    }
    close_retired(c, true);
    for (int i = 0; i < c->n_places; i++) {
        place_free(c->places[i]);
    }
    c->n_places = 0;
}

int place_count(const struct cluster *c)
{
    return c->n_places;
}

void place_view(const struct cluster *c, int index, struct place_view *ret)
{
    const struct place *p = c->places[index];
    *ret = (struct place_view){ .id = p->file.id,
                                .state = p->state,
                                .why = p->why,
                                .engine = p->engine,
                                .text = p->text,
                                .file = &p->file,
                                .order = &p->order,
                                .context = p->context,
                                .created_s = p->created_s };
}

/* Loading a part of a model, connecting its rank, telling the head. */
#include "cluster/part.h"

#include <stdlib.h>

#include "backend/backend.h"
#include "cluster/check.h"
#include "cluster/statement.h"
#include "stage/source.h"
#include "os/clock.h"
#include "os/log.h"
#include "os/memory.h"
#include "transport/transport.h"

#include <event2/event.h>
#include <stdio.h>
#include <string.h>

/* Bits of part_report.transports; a later version may know more. */
static const char *const transport_names[] = { "memory", "shm", "tcp", "sealed tcp" };

struct part {
    struct part_order order;
    struct check *check;   /* finds the file and says whether it is the model */
    struct source *source; /* this and the rank are NULL until the file is open */
    struct rank *rank;
    struct wire_link links[WIRE_MAX_LINKS];
    int n_links;
    unsigned transports;  /* of the channels that were attached */
    enum rank_state told; /* last state the head knows */
    bool ending;          /* freed as soon as its thread has ended */
    uint64_t opened_ns, shown_ns;
    struct cluster *owner;
};

/* --- finding and freeing --- */

static struct part *part_find(struct cluster *c, int64_t placement, uint32_t epoch)
{
    int slot = part_table_find(&c->part_table, placement, epoch);
    struct part *p = slot >= 0 ? c->parts[slot] : NULL;
    return p != NULL && !p->ending ? p : NULL;
}

static void part_free(struct part *p)
{
    if (p != NULL) {
        check_close(p->check);
        rank_close(p->rank);
        source_close(p->source);
        free(p);
    }
}

/* Its threads are told to end; parts_poll frees it then, so that the loop never waits for them. */
static void part_end(struct part *p)
{
    p->ending = true;
    check_stop(p->check);
    if (p->rank != NULL) {
        rank_stop(p->rank);
    }
}

void parts_close(struct cluster *c)
{
    for (int i = 0; i < CLUSTER_MAX_PARTS; i++) {
        if (c->parts[i] != NULL) {
            part_end(c->parts[i]);
        }
    }
    for (int i = 0; i < CLUSTER_MAX_PARTS; i++) {
        part_free(c->parts[i]);
        c->parts[i] = NULL;
        part_table_free(&c->part_table, i);
    }
}

void parts_drop_all(struct cluster *c, const char *why)
{
    for (int i = 0; i < CLUSTER_MAX_PARTS; i++) {
        struct part *p = c->parts[i];
        if (p == NULL || p->ending) {
            continue;
        }
        if (!c->closing) {
            log_info("cluster", "%s: freed, the head is gone (%s)", p->order.model_id, why);
        }
        part_end(p);
        peers_channels_forget(c->peers, p->order.placement, p->order.epoch);
    }
    /* Another head, or this one started anew, counts its placements from the beginning. */
    memset(c->part_table.ends, 0, sizeof c->part_table.ends);
}

/* Of the rank, and of the file before there is one: what has to be hashed before the part may serve
 * is part of loading it. */
static void part_facts(const struct part *p, struct rank_facts *ret)
{
    struct error why;
    *ret = (struct rank_facts){ .state = RANK_LOADING };
    if (p->rank != NULL) {
        rank_facts(p->rank, ret);
    }
    if (check_state(p->check, &why) < CHECK_VERIFIED) {
        uint64_t done = 0, all = 0;
        check_progress(p->check, &done, &all);
        ret->load_done += done;
        ret->load_total += all;
    }
}

/* --- telling the head --- */

static void tell_failed(struct cluster *c, const struct part_order *o, const struct error *e)
{
    struct device *head = device_find(c, o->head);
    log_error("cluster", "%s, layers %d-%d: %s", o->model_id,
              o->plan.stages[plan_stage_of(&o->plan, o->rank)].first,
              o->plan.stages[plan_stage_of(&o->plan, o->rank)].end - 1, e->text);
    if (head != NULL) {
        device_send(c, head,
                    json_pack("{s:s, s:I, s:I, s:i, s:s, s:i, s:s}", "type", "part", "placement",
                              (json_int_t)o->placement, "epoch", (json_int_t)o->epoch, "rank",
                              o->rank, "state", "failed", "code", e->code, "text", e->text));
    }
}

static void tell_state(struct cluster *c, struct part *p, const struct rank_facts *f)
{
    struct device *head = device_find(c, p->order.head);
    if (head != NULL) {
        device_send(c, head,
                    json_pack("{s:s, s:I, s:I, s:i, s:s, s:I, s:i, s:i}", "type", "part",
                              "placement", (json_int_t)p->order.placement, "epoch",
                              (json_int_t)p->order.epoch, "rank", p->order.rank, "state",
                              f->state == RANK_SERVING ? "serving" : "loaded", "weights",
                              (json_int_t)f->weight_bytes, "vocab_first", f->vocab_first,
                              "vocab_count", f->vocab_count));
    }
}

static void show_loaded(const struct part *p, const struct rank_facts *f)
{
    const struct part_order *o = &p->order;
    const struct plan_stage *stage = &o->plan.stages[plan_stage_of(&o->plan, o->rank)];
    char share[48] = "";
    if (stage->n_ranks > 1) {
        snprintf(share, sizeof share, ", rank %d of %d", o->rank - stage->rank + 1, stage->n_ranks);
    }
    log_info("cluster", "%s: loaded layers %d-%d of %d%s: %.1f MB in %.2f s", o->model_id,
             stage->first, stage->end - 1, o->plan.n_layers, share, (double)f->weight_bytes / 1e6,
             (double)(clock_now_ns() - p->opened_ns) / 1e9);
}

static void part_fail(struct cluster *c, struct part *p, const struct error *e)
{
    tell_failed(c, &p->order, e);
    part_end(p);
    peers_channels_forget(c->peers, p->order.placement, p->order.epoch);
}

static int part_start(struct cluster *c, struct part *p, struct error *e);

/* What the file's check found: the rank starts as soon as the file is open. False when the part has
 * no rank (yet, or any more). */
static bool part_check(struct cluster *c, struct part *p, enum check_state *ret)
{
    struct error e = { 0 };
    *ret = check_state(p->check, &e);
    if (*ret >= CHECK_OPENED && *ret != CHECK_FAILED && p->rank == NULL) {
        p->source = check_take_source(p->check);
        *ret = part_start(c, p, &e) == 0 ? *ret : CHECK_FAILED;
    }
    if (*ret == CHECK_FAILED) {
        part_fail(c, p, &e);
    }
    return p->rank != NULL && *ret != CHECK_FAILED;
}

static void show_loading(struct part *p)
{
    struct rank_facts f;
    part_facts(p, &f);
    if (f.load_total > 0 && clock_now_ns() - p->shown_ns > 2 * SECOND_NS) {
        p->shown_ns = clock_now_ns();
        log_info("cluster", "%s: loading, %.0f of %.0f MB", p->order.model_id,
                 (double)f.load_done / 1e6, (double)f.load_total / 1e6);
    }
}

static void part_poll(struct cluster *c, struct part *p)
{
    struct rank_facts f;
    enum check_state check;
    if (!part_check(c, p, &check)) {
        return;
    }
    rank_facts(p->rank, &f);
    bool loaded = f.state == RANK_LOADED || f.state == RANK_SERVING;
    if (f.state == RANK_LOADING || (loaded && check < CHECK_VERIFIED)) {
        show_loading(p);
        return;
    }
    if (f.state == p->told) {
        return;
    }
    if (p->told == RANK_LOADING && loaded) {
        struct error e = { 0 };
        check_loaded(p->check);
        if (source_loaded(p->source, &e) != 0) {
            part_fail(c, p, &e);
            return;
        }
        show_loaded(p, &f);
    }
    p->told = f.state;
    if (f.state == RANK_ENDED) {
        struct error failure = { 0 };
        if (rank_failure(p->rank, &failure)) {
            tell_failed(c, &p->order, &failure);
        }
        peers_channels_forget(c->peers, p->order.placement, p->order.epoch);
        part_end(p);
    } else {
        tell_state(c, p, &f);
    }
}

void parts_poll(struct cluster *c)
{
    for (int i = 0; i < CLUSTER_MAX_PARTS; i++) {
        struct part *p = c->parts[i];
        if (p != NULL && !p->ending) {
            part_poll(c, p);
        }
        if (p != NULL && p->ending) {
            struct rank_facts f = { .state = RANK_ENDED };
            if (p->rank != NULL) {
                rank_facts(p->rank, &f);
            }
            if (f.state == RANK_ENDED && check_ended(p->check)) {
                c->parts[i] = NULL;
                part_table_free(&c->part_table, i);
                part_free(p);
                memory_trim();
            }
        }
    }
}

/* In the rank's thread. */
static void on_rank_state(void *arg, enum rank_state state, const struct error *error)
{
    struct part *p = arg;
    (void)state;
    (void)error;
    event_active(p->owner->wake, 0, 0);
}

/* --- load, unload, connect --- */

static int part_start(struct cluster *c, struct part *p, struct error *e)
{
    const struct part_order *o = &p->order;
    return rank_open(&p->rank,
                     &(struct rank_options){ .backend = c->options.backend,
                                             .program = source_program(p->source),
                                             .source = source_weights(p->source),
                                             .plan = &p->order.plan,
                                             .rank = o->rank,
                                             .epoch = o->epoch,
                                             .threads = c->self->threads,
                                             .kernels = c->options.kernels,
                                             .exact = o->exact,
                                             .max_rows = o->max_rows,
                                             .max_sessions = o->max_sessions,
                                             .state_tokens = o->state_tokens,
                                             .session_tokens = (uint64_t)o->context,
                                             .step_timeout_ns = STEP_TIMEOUT_NS,
                                             .on_state = on_rank_state,
                                             .arg = p },
                     e);
}

/* In the check's thread. */
static void on_check_state(void *arg)
{
    struct part *p = arg;
    event_active(p->owner->wake, 0, 0);
}

static int part_open(struct cluster *c, struct part *p, const struct device *head, struct error *e)
{
    const struct model_file *own =
        head->self ? statement_own(c, p->order.placement, p->order.epoch) : NULL;
    return check_open(&p->check,
                      &(struct check_options){ .hasher = c->hasher,
                                               .order = &p->order,
                                               .models = &c->models,
                                               .folder = c->options.models_dir,
                                               .own = own,
                                               .threads = statement_threads(c),
                                               .on_state = on_check_state,
                                               .arg = p },
                      e);
}

enum peer_verdict on_load(void *arg, struct peer *from, const void *fields, struct error *e)
{
    struct cluster *c = arg;
    struct part *p = calloc(1, sizeof *p);
    if (p == NULL) {
        fail(e, FAIL_NOMEM, "memory for a part");
        return PEER_REFUSED;
    }
    p->owner = c;
    int code = part_order_parse(((const struct whole_message *)fields)->body, &p->order, e);
    if (code == 0 && (strcmp(p->order.head, peer_id(from)) != 0 ||
                      strcmp(p->order.devices[p->order.rank], c->self->id) != 0)) {
        code = fail(e, FAIL_AUTH, "order for another device or from another head");
    }
    if (code != 0) {
        free(p);
        return PEER_VIOLATION;
    }
    parts_poll(c);
    p->n_links = wire_links(&p->order.plan, p->links);
    p->opened_ns = p->shown_ns = clock_now_ns();
    int slot = -1;
    enum part_verdict verdict =
        part_table_order(&c->part_table, p->order.placement, p->order.epoch, &slot);
    if (verdict == PART_KNOWN || verdict == PART_STALE) {
        log_debug("cluster", "%s: an order that was %s is passed over", p->order.model_id,
                  verdict == PART_KNOWN ? "obeyed already" : "overtaken by its end");
        free(p);
        return PEER_DONE;
    }
    struct error why = { 0 };
    code = verdict == PART_TAKE
               ? part_open(c, p, peer_user(from), &why)
               : fail(&why, FAIL_LIMIT, "already holds parts of %d models", CLUSTER_MAX_PARTS);
    if (code != 0) {
        tell_failed(c, &p->order, &why);
        if (verdict == PART_TAKE) {
            part_table_free(&c->part_table, slot);
        }
        part_free(p);
        return PEER_DONE;
    }
    c->parts[slot] = p;
    return PEER_DONE;
}

enum peer_verdict on_claim(void *arg, struct peer *from, const void *fields, struct error *e)
{
    const json_t *m = ((const struct whole_message *)fields)->body;
    int64_t placement = 0, epoch = 0;
    int code = message_integer(m, "placement", 1, INT64_MAX, &placement, e);
    code = code ? code : message_integer(m, "epoch", 1, UINT32_MAX, &epoch, e);
    struct part *p = code == 0 ? part_find(arg, placement, (uint32_t)epoch) : NULL;
    if (p != NULL && strcmp(p->order.head, peer_id(from)) == 0) {
        code = check_take(p->check, m, e);
    }
    return code == 0 ? PEER_DONE : PEER_VIOLATION;
}

enum peer_verdict on_unload(void *arg, struct peer *from, const void *fields, struct error *e)
{
    struct cluster *c = arg;
    const struct placement_id *id = fields;
    struct part *p = part_find(c, id->placement, (uint32_t)id->epoch);
    part_table_end(&c->part_table, id->placement, (uint32_t)id->epoch);
    if (p != NULL && strcmp(p->order.head, peer_id(from)) == 0) {
        log_info("cluster", "%s: freed", p->order.model_id);
        part_end(p);
        peers_channels_forget(c->peers, id->placement, (uint32_t)id->epoch);
        parts_poll(c);
    }
    (void)e;
    return PEER_DONE;
}

bool part_opened(struct cluster *c, const struct channel_purpose *purpose, struct channel *channel,
                 const struct error *error)
{
    struct part *p = part_find(c, purpose->subject, purpose->epoch);
    if (p != NULL && channel != NULL) {
        part_channel(c, purpose->subject, purpose->epoch, purpose->index, channel);
    } else if (p != NULL) {
        part_fail(c, p, error);
    }
    return p != NULL;
}

enum peer_verdict on_connect(void *arg, struct peer *from, const void *fields, struct error *e)
{
    struct cluster *c = arg;
    const struct placement_id *id = fields;
    struct part *p = part_find(c, id->placement, (uint32_t)id->epoch);
    for (int i = 0; p != NULL && i < p->n_links; i++) {
        const struct wire_link *l = &p->links[i];
        if (l->from != p->order.rank || p->rank == NULL) {
            continue;
        }
        struct peer *to = peers_add(c->peers, p->order.devices[l->to], p->order.addresses[l->to]);
        if (to == NULL) {
            struct error why = { 0 };
            fail(&why, FAIL_LIMIT, "more than %d devices", CLUSTER_MAX_DEVICES);
            part_fail(c, p, &why);
            return PEER_DONE;
        }
        peer_channel_open(to, &(struct channel_purpose){ id->placement, (uint32_t)id->epoch, i },
                          rank_max_message(p->rank, l));
    }
    (void)from;
    (void)e;
    return PEER_DONE;
}

/* --- channels --- */

void part_channel(struct cluster *c, int64_t placement, uint32_t epoch, int link,
                  struct channel *channel)
{
    struct part *p = part_find(c, placement, epoch);
    if (p == NULL || p->rank == NULL || link < 0 || link >= p->n_links) {
        channel_close(channel);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(transport_names); i++) {
        if (strcmp(channel_name(channel), transport_names[i]) == 0) {
            p->transports |= 1u << i;
        }
    }
    struct error e = { 0 };
    if (rank_attach(p->rank, &p->links[link], channel, &e) != 0) {
        log_warn("cluster", "%s: %s", p->order.model_id, e.text);
    }
}

int part_expects(struct cluster *c, const char *from, const struct channel_purpose *purpose,
                 size_t *max_message, struct error *e)
{
    const struct part *p = part_find(c, purpose->subject, purpose->epoch);
    int link = purpose->index;
    if (p == NULL || link < 0 || link >= p->n_links) {
        return fail(e, FAIL_NOT_FOUND, "no part of placement %lld, epoch %u here",
                    (long long)purpose->subject, purpose->epoch);
    }
    const struct wire_link *l = &p->links[link];
    if (l->to != p->order.rank || strcmp(part_order_device(&p->order, l->from), from) != 0) {
        return fail(e, FAIL_AUTH, "channel %d of the placement is between other devices", link);
    }
    if (p->rank == NULL) {
        return fail(e, FAIL_STATE, "the part is not loaded yet");
    }
    *max_message = rank_max_message(p->rank, l);
    return 0;
}

/* --- heartbeat --- */

json_t *part_transports(unsigned transports)
{
    json_t *names = json_array();
    for (size_t i = 0; i < ARRAY_LEN(transport_names); i++) {
        if ((transports & 1u << i) != 0) {
            json_array_append_new(names, json_string(transport_names[i]));
        }
    }
    return names;
}

json_t *parts_report(struct cluster *c)
{
    json_t *all = json_array();
    for (int i = 0; i < CLUSTER_MAX_PARTS; i++) {
        const struct part *p = c->parts[i];
        if (p == NULL || p->ending) {
            continue;
        }
        struct rank_facts f;
        part_facts(p, &f);
        json_array_append_new(
            all,
            json_pack("{s:I, s:I, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:i}", "placement",
                      (json_int_t)p->order.placement, "epoch", (json_int_t)p->order.epoch, "state",
                      (int)f.state, "done", (json_int_t)f.load_done, "total",
                      (json_int_t)f.load_total, "weights", (json_int_t)f.weight_bytes, "bytes",
                      (json_int_t)f.state_bytes, "progress", (json_int_t)f.progress, "steps",
                      (json_int_t)f.steps, "busy", (int)f.busy, "transports", (int)p->transports));
    }
    return all;
}

void part_reports_own(struct cluster *c, struct device *d)
{
    d->n_parts = 0;
    for (int i = 0; i < CLUSTER_MAX_PARTS; i++) {
        const struct part *p = c->parts[i];
        if (p != NULL && !p->ending) {
            struct part_report *report = &d->parts[d->n_parts++];
            report->placement = p->order.placement;
            report->epoch = p->order.epoch;
            report->transports = p->transports;
            part_facts(p, &report->facts);
        }
    }
}

struct report_message {
    int64_t placement, epoch, done, total, weights, bytes, progress, steps;
    int state, transports;
    bool busy;
};

static const struct message_field report_fields[] = {
    { MESSAGE_INTEGER(struct report_message, placement, 0, INT64_MAX) },
    { MESSAGE_INTEGER(struct report_message, epoch, 0, UINT32_MAX) },
    { MESSAGE_INT(struct report_message, state, 0, RANK_STATE_COUNT - 1) },
    { MESSAGE_INTEGER(struct report_message, done, 0, INT64_MAX) },
    { MESSAGE_INTEGER(struct report_message, total, 0, INT64_MAX) },
    { MESSAGE_INTEGER(struct report_message, weights, 0, INT64_MAX) },
    { MESSAGE_INTEGER(struct report_message, bytes, 0, INT64_MAX) },
    { MESSAGE_INTEGER(struct report_message, progress, 0, INT64_MAX) },
    { MESSAGE_INTEGER(struct report_message, steps, 0, INT64_MAX) },
    { MESSAGE_FLAG(struct report_message, busy) },
    { MESSAGE_INT(struct report_message, transports, 0, INT32_MAX), .optional = true },
};

int part_take_report(const json_t *m, struct part_report *ret, struct error *e)
{
    struct report_message r = { .placement = 0 };
    int code = message_read(m, report_fields, ARRAY_LEN(report_fields), &r, e);
    if (code != 0) {
        return code;
    }
    *ret = (struct part_report){ .placement = r.placement,
                                 .epoch = (uint32_t)r.epoch,
                                 .transports = (unsigned)r.transports };
    ret->facts = (struct rank_facts){ .state = (enum rank_state)r.state,
                                      .load_done = (uint64_t)r.done,
                                      .load_total = (uint64_t)r.total,
                                      .weight_bytes = (uint64_t)r.weights,
                                      .state_bytes = (uint64_t)r.bytes,
                                      .progress = (uint64_t)r.progress,
                                      .steps = (uint64_t)r.steps,
                                      .busy = r.busy };
    return 0;
}

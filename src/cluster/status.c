/* The cluster as JSON, for /api/status. */
#include "cluster/internal.h"

#include "cluster/part.h"
#include "cluster/service.h"
#include "cluster/statement.h"
#include "engine/engine.h"
#include "os/clock.h"
#include "os/memory.h"

#include <string.h>

/* Members hear of the cluster's status this often. */
#define STATUS_NS (2 * SECOND_NS)

static json_t *part_json(const struct cluster *c, const struct part_report *report)
{
    for (int i = 0; i < service_count(c); i++) {
        struct service_view v;
        service_view(c, i, &v);
        if (v.order->placement == report->placement && v.order->epoch == report->epoch) {
            return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "model", v.id, "weight_bytes",
                             (json_int_t)report->facts.weight_bytes, "state_bytes",
                             (json_int_t)report->facts.state_bytes, "load_done",
                             (json_int_t)report->facts.load_done, "load_total",
                             (json_int_t)report->facts.load_total, "steps",
                             (json_int_t)report->facts.steps);
        }
    }
    return NULL;
}

static json_t *device_json(struct cluster *c, struct device *d)
{
    if (d->self) {
        part_reports_own(c, d);
        d->memory_usable = memory_usable();
    }
    json_t *parts = json_array();
    json_int_t weights = 0, state = 0;
    for (int i = 0; i < d->n_parts; i++) {
        json_t *part = part_json(c, &d->parts[i]);
        weights += (json_int_t)d->parts[i].facts.weight_bytes;
        state += (json_int_t)d->parts[i].facts.state_bytes;
        if (part != NULL) {
            json_array_append_new(parts, part);
        }
    }
    return json_pack("{s:s, s:s, s:s, s:b, s:b, s:b, s:I, s:I, s:I, s:I, s:i, s:i, s:s, s:o}", "id",
                     d->id, "name", d->name, "address", peer_address(d->peer), "self", (int)d->self,
                     "head", (int)d->head, "alive", (int)device_alive(d), "memory_bytes",
                     (json_int_t)d->memory_total, "usable_bytes", (json_int_t)d->memory_usable,
                     "weight_bytes", weights, "state_bytes", state, "cores", d->cores, "threads",
                     d->threads, "isa", d->isa, "parts", parts);
}

/* How the rank talks to its neighbours, as its device says; empty before it is connected. */
static json_t *transports_json(const struct part_order *o, const struct device *d)
{
    const struct part_report *report = device_part(d, o->placement, o->epoch);
    return part_transports(report != NULL ? report->transports : 0);
}

static json_t *stages_json(struct cluster *c, const struct part_order *o)
{
    json_t *stages = json_array();
    for (int s = 0; s < o->plan.n_stages; s++) {
        const struct plan_stage *stage = &o->plan.stages[s];
        json_t *ranks = json_array();
        for (int r = stage->rank; r < stage->rank + stage->n_ranks; r++) {
            const struct device *d = device_find(c, o->devices[r]);
            json_array_append_new(ranks,
                                  json_pack("{s:s, s:s, s:i, s:o}", "device", o->devices[r], "name",
                                            d ? d->name : "", "share", o->plan.shares[r],
                                            "transports", transports_json(o, d)));
        }
        json_array_append_new(stages, json_pack("{s:i, s:i, s:o}", "first_layer", stage->first,
                                                "end_layer", stage->end, "ranks", ranks));
    }
    return stages;
}

/* How streams share steps over the stages, as measured; NULL where nothing is yet. */
static json_t *overlap_json(const struct engine_stats *s)
{
    if (s->overlap_streams == 0) {
        return NULL;
    }
    json_t *ways = json_array();
    for (int i = 0; i < ENGINE_OVERLAPS; i++) {
        const struct engine_overlap *o = &s->overlap[i];
        if (o->steps > 0) {
            json_array_append_new(ways, json_pack("{s:i, s:f}", "steps", o->steps,
                                                  "tokens_per_second", o->tokens_per_second));
        }
    }
    return json_pack("{s:i, s:i, s:o}", "streams", s->overlap_streams, "steps", s->overlap_steps,
                     "measured", ways);
}

static json_t *model_json(struct cluster *c, int index)
{
    struct service_view v;
    service_view(c, index, &v);
    struct engine_stats stats = { 0 };
    if (v.engine != NULL) {
        engine_stats(v.engine, &stats);
    }
    struct buffer spec;
    buffer_init(&spec, 4096);
    split_format(&v.order->plan, &spec);
    char root[DIGEST_TEXT];
    statement_root(c, v.order->placement, v.order->epoch, root);
    json_t *m = json_pack(
        "{s:s, s:s, s:s, s:I, s:s, s:s, s:i, s:I, s:s, s:o, s:i, s:i, s:I, s:I, s:I, s:f, s:f, "
        "s:o*}",
        "id", v.id, "state", v.phase, "why", v.why, "bytes", (json_int_t)v.file->size, "sha256",
        v.file->sha256, "root", root, "context", v.context, "pool_tokens",
        (json_int_t)v.order->state_tokens, "split", buffer_cstr(&spec), "stages",
        stages_json(c, v.order), "active", stats.active, "queued", stats.queued, "requests",
        (json_int_t)stats.requests, "prompt_tokens", (json_int_t)stats.prompt_tokens,
        "completion_tokens", (json_int_t)stats.completion_tokens, "decode_tokens_per_second",
        stats.decode_tokens_per_second, "prefill_tokens_per_second",
        stats.prefill_tokens_per_second, "overlap", overlap_json(&stats));
    buffer_done(&spec);
    return m;
}

static json_t *own_view(struct cluster *c)
{
    json_t *devices = json_array(), *models = json_array(), *links = json_array();
    for (int i = 0; i < c->n_devices; i++) {
        json_array_append_new(devices, device_json(c, c->devices[i]));
        json_t *link = peer_link_json(c->devices[i]->peer);
        if (link != NULL) {
            json_array_append_new(links, link);
        }
    }
    for (int i = 0; i < service_count(c); i++) {
        json_array_append_new(models, model_json(c, i));
    }
    return json_pack("{s:o, s:o, s:o}", "devices", devices, "models", models, "links", links);
}

void status_tick(struct cluster *c)
{
    uint64_t now = c->time.now_ns;
    if (!c->self->head || now < c->status_at) {
        return;
    }
    c->status_at = now + STATUS_NS;
    for (int i = 0; i < c->n_devices; i++) {
        if (!c->devices[i]->self && device_alive(c->devices[i])) {
            device_send(c, c->devices[i],
                        json_pack("{s:s, s:o}", "type", "status", "status", own_view(c)));
        }
    }
}

enum peer_verdict on_status(void *arg, struct peer *from, const void *fields, struct error *e)
{
    struct cluster *c = arg;
    json_t *status = json_object_get(((const struct whole_message *)fields)->body, "status");
    if (!json_is_object(status)) {
        fail(e, FAIL_FORMAT, "field 'status' is not an object");
        return PEER_VIOLATION;
    }
    if (!peer_is_self(from)) {
        json_decref(c->head_status);
        c->head_status = json_incref(status);
    }
    return PEER_DONE;
}

json_t *cluster_status(struct cluster *c)
{
    if (c->self->head || c->head_status == NULL) {
        return own_view(c);
    }
    /* The same cluster, seen from here. */
    json_t *status = json_deep_copy(c->head_status);
    json_t *device = NULL;
    size_t i = 0;
    json_array_foreach(json_object_get(status, "devices"), i, device)
    {
        const char *id = json_string_value(json_object_get(device, "id"));
        json_object_set_new(device, "self", json_boolean(id && strcmp(id, c->self->id) == 0));
    }
    return status;
}

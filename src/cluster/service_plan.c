/* From the devices that are there to the plan of a placement. */
#include "cluster/service_internal.h"

#include "os/log.h"
#include "os/memory.h"
#include "stage/source.h"
#include "store/chunks.h"

#include <stdio.h>
#include <string.h>

static bool has_model(const struct service *s, const struct device *d)
{
    bool found = d->self;
    for (int i = 0; i < d->n_models && !found; i++) {
        const struct model_file *f = &d->models[i];
        found = !f->bad && f->size == s->file.size && strcmp(f->sha256, s->file.sha256) == 0;
    }
    return found;
}

/* Devices in the order in which they get ranks: the head, those that have the model in the order
 * they came, then the others (which will say that they lack it). *n_with counts the former. */
static int list_devices(struct service *s, struct device *ret[static CLUSTER_MAX_DEVICES],
                        int *n_with)
{
    struct cluster *c = s->owner;
    int n = 0;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < c->n_devices; i++) {
            struct device *d = c->devices[i];
            if (device_alive(d) && has_model(s, d) == (round == 0)) {
                ret[n++] = d;
            }
        }
        *n_with = round == 0 ? n : *n_with;
    }
    return n;
}

/* What a device's part of a placement holds by now. */
static uint64_t held(const struct device *d, int64_t placement, uint32_t epoch)
{
    const struct part_report *report = device_part(d, placement, epoch);
    return report != NULL ? report->facts.weight_bytes + report->facts.state_bytes : 0;
}

/* What living placements may yet take of a device: state is only touched as it is used, and weights
 * as they are read, but both were promised. */
static uint64_t promised(const struct service *s, const struct device *d)
{
    uint64_t sum = 0;
    for (int i = 0; i < SERVICE_PLACEMENTS; i++) {
        const struct attempt *a = &s->attempts[i];
        for (int r = 0; a->epoch != 0 && r < a->order.plan.n_ranks; r++) {
            uint64_t here = held(d, s->id, a->epoch);
            if (strcmp(a->order.devices[r], d->id) == 0 && a->ranks[r].promised > here) {
                sum += a->ranks[r].promised - here;
            }
        }
    }
    return sum;
}

/* What a device can give: what is usable now, and what it still holds for placements of this
 * service that have ended, since that is being freed; without what others were promised. */
static uint64_t memory_for(struct service *s, struct device *d)
{
    const struct cluster *c = s->owner;
    uint64_t usable = d->memory_usable, kept = PLAN_RESERVE;
    if (d->self) {
        part_reports_own(s->owner, d);
        usable = memory_usable();
    }
    for (int i = 0; i < d->n_parts; i++) {
        const struct part_report *p = &d->parts[i];
        if (p->placement == s->id && service_placement(&s->core, p->epoch) == NULL) {
            usable += p->facts.weight_bytes + p->facts.state_bytes;
        }
    }
    for (int i = 0; i < c->n_services; i++) {
        kept += promised(c->services[i], d);
    }
    return usable > kept ? usable - kept : 0;
}

static int parse_split(const struct service *s, int n, struct placement_plan *plan, struct error *e)
{
    const char *spec = s->owner->options.split;
    int code = split_parse(spec, service_program(s)->n_layers, plan, e);
    if (code == 0 && plan->n_ranks > n) {
        code = fail(e, FAIL_NOT_FOUND, "waits for %d more device%s (split %s)", plan->n_ranks - n,
                    plan->n_ranks - n == 1 ? "" : "s", spec);
    }
    return code;
}

/* The context that was asked for, or as long a one as fits. plan: NULL, or the split. */
static int choose_context(struct service *s, struct context_need *need, const uint64_t *memory,
                          int n, struct error *e)
{
    int code =
        s->owner->options.context == 0 ? context_by_memory(need, memory, n, &s->context, e) : 0;
    for (int i = 0; i < s->need.n_layers; i++) {
        s->layer_bytes[i] = s->weight_bytes[i] + s->token_bytes[i] * (uint64_t)s->context;
    }
    return code;
}

/* Lays out weights and one full context; the rest of the memory decides how many more positions the
 * sessions share. */
static int make_plan(struct service *s, struct device **devices, int n, int n_with,
                     struct placement_plan *plan, struct error *e)
{
    bool given = s->owner->options.split != NULL;
    int native = service_program(s)->context;
    uint64_t memory[CLUSTER_MAX_DEVICES];
    for (int i = 0; i < n; i++) {
        memory[i] = memory_for(s, devices[i]);
    }
    struct context_need need = { .weights = &s->need,
                                 .token_bytes = s->token_bytes,
                                 .layer_bytes = s->layer_bytes,
                                 .plan = given ? plan : NULL,
                                 .most = native < CONTEXT_MOST ? native : CONTEXT_MOST };
    int code = given ? parse_split(s, n, plan, e) : 0;
    code = code ? code : choose_context(s, &need, memory, given ? n : n_with, e);
    if (code == 0 && !given) {
        struct split_need whole = s->need;
        whole.layer_bytes = s->layer_bytes;
        code = split_by_memory(&whole, memory, n_with, plan, e);
    }
    if (code == 0) {
        need.plan = plan;
        s->pool = context_pool(&need, memory, s->context,
                               (uint64_t)SERVICE_MAX_SESSIONS * (uint64_t)s->context);
    }
    return code;
}

static void show_plan(const struct service *s, struct device **devices)
{
    const struct placement_plan *plan = &s->planned;
    struct buffer text;
    buffer_init(&text, 4096);
    for (int r = 0; r < plan->n_ranks; r++) {
        const struct plan_stage *stage = &plan->stages[plan_stage_of(plan, r)];
        buffer_printf(&text, "%s%s layers %d-%d", r ? ", " : "", devices[plan->device[r]]->name,
                      stage->first, stage->end - 1);
        if (stage->n_ranks > 1) {
            buffer_printf(&text, " share %d", plan->shares[r]);
        }
    }
    log_info("cluster", "%s: placing on %s", s->file.id, buffer_cstr(&text));
    buffer_done(&text);
}

/* The file may have been written again since. Before anybody was answered from it the same model in
 * other bytes is fine (a file that was mended, a download that went on); after that, requests and
 * what clients remember rest on the bytes that were served. */
static int look_again(struct service *s, struct error *e)
{
    uint8_t now[DIGEST_BYTES];
    struct model_file file;
    int code = chunks_stamp_now(s->file.path, s->file.parts, now, e);
    if (code != 0 || memcmp(now, s->file.stamp, sizeof now) == 0) {
        return code;
    }
    code = model_identify(s->file.path, &file, e);
    bool other = code == 0 && (file.size != s->file.size || strcmp(file.sha256, s->file.sha256));
    bool exchanged = code == 0 && memcmp(file.stamp, s->file.stamp, sizeof file.stamp) != 0;
    if (other || (exchanged && s->answered)) {
        return fail(e, FAIL_IO,
                    "%s was written to or replaced since this device began to serve it: start "
                    "shoal again to serve what it holds now",
                    s->file.path);
    }
    if (code == 0) {
        memcpy(s->file.stamp, file.stamp, sizeof s->file.stamp);
    }
    return code;
}

void service_plan(struct service *s)
{
    struct device *devices[CLUSTER_MAX_DEVICES];
    struct error e = { 0 };
    int n_with = 0;
    int n = list_devices(s, devices, &n_with);
    int code = look_again(s, &e);
    if ((code ? code : make_plan(s, devices, n, n_with, &s->planned, &e)) != 0) {
        service_post(s, &(struct service_event){ .kind = SERVICE_UNPLANNED, .text = e.text });
        return;
    }
    for (int r = 0; r < s->planned.n_ranks; r++) {
        const struct device *d = devices[s->planned.device[r]];
        char label[DEVICE_LABEL];
        snprintf(s->devices[r], sizeof s->devices[r], "%s", d->id);
        snprintf(s->labels[r], sizeof s->labels[r], "%s", device_label(d, label));
        s->label_list[r] = s->labels[r];
    }
    show_plan(s, devices);
    service_post(s, &(struct service_event){ .kind = SERVICE_PLANNED,
                                             .ranks = { s->planned.n_ranks, s->label_list } });
}

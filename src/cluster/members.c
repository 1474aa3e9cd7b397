/* What devices say about themselves and do, and what follows when they come and go. Which of them
 * is the head is not believed because one says so: see take_head. */
#include "cluster/internal.h"

#include <stdlib.h>

#include "cluster/forward.h"
#include "cluster/head.h"
#include "cluster/part.h"
#include "cluster/service.h"
#include "os/log.h"

#include <stdio.h>
#include <string.h>

#define MEMORY_MAX (INT64_C(1) << 50)
#define CORES_MAX (1 << 16)

/* --- facts --- */

struct facts {
    char isa[32];
    int64_t memory, usable;
    int cores, threads;
    bool head;
    const json_t *models;
};

static const struct message_field facts_fields[] = {
    { MESSAGE_TEXT(struct facts, isa) },
    { MESSAGE_INTEGER(struct facts, memory, 0, MEMORY_MAX) },
    { MESSAGE_INTEGER(struct facts, usable, 0, MEMORY_MAX) },
    { MESSAGE_INT(struct facts, cores, 1, CORES_MAX) },
    { MESSAGE_INT(struct facts, threads, 1, CORES_MAX) },
    { MESSAGE_FLAG(struct facts, head) },
    { MESSAGE_ARRAY(struct facts, models, MODELS_MAX) },
};

struct model_fact {
    char id[MODEL_ID_TEXT];
    char sha256[MODEL_SHA_TEXT];
    int64_t size;
};

static const struct message_field model_fields[] = {
    { MESSAGE_TEXT(struct model_fact, id) },
    { MESSAGE_TEXT(struct model_fact, sha256) },
    { MESSAGE_INTEGER(struct model_fact, size, 0, INT64_MAX) },
};

static json_t *models_json(const struct model_list *list)
{
    json_t *all = json_array();
    for (int i = 0; i < list->n; i++) {
        const struct model_file *f = &list->files[i];
        if (!f->bad) {
            json_array_append_new(all, json_pack("{s:s, s:I, s:s}", "id", f->id, "size",
                                                 (json_int_t)f->size, "sha256", f->sha256));
        }
    }
    return all;
}

static json_t *own_facts(void *arg)
{
    const struct cluster *c = arg;
    const struct device *me = c->self;
    return json_pack("{s:s, s:I, s:I, s:i, s:i, s:b, s:o}", "isa", me->isa, "memory",
                     (json_int_t)me->memory_total, "usable", (json_int_t)me->memory_usable, "cores",
                     me->cores, "threads", me->threads, "head", (int)me->head, "models",
                     models_json(&c->models));
}

static int take_models(struct device *d, const json_t *array, struct error *e)
{
    size_t n = json_array_size(array);
    struct model_file *files = calloc(n ? n : 1, sizeof *files);
    if (files == NULL) {
        return fail(e, FAIL_NOMEM, "memory for the model list of %s", d->name);
    }
    for (size_t i = 0; i < n; i++) {
        struct model_fact m = { .size = 0 };
        if (message_read(json_array_get(array, i), model_fields, ARRAY_LEN(model_fields), &m, e) !=
            0) {
            free(files);
            return e->code;
        }
        memcpy(files[i].id, m.id, sizeof m.id);
        memcpy(files[i].sha256, m.sha256, sizeof m.sha256);
        files[i].size = (uint64_t)m.size;
    }
    free(d->models);
    d->models = files;
    d->n_models = (int)n;
    return 0;
}

/* The head is whom this device was told to follow, by its invitation or by whoever answered where a
 * person said to join; that is kept on disk. Who else says that it is the head is a member like any
 * other. */
static int take_head(struct cluster *c, struct device *d, bool claims, struct error *e)
{
    if (claims && c->self->head) {
        return fail(e, FAIL_STATE,
                    "%s is the head of another cluster: start one of the two with --join", d->name);
    }
    if (claims && c->head_id[0] == '\0' && peer_was_joined(d->peer)) {
        head_pin(c, d->id);
    }
    bool right = strcmp(c->head_id, d->id) == 0;
    if (claims && !right) {
        char label[DEVICE_LABEL];
        log_limited(LOG_WARN, "cluster", "says that it is the head", d->name,
                    "%s says that it is the head, but %.*s is: it is not obeyed (if the head was "
                    "replaced, remove %s/head here)",
                    device_label(d, label), DEVICE_SHORT, c->head_id, c->options.home);
    }
    d->head = claims && right;
    if (d->head) {
        peer_keep(d->peer, true);
        head_pin(c, d->id);
    }
    return 0;
}

static int take_facts(void *arg, struct peer *from, const json_t *m, struct error *e)
{
    struct cluster *c = arg;
    struct facts f = { .models = NULL };
    struct device *d = device_of(c, from);
    if (d == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a device");
    }
    int code = message_read(m, facts_fields, ARRAY_LEN(facts_fields), &f, e);
    code = code ? code : take_head(c, d, f.head, e);
    code = code ? code : take_models(d, f.models, e);
    if (code != 0) {
        return code;
    }
    memcpy(d->isa, f.isa, sizeof d->isa);
    d->memory_total = (uint64_t)f.memory;
    d->memory_usable = (uint64_t)f.usable;
    d->cores = f.cores;
    d->threads = f.threads;
    return 0;
}

/* A member tells whom everybody is to reach: the head. */
static bool keep(void *arg, struct peer *p, struct peer *says)
{
    struct cluster *c = arg;
    if (c->head_id[0] == '\0' && peer_was_joined(says)) {
        head_pin(c, peer_id(p));
    }
    return strcmp(c->head_id, peer_id(p)) == 0;
}

static bool may_send(void *arg, const struct peer *from, int sender)
{
    const struct cluster *c = arg;
    const struct device *d = peer_user(from);
    return sender == FROM_HEAD ? d != NULL && d->head : c->self->head;
}

/* --- coming and going --- */

static void joined(void *arg, struct peer *p)
{
    struct cluster *c = arg;
    struct device *d = peer_user(p);
    char label[DEVICE_LABEL];
    log_info("cluster", "%s joined from %s: %llu MB usable, %d cores, %s, %d model%s%s",
             device_label(d, label), peer_address(p), (unsigned long long)(d->memory_usable >> 20),
             d->cores, d->isa, d->n_models, d->n_models == 1 ? "" : "s", d->head ? ", head" : "");
    if (c->self->head) {
        services_announce(c, d);
        services_device_joined(c);
    }
}

static void lost(void *arg, struct peer *p, const char *why)
{
    struct cluster *c = arg;
    struct device *d = peer_user(p);
    d->n_parts = 0;
    if (d->head) {
        parts_drop_all(c, why);
        served_forget(c);
        json_decref(c->head_status);
        c->head_status = NULL;
    }
    if (c->self->head) {
        services_device_lost(c, d, why);
        peers_tell_members(c->peers);
    }
}

static void forgotten(void *arg, struct peer *p)
{
    struct cluster *c = arg;
    struct device *d = peer_user(p);
    int n = 0;
    for (int i = 0; i < c->n_devices; i++) {
        if (c->devices[i] != d) {
            c->devices[n++] = c->devices[i];
        }
    }
    c->n_devices = n;
    device_free(d);
}

const struct peer_events device_events = {
    .facts = own_facts,
    .take_facts = take_facts,
    .joined = joined,
    .lost = lost,
    .forgotten = forgotten,
    .keep = keep,
    .request = forward_request,
    .may_send = may_send,
};

/* --- what they do --- */

struct report {
    int64_t usable;
    const json_t *parts;
};

static const struct message_field report_fields[] = {
    { MESSAGE_INTEGER(struct report, usable, 0, MEMORY_MAX) },
    { MESSAGE_ARRAY(struct report, parts, CLUSTER_MAX_PARTS) },
};

void device_report(struct cluster *c)
{
    for (int i = 0; i < c->n_devices; i++) {
        if (!c->devices[i]->self && device_alive(c->devices[i])) {
            device_send(c, c->devices[i],
                        json_pack("{s:s, s:I, s:o}", "type", "report", "usable",
                                  (json_int_t)c->self->memory_usable, "parts", parts_report(c)));
        }
    }
}

enum peer_verdict on_report(void *arg, struct peer *from, const void *fields, struct error *e)
{
    struct device *d = peer_user(from);
    struct part_report parts[CLUSTER_MAX_PARTS];
    struct report r = { .usable = 0 };
    if (message_read(((const struct whole_message *)fields)->body, report_fields,
                     ARRAY_LEN(report_fields), &r, e) != 0) {
        return PEER_VIOLATION;
    }
    int n = (int)json_array_size(r.parts);
    for (int i = 0; i < n; i++) {
        if (part_take_report(json_array_get(r.parts, (size_t)i), &parts[i], e) != 0) {
            return PEER_VIOLATION;
        }
    }
    d->memory_usable = (uint64_t)r.usable;
    memcpy(d->parts, parts, (size_t)n * sizeof *parts);
    d->n_parts = n;
    (void)arg;
    return PEER_DONE;
}

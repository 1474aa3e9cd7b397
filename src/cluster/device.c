/* The devices that this one knows, and what they say about themselves. */
#include "cluster/internal.h"

#include <stdlib.h>

#include "base/display.h"
#include "cluster/data.h"
#include "cluster/link.h"
#include "cluster/part.h"
#include "cluster/service.h"
#include "cluster/stream.h"
#include "os/clock.h"
#include "os/log.h"
#include "os/memory.h"

#include <event2/event.h>
#include <stdio.h>
#include <string.h>

#define ISA_MAX 31
#define MEMORY_MAX (INT64_C(1) << 50)

struct device *device_find(struct cluster *c, const char *id)
{
    for (int i = 0; i < c->n_devices; i++) {
        if (strcmp(c->devices[i]->id, id) == 0) {
            return c->devices[i];
        }
    }
    return NULL;
}

struct device *device_add(struct cluster *c, const char *id)
{
    struct device *d = device_find(c, id);
    if (d != NULL || c->n_devices == CLUSTER_MAX_DEVICES || strlen(id) >= DEVICE_ID_TEXT) {
        return d;
    }
    d = calloc(1, sizeof *d);
    if (d != NULL) {
        snprintf(d->id, sizeof d->id, "%s", id);
        snprintf(d->name, sizeof d->name, "%.*s", DEVICE_SHORT, id);
        c->devices[c->n_devices++] = d;
    }
    return d;
}

void device_free(struct device *d)
{
    if (d != NULL) {
        free(d->models);
        free(d);
    }
}

struct device *device_head(struct cluster *c)
{
    for (int i = 0; i < c->n_devices; i++) {
        if (c->devices[i]->head) {
            return c->devices[i];
        }
    }
    return NULL;
}

bool device_alive(const struct device *d)
{
    return d->self || d->link != NULL;
}

const char *device_label(const struct device *d, char text[static DEVICE_LABEL])
{
    snprintf(text, DEVICE_LABEL, "%s (%.*s)", d->name, DEVICE_SHORT, d->id);
    return text;
}

/* --- hello: facts --- */

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

json_t *device_hello(struct cluster *c)
{
    const struct device *me = c->self;
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:i, s:i, s:i, s:s, s:b, s:o}", "type",
                     "hello", "name", me->name, "id", me->id, "run", (json_int_t)me->run, "memory",
                     (json_int_t)me->memory_total, "usable", (json_int_t)me->memory_usable, "cores",
                     me->cores, "threads", me->threads, "peer_port", me->peer_port, "isa", me->isa,
                     "head", (int)me->head, "models", models_json(&c->models));
}

static int take_models(struct device *d, const json_t *array, struct error *e)
{
    size_t n = json_array_size(array);
    struct model_file *files = calloc(n ? n : 1, sizeof *files);
    if (files == NULL) {
        return fail(e, FAIL_NOMEM, "memory for the model list of %s", d->name);
    }
    int code = 0;
    for (size_t i = 0; i < n && code == 0; i++) {
        const json_t *item = json_array_get(array, i);
        const char *id = "", *sha = "";
        int64_t size = 0;
        code = message_text(item, "id", MODEL_ID_TEXT - 1, &id, e);
        code = code ? code : message_text(item, "sha256", MODEL_SHA_TEXT - 1, &sha, e);
        code = code ? code : message_integer(item, "size", 0, INT64_MAX, &size, e);
        if (code == 0) {
            snprintf(files[i].id, sizeof files[i].id, "%s", id);
            snprintf(files[i].sha256, sizeof files[i].sha256, "%s", sha);
            files[i].size = (uint64_t)size;
        }
    }
    if (code != 0) {
        free(files);
        return code;
    }
    free(d->models);
    d->models = files;
    d->n_models = (int)n;
    return 0;
}

int device_take_hello(struct cluster *c, struct device *d, const json_t *m, struct error *e)
{
    const char *name = "", *isa = "", *id = "";
    const json_t *models = NULL;
    int64_t memory = 0, usable = 0, run = 0;
    int cores = 0, threads = 0, port = 0;
    int code = message_text(m, "name", DEVICE_NAME_TEXT - 1, &name, e);
    code = code ? code : message_text(m, "id", DEVICE_ID_TEXT - 1, &id, e);
    code = code ? code : message_integer(m, "run", 1, INT64_MAX, &run, e);
    code = code ? code : message_text(m, "isa", ISA_MAX, &isa, e);
    code = code ? code : message_integer(m, "memory", 0, MEMORY_MAX, &memory, e);
    code = code ? code : message_integer(m, "usable", 0, MEMORY_MAX, &usable, e);
    code = code ? code : message_int(m, "cores", 1, 1 << 16, &cores, e);
    code = code ? code : message_int(m, "threads", 1, 1 << 16, &threads, e);
    code = code ? code : message_int(m, "peer_port", 0, 65535, &port, e);
    code = code ? code : message_array(m, "models", MODELS_MAX, &models, e);
    code = code ? code : take_models(d, models, e);
    if (code != 0) {
        return wrap(e, "hello");
    }
    if (strcmp(id, d->id) != 0) {
        return fail(e, FAIL_AUTH, "hello under another id than the link's key has");
    }
    display_copy(d->name, sizeof d->name, bytes_text(name));
    snprintf(d->isa, sizeof d->isa, "%s", isa);
    d->memory_total = (uint64_t)memory;
    d->memory_usable = (uint64_t)usable;
    d->run = run;
    d->cores = cores;
    d->threads = threads;
    d->peer_port = port;
    bool head = message_flag(m, "head");
    if (head && c->self->head) {
        return fail(e, FAIL_STATE,
                    "%s is the head of another cluster: start one of the two with --join", d->name);
    }
    d->head = head;
    return 0;
}

/* --- sending --- */

void device_send(struct cluster *c, struct device *d, json_t *body)
{
    if (!d->self) {
        link_send(d->link, body);
        return;
    }
    struct local_message *m = body ? calloc(1, sizeof *m) : NULL;
    if (m == NULL) {
        json_decref(body);
        log_error("cluster", "out of memory for a message to this device itself");
        return;
    }
    m->body = body;
    if (c->last_local) {
        c->last_local->next = m;
    } else {
        c->first_local = m;
    }
    c->last_local = m;
    event_active(c->local, 0, 0);
}

/* --- members --- */

void device_address_for(const struct cluster *c, const struct device *d, const struct device *to,
                        char text[static ADDRESS_TEXT])
{
    char host[ADDRESS_TEXT] = "";
    if (d->self || address_is_loopback(d->address)) {
        link_own_host(to->link, host);
    }
    if (host[0] != '\0') {
        address_join(host, d->peer_port, text);
    } else {
        snprintf(text, ADDRESS_TEXT, "%s", d->address);
    }
    (void)c;
}

static void send_members(struct cluster *c, struct device *to)
{
    json_t *all = json_array();
    for (int i = 0; i < c->n_devices; i++) {
        const struct device *d = c->devices[i];
        if (d == to || !device_alive(d)) {
            continue;
        }
        char address[ADDRESS_TEXT];
        device_address_for(c, d, to, address);
        json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:i, s:b}", "id", d->id, "name",
                                             d->name, "address", address, "peer_port", d->peer_port,
                                             "head", (int)d->head));
    }
    device_send(c, to, json_pack("{s:s, s:o}", "type", "members", "members", all));
}

void members_broadcast(struct cluster *c)
{
    for (int i = 0; i < c->n_devices; i++) {
        if (c->devices[i]->link != NULL) {
            send_members(c, c->devices[i]);
        }
    }
}

/* A member tells whom it knows; only the head has to be reached by everyone at all times. */
int on_members(struct cluster *c, struct device *from, const json_t *m, struct error *e)
{
    const json_t *members = NULL;
    int code = message_array(m, "members", CLUSTER_MAX_DEVICES, &members, e);
    for (size_t i = 0; code == 0 && i < json_array_size(members); i++) {
        const json_t *item = json_array_get(members, i);
        const char *id = "", *address = "", *name = "";
        code = message_text(item, "id", DEVICE_ID_TEXT - 1, &id, e);
        code = code ? code : message_text(item, "address", ADDRESS_TEXT - 1, &address, e);
        code = code ? code : message_text(item, "name", DEVICE_NAME_TEXT - 1, &name, e);
        struct device *d = code == 0 ? device_add(c, id) : NULL;
        if (d == NULL || d->self || d->link != NULL) {
            continue;
        }
        display_copy(d->name, sizeof d->name, bytes_text(name));
        snprintf(d->address, sizeof d->address, "%s", address);
        if (message_flag(item, "head") && !c->self->head && device_head(c) == NULL) {
            d->head = true;
            d->dial_at = c->time.now_ns;
        }
    }
    (void)from;
    return code;
}

void device_joined(struct cluster *c, struct device *d)
{
    char label[DEVICE_LABEL];
    log_info("cluster", "%s joined from %s: %llu MB usable, %d cores, %s, %d model%s%s",
             device_label(d, label), d->address, (unsigned long long)(d->memory_usable >> 20),
             d->cores, d->isa, d->n_models, d->n_models == 1 ? "" : "s", d->head ? ", head" : "");
    d->dial_at = 0;
    members_broadcast(c);
    if (c->self->head) {
        services_device_joined(c, d);
    }
}

void device_lost(struct cluster *c, struct device *d, const char *why)
{
    char label[DEVICE_LABEL];
    if (!c->closing) {
        log_warn("cluster", "lost %s: %s", device_label(d, label), why);
    }
    d->n_parts = 0;
    if (d->head) {
        parts_drop_all(c, why);
        served_forget(c);
        json_decref(c->head_status);
        c->head_status = NULL;
        d->dial_at = c->time.now_ns + RETRY_NS;
    }
    streams_device_lost(c, d);
    data_device_lost(c, d, why);
    if (c->self->head) {
        services_device_lost(c, d, why);
        members_broadcast(c);
    }
}

/* Somebody else came with our key and was refused by a device that has a link to us. */
int on_twin(struct cluster *c, struct device *from, const json_t *m, struct error *e)
{
    const char *address = "";
    int code = message_text(m, "address", ADDRESS_TEXT - 1, &address, e);
    if (code == 0) {
        char label[DEVICE_LABEL];
        log_limited(LOG_WARN, "cluster", "second device with this key", from->name,
                    "a second device with this device's key came to %s from %s and was refused: "
                    "was this home copied? Remove device.key from the copy",
                    device_label(from, label), address);
    }
    (void)c;
    return code;
}

/* --- heartbeat --- */

int on_ping(struct cluster *c, struct device *from, const json_t *m, struct error *e)
{
    const json_t *parts = NULL;
    int64_t usable = 0;
    int code = message_integer(m, "usable", 0, MEMORY_MAX, &usable, e);
    code = code ? code : message_array(m, "parts", CLUSTER_MAX_PARTS, &parts, e);
    if (code != 0) {
        return code;
    }
    from->memory_usable = (uint64_t)usable;
    int n = 0;
    for (size_t i = 0; i < json_array_size(parts); i++) {
        code = part_take_report(json_array_get(parts, i), &from->parts[n], e);
        if (code != 0) {
            return code;
        }
        n++;
    }
    from->n_parts = n;
    (void)c;
    return 0;
}

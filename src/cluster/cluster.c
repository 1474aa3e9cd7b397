/* A device of the cluster: opening, the clockwork, closing. */
#include "cluster/internal.h"

#include <stdlib.h>

#include "cluster/head.h"
#include "cluster/part.h"
#include "cluster/service.h"
#include "cluster/statement.h"
#include "os/clock.h"
#include "os/cpu.h"
#include "os/log.h"
#include "os/memory.h"

#include <event2/event.h>
#include <stdio.h>
#include <string.h>

/* The models folder is looked at this often. */
#define SCAN_NS (10 * SECOND_NS)

/* --- the clockwork --- */

/* In the scan's thread. */
static void on_scanned(void *arg)
{
    struct cluster *c = arg;
    event_active(c->wake, 0, 0);
}

/* A look at the models folder that has ended. */
static void take_scan(struct cluster *c)
{
    bool changed = false;
    if (c->scan == NULL || !models_scan_end(&c->scan, &c->models, &changed) || !changed) {
        return;
    }
    peers_tell_facts(c->peers);
}

static void scan_models(struct cluster *c, uint64_t now)
{
    struct error e = { 0 };
    if (c->scan != NULL || now < c->scan_at) {
        return;
    }
    c->scan_at = now + SCAN_NS;
    if (models_scan_begin(&c->scan, &c->models, c->options.models_dir, on_scanned, c, &e) != 0) {
        log_warn("cluster", "%s: %s", c->options.models_dir, e.text);
    }
}

static void tell_changes(struct cluster *c)
{
    if (c->changed) {
        c->changed = false;
        services_announce(c, NULL);
    }
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    parts_poll(arg);
    services_poll(arg);
    tell_changes(arg);
    statements_tell(arg);
    take_scan(arg);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct cluster *c = arg;
    (void)fd;
    (void)what;
    loop_time_turn(&c->time, clock_now_ns(), TICK_NS);
    uint64_t now = c->time.now_ns;
    peers_tick(c->peers, now);
    part_reports_own(c, c->self);
    parts_poll(c);
    if (now >= c->report_at) {
        c->report_at = now + REPORT_NS;
        c->self->memory_usable = memory_usable();
        device_report(c);
    }
    services_tick(c);
    statements_tick(c);
    status_tick(c);
    scan_models(c, now);
}

static int open_events(struct cluster *c, struct error *e)
{
    const struct timeval period = { 0, TICK_NS / 1000 };
    c->tick = event_new(c->base, -1, EV_PERSIST, on_tick, c);
    c->wake = event_new(c->base, -1, EV_PERSIST, on_wake, c);
    if (c->tick == NULL || c->wake == NULL || event_add(c->tick, &period) != 0) {
        return fail(e, FAIL_NOMEM, "memory for the event loop");
    }
    return 0;
}

/* --- life --- */

static int open_self(struct cluster *c, struct error *e)
{
    const struct cluster_options *o = &c->options;
    int code = peers_open(&c->peers,
                          &(struct peers_options){ .base = c->base,
                                                   .now_ns = c->time.now_ns,
                                                   .home = o->home,
                                                   .name = o->name,
                                                   .port = o->peer_port,
                                                   .join = o->join,
                                                   .invite = o->invite,
                                                   .protocol_version = o->protocol_version,
                                                   .seal = o->seal,
                                                   .events = &device_events,
                                                   .messages = cluster_messages,
                                                   .n_messages = cluster_n_messages,
                                                   .channels = &cluster_channels,
                                                   .arg = c },
                          e);
    if (code != 0) {
        return code;
    }
    struct device *me = c->self = device_of(c, peers_self(c->peers));
    if (me == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a device");
    }
    me->head = o->join == NULL && o->invite == NULL;
    peer_keep(me->peer, me->head);
    head_open(c);
    snprintf(me->isa, sizeof me->isa, "%s", o->isa ? o->isa : "");
    me->memory_total = memory_total();
    me->memory_usable = memory_usable();
    me->cores = cpu_cores();
    me->threads = o->threads > 0 ? o->threads : me->cores;
    bool changed = false;
    c->scan_at = c->time.now_ns + SCAN_NS;
    return models_scan(&c->models, o->models_dir, &changed, e);
}

int cluster_open(struct cluster **ret, const struct cluster_options *options, struct error *e)
{
    struct cluster *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a cluster");
    }
    c->options = *options;
    c->base = options->base;
    loop_time_turn(&c->time, clock_now_ns(), TICK_NS);
    int code = open_self(c, e);
    code = code ? code : open_events(c, e);
    code = code ? code : statements_open(c, e);
    if (code != 0) {
        cluster_close(c);
        return code;
    }
    event_active(c->tick, 0, 0);
    *ret = c;
    return 0;
}

void cluster_stop(struct cluster *c)
{
    c->closing = true;
    services_close(c);
    parts_close(c);
    if (c->peers != NULL) {
        peers_stop(c->peers);
    }
}

void cluster_close(struct cluster *c)
{
    if (c == NULL) {
        return;
    }
    cluster_stop(c);
    statements_close(c);
    models_scan_drop(c->scan);
    peers_close(c->peers);
    served_forget(c);
    struct event *events[] = { c->tick, c->wake };
    for (size_t i = 0; i < ARRAY_LEN(events); i++) {
        if (events[i] != NULL) {
            event_free(events[i]);
        }
    }
    for (int i = 0; i < c->n_devices; i++) {
        device_free(c->devices[i]);
    }
    models_done(&c->models);
    json_decref(c->head_status);
    free(c);
}

int cluster_add_model(struct cluster *c, const char *name, struct error *e)
{
    if (!c->self->head) {
        return fail(e, FAIL_STATE, "models are placed by the head: give --model there");
    }
    return service_add(c, name, e);
}

bool cluster_is_head(const struct cluster *c)
{
    return c->self->head;
}

int cluster_peer_port(const struct cluster *c)
{
    return peers_port(c->peers);
}

const char *cluster_device_id(const struct cluster *c)
{
    return c->self->id;
}

/* A device of the cluster: opening, the clockwork, closing. */
#include "cluster/internal.h"

#include <stdlib.h>

#include "base/display.h"
#include "cluster/data.h"
#include "cluster/statement.h"
#include "cluster/link.h"
#include "cluster/listen.h"
#include "cluster/part.h"
#include "cluster/security.h"
#include "cluster/service.h"
#include "cluster/stream.h"
#include "os/clock.h"
#include "os/cpu.h"
#include "os/file.h"
#include "os/host.h"
#include "os/log.h"
#include "os/memory.h"
#include "os/process.h"

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
    for (int i = 0; i < c->n_devices; i++) {
        if (c->devices[i]->link != NULL) {
            link_send(c->devices[i]->link, device_hello(c));
        }
    }
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

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    parts_poll(arg);
    statements_tell(arg);
    take_scan(arg);
}

static void on_local(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    dispatch_local(arg);
}

/* Where to join now: as told, or the addresses of the invitation in turn. */
static const char *next_address(struct cluster *c)
{
    return c->options.join != NULL ? c->options.join : security_invited_to(c, c->join_next++);
}

static void dial_members(struct cluster *c, uint64_t now)
{
    struct error e = { 0 };
    if (c->join_at != 0 && now >= c->join_at && device_head(c) == NULL) {
        c->join_at = now + RETRY_NS;
        if (!link_dialing(c, NULL) && link_dial(c, next_address(c), NULL, &e) != 0) {
            log_warn("cluster", "%s", e.text);
        }
    }
    for (int i = 0; i < c->n_devices; i++) {
        struct device *d = c->devices[i];
        if (d->dial_at == 0 || now < d->dial_at || d->link != NULL || d->address[0] == '\0') {
            continue;
        }
        d->dial_at = now + RETRY_NS;
        if (!link_dialing(c, d->id) && link_dial(c, d->address, d->id, &e) != 0) {
            log_warn("cluster", "%s", e.text);
        }
    }
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct cluster *c = arg;
    (void)fd;
    (void)what;
    loop_time_turn(&c->time, clock_now_ns(), TICK_NS);
    uint64_t now = c->time.now_ns;
    c->self->memory_usable = memory_usable();
    part_reports_own(c, c->self);
    parts_poll(c);
    listen_tick(c);
    links_tick(c);
    data_tick(c);
    services_tick(c);
    statements_tick(c);
    status_tick(c);
    dial_members(c, now);
    scan_models(c, now);
}

static int open_events(struct cluster *c, struct error *e)
{
    const struct timeval period = { 0, TICK_NS / 1000 };
    c->tick = event_new(c->base, -1, EV_PERSIST, on_tick, c);
    c->wake = event_new(c->base, -1, EV_PERSIST, on_wake, c);
    c->local = event_new(c->base, -1, EV_PERSIST, on_local, c);
    if (c->tick == NULL || c->wake == NULL || c->local == NULL ||
        event_add(c->tick, &period) != 0) {
        return fail(e, FAIL_NOMEM, "memory for the event loop");
    }
    return 0;
}

/* --- life --- */

static int open_self(struct cluster *c, struct error *e)
{
    const struct cluster_options *o = &c->options;
    char id[DEVICE_ID_TEXT];
    int code = file_make_directory(o->home, 0700, e);
    code = code ? code : security_open(c, id, e);
    if (code != 0) {
        return code;
    }
    struct device *me = device_add(c, id);
    if (me == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a device");
    }
    c->self = me;
    me->self = true;
    code = security_draw(&me->run, e);
    if (code != 0) {
        return code;
    }
    me->head = o->join == NULL && o->invite == NULL;
    char host[HOST_NAME_TEXT];
    host_name(host, sizeof host);
    /* Whole characters that JSON and a terminal take, whatever it is called. */
    display_copy(me->name, sizeof me->name, bytes_text(o->name != NULL ? o->name : host));
    snprintf(me->isa, sizeof me->isa, "%s", o->isa ? o->isa : "");
    me->memory_total = memory_total();
    me->memory_usable = memory_usable();
    me->cores = cpu_cores();
    me->threads = o->threads > 0 ? o->threads : me->cores;
    bool changed = false;
    c->scan_at = c->time.now_ns + SCAN_NS;
    return models_scan(&c->models, o->models_dir, &changed, e);
}

/* Checks where this device joins before it tries. */
static int open_join(struct cluster *c, struct error *e)
{
    const char *next = NULL;
    char host[ADDRESS_TEXT];
    int port = 0;
    if (c->self->head) {
        return 0;
    }
    if (c->options.join == NULL && security_invited_to(c, 0) == NULL) {
        return fail(e, FAIL_ARG, "the invitation names no address: give --join ADDRESS too");
    }
    const char *first = next_address(c);
    int code = address_parse(first, 1, host, &port, e);
    while (code == 0 && c->options.join == NULL && (next = next_address(c)) != first) {
        code = address_parse(next, 1, host, &port, e);
    }
    c->join_next = 0;
    c->join_at = c->time.now_ns;
    return code;
}

int cluster_open(struct cluster **ret, const struct cluster_options *options, struct error *e)
{
    struct cluster *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a cluster");
    }
    /* OpenSSL writes to sockets by write(2): a peer that went must not end the process. */
    process_ignore_broken_pipes();
    c->options = *options;
    loop_time_turn(&c->time, clock_now_ns(), TICK_NS);
    c->base = options->base;
    if (c->options.protocol_version == 0) {
        c->options.protocol_version = HANDSHAKE_VERSION;
    }
    int code = open_self(c, e);
    code = code ? code : open_events(c, e);
    code = code ? code : statements_open(c, e);
    code = code ? code : listen_open(c, e);
    if (code == 0) {
        data_listen(c);
        address_join("127.0.0.1", c->self->peer_port, c->self->address);
        code = open_join(c, e);
    }
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
    listen_close(c);
    services_close(c);
    parts_close(c);
    streams_stop(c);
}

void cluster_close(struct cluster *c)
{
    if (c == NULL) {
        return;
    }
    cluster_stop(c);
    statements_close(c);
    models_scan_drop(c->scan);
    streams_close(c);
    data_close_all(c);
    links_close(c);
    served_forget(c);
    struct event *events[] = { c->tick, c->wake, c->local };
    for (size_t i = 0; i < ARRAY_LEN(events); i++) {
        if (events[i] != NULL) {
            event_free(events[i]);
        }
    }
    while (c->first_local != NULL) {
        struct local_message *m = c->first_local;
        c->first_local = m->next;
        json_decref(m->body);
        free(m);
    }
    for (int i = 0; i < c->n_devices; i++) {
        device_free(c->devices[i]);
    }
    models_done(&c->models);
    json_decref(c->head_status);
    security_close(c);
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
    return c->self->peer_port;
}

const char *cluster_device_id(const struct cluster *c)
{
    return c->self->id;
}

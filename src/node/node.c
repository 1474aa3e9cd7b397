/* A device in one process: see node.h. */
#include "node/node.h"

#include <event2/event.h>
#include <event2/thread.h>

#include "api/api.h"
#include "api/server.h"
#include "backend/backend.h"
#include "chat/model.h"
#include "cluster/cluster.h"
#include "kernels/kernels.h"
#include "node/peer_reply.h"
#include "node/running.h"
#include "os/log.h"
#include "os/process.h"

/* At the end: how long clients have to take their last answers. */
#define FINISH_MS 1000

struct node {
    const struct node_options *options;
    struct event_base *base;
    struct cluster *cluster;
    struct allowed allowed;
    struct api *api;
    struct server *server;
};

/* --- the API's models come from the cluster --- */

static int model_count(void *arg)
{
    return cluster_model_count(((struct node *)arg)->cluster);
}

static void model_at(void *arg, int index, struct api_model *ret)
{
    struct cluster *c = ((struct node *)arg)->cluster;
    struct cluster_model m;
    cluster_model_at(c, index, &m);
    *ret = (struct api_model){ .id = m.id,
                               .engine = m.engine,
                               .text = m.text,
                               .context = m.context,
                               .created_s = m.created_s,
                               .elsewhere = !cluster_is_head(c),
                               .ready = m.state == MODEL_READY,
                               .why = m.why };
}

static int forward(void *arg, const struct api_request *request, struct responder *responder,
                   struct error *e)
{
    return peer_forward(((struct node *)arg)->cluster, request, responder, e);
}

static json_t *status(void *arg)
{
    return cluster_status(((struct node *)arg)->cluster);
}

/* --- start --- */

static int open_cluster(struct node *n, struct error *e)
{
    const struct node_options *o = n->options;
    const struct kernels *kernels = kernels_choose(o->isa, e);
    if (kernels == NULL) {
        return FAIL_ARG;
    }
    int next = o->port > 0 ? o->port + 1 : 0;
    int code = cluster_open(
        &n->cluster,
        &(struct cluster_options){ .base = n->base,
                                   .home = o->home,
                                   .models_dir = o->models_dir,
                                   .name = o->name,
                                   .peer_port = o->peer_port >= 0 ? o->peer_port : next,
                                   .join = o->join,
                                   .invite = o->invite,
                                   .split = o->split,
                                   .threads = o->threads,
                                   .backend = &backend_cpu,
                                   .kernels = kernels,
                                   .isa = kernels->name,
                                   .context = o->context,
                                   .exact = o->exact,
                                   .seal = o->seal,
                                   .on_request = peer_request,
                                   .arg = &n->api },
        e);
    for (int i = 0; i < o->n_models && code == 0; i++) {
        struct error why = { 0 }; /* the others, and this machine's part in the cluster, go on */
        if (cluster_add_model(n->cluster, o->models[i], &why) != 0) {
            log_error("node", "--model %s is not served: %s", o->models[i], why.text);
        }
    }
    return code;
}

static int open_api(struct node *n, struct error *e)
{
    const struct node_options *o = n->options;
    /* After the cluster, which makes the home. */
    int code = allowed_open(&n->allowed, o->home, &o->allow, e);
    code = code ? code
                : api_open(&n->api,
                           &(struct api_options){ .base = n->base,
                                                  .provider = { .count = model_count,
                                                                .at = model_at,
                                                                .forward = forward,
                                                                .status = status,
                                                                .arg = n } },
                           e);
    if (code == 0) {
        const struct server_options server = {
            .base = n->base, .api = n->api, .port = o->port, .allow = n->allowed.allow
        };
        code = server_open(&n->server, &server, e);
    }
    if (code == FAIL_BUSY) {
        return fail(e, code, "port %d is taken (another shoal?): give another one by --port N",
                    o->port);
    }
    return code;
}

static int tell(struct node *n, struct error *e)
{
    const struct node_options *o = n->options;
    const struct node_state s = { .port = server_port(n->server),
                                  .peer_port = cluster_peer_port(n->cluster),
                                  .device = cluster_device_id(n->cluster),
                                  .head = cluster_is_head(n->cluster),
                                  .allow = &n->allowed.allow };
    const struct running r = { .port = s.port, .peer_port = s.peer_port };
    int code = running_note(o->home, &r, e);
    return code == 0 && o->on_start != NULL ? o->on_start(o->arg, &s, e) : code;
}

/* --- its life --- */

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    event_base_loopbreak(arg);
}

static void on_second(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    log_flush(false);
}

/* Until a signal ends it. */
static int serve(struct node *u, struct error *e)
{
    static const int ends[] = { PROCESS_INTERRUPT, PROCESS_TERMINATE, PROCESS_HANG_UP };
    enum { N_ENDS = sizeof ends / sizeof ends[0] };
    const struct timeval second = { .tv_sec = 1 };
    struct event *events[N_ENDS + 1] = { event_new(u->base, -1, EV_PERSIST, on_second, NULL) };
    int n = 1;
    bool failed = events[0] == NULL || event_add(events[0], &second) != 0;
    for (int i = 0; i < N_ENDS && !failed; i++) {
        if (!process_ignores(ends[i])) {
            events[n] = evsignal_new(u->base, ends[i], on_signal, u->base);
            failed = events[n] == NULL || event_add(events[n], NULL) != 0;
            n += events[n] != NULL;
        }
    }
    failed = failed || event_base_dispatch(u->base) < 0;
    log_info("node", "ending");
    for (int i = 0; i < n && events[i] != NULL; i++) {
        event_free(events[i]);
    }
    return failed ? fail(e, FAIL_IO, "the event loop does not run") : 0;
}

int node_run(const struct node_options *o, struct error *e)
{
    struct node n = { .options = o };
    event_set_log_callback(log_libevent);
    if (evthread_use_pthreads() != 0 || (n.base = event_base_new()) == NULL) {
        return fail(e, FAIL_NOMEM, "memory for the event loop");
    }
    int code = open_cluster(&n, e);
    code = code ? code : open_api(&n, e);
    code = code ? code : tell(&n, e);
    code = code ? code : serve(&n, e);
    if (n.cluster != NULL) {
        cluster_stop(n.cluster);
    }
    api_stop(n.api);
    server_finish(n.server, FINISH_MS);
    server_close(n.server);
    api_close(n.api);
    cluster_close(n.cluster);
    allowed_close(&n.allowed);
    event_base_free(n.base);
    log_flush(true);
    return code;
}

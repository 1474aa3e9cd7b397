/* shoal up: this machine as a device of the cluster. */
#include "cli/commands.h"

#include <stdio.h>
#include <stdlib.h>

#include "api/api.h"
#include "api/server.h"
#include "backend/backend.h"
#include "cli/allowed.h"
#include "cli/folders.h"
#include "cli/invited.h"
#include "cli/options.h"
#include "cli/peer_reply.h"
#include "cli/running.h"
#include "cli/print.h"
#include "cluster/cluster.h"
#include "chat/model.h"
#include "kernels/kernels.h"
#include "os/log.h"
#include "os/process.h"

#include <event2/event.h>
#include <event2/thread.h>
#include <string.h>

#define DEFAULT_PORT 8420

/* At the end: how long clients have to take their last answers. */
#define FINISH_MS 1000

struct up {
    const char *home, *models, *join, *invite, *invite_file, *split, *isa, *name;
    char invitation[INVITATION_TEXT];
    int64_t port, peer_port, threads, context;
    struct option_list model, origins, hosts;
    bool seal, exact, replace;
    struct folders folders;
    struct allowed allowed;

    struct event_base *base;
    struct cluster *cluster;
    struct api *api;
    struct server *server;
};

/* --- the API's models come from the cluster --- */

static int model_count(void *arg)
{
    return cluster_model_count(((struct up *)arg)->cluster);
}

static void model_at(void *arg, int index, struct api_model *ret)
{
    struct cluster_model m;
    cluster_model_at(((struct up *)arg)->cluster, index, &m);
    *ret = (struct api_model){ .id = m.id,
                               .engine = m.engine,
                               .text = m.text,
                               .context = m.context,
                               .created_s = m.created_s,
                               .elsewhere = !cluster_is_head(((struct up *)arg)->cluster),
                               .ready = m.state == MODEL_READY,
                               .why = m.why };
}

static int forward(void *arg, const struct api_request *request, struct responder *responder,
                   struct error *e)
{
    return peer_forward(((struct up *)arg)->cluster, request, responder, e);
}

static json_t *status(void *arg)
{
    return cluster_status(((struct up *)arg)->cluster);
}

/* --- start --- */

static int find_folders(struct up *u, struct error *e)
{
    int code = folders_find(u->home, u->models, &u->folders, e);
    if (code == 0 && u->folders.home[0] == '\0') {
        code = fail(e, FAIL_ARG, "neither HOME nor XDG_DATA_HOME is set: give --home DIR");
    }
    return code;
}

static int open_cluster(struct up *u, struct error *e)
{
    int code = invited_take(u->invitation, (char *)u->invite, u->invite_file, e);
    code = code || !u->invitation[0] ? code : invited_agree(u->folders.home, u->replace, e);
    if (code != 0) {
        return code;
    }
    const struct kernels *kernels = kernels_choose(u->isa, e);
    if (kernels == NULL) {
        return FAIL_ARG;
    }
    int peer_port = u->peer_port >= 0 ? (int)u->peer_port : u->port > 0 ? (int)u->port + 1 : 0;
    code =
        cluster_open(&u->cluster,
                     &(struct cluster_options){ .base = u->base,
                                                .home = u->folders.home,
                                                .models_dir = u->folders.models,
                                                .name = u->name,
                                                .peer_port = peer_port,
                                                .join = u->join,
                                                .invite = u->invitation[0] ? u->invitation : NULL,
                                                .split = u->split,
                                                .threads = (int)u->threads,
                                                .backend = &backend_cpu,
                                                .kernels = kernels,
                                                .isa = kernels->name,
                                                .context = (int)u->context,
                                                .exact = u->exact,
                                                .seal = u->seal,
                                                .on_request = peer_request,
                                                .arg = &u->api },
                     e);
    for (int i = 0; i < u->model.n && code == 0; i++) {
        struct error why = { 0 }; /* the others, and this machine's part in the cluster, go on */
        if (cluster_add_model(u->cluster, u->model.values[i], &why) != 0) {
            log_error("up", "--model %s is not served: %s", u->model.values[i], why.text);
        }
    }
    return code;
}

static int open_api(struct up *u, struct error *e)
{
    int code = api_open(&u->api,
                        &(struct api_options){ .base = u->base,
                                               .provider = { .count = model_count,
                                                             .at = model_at,
                                                             .forward = forward,
                                                             .status = status,
                                                             .arg = u } },
                        e);
    if (code == 0) {
        code = server_open(
            &u->server,
            &(struct server_options){
                .base = u->base, .api = u->api, .port = (int)u->port, .allow = u->allowed.allow },
            e);
    }
    if (code == FAIL_BUSY) {
        return fail(e, code, "port %d is taken (another shoal?): give another one by --port N",
                    (int)u->port);
    }
    return code;
}

/* After the cluster, which makes the home. */
static int open_allowed(struct up *u, struct error *e)
{
    const struct allowed_more more = { u->origins.values, u->origins.n, u->hosts.values,
                                       u->hosts.n };
    return allowed_open(&u->allowed, u->folders.home, &more, e);
}

static int note_ports(const struct up *u, struct error *e)
{
    const struct running r = { .port = server_port(u->server),
                               .peer_port = cluster_peer_port(u->cluster) };
    return running_note(u->folders.home, &r, e);
}

static int show(const struct up *u, struct error *e)
{
    print_out("endpoint   http://127.0.0.1:%d/v1\n", server_port(u->server));
    print_out("device     %.8s, peers connect to port %d\n", cluster_device_id(u->cluster),
              cluster_peer_port(u->cluster));
    if (cluster_is_head(u->cluster)) {
        print_out("to join    on another machine, once: shoal invite%s%s (here), then there:\n",
                  u->home ? " --home " : "", u->home ? u->home : "");
        print_out("           shoal up --join THIS-MACHINE:%d --invite-file -\n",
                  cluster_peer_port(u->cluster));
    }
    if (u->model.n == 0 && cluster_is_head(u->cluster)) {
        print_out("models     none asked for: start with --model NAME (GGUF files in %s)\n",
                  u->folders.models);
    }
    for (int i = 0; i < u->allowed.allow.n_origins; i++) {
        print_out("allowed    pages of %s\n", u->allowed.allow.origins[i]);
    }
    for (int i = 0; i < u->allowed.allow.n_hosts; i++) {
        print_out("allowed    to be called %s\n", u->allowed.allow.hosts[i]);
    }
    return print_flush(e);
}

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
static int run(struct up *u, struct error *e)
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
    log_info("up", "ending");
    for (int i = 0; i < n && events[i] != NULL; i++) {
        event_free(events[i]);
    }
    return failed ? fail(e, FAIL_IO, "the event loop does not run") : 0;
}

static int up(struct up *u, struct error *e)
{
    event_set_log_callback(log_libevent);
    if (evthread_use_pthreads() != 0 || (u->base = event_base_new()) == NULL) {
        return fail(e, FAIL_NOMEM, "memory for the event loop");
    }
    int code = find_folders(u, e);
    code = code ? code : open_cluster(u, e);
    code = code ? code : open_allowed(u, e);
    code = code ? code : open_api(u, e);
    code = code ? code : note_ports(u, e);
    code = code ? code : show(u, e);
    code = code ? code : run(u, e);
    if (u->cluster != NULL) {
        cluster_stop(u->cluster);
    }
    api_stop(u->api);
    server_finish(u->server, FINISH_MS);
    server_close(u->server);
    api_close(u->api);
    cluster_close(u->cluster);
    allowed_close(&u->allowed);
    event_base_free(u->base);
    log_flush(true);
    return code;
}

int cmd_up(int argc, char **argv)
{
    struct up u = { .port = DEFAULT_PORT, .peer_port = -1 };
    const struct option_row rows[] = {
        OPTION_TEXT("home", &u.home, "DIR", "keys of this device (~/.local/share/shoal)"),
        OPTION_TEXT("models", &u.models, "DIR", "GGUF files (HOME/models)"),
        OPTION_TEXT("name", &u.name, "NAME", "of this device, for people (the host's name)"),
        OPTION_INT("port", &u.port, 0, 65534, "N", "HTTP on loopback (8420; 0: any)"),
        OPTION_INT("peer-port", &u.peer_port, 0, 65535, "N", "for other devices (port + 1)"),
        OPTION_TEXT("join", &u.join, "ADDRESS", "peer address of a member: host or host:port"),
        OPTION_TEXT("invite", &u.invite, "TEXT", "an invitation, made by shoal invite"),
        OPTION_TEXT("invite-file", &u.invite_file, "FILE",
                    "the same from a file, or - for standard input: ps shows nobody"),
        OPTION_FLAG("replace", &u.replace, "join even if this device heads a cluster of its own"),
        OPTION_LIST("model", &u.model, "MODEL", "model to serve: NAME.gguf of the models folder"),
        OPTION_TEXT("split", &u.split, "SPEC", "stages by '/', [LAYERS@]SHARES, shares by ':'"),
        OPTION_INT("threads", &u.threads, 0, 256, "N", "of compute (all usable cores)"),
        OPTION_TEXT("isa", &u.isa, "NAME", "kernels (the best that the processor has)"),
        OPTION_INT("context", &u.context, 16, CLUSTER_MAX_CONTEXT, "N",
                   "most tokens of a session (what fits, up to 32768)"),
        OPTION_LIST("allow-origin", &u.origins, "ORIGIN",
                    "web pages that may use it, kept: SCHEME://HOST (none: forget all)"),
        OPTION_LIST("allow-host", &u.hosts, "NAME",
                    "it may be called by, kept: host.docker.internal (none: forget all)"),
        OPTION_FLAG("exact", &u.exact, "f32 activations and KV, for checking"),
        OPTION_FLAG("seal", &u.seal, "encrypt data channels within this machine too"),
    };
    const struct option_set set = { "up", rows, sizeof rows / sizeof rows[0] };
    int code = EXIT_OK;
    if (!options_start(&set, argc, argv, &code)) {
        return code;
    }
    struct error e = { 0 };
    if (up(&u, &e) != 0) {
        print_failure("up", &e);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

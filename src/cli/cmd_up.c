/* shoal up: this machine as a device of the cluster. */
#include "cli/commands.h"

#include "cli/folders.h"
#include "cli/invited.h"
#include "cli/options.h"
#include "cli/print.h"
#include "cluster/cluster.h"
#include "plan/context.h"
#include "node/node.h"

#define DEFAULT_PORT 8420

struct up {
    const char *home, *models, *join, *invite, *invite_file, *split, *isa, *name;
    char invitation[INVITATION_TEXT];
    int64_t port, peer_port, threads, context;
    struct option_list model, origins, hosts;
    bool seal, exact, replace;
    struct folders folders;
};

static int show(void *arg, const struct node_state *s, struct error *e)
{
    const struct up *u = arg;
    print_out("endpoint   http://127.0.0.1:%d/v1\n", s->port);
    print_out("device     %.8s, peers connect to port %d\n", s->device, s->peer_port);
    if (s->head) {
        print_out("to join    on another machine, once: shoal invite%s%s (here), then there:\n",
                  u->home ? " --home " : "", u->home ? u->home : "");
        print_out("           shoal up --join THIS-MACHINE:%d --invite-file -\n", s->peer_port);
    }
    if (u->model.n == 0 && s->head) {
        print_out("models     none asked for: start with --model NAME (GGUF files in %s)\n",
                  u->folders.models);
    }
    for (int i = 0; i < s->allow->n_origins; i++) {
        print_out("allowed    pages of %s\n", s->allow->origins[i]);
    }
    for (int i = 0; i < s->allow->n_hosts; i++) {
        print_out("allowed    to be called %s\n", s->allow->hosts[i]);
    }
    return print_flush(e);
}

/* The folders, and an invitation that its owner agrees to. */
static int prepare(struct up *u, struct error *e)
{
    int code = folders_find(u->home, u->models, &u->folders, e);
    if (code == 0 && u->folders.home[0] == '\0') {
        code = fail(e, FAIL_ARG, "neither HOME nor XDG_DATA_HOME is set: give --home DIR");
    }
    code = code ? code : invited_take(u->invitation, (char *)u->invite, u->invite_file, e);
    return code || !u->invitation[0] ? code : invited_agree(u->folders.home, u->replace, e);
}

static int run(struct up *u, struct error *e)
{
    return node_run(
        &(struct node_options){
            .home = u->folders.home,
            .models_dir = u->folders.models,
            .name = u->name,
            .join = u->join,
            .invite = u->invitation[0] ? u->invitation : NULL,
            .split = u->split,
            .isa = u->isa,
            .port = (int)u->port,
            .peer_port = (int)u->peer_port,
            .threads = (int)u->threads,
            .context = (int)u->context,
            .models = u->model.values,
            .n_models = u->model.n,
            .allow = { u->origins.values, u->origins.n, u->hosts.values, u->hosts.n },
            .exact = u->exact,
            .seal = u->seal,
            .on_start = show,
            .arg = u,
        },
        e);
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
        OPTION_INT("context", &u.context, 16, CONTEXT_MAX, "N",
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
    int result = prepare(&u, &e);
    if (result == 0) {
        result = run(&u, &e);
    }
    if (result != 0) {
        print_failure("up", &e);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

/* A device: its part in a cluster and its HTTP endpoint, in one process and on one event loop. */
#ifndef SHOAL_NODE_NODE_H
#define SHOAL_NODE_NODE_H

#include <stdbool.h>

#include "base/error.h"
#include "node/allowed.h"

/* What is told of a device that has started. Borrowed for the call. */
struct node_state {
    int port, peer_port; /* HTTP on loopback; for other devices */
    const char *device;  /* its id */
    bool head;           /* it heads its cluster */
    const struct allow *allow;
};

/* Texts and lists are borrowed until node_run returns. */
struct node_options {
    const char *home;          /* keys of this device; made where it is missing */
    const char *models_dir;    /* GGUF files */
    const char *name;          /* for people; NULL: the host's */
    const char *join;          /* address of a member; NULL: as the invitation says, or a head */
    const char *invite;        /* an invitation's text; NULL: none */
    const char *split;         /* of the models; NULL: one stage */
    const char *isa;           /* kernels by name; NULL: the best */
    int port, peer_port;       /* 0: any; peer_port -1: port + 1 */
    int threads;               /* of compute; 0: all usable cores */
    int context;               /* most tokens of a session; 0: what fits */
    const char *const *models; /* to serve, by name or path */
    int n_models;
    struct allowed_more allow; /* beside what the home remembers */
    bool exact, seal;          /* as cluster_options has them */
    /* Everything is open, nothing is served yet; a failure ends the device. NULL: not asked. */
    int (*on_start)(void *arg, const struct node_state *s, struct error *e);
    void *arg;
};

/* Runs a device until SIGINT, SIGTERM or SIGHUP ends it; its clients get their last answers.
 * FAIL_BUSY where a port or the home is taken, and the failures of cluster_open, api_open,
 * server_open. Once at a time in a process: libevent's log and the signals are the process's.
 * Blocks; the calling thread becomes the control thread. */
int node_run(const struct node_options *o, struct error *e);

#endif

/* A service is what clients see: a model by name, its text, its queue, and why it waits. It holds
 * the placement that serves and the one that is being built. The head has one for each model asked
 * for. owner: control thread. */
#ifndef SHOAL_CLUSTER_SERVICE_H
#define SHOAL_CLUSTER_SERVICE_H

#include "cluster/internal.h"

struct part_order;
struct chat_model;
struct service;

/* Takes a model to be served: a name of the models folder, or a path. It is placed as soon as the
 * devices are there. FAIL_NOT_FOUND names the folder; FAIL_FORMAT and others when the file can't be
 * used. */
int service_add(struct cluster *c, const char *name, struct error *e);

/* What the time brings: attempts, time-outs, failed engines, engines to be freed. */
void services_tick(struct cluster *c);

/* Looks at the engines, after one asked for it. */
void services_poll(struct cluster *c);

/* A device that came may make an attempt worthwhile; one that went ends what ran through it. */
void services_device_joined(struct cluster *c);
/* why: for the clients whose requests end. */
void services_device_lost(struct cluster *c, struct device *d, const char *why);

/* A channel that the head opened to a rank, or why there is none; owns it where it returns true:
 * it is for a service's placement. */
bool service_channel(struct cluster *c, const struct channel_purpose *purpose,
                     struct channel *channel, const struct error *error);

/* Ends everything at once; engines are closed before it returns. */
void services_close(struct cluster *c);

/* A snapshot for the API and for status. Borrowed until the next turn of the loop. */
struct service_view {
    const char *id;
    enum cluster_model_state state;
    const char *phase;     /* "waiting", "loading", "connecting", "serving" */
    const char *why;       /* what it waits for, "" while serving */
    struct engine *engine; /* NULL unless serving */
    struct chat_model *text;
    const struct model_file *file;
    const struct part_order *order; /* of the present or last attempt; no ranks before one */
    int context;
    int64_t created_s;
};
int service_count(const struct cluster *c);
void service_view(const struct cluster *c, int index, struct service_view *ret);

/* Tells members which models are served; to NULL: all. */
void services_announce(struct cluster *c, struct device *to);

#endif

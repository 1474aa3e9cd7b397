/* The head's side of a placement: plan, order, connect, serve, and again when a device is lost. */
#ifndef SHOAL_CLUSTER_PLACE_H
#define SHOAL_CLUSTER_PLACE_H

#include "cluster/internal.h"

struct served_text;

enum place_state { PLACE_WAITING, PLACE_LOADING, PLACE_CONNECTING, PLACE_SERVING, PLACE_STATES };

/* Takes a model to be served: a name of the models folder, or a path. It is placed as soon as the
 * devices are there. FAIL_NOT_FOUND names the folder; FAIL_FORMAT and others when the file can't be
 * used. */
int place_add(struct cluster *c, const char *name, struct error *e);

/* What the time brings: attempts, time-outs, failed engines, engines to be freed. */
void places_tick(struct cluster *c);

/* A device that came may make an attempt worthwhile; one that went ends what ran through it. */
void places_device_joined(struct cluster *c, struct device *d);
/* why: for the clients whose requests end. */
void places_device_lost(struct cluster *c, struct device *d, const char *why);

/* Ends everything at once; engines are closed before it returns. */
void places_close(struct cluster *c);

/* A snapshot for the API and for status. Borrowed until the next turn of the loop. */
struct place_view {
    const char *id;
    enum place_state state;
    const char *why;       /* what it waits for, "" while serving */
    struct engine *engine; /* NULL unless serving */
    const struct served_text *text;
    const struct model_file *file;
    const struct part_order *order; /* of the present or last attempt; no ranks before one */
    int context;
    int64_t created_s;
};
int place_count(const struct cluster *c);
void place_view(const struct cluster *c, int index, struct place_view *ret);

/* Tells members which models are served; to NULL: all. */
void places_announce(struct cluster *c, struct device *to);

#endif

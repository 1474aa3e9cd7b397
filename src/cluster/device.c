/* The table of devices that this one knows. */
#include "cluster/internal.h"

#include <stdlib.h>

struct device *device_find(struct cluster *c, const char *id)
{
    const struct peer *p = peers_find(c->peers, id);
    return p != NULL ? peer_user(p) : NULL;
}

struct device *device_of(struct cluster *c, struct peer *p)
{
    struct device *d = peer_user(p);
    if (d == NULL && c->n_devices < CLUSTER_MAX_DEVICES && (d = calloc(1, sizeof *d)) != NULL) {
        d->peer = p;
        d->id = peer_id(p);
        d->name = peer_name(p);
        d->self = peer_is_self(p);
        peer_set_user(p, d);
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

const struct part_report *device_part(const struct device *d, int64_t placement, uint32_t epoch)
{
    for (int i = 0; d != NULL && i < d->n_parts; i++) {
        if (d->parts[i].placement == placement && d->parts[i].epoch == epoch) {
            return &d->parts[i];
        }
    }
    return NULL;
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
    return peer_alive(d->peer);
}

const char *device_label(const struct device *d, char text[static DEVICE_LABEL])
{
    return peer_label(d->peer, text);
}

void device_send(struct cluster *c, struct device *d, json_t *body)
{
    peer_send(d->peer, body);
    (void)c;
}

void device_address_for(const struct cluster *c, const struct device *d, const struct device *to,
                        char text[static ADDRESS_TEXT])
{
    peer_address_for(d->peer, to->peer, text);
    (void)c;
}

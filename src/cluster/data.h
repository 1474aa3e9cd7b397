/* Data channels: a ticket over the control link; then shared memory that is handed over with it on
 * one host, or a connection of its own that opens with it. */
#ifndef SHOAL_CLUSTER_DATA_H
#define SHOAL_CLUSTER_DATA_H

#include "cluster/internal.h"

#include <event2/util.h>

/* What a data channel is for. */
struct data_purpose {
    int64_t placement;
    uint32_t epoch;
    int link; /* index in wire_links of the placement's plan */
};

/* Takes the channel (owned), or learns why there is none (channel NULL). */
typedef void (*data_done)(struct cluster *c, const struct data_purpose *p, struct channel *channel,
                          const struct error *error);

/* Opens a channel to a device, which must expect it; connects the control link first where there
 * is none. done is called once, later. */
void data_open(struct cluster *c, struct device *to, const struct data_purpose *p, data_done done);

/* Gives up everything under way to a device; done is told. */
void data_device_lost(struct cluster *c, struct device *d, const char *why);
/* Gives up everything under way for a placement, without calling done. */
void data_forget(struct cluster *c, int64_t placement);

/* A control link to d is ready: what waited for it goes on. */
void data_device_ready(struct cluster *c, struct device *d);

/* Lets processes of this host hand shared memory over, where the system can do that and nothing is
 * said against it. */
void data_listen(struct cluster *c);

/* An accepted connection on the peer port whose first byte is that of a ticket. Owns fd. */
void data_accept(struct cluster *c, evutil_socket_t fd);

/* Time-outs. */
void data_tick(struct cluster *c);
void data_close_all(struct cluster *c);

#endif

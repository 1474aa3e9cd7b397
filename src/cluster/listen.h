/* The peer port. owner: control thread. */
#ifndef SHOAL_CLUSTER_LISTEN_H
#define SHOAL_CLUSTER_LISTEN_H

#include "cluster/internal.h"

/* Listens; the port is self's peer_port from then on. FAIL_BUSY with what to type. */
int listen_open(struct cluster *c, struct error *e);
void listen_close(struct cluster *c);
/* Closes those that said nothing in time. */
void listen_tick(struct cluster *c);

#endif

/* The peer port. owner: control thread. */
#ifndef SHOAL_PEER_LISTEN_H
#define SHOAL_PEER_LISTEN_H

#include "peer/internal.h"

/* Listens; the port is self's from then on. FAIL_BUSY with what to type. */
int listen_open(struct peers *all, struct error *e);
void listen_close(struct peers *all);
/* Closes those that said nothing in time. */
void listen_tick(struct peers *all);

#endif

/* Requests of a member's clients, answered by the head. owner: control thread. */
#ifndef SHOAL_CLUSTER_FORWARD_H
#define SHOAL_CLUSTER_FORWARD_H

#include "cluster/internal.h"
#include "peer/stream.h"

/* See peer_events.request. */
void forward_request(void *arg, struct peer *from, const struct peer_request *request,
                     struct peer_reply *reply);

#endif

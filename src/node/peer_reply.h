/* Joins the API and the cluster: a request that a peer forwarded is answered by the same handlers
 * as one of an HTTP client, and a request for a model of another device travels to it.
 * owner: the event loop's thread. */
#ifndef SHOAL_NODE_PEER_REPLY_H
#define SHOAL_NODE_PEER_REPLY_H

#include "api/api.h"
#include "cluster/cluster.h"

/* cluster_options.on_request; arg: struct api ** (NULL in it: 503). */
void peer_request(void *arg, const struct cluster_request *request, struct cluster_reply *reply);

/* Sends a client's request to the head and its answer to the responder. FAIL_CLOSED when there is
 * no head now; the caller answers then. */
int peer_forward(struct cluster *c, const struct api_request *request, struct responder *to,
                 struct error *e);

#endif

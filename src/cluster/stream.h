/* Requests that travel over a peer link to the head, and their replies. A member forwards; the head
 * answers. owner: control thread. */
#ifndef SHOAL_CLUSTER_STREAM_H
#define SHOAL_CLUSTER_STREAM_H

#include "cluster/internal.h"

struct stream;

/* Bytes of a forwarded request's body: the API's own bound for a body, which it enforces first. */
#define STREAM_MAX_BODY (16u << 20)
#define STREAM_MAX_METHOD 16
#define STREAM_MAX_PATH 1024
#define STREAM_MAX_TYPE 128
/* Requests of all members under way at once. */
#define STREAM_MAX_COUNT 1024
/* Reply bytes that may wait in a link for a slow member before the request is given up. */
#define STREAM_MAX_WAITING (8u << 20)

/* Everything that travels to or from a lost device ends. */
void streams_device_lost(struct cluster *c, struct device *d);
/* Ends the requests that this device sent on. */
void streams_stop(struct cluster *c);
void streams_close(struct cluster *c);

#endif

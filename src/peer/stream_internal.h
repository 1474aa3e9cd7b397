/* The messages of requests that travel. A header for this layer only. */
#ifndef SHOAL_PEER_STREAM_INTERNAL_H
#define SHOAL_PEER_STREAM_INTERNAL_H

#include "peer/internal.h"
#include "peer/stream.h"

/* Of any message about one request. */
struct stream_id {
    int64_t id;
};

struct stream_request {
    int64_t id;
    char method[STREAM_MAX_METHOD];
    char path[STREAM_MAX_PATH];
};

struct stream_reply {
    int64_t id;
    int status;
    char content_type[STREAM_MAX_TYPE];
};

/* A message that came over a link for requests. */
enum peer_verdict streams_message(struct link *l, const struct message *m, struct error *e);

/* Such a link, dialled here, is open: what waited for it goes. */
void streams_link_ready(struct link *l);
/* It has room. */
void streams_pump(struct link *l);
/* Some request travels on it. */
bool streams_busy(const struct link *l);
/* It ended, or could not be made. */
void streams_link_ended(struct peer *p, const struct link *l, const char *why);

/* Everything that travels to or from a lost peer ends. */
void streams_peer_lost(struct peers *all, struct peer *p, const char *why);
/* Ends the requests that this device sent on. */
void streams_stop(struct peers *all);
/* Bodies that stand still. */
void streams_tick(struct peers *all);
void streams_close(struct peers *all);

#endif

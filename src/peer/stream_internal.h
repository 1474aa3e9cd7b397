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

#define STREAM_ID_FIELDS 1
extern const struct message_field stream_id_fields[STREAM_ID_FIELDS];
#define STREAM_REQUEST_FIELDS 3
extern const struct message_field stream_request_fields[STREAM_REQUEST_FIELDS];
#define STREAM_REPLY_FIELDS 3
extern const struct message_field stream_reply_fields[STREAM_REPLY_FIELDS];

enum peer_verdict on_request(void *arg, struct peer *from, const void *fields, struct error *e);
enum peer_verdict on_request_end(void *arg, struct peer *from, const void *fields, struct error *e);
enum peer_verdict on_cancel(void *arg, struct peer *from, const void *fields, struct error *e);
enum peer_verdict on_reply(void *arg, struct peer *from, const void *fields, struct error *e);
enum peer_verdict on_reply_end(void *arg, struct peer *from, const void *fields, struct error *e);
void on_stream_data(struct peers *all, struct peer *from, uint32_t id, struct bytes data);

/* Everything that travels to or from a lost peer ends. */
void streams_peer_lost(struct peers *all, struct peer *p, const char *why);
/* Ends the requests that this device sent on. */
void streams_stop(struct peers *all);
/* Bodies that stand still. */
void streams_tick(struct peers *all);
void streams_close(struct peers *all);

#endif

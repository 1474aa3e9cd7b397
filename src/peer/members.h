/* The message that tells who is there. */
#ifndef SHOAL_PEER_MEMBERS_H
#define SHOAL_PEER_MEMBERS_H

#include "peer/internal.h"

struct members {
    const json_t *members;
};

#define MEMBERS_FIELDS 1
extern const struct message_field members_fields[MEMBERS_FIELDS];

/* Its handler. */
enum peer_verdict on_members(void *arg, struct peer *from, const void *fields, struct error *e);

#endif

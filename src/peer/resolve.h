/* Looking host names up beside the loop: the system's resolver may take half a minute, and the
 * loop's silence of four seconds is a death. Nothing here waits. */
#ifndef SHOAL_PEER_RESOLVE_H
#define SHOAL_PEER_RESOLVE_H

#include "base/error.h"

#include <stdint.h>
#include <sys/socket.h>

/* Names that are known at a time: those of an invitation, and --join's. */
#define RESOLVE_NAMES 8
/* An answer is asked for again after this, and used all the same: the last address that worked. */
#define RESOLVE_FRESH_NS 60000000000ull

struct resolver;

/* An address to connect to. */
struct resolved {
    struct sockaddr_storage address;
    socklen_t size;
};

/* NULL without memory. */
struct resolver *resolver_open(void);
/* Look-ups under way end by themselves. NULL is fine. */
void resolver_close(struct resolver *r);

/* The address of a host. Numbers are told at once; a name is looked up in a thread of its own, at
 * most one for each name at a time: FAIL_BUSY until there is an answer, and what is known stays
 * known while it is looked up again. FAIL_NOT_FOUND with the resolver's words; FAIL_LIMIT,
 * FAIL_NOMEM. owner: one thread. */
int resolver_get(struct resolver *r, const char *host, int port, uint64_t now_ns,
                 struct resolved *ret, struct error *e);

#endif

/* Which device runs in a home, for commands beside it. */
#ifndef SHOAL_NODE_RUNNING_H
#define SHOAL_NODE_RUNNING_H

#include "base/error.h"

/* Where it can be reached. */
struct running {
    int port;      /* HTTP on loopback */
    int peer_port; /* for other devices */
};

/* Notes it in HOME/running. FAIL_IO, FAIL_LIMIT, FAIL_AUTH. */
int running_note(const char *home, const struct running *r, struct error *e);

/* What was noted by the device that runs in HOME now. FAIL_CLOSED: none does. FAIL_FORMAT. */
int running_find(const char *home, struct running *ret, struct error *e);

#endif

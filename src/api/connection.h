/* HTTP connections: each reads a request, has it answered, reads the next. owner: the event loop.
 */
#ifndef SHOAL_API_CONNECTION_H
#define SHOAL_API_CONNECTION_H

#include "api/server_options.h"

#include <event2/util.h>

struct connection;

/* All connections of a server. Caller's struct; what isn't an option or a callback begins as zero.
 * They end before it does. */
struct connections {
    struct server_options options; /* defaults filled in */
    /* One is gone, or has become idle: there may be a place for another. */
    void (*changed)(void *arg);
    void *arg;
    struct connection *first; /* the newest */
    int n;
    size_t body_bytes;   /* of bodies under way */
    size_t answer_bytes; /* of whole answers that clients haven't taken yet */
};

/* Takes the socket over. FAIL_NOMEM; the socket is then closed. */
int connection_open(struct connections *set, evutil_socket_t fd);

/* Closes the one that is of least use now, but not the newest: the idlest; then the oldest whose
 * head, then whose body is on its way; then the oldest that doesn't take its answer. False when all
 * others are being answered. */
bool connections_make_room(struct connections *set);

/* Present answers are the last ones; who has none is closed. */
void connections_finish(struct connections *set);
/* Whether the system has taken all last answers whole. */
bool connections_are_done(const struct connections *set);

/* Cancels all requests and frees everything. */
void connections_close(struct connections *set);

#endif

/* One HTTP connection; shared by server.c and connection.c. */
#ifndef SHOAL_API_CONNECTION_H
#define SHOAL_API_CONNECTION_H

#include "api/http.h"
#include "api/server.h"

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

struct connection;

struct server {
    struct server_options options; /* defaults filled in */
    struct evconnlistener *listeners[2];
    struct event *retry; /* after a failed accept */
    int port;
    struct connection *connections;
    int n_connections;
    size_t body_bytes;   /* of all connections */
    size_t answer_bytes; /* whole answers that clients haven't taken yet */
};

/* Takes the socket over. FAIL_NOMEM; the socket is then closed. */
int connection_open(struct server *s, evutil_socket_t fd);

/* Cancels its request and frees it. */
void connection_close(struct connection *c);

/* Of the list; NULL at its end. */
struct connection *connection_next(const struct connection *c);

/* Its present answer is the last one; without one it is closed. */
void connection_finish(struct connection *c);

/* Whether the system has taken its last answer whole. */
bool connection_is_done(const struct connection *c);

/* What a connection waits for, in the order in which it gives way to others. */
enum connection_use {
    CONNECTION_IDLE,   /* for a request, or for the client's close */
    CONNECTION_HEAD,   /* a head is on its way */
    CONNECTION_BODY,   /* a body is */
    CONNECTION_TAKES,  /* a whole answer that the client doesn't take */
    CONNECTION_WORKED, /* it is being answered: never */
};
enum connection_use connection_use(const struct connection *c, uint64_t *since_ns);

/* Ends one whose request hasn't come whole: 503. */
void connection_give_way(struct connection *c);

/* The one that has been at it for longest; NULL when there is none. Never `except`. */
struct connection *server_oldest(const struct server *s, enum connection_use use,
                                 const struct connection *except);

/* It turned idle: a place for another one, if there was none. */
void server_connection_idle(struct server *s);

/* A place is free again. */
void server_connection_gone(struct server *s);

#endif

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
    size_t body_bytes; /* of all connections */
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

/* A place is free again. */
void server_connection_gone(struct server *s);

#endif

/* The HTTP server of a device: loopback only, bounded in everything a client can make it keep. */
#ifndef SHOAL_API_SERVER_H
#define SHOAL_API_SERVER_H

#include "api/server_options.h"
#include "base/error.h"

#include <event2/util.h>

struct server;

/* Listens on 127.0.0.1 and, where there is one, ::1. FAIL_BUSY when the port is taken, FAIL_IO. The
 * process must ignore SIGPIPE (os/process.h). */
int server_open(struct server **ret, const struct server_options *options, struct error *e);

/* Takes no more requests and runs the loop until what is being answered is out, or for so long.
 * After api_stop, which ends the answers. NULL is fine. */
void server_finish(struct server *s, int timeout_ms);

/* Closes all connections; their requests are cancelled. NULL is fine. Before api_close. */
void server_close(struct server *s);

/* The port that it listens on. */
int server_port(const struct server *s);
/* Connections that are open. */
int server_connections(const struct server *s);

/* Serves one connected, non-blocking socket, which the server then owns: for tests and fuzzing. */
int server_adopt(struct server *s, evutil_socket_t fd);

#endif

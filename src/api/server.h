/* The HTTP server of a device: loopback only, bounded in everything a client can make it keep. */
#ifndef SHOAL_API_SERVER_H
#define SHOAL_API_SERVER_H

#include "api/allow.h"
#include "api/api.h"

#include <event2/util.h>

struct server;

/* Zero takes the default. Times in ms. */
struct server_options {
    struct event_base *base;
    struct api *api;
    int port;             /* 0: any free one */
    struct allow allow;   /* beside this machine's own names and origins; borrowed */
    int max_connections;  /* 512; then the idlest gives way, see docs/pools.md */
    size_t max_body;      /* bytes of one body, 8 MiB */
    size_t max_bodies;    /* bytes of all bodies under way, 256 MiB */
    size_t max_answers;   /* bytes of whole answers that wait for their clients, 512 MiB */
    size_t max_waiting;   /* reply bytes that a client hasn't taken yet, 1 MiB */
    int head_timeout_ms;  /* from the first byte to the end of the headers, 15000 */
    int body_timeout_ms;  /* the whole body, 60000 */
    int idle_timeout_ms;  /* between requests, 75000 */
    int write_timeout_ms; /* without a byte taken while some wait, 30000 */
};

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

/* What bounds the HTTP server; shared by the server and its connections. */
#ifndef SHOAL_API_SERVER_OPTIONS_H
#define SHOAL_API_SERVER_OPTIONS_H

#include "api/allow.h"
#include "api/api.h"

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

#endif

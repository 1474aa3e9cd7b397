/* Who may use the server: hosts that it is called by, and pages of which origins. Pure.
 *
 * Any page that a person opens can send requests to 127.0.0.1, and a name server can claim that its
 * name is 127.0.0.1 (DNS rebinding). So a request is taken when Host and Origin name this machine,
 * or what its owner allowed. */
#ifndef SHOAL_API_ALLOW_H
#define SHOAL_API_ALLOW_H

#include "base/bytes.h"
#include "base/error.h"

#include <stdbool.h>

/* Entries of each list, and bytes of one. */
#define ALLOW_MAX 64
#define ALLOW_TEXT 256

/* Borrowed texts, each taken by allow_check_*. */
struct allow {
    const char *const
        *origins; /* "https://app.example:8080", "app://x"; '*' after "://", or alone: any */
    int n_origins;
    const char *const *hosts; /* "host.docker.internal", whatever the port; "*": any */
    int n_hosts;
};

/* Whether a text can be an entry. FAIL_ARG with what is expected. */
int allow_check_origin(const char *text, struct error *e);
int allow_check_host(const char *text, struct error *e);

/* Whether a Host or an Origin's authority names this machine: localhost, 127.0.0.0/8, [::1], any
 * port. */
bool allow_is_loopback(struct bytes authority);

/* The host of an authority ("name:1", "[::1]:1"), its port taken off; empty when the port is none.
 * Borrowed. */
struct bytes allow_host_of(struct bytes authority);

/* A Host header; an Origin header, whole ("http://localhost:3000"). */
bool allow_host(const struct allow *a, struct bytes authority);
bool allow_origin(const struct allow *a, struct bytes origin);

#endif

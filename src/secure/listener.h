/* What comes in at the peer port: a control connection (TLS) or a data connection (a preamble). */
#ifndef SHOAL_SECURE_LISTENER_H
#define SHOAL_SECURE_LISTENER_H

#include "base/error.h"

/* A connection that has not proved itself in this time is closed. */
#define LISTENER_PROOF_NS 5000000000ull

enum listener_kind {
    LISTENER_UNKNOWN, /* not enough has come yet: ask again when more is readable */
    LISTENER_TLS,     /* or garbage, which TLS answers by an alert */
    LISTENER_DATA,    /* the whole preamble is there: reading PREAMBLE_BYTES won't wait */
};

/* Looks at an accepted, non-blocking socket without taking anything. FAIL_CLOSED, FAIL_IO. */
int listener_peek(enum listener_kind *ret, int fd, struct error *e);

#endif

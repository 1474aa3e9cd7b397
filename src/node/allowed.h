/* Hosts and origins that this device's owner allowed, kept in its home. */
#ifndef SHOAL_NODE_ALLOWED_H
#define SHOAL_NODE_ALLOWED_H

#include "api/allow.h"

#include <jansson.h>

/* Caller's struct; zero is none. */
struct allowed {
    struct allow allow; /* its texts live in json */
    const char *origins[ALLOW_MAX], *hosts[ALLOW_MAX];
    json_t *json; /* {"origins": [...], "hosts": [...]} */
};

/* Reads HOME/allowed.json, adds what is given (the word "none" drops what was there before it) and
 * writes it where that changed something. FAIL_ARG for a text that is no origin or host, FAIL_LIMIT
 * for more than ALLOW_MAX, FAIL_FORMAT for a file that can't be understood, FAIL_IO. */
struct allowed_more {
    const char *const *origins;
    int n_origins;
    const char *const *hosts;
    int n_hosts;
};
int allowed_open(struct allowed *ret, const char *home, const struct allowed_more *more,
                 struct error *e);
void allowed_close(struct allowed *a);

#endif

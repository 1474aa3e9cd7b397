/* Asking a running device over its endpoint, by libcurl; for this folder only. */
#ifndef SHOAL_CLI_CLIENT_H
#define SHOAL_CLI_CLIENT_H

#include "base/buffer.h"
#include "base/error.h"

#include <stdatomic.h>
#include <stdint.h>

#define CLIENT_DEFAULT_URL "http://127.0.0.1:8420"
#define CLIENT_URL_TEXT 512
/* What every command's help says of --url. */
#define CLIENT_URL_HELP                                                                            \
    "the endpoint ($SHOAL_URL, else this user's device, else " CLIENT_DEFAULT_URL ")"

/* The endpoint's address without a path of ours, from what people have at hand: `given` (--url;
 * NULL: SHOAL_URL, else the device that runs in this user's home, else the default) with or without
 * "http://", "/v1" and slashes at its end, as `shoal up` prints it. FAIL_ARG. */
int client_url(const char *given, char ret[static CLIENT_URL_TEXT], struct error *e);

/* One request. body NULL: GET, else POST of JSON. The reply's body comes in pieces to on_data as
 * it arrives; a non-zero answer ends the transfer (FAIL_CANCELLED). */
struct client_request {
    const char *url; /* of the endpoint, without a path */
    const char *path;
    const char *body;
    long timeout_s; /* of the whole transfer; 0: none, but a silent connection ends after 60 s */
    int (*on_data)(void *arg, struct bytes data);
    void *arg;
    const atomic_bool *stop; /* may be NULL; setting it ends the transfer within a second */
};

/* *status is the HTTP status. FAIL_CLOSED when nobody answers ("... is shoal up running?"),
 * FAIL_TIMEOUT, FAIL_CANCELLED. */
int client_send(const struct client_request *r, long *status, struct error *e);

/* The whole reply into out (bounded by its limit); a status of 400 or more is an error with the
 * message of its JSON body. */
int client_fetch(const char *url, const char *path, struct buffer *out, struct error *e);

/* Whether a model of that name is served there. FAIL_NOT_FOUND with the names of those that are,
 * and client_fetch's errors. */
int client_find_model(const char *url, const char *model, struct error *e);

/* The message in an error body of OpenAI's shape, or the body itself, cut. */
void client_error_text(struct bytes body, char *out, size_t size);

#endif

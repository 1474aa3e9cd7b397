/* The API of a device: requests in OpenAI's shape, whoever brings them, to answers. */
#ifndef SHOAL_API_API_H
#define SHOAL_API_API_H

#include "api/responder.h"
#include "base/buffer.h"
#include "base/error.h"

#include <jansson.h>
#include <stdint.h>

struct api;
struct chat_model;
struct engine;
struct event_base;

/* One model that can be asked for. Borrowed for the turn of the event loop; the engine must
 * outlive the requests that use it, and end those (engine_close does). */
struct api_model {
    const char *id;
    struct engine *engine;   /* NULL: not served by this device now */
    struct chat_model *text; /* with engine: vocabulary and chat template; a request acquires it */
    int context;             /* positions of one session; 0: not known */
    int64_t created_s;
    bool elsewhere;  /* another device serves it: forward */
    bool ready;      /* it can answer now, here or there */
    const char *why; /* not ready: what it waits for; may be NULL */
};

/* Where models and facts come from. All on the event loop's thread. */
struct api_provider {
    int (*count)(void *arg);
    void (*at)(void *arg, int index, struct api_model *ret);
    /* Takes the request over and answers through the responder; on an error the caller answers.
     * NULL: there are no other devices. */
    int (*forward)(void *arg, const struct api_request *request, struct responder *responder,
                   struct error *e);
    /* A new reference to the status page's object; NULL: only what the API knows itself. */
    json_t *(*status)(void *arg);
    void *arg;
};

struct api_options {
    struct event_base *base; /* its thread is the only one that calls the API */
    struct api_provider provider;
    int keepalive_ms; /* silence of a stream before a comment line; 0: 5000 */
};

/* FAIL_NOMEM, FAIL_IO. */
int api_open(struct api **ret, const struct api_options *options, struct error *e);

/* Answers what is unfinished with 503, and all that comes later. The engines must have been closed
 * before, so that no callback can come any more. NULL is fine. */
void api_stop(struct api *a);

/* Likewise, and frees it. */
void api_close(struct api *a);

/* Handles a request; the answer comes through the responder, now or later, always ended. */
void api_handle(struct api *a, const struct api_request *request, struct responder *responder);

/* Requests that are being answered. */
int api_active(const struct api *a);

#endif

/* A model file served inside this process: `shoal run FILE`. */
#ifndef SHOAL_NODE_LOCAL_MODEL_H
#define SHOAL_NODE_LOCAL_MODEL_H

#include "base/bytes.h"
#include "base/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct local_model_options {
    const char *path;
    const char *isa;
    int64_t threads; /* 0: all cores */
    int64_t context; /* most tokens of a session; 0: as fits, see plan/context.h */
    /* Bytes of the weights that are loaded, and of all; NULL: not told. */
    void (*on_progress)(void *arg, uint64_t done, uint64_t total);
    void *arg;
};

struct local_model;

/* Loads the file. Errors of source_open, inprocess_open, chat_model_open and engine_open;
 * FAIL_UNSUPPORTED for one without a vocabulary. */
int local_model_open(struct local_model **ret, const struct local_model_options *o,
                     struct error *e);
/* Ends what runs and frees. NULL is fine. */
void local_model_close(struct local_model *m);

/* Most tokens of a session: as asked for or as fits, but no more than the model's own. */
int local_model_context(const struct local_model *m);

/* One request to the API of this process. */
struct local_model_request {
    const char *path, *body;
    int (*on_data)(void *arg, struct bytes data); /* pieces of the reply's body */
    void *arg;
    atomic_bool *stop; /* setting it ends the request within a token */
};

/* *status is HTTP's. FAIL_NOMEM, FAIL_CANCELLED. */
int local_model_post(struct local_model *m, const struct local_model_request *r, long *status,
                     struct error *e);

#endif

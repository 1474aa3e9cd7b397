/* A model file served inside this process, for `shoal run FILE`; for this folder only. */
#ifndef SHOAL_CLI_LOCAL_MODEL_H
#define SHOAL_CLI_LOCAL_MODEL_H

#include "base/bytes.h"
#include "base/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct local_model_options {
    const char *path;
    const char *isa;
    int64_t threads; /* 0: all cores */
    int64_t context;
    bool quiet; /* tells nothing of the load */
};

struct local_model;

/* Loads the file, telling of it on stderr. */
int local_model_open(struct local_model **ret, const struct local_model_options *o,
                     struct error *e);
/* Ends what runs and frees. NULL is fine. */
void local_model_close(struct local_model *m);

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

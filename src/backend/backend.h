/* A backend compiles a program, owns the bytes of weights and of sequence state, and runs the
 * program's segments (the instructions between two exchanges). The caller does the exchanges on
 * the host memory that backend_value() shows. */
#ifndef SHOAL_BACKEND_BACKEND_H
#define SHOAL_BACKEND_BACKEND_H

#include "base/error.h"
#include "graph/program.h"

#include <stdbool.h>
#include <stdint.h>

struct pool;
struct kernels;

/* Where a weight's bytes come from: the tensor's whole data, borrowed for the call. FAIL_NOT_FOUND
 * by name. */
struct weight_source {
    int (*tensor)(void *arg, const char *name, const uint8_t **data, uint64_t *size,
                  struct error *e);
    /* May be NULL; called as loading goes on, with bytes done and in all. Returning non-zero
     * cancels the load (FAIL_CANCELLED). */
    int (*progress)(void *arg, uint64_t done, uint64_t total);
    void *arg;
};

struct backend_options {
    struct pool *pool;             /* borrowed; its caller thread runs the segments */
    const struct kernels *kernels; /* borrowed */
    bool exact;                    /* f32 activations and f32 KV */
    int max_rows;                  /* of one step */
    int max_sessions;
    uint64_t state_tokens;   /* positions of KV over all sessions, up to a whole page; each takes
                              * whole pages of KERNEL_PAGE, and a copy one for its last */
    uint64_t session_tokens; /* the most of one session; 0: as many as of all */
};

/* What one step brings; all borrowed for the step. Positions of rows follow from the runs. */
struct backend_run {
    uint32_t session;
    int32_t first;
    int32_t count;
};
struct backend_step {
    const struct backend_run *runs;
    int n_runs;
    const int32_t *ids;    /* (n_rows) */
    const uint8_t *wanted; /* (n_rows) */
    int n_rows, n_wanted;
};

struct backend_ctx; /* one loaded program; owner: the compute leader's thread */

struct backend {
    const char *name;
    /* Loads the weights of program (borrowed until close). Errors: FAIL_NOMEM, FAIL_NOT_FOUND,
     * FAIL_UNSUPPORTED (tensor type or op), FAIL_CANCELLED. */
    int (*open)(struct backend_ctx **ret, const struct program *program,
                const struct weight_source *source, const struct backend_options *options,
                struct error *e);
    void (*close)(struct backend_ctx *c);

    /* Sequence state; session ids are the caller's. FAIL_LIMIT when pages or sessions run out (and
     * nothing changed), FAIL_NOT_FOUND for an unknown session, FAIL_STATE when the state can't go
     * back that far. */
    int (*create)(struct backend_ctx *c, uint32_t session, struct error *e);
    int (*release)(struct backend_ctx *c, uint32_t session, struct error *e);
    int (*truncate)(struct backend_ctx *c, uint32_t session, int32_t position, struct error *e);
    int (*fork)(struct backend_ctx *c, uint32_t session, uint32_t from, struct error *e);
    int (*checkpoint)(struct backend_ctx *c, uint32_t session, uint32_t id, struct error *e);
    int (*restore)(struct backend_ctx *c, uint32_t session, uint32_t id, struct error *e);
    /* The least position that truncate can go back to now. */
    int32_t (*earliest)(struct backend_ctx *c, uint32_t session);
    /* Bytes of checkpoints and pages in use, of weights held. */
    uint64_t (*weight_bytes)(const struct backend_ctx *c);
    uint64_t (*state_bytes)(const struct backend_ctx *c);

    /* One step: begin checks it and reserves pages; then for each segment run, with the caller's
     * exchange between; end makes the rows part of the sessions. abort, at any point between,
     * leaves every state as it was before begin, as a begin that fails does. */
    int (*begin)(struct backend_ctx *c, const struct backend_step *s, struct error *e);
    int (*run)(struct backend_ctx *c, int segment, struct error *e);
    int (*end)(struct backend_ctx *c, struct error *e);
    void (*abort)(struct backend_ctx *c);
    /* Host memory of a value in the present step: (rows, width) f32, rows contiguous. Inputs are
     * written by the caller after begin and before run(0). */
    float *(*value)(struct backend_ctx *c, int value, int *rows, int *width);
};

extern const struct backend backend_cpu;

#endif

/* A backend has devices that compute. Opened on one of them, it compiles a program, owns the bytes
 * of weights and of sequence state, and runs the program's segments (the instructions between two
 * exchanges). The caller does the exchanges, on what it reads and writes in host memory. */
#ifndef SHOAL_BACKEND_BACKEND_H
#define SHOAL_BACKEND_BACKEND_H

#include "base/error.h"
#include "graph/program.h"

#include <stdbool.h>
#include <stdint.h>

struct backend;
struct backend_ops;
struct kernels;
struct pool;

/* Where weights come from, by the names of tensors in the file. At least one of read and map is
 * there. Both answer FAIL_NOT_FOUND for a name that isn't, and may be called by several threads. */
struct weight_source {
    /* Bytes [offset, offset + size) of a tensor's data into `into`. FAIL_FORMAT beyond its end;
     * FAIL_IO. */
    int (*read)(void *arg, const char *tensor, uint64_t offset, uint64_t size, void *into,
                struct error *e);
    /* The tensor's whole data where it lies in memory, borrowed until loading ends. */
    int (*map)(void *arg, const char *tensor, const uint8_t **data, uint64_t *size,
               struct error *e);
    /* May be NULL; called as loading goes on, with bytes done and in all. Returning non-zero
     * cancels the load (FAIL_CANCELLED). */
    int (*progress)(void *arg, uint64_t done, uint64_t total);
    void *arg;
};

/* Something that computes. Plain data. */
struct compute_device {
    const struct backend *backend;
    int index;       /* for backend_options: the backend's own count */
    char name[64];   /* "cpu", or as its driver calls it */
    uint64_t memory; /* bytes for weights and state that can be had now */
    bool exact;      /* rows have the bits that every other exact device gives them */
    bool ops[OP_COUNT];
    bool types[QUANT_COUNT]; /* of matrices and tables; vectors are dequantized */
};

struct backend_options {
    int device;                    /* index of the compute_device */
    struct pool *pool;             /* borrowed; its caller thread runs the segments */
    const struct kernels *kernels; /* borrowed */
    bool exact;                    /* f32 activations and f32 KV */
    int max_rows;                  /* of one step */
    int max_sessions;
    uint64_t state_tokens;   /* positions of KV over all sessions, up to a whole page; each takes
                              * whole pages of KERNEL_PAGE, and a copy one for its last */
    uint64_t session_tokens; /* the most of one session; 0: as many as of all */
};

/* Rows of one value, one after another. Borrowed. */
struct backend_rows {
    float *data; /* (rows, width) */
    int rows, width;
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

/* One loaded program; each backend embeds it at the start of its own. owner: the compute leader's
 * thread. */
struct backend_ctx {
    const struct backend_ops *ops;
};

/* What can be done with one; called by the functions below of the same names. */
struct backend_ops {
    void (*close)(struct backend_ctx *c);
    int (*create)(struct backend_ctx *c, uint32_t session, struct error *e);
    int (*release)(struct backend_ctx *c, uint32_t session, struct error *e);
    int (*truncate)(struct backend_ctx *c, uint32_t session, int32_t position, struct error *e);
    int (*fork)(struct backend_ctx *c, uint32_t session, uint32_t from, struct error *e);
    int (*checkpoint)(struct backend_ctx *c, uint32_t session, uint32_t id, struct error *e);
    int (*restore)(struct backend_ctx *c, uint32_t session, uint32_t id, struct error *e);
    int32_t (*earliest)(struct backend_ctx *c, uint32_t session);
    uint64_t (*weight_bytes)(const struct backend_ctx *c);
    uint64_t (*state_bytes)(const struct backend_ctx *c);
    int (*begin)(struct backend_ctx *c, const struct backend_step *s, struct error *e);
    int (*run)(struct backend_ctx *c, int segment, struct error *e);
    int (*end)(struct backend_ctx *c, struct error *e);
    void (*abort)(struct backend_ctx *c);
    int (*read)(struct backend_ctx *c, int value, struct backend_rows *ret, struct error *e);
    int (*write)(struct backend_ctx *c, int value, struct backend_rows *ret, struct error *e);
};

/* A kind of device and its driver. */
struct backend {
    const char *name;
    /* Its devices into ret, at most `most`; returns how many. */
    int (*devices)(struct compute_device *ret, int most);
    int (*open)(struct backend_ctx **ret, const struct program *program,
                const struct weight_source *source, const struct backend_options *options,
                struct error *e);
};

/* Every compute device of this machine, of all backends; returns how many. */
int compute_devices(struct compute_device *ret, int most);

/* Whether the device has what the program needs. FAIL_UNSUPPORTED names the operation or the
 * tensor. Pure. */
int compute_device_check(const struct compute_device *d, const struct program *p, struct error *e);

/* Loads the weights of program (borrowed until close) on one device. Errors: FAIL_NOMEM,
 * FAIL_NOT_FOUND, FAIL_UNSUPPORTED (tensor type or op), FAIL_CANCELLED, those of the source. */
static inline int backend_open(const struct backend *b, struct backend_ctx **ret,
                               const struct program *program, const struct weight_source *source,
                               const struct backend_options *options, struct error *e)
{
    return b->open(ret, program, source, options, e);
}

/* NULL is fine. */
static inline void backend_close(struct backend_ctx *c)
{
    if (c)
        c->ops->close(c);
}

/* Sequence state; session ids are the caller's. FAIL_LIMIT when pages or sessions run out (and
 * nothing changed), FAIL_NOT_FOUND for an unknown session, FAIL_STATE when the state can't go back
 * that far. */
static inline int backend_create(struct backend_ctx *c, uint32_t session, struct error *e)
{
    return c->ops->create(c, session, e);
}

static inline int backend_release(struct backend_ctx *c, uint32_t session, struct error *e)
{
    return c->ops->release(c, session, e);
}

static inline int backend_truncate(struct backend_ctx *c, uint32_t session, int32_t position,
                                   struct error *e)
{
    return c->ops->truncate(c, session, position, e);
}

static inline int backend_fork(struct backend_ctx *c, uint32_t session, uint32_t from,
                               struct error *e)
{
    return c->ops->fork(c, session, from, e);
}

static inline int backend_checkpoint(struct backend_ctx *c, uint32_t session, uint32_t id,
                                     struct error *e)
{
    return c->ops->checkpoint(c, session, id, e);
}

/* Any session may be taken to any checkpoint, which stays. */
static inline int backend_restore(struct backend_ctx *c, uint32_t session, uint32_t id,
                                  struct error *e)
{
    return c->ops->restore(c, session, id, e);
}

/* The least position that truncate can go back to now. */
static inline int32_t backend_earliest(struct backend_ctx *c, uint32_t session)
{
    return c->ops->earliest(c, session);
}

/* Bytes of weights held; of checkpoints and pages in use. */
static inline uint64_t backend_weight_bytes(const struct backend_ctx *c)
{
    return c->ops->weight_bytes(c);
}

static inline uint64_t backend_state_bytes(const struct backend_ctx *c)
{
    return c->ops->state_bytes(c);
}

/* One step: begin checks it and reserves pages; then for each segment run, with the caller's
 * exchange between; end makes the rows part of the sessions. abort, at any point between, leaves
 * every state as it was before begin, as a begin that fails does. */
static inline int backend_begin(struct backend_ctx *c, const struct backend_step *s,
                                struct error *e)
{
    return c->ops->begin(c, s, e);
}

static inline int backend_run(struct backend_ctx *c, int segment, struct error *e)
{
    return c->ops->run(c, segment, e);
}

static inline int backend_end(struct backend_ctx *c, struct error *e)
{
    return c->ops->end(c, e);
}

static inline void backend_abort(struct backend_ctx *c)
{
    c->ops->abort(c);
}

/* A value of the present step in host memory. read: it was made by a segment that ran, and is an
 * output, the logits, or what an exchange takes; not to be written. write: the caller fills it
 * before the next run: an input (before the first), or what an exchange gives, which may be the
 * same memory as what it takes. Valid until the next run or end. FAIL_IO where a device fails. */
static inline int backend_read(struct backend_ctx *c, int value, struct backend_rows *ret,
                               struct error *e)
{
    return c->ops->read(c, value, ret, e);
}

static inline int backend_write(struct backend_ctx *c, int value, struct backend_rows *ret,
                                struct error *e)
{
    return c->ops->write(c, value, ret, e);
}

extern const struct backend backend_cpu;

#endif

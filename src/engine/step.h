/* A step as a message: state commands first, then runs of rows. The same structure goes to a local
 * backend and, encoded, over the wire to every rank of a placement. */
#ifndef SHOAL_ENGINE_STEP_H
#define SHOAL_ENGINE_STEP_H

#include "base/buffer.h"
#include "base/cursor.h"

#include <stdint.h>

/* Bounds of a decoded step: more would only be an attack or a bug. */
#define STEP_MAX_ROWS 8192
#define STEP_MAX_RUNS 1024
#define STEP_MAX_COMMANDS 4096

enum step_command_op {
    STEP_CREATE,     /* session: empty state */
    STEP_TRUNCATE,   /* session: forget positions >= position */
    STEP_FORK,       /* session: a copy of `other` as it stands (pages shared) */
    STEP_FREE,       /* session */
    STEP_CHECKPOINT, /* session: remember the state at its present position under `other` */
    STEP_RESTORE,    /* session: back to checkpoint `other`, which stays */
    STEP_COMMAND_COUNT
};

struct step_command {
    enum step_command_op op;
    uint32_t session;
    uint32_t other;
    int32_t position;
};

/* What is asked of a row. */
enum step_want { STEP_WANT_NOTHING, STEP_WANT_LOGITS, STEP_WANT_HIDDEN, STEP_WANT_COUNT };

/* count rows of one session at positions [first, first + count), contiguous with its state. */
struct step_run {
    uint32_t session;
    int32_t first;
    int32_t count;
};

/* All arrays are borrowed from whoever made the step. Rows of the runs follow one another. */
struct step {
    uint64_t id;
    uint32_t epoch; /* of the placement; a rank refuses another one's steps */
    const struct step_command *commands;
    int n_commands;
    const struct step_run *runs;
    int n_runs;
    const int32_t *ids;    /* (n_rows) token ids */
    const uint8_t *wanted; /* (n_rows) of enum step_want */
    int n_rows;
    int n_wanted; /* rows of which something is wanted, */
    int n_hidden; /* and of these the ones whose hidden state is */
};

/* Appends the encoded step. FAIL_LIMIT. */
int step_encode(const struct step *s, struct buffer *out);

/* Memory for one decoded step, reused from step to step. Zero-initialise; done frees. */
struct step_storage {
    struct step_command *commands;
    struct step_run *runs;
    int32_t *ids;
    uint8_t *wanted;
};
int step_storage_init(struct step_storage *m, struct error *e);
void step_storage_done(struct step_storage *m);

/* Decodes and checks (bounds, ascending runs, counts); *ret borrows from m. FAIL_FORMAT says what
 * and at which byte. */
int step_decode(struct bytes message, struct step_storage *m, struct step *ret, struct error *e);

#endif

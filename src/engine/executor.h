/* Where steps go: one device, or a whole placement of a model over several. The head submits steps
 * and takes their logits back in order; several may be in flight. */
#ifndef SHOAL_ENGINE_EXECUTOR_H
#define SHOAL_ENGINE_EXECUTOR_H

#include "engine/step.h"

#include <stdbool.h>

/* What was wanted of one step's rows, each kind in the order of the rows. Borrowed until the next
 * call on the executor. */
struct step_result {
    uint64_t id;
    const float *logits; /* (n_wanted - n_hidden, vocab) */
    const float *hidden; /* (n_hidden, width): as the output matrix takes them */
    int n_wanted, n_hidden;
};

struct executor;

struct executor_ops {
    /* Takes the step (its arrays are borrowed only for the call). Blocks at most until
     * deadline_ns. On failure the executor is broken and only close may follow. */
    int (*submit)(struct executor *x, const struct step *s, uint64_t deadline_ns, struct error *e);
    /* The oldest step's result, in order of submission. FAIL_TIMEOUT leaves it usable (the step is
     * still under way); any other error breaks it. Steps without wanted rows also have a result
     * with n_wanted 0. */
    int (*collect)(struct executor *x, struct step_result *ret, uint64_t deadline_ns,
                   struct error *e);
    /* Makes a blocked submit or collect of another thread return FAIL_CLOSED. */
    void (*shutdown)(struct executor *x);
    void (*close)(struct executor *x);
};

/* Embedded at the start of each implementation. owner: the head's thread. */
struct executor {
    const struct executor_ops *ops;
    int vocab;             /* width of a logits row */
    int width;             /* of a hidden row; 0: it gives none */
    int depth;             /* steps that may be in flight at once: 1, or the stages and one more */
    int max_rows;          /* rows of one step */
    int max_context;       /* positions of one session */
    int max_sessions;      /* at once; 0: not known, as many as the engine runs requests */
    uint64_t state_tokens; /* KV positions granted to all sessions together, taken in whole
                            * pages (SESSION_PAGE); 0: max_context for each */
    bool can_truncate;     /* sessions may go back to any earlier position (no window, no
                            * recurrent state), so a prefix of another request can be reused */
};

#endif

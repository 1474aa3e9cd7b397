/* The head thread's part of an engine: takes requests, forms steps, samples, calls back. */
#ifndef SHOAL_ENGINE_HEAD_H
#define SHOAL_ENGINE_HEAD_H

#include "engine/options.h"
#include "engine/schedule.h"
#include "os/thread.h"

enum engine_state {
    ENGINE_RUNNING,
    ENGINE_SUSPENDING, /* the executor is being given up */
    ENGINE_SUSPENDED,  /* there is none; requests wait */
    ENGINE_FAILED      /* for good */
};

/* owner: the head thread, but for what is under the lock. */
struct engine {
    struct engine_options options; /* set once */
    uint8_t *is_eog;
    struct sampler *sampler;
    struct thread thread;

    struct mutex lock;              /* guards what follows, up to the line */
    struct condition wake, settled; /* the head has something to do; it gave up the executor */
    enum engine_state state;
    struct executor *x; /* NULL while there is none; the head alone closes it, but for the end */
    int context;
    struct request_queue submitted;
    int n_queued; /* submitted and not yet active */
    uint64_t next_ticket;
    bool closing;
    bool cancels;     /* since the head last looked */
    bool lost;        /* suspending because the executor broke: on_lost is to be told */
    struct error why; /* not running */
    struct engine_stats stats;
    struct request **by_ticket; /* (cap_live) every live request, for cancel */
    int n_live, cap_live;
    /* ---- */

    struct request_queue waiting; /* taken from submitted or sent back, not active */
    struct schedule schedule;     /* also set by engine_resume, while suspended */
    uint64_t next_step;
    uint64_t rate_since_ns;
    uint64_t rate_decode, rate_prefill;
};

/* The thread. Ends when `closing` is set, behind the end of every request. */
void *head_run(void *engine);
/* The same without one: a round of work, false when there was none; and the end of every request.
 */
bool head_turn(struct engine *g);
void head_end(struct engine *g);

#endif

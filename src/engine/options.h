/* What an engine is opened with, and what it tells of itself. */
#ifndef SHOAL_ENGINE_OPTIONS_H
#define SHOAL_ENGINE_OPTIONS_H

#include "base/error.h"
#include "engine/executor.h"

#include <stdbool.h>
#include <stdint.h>

struct engine_options {
    struct executor *executor; /* the engine's from here on, also when engine_open fails: nobody
                                * else closes, breaks or reads it again */
    int vocab;                 /* width of a logits row, as the executor's */
    const uint8_t *is_eog;     /* (vocab), copied: tokens that end a generation */
    int max_requests;          /* at once; more wait in the queue */
    int max_queue;             /* beyond this, engine_submit answers FAIL_BUSY */
    int prefill_chunk;         /* rows of prefill in one step, 0: the engine's choice */
    uint64_t step_timeout_ns;  /* a step without progress for this long breaks the executor */
    /* The executor broke and was closed; requests wait for engine_resume. On the head thread, must
     * not block nor call the engine. NULL: there is no other one, so the engine fails. */
    void (*on_lost)(void *arg, const struct error *why);
    void *lost_arg;
    /* No thread: the head works in engine_turn, and where engine_suspend and engine_close wait for
     * it. For simulations, whose executors never block. */
    bool stepped;
};

#define ENGINE_OVERLAPS 3 /* one step for all streams, one for each stage, and one more */

struct engine_stats {
    int active, queued;
    uint64_t prompt_tokens, completion_tokens, requests, failed;
    double decode_tokens_per_second, prefill_tokens_per_second; /* when last busy, over seconds */
    /* How the streams that last decoded share steps over the stages: each way that was measured,
     * with how many steps overlap. */
    int overlap_streams; /* 0: nothing measured yet */
    int overlap_steps;   /* in use */
    struct engine_overlap {
        int steps;                /* 0: no such way */
        double tokens_per_second; /* of all streams; 0: not measured */
    } overlap[ENGINE_OVERLAPS];
    bool broken;    /* failed for good */
    bool suspended; /* waits for an executor */
    char why[256];  /* either; else empty */
};

#endif

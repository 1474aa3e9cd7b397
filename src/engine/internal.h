/* The head's own structures; for this folder only. owner: the head thread, unless a field says
 * otherwise. */
#ifndef SHOAL_ENGINE_INTERNAL_H
#define SHOAL_ENGINE_INTERNAL_H

#include "engine/engine.h"
#include "engine/overlap.h"

#include "os/thread.h"

#include <stdatomic.h>

/* Sessions kept after their request, for the next one with the same beginning. */
#define ENGINE_MAX_CACHED 16
/* A shorter common beginning is not worth a session. */
#define ENGINE_MIN_PREFIX 8
/* Checkpoints of one session. */
#define ENGINE_MAX_CHECKPOINTS 4
/* Steps in flight at the most. */
#define ENGINE_MAX_DEPTH 16
/* Rows of prefill in one step while others decode: bounds how long a long prompt stalls them. */
#define ENGINE_MIXED_PREFILL 128
/* Rows of prefill in one step alone. */
#define ENGINE_PREFILL 512
/* Over several stages a prompt comes in this many chunks for each stage beyond the first, of at
 * least so many rows (fewer read the weights more often than they are worth), in whole tiles of the
 * kernels. */
#define ENGINE_FILL_CHUNKS 16
#define ENGINE_LEAST_CHUNK 64
#define ENGINE_CHUNK_STEP 16

enum request_phase { REQUEST_QUEUED, REQUEST_PREFILL, REQUEST_DECODE, REQUEST_ENDED };

/* States that a session can be taken back to, by ascending position. Their ids are of the same
 * count as sessions', so that STEP_FREE can name either. */
struct checkpoints {
    uint32_t id[ENGINE_MAX_CHECKPOINTS];
    int position[ENGINE_MAX_CHECKPOINTS];
    int n;
};

struct request {
    struct request *next; /* in the queue of submissions; guarded by the engine's lock */
    uint64_t ticket;
    enum request_phase phase;
    struct engine_request ask; /* prompt points into tokens */
    int32_t *tokens;           /* (capacity) the prompt, then what was generated */
    int n_tokens, capacity, n_prompt;
    int n_sent;    /* tokens that are in submitted steps */
    int n_done;    /* tokens whose step came back */
    int in_flight; /* steps that hold rows of it */
    uint32_t session;
    bool has_session;
    struct checkpoints checkpoints; /* of the session */
    _Atomic bool cancelled;         /* set by any thread */
    uint64_t submitted_ns, started_ns, first_ns;
    int cached;
};

/* A session without a request: its state holds these tokens. */
struct cached {
    bool used;
    uint32_t session;
    struct checkpoints checkpoints;
    int32_t *tokens;
    int n;
    uint64_t last_used;
};

/* One run of a submitted step. */
struct flight_run {
    struct request *request;
    int count;
    bool wanted; /* its last row's logits */
};

struct flight {
    uint64_t id, submitted_ns;
    struct flight_run *runs; /* (max_active) */
    int n_runs;
    int n_decodes; /* runs of streams that decode */
};

struct engine {
    struct engine_options options;
    struct executor *x;
    uint8_t *is_eog;
    struct sampler *sampler;
    struct thread thread;

    struct mutex lock; /* guards what follows, up to the line */
    struct condition wake;
    struct request *submitted, **submitted_end;
    int n_queued; /* submitted and not yet active */
    uint64_t next_ticket;
    bool closing, broken;
    struct error broken_error;
    struct engine_stats stats;
    struct request **by_ticket; /* every live request, for cancel */
    int n_live, cap_live;
    /* ---- */

    struct request **active; /* (max_requests) */
    int n_active;
    struct request *waiting, **waiting_end; /* taken from submitted, not yet active */
    struct cached cached[ENGINE_MAX_CACHED];
    uint64_t clock; /* counts uses of cached sessions */
    uint32_t next_session;

    struct step step; /* being formed; arrays below */
    struct step_command *commands;
    struct step_run *runs;
    int32_t *ids;
    uint8_t *wanted;
    uint64_t next_step;
    struct flight flights[ENGINE_MAX_DEPTH];
    int first_flight, n_flights;
    int turn; /* whose turn among the active when steps overlap */
    struct overlap overlap;
    uint64_t rate_since_ns;
    uint64_t rate_decode, rate_prefill;
};

/* schedule.c: forms the next step from the active requests; false when nothing is ready. The
 * flight's runs say which rows are whose. */
bool engine_form_step(struct engine *g, struct flight *f);
/* Adds a state command to the next step. */
void engine_command(struct engine *g, enum step_command_op op, uint32_t session, uint32_t other,
                    int32_t position);

/* prefix.c: sessions and what they hold. */
/* Gives the request a session, reusing the longest common beginning; false when there is no room
 * yet. */
bool engine_take_session(struct engine *g, struct request *r);
/* The request is over: its session becomes a cached one, or is freed. */
void engine_leave_session(struct engine *g, struct request *r);
void engine_free_cached(struct engine *g);
/* Room for one more checkpoint; with `evict`, made by dropping the oldest cached sessions. */
bool engine_room_for_checkpoint(struct engine *g, bool evict);

/* checkpoint.c: only where the executor can't truncate. */
/* Before r's next run joins a step: remembers the state there when a checkpoint is due. */
void engine_checkpoint(struct engine *g, struct request *r);
/* Where r's next run of prefill must end at the latest. */
int engine_prefill_end(const struct engine *g, const struct request *r);
/* Index of the last checkpoint at or before position, or -1. */
int engine_nearest_checkpoint(const struct checkpoints *c, int position);
/* Frees the checkpoints beyond a position; -1: all. */
void engine_drop_checkpoints(struct engine *g, struct checkpoints *c, int beyond);
/* Frees one checkpoint of an active request; false when there is none. */
bool engine_free_a_checkpoint(struct engine *g);
/* Checkpoints held, of all sessions. */
int engine_checkpoints(const struct engine *g);

#endif

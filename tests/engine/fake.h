/* An executor made for tests of the head: it keeps every rule of steps and answers with logits that
 * are a function of the sequence alone, so that tokens must not depend on batching, reuse or order.
 * And a client that keeps what it is told. */
#ifndef SHOAL_TESTS_ENGINE_FAKE_H
#define SHOAL_TESTS_ENGINE_FAKE_H

#include "tests/test.h"

#include "engine/engine.h"
#include "os/clock.h"
#include "os/thread.h"

#include <stdatomic.h>

#define VOCAB 50
#define EOG 49
#define MAX_SESSIONS 64
#define CONTEXT 256
#define MAX_FLIGHT 4
#define HIDDEN 3

struct fake_session {
    bool used, is_checkpoint;
    uint32_t id;
    int32_t ids[CONTEXT];
    int n;
};

struct fake {
    struct executor x;
    struct fake_session sessions[MAX_SESSIONS];
    float logits[MAX_FLIGHT][64 * VOCAB];
    struct step_result results[MAX_FLIGHT];
    int first, count;
    int steps, rows, mixed_steps, most_runs;
    int fail_at;        /* step whose collect fails; 0: never */
    int refuse_at;      /* step whose submit fails; 0: never */
    atomic_bool silent; /* collect only times out */
    bool hasty;         /* and at once */
    atomic_bool down;
    int restores, checkpoints, in_use, most_in_use;
    int closed;
    bool numberless; /* gives NaN for every logit */
    float hidden[MAX_FLIGHT][64 * HIDDEN];
    int most_pages, forks;
};

/* The logits that follow a sequence, and its hidden state. */
void fake_logits(const int32_t *ids, int n, float *out);
void fake_hidden(const int32_t *ids, int n, float *out);

void fake_init(struct fake *f, int depth);
struct engine *open_engine(struct fake *f, int max_requests, uint64_t timeout_ns);
/* With more options than these; the executor, vocabulary and queue are filled in. */
struct engine *open_with(struct fake *f, const struct engine_options *options);

/* One client of the engine. */
struct client {
    struct mutex lock;
    struct condition wake;
    bool ended;
    enum engine_finish finish;
    struct engine_usage usage;
    char error[128];
    int32_t ids[CONTEXT];
    int n, stop_after, progress;
    int last_progress;
    uint64_t ticket;
    struct engine_request more; /* rows, first_row, on_rows, the constraint of its sampling */
    float rows[CONTEXT * VOCAB];
    int n_rows, first_row;
};

struct ask {
    int n_prompt;
    int max_tokens;
    uint64_t seed;
    bool greedy;
};

int submit(struct engine *g, struct client *c, const int32_t *prompt, struct ask ask,
           struct error *e);
void wait_end(struct client *c);

#endif

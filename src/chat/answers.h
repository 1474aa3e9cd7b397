/* The answers to one request: generated on an engine's thread, told as events on the thread of
 * whoever asked. */
#ifndef SHOAL_CHAT_ANSWERS_H
#define SHOAL_CHAT_ANSWERS_H

#include "chat/event.h"
#include "chat/request.h"

struct vocab;
struct chat_answers;

/* Text of one answer that nobody has taken yet. */
#define CHAT_MAX_TEXT (64u << 20)

/* What one answer goes on from. */
struct chat_start {
    const int32_t *ids; /* copied; at least one */
    int n;
    struct bytes echo; /* copied: stands before the answer */
    uint64_t seed;
};

struct chat_answers_options {
    struct engine *engine; /* outlives the last event that it causes */
    const struct vocab *vocab;
    const struct chat_request *request; /* borrowed for the call */
    const struct chat_start *starts;    /* (n) borrowed for the call */
    int n;
    bool want_ids; /* SAMPLED is told */
    /* Events have come. Any thread, also before start has returned; must only take note. */
    void (*on_ready)(void *arg);
    void *arg;
};

/* Starts all answers. Errors are those of generate_start; those that had started then end soon, and
 * *ret is set all the same: whoever has it drains and closes it. FAIL_NOMEM with *ret NULL. */
int chat_answers_start(struct chat_answers **ret, const struct chat_answers_options *o,
                       struct error *e);
/* Tells what has come since the last time: `each` once for each event, in order; text that came in
 * several pieces is one. Only the thread that started them, as all below. */
void chat_answers_drain(struct chat_answers *a, void (*each)(void *arg, const struct chat_event *),
                        void *arg);
/* Answers that the engine isn't done with. */
int chat_answers_running(const struct chat_answers *a);
/* How far the first prompt is. */
void chat_answers_progress(struct chat_answers *a, int *done, int *total);
/* Ends what still runs soon. */
void chat_answers_cancel(struct chat_answers *a);
/* Only when none runs, or when the engine is gone. NULL is fine. */
void chat_answers_close(struct chat_answers *a);

#endif

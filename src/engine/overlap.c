/* See overlap.h. */
#include "engine/overlap.h"

/* Rounds (a token of every stream) that pass before measuring, while the choice before still runs,
 * and that are measured. */
#define SETTLE_ROUNDS 2
#define WINDOW_ROUNDS 6
/* Windows of the best choice before another one is tried again. */
#define KEEP_WINDOWS 64
/* Another choice must be better by this much: noise alone changes nothing. */
#define BETTER 1.03
/* Weight of the newest window in a choice's rate. */
#define NEWEST 0.5

void overlap_init(struct overlap *o, int depth)
{
    *o = (struct overlap){ .depth = depth < 1 ? 1 : depth };
}

static int bucket(int streams)
{
    return (streams < OVERLAP_STREAMS ? streams : OVERLAP_STREAMS) - 1;
}

/* The steps of a choice; 0 where it is the same as the choice before it. */
static int steps_of(const struct overlap *o, int streams, int choice)
{
    int most = o->depth < streams ? o->depth : streams;
    int stages = o->depth > 1 ? o->depth - 1 : 1;
    int steps = choice == 0 ? 1 : choice == 1 ? stages : stages + 1;
    int before = choice == 0 ? 0 : choice == 1 ? 1 : stages;
    return before >= most ? 0 : steps < most ? steps : most;
}

int overlap_steps(const struct overlap *o, int streams)
{
    return steps_of(o, streams, o->cases[bucket(streams)].choice);
}

int overlap_measured(const struct overlap *o, int streams, int choice, double *rate)
{
    *rate = o->cases[bucket(streams)].rate[choice];
    return steps_of(o, streams, choice);
}

/* The next choice, after a window of the current one was measured. */
static int choose(const struct overlap *o, int streams, struct overlap_case *c)
{
    int best = c->choice, other = -1;
    for (int i = 0; i < OVERLAP_CHOICES; i++) {
        if (steps_of(o, streams, i) == 0)
            continue;
        if (c->rate[i] <= 0)
            return i;
        if (c->rate[i] > c->rate[best] * BETTER)
            best = i;
    }
    c->windows = best == c->choice ? c->windows + 1 : 0;
    if (c->windows < KEEP_WINDOWS)
        return best;
    for (int i = 1; i < OVERLAP_CHOICES && other < 0; i++) {
        int next = (best + i) % OVERLAP_CHOICES;
        other = steps_of(o, streams, next) > 0 ? next : -1;
    }
    c->windows = 0;
    return other < 0 ? best : other;
}

void overlap_take(struct overlap *o, int streams, int tokens, bool disturbed, uint64_t now_ns)
{
    if (streams < 1 || disturbed || streams != o->streams) {
        o->streams = disturbed ? 0 : streams;
        o->tokens = 0;
        return;
    }
    struct overlap_case *c = &o->cases[bucket(streams)];
    int before = o->tokens, settle = SETTLE_ROUNDS * streams;
    o->tokens += tokens;
    if (before < settle) {
        o->tokens = o->tokens < settle ? o->tokens : settle;
        o->since_ns = now_ns;
    }
    if (o->tokens < settle + WINDOW_ROUNDS * streams || now_ns <= o->since_ns)
        return;
    double rate = (double)(o->tokens - settle) * 1e9 / (double)(now_ns - o->since_ns);
    double *mean = &c->rate[c->choice];
    o->compared = steps_of(o, streams, 1) > 0 ? streams : o->compared;
    *mean = *mean > 0 ? NEWEST * rate + (1 - NEWEST) * *mean : rate;
    int choice = choose(o, streams, c);
    if (choice != c->choice) {
        c->choice = choice;
        o->tokens = 0;
    } else {
        o->tokens = settle;
        o->since_ns = now_ns;
    }
}

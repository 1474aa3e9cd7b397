/* See overlap.h. */
#include "engine/overlap.h"

/* Rounds (a token of every stream) that pass before measuring, while the choice before still runs,
 * and that are measured. */
#define SETTLE_ROUNDS 2
#define WINDOW_ROUNDS 6
/* Windows of the best choice before another one is tried again; and after the best has changed,
 * since one window may have lied. */
#define KEEP_WINDOWS 64
#define DOUBT_WINDOWS 8
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

/* The choice to try in place of the best: those that were never measured first, then in turn. */
static int next_trial(const struct overlap *o, int streams, const struct overlap_case *c)
{
    int other = c->best;
    for (int i = 1; i <= OVERLAP_CHOICES; i++) {
        int way = (c->tried + i) % OVERLAP_CHOICES;
        if (way == c->best || steps_of(o, streams, way) == 0)
            continue;
        if (c->rate[way] <= 0)
            return way;
        other = other == c->best ? way : other;
    }
    return other;
}

/* The next choice, after a window of the current one was measured. */
static int choose(const struct overlap *o, int streams, struct overlap_case *c)
{
    if (c->choice != c->best) { /* a trial */
        c->keep = KEEP_WINDOWS;
        c->tried = c->choice;
        if (c->rate[c->choice] > c->rate[c->best] * BETTER) {
            c->best = c->choice;
            c->keep = DOUBT_WINDOWS;
        }
    } else {
        c->keep--;
    }
    int trial = next_trial(o, streams, c);
    return c->keep <= 0 || (trial != c->best && c->rate[trial] <= 0) ? trial : c->best;
}

/* A window's rate. All choices share what else goes on in the devices: when the best one has become
 * slower or faster, then the others, which were measured earlier, have too. */
static void take_rate(struct overlap_case *c, double rate)
{
    double *mean = &c->rate[c->choice], before = *mean;
    *mean = before > 0 ? NEWEST * rate + (1 - NEWEST) * before : rate;
    if (before <= 0 || c->choice != c->best)
        return;
    for (int i = 0; i < OVERLAP_CHOICES; i++)
        if (i != c->best)
            c->rate[i] *= *mean / before;
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
    o->compared = steps_of(o, streams, 1) > 0 ? streams : o->compared;
    take_rate(c, rate);
    int choice = choose(o, streams, c);
    if (choice != c->choice) {
        c->choice = choice;
        o->tokens = 0;
    } else {
        o->tokens = settle;
        o->since_ns = now_ns;
    }
}

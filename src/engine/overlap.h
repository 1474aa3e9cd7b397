/* How many steps share the streams that decode over a pipeline: one step for all of them (each
 * stage reads its weights once for all, but stages work in turn), or several that overlap (all
 * stages work at once, each step pays for reading the weights). Which is faster depends on the
 * devices, so it is measured while it runs: each choice for some rounds, then the best, and now
 * and then the others again. Rows don't depend on what they are batched with, so the choice changes
 * no token. Pure: time comes in. */
#ifndef SHOAL_ENGINE_OVERLAP_H
#define SHOAL_ENGINE_OVERLAP_H

#include <stdbool.h>
#include <stdint.h>

/* One step for all, one for each stage, and one more, which hides the time between a result and the
 * next step. */
#define OVERLAP_CHOICES 3
/* Numbers of streams that are told apart; more count as this many. */
#define OVERLAP_STREAMS 16

struct overlap_case {
    double rate[OVERLAP_CHOICES]; /* tokens/s; 0: not measured */
    int choice;                   /* in use */
    int best;                     /* so far; another choice in use is on trial */
    int tried;                    /* last */
    int keep;                     /* windows of the best until the next trial */
};

struct overlap {
    int depth; /* steps that can be in flight */
    struct overlap_case cases[OVERLAP_STREAMS];
    int streams;       /* that the window below is for; 0: none */
    int tokens;        /* seen since the choice was made, the settling ones included */
    uint64_t since_ns; /* when the settling ones had come */
    int compared;      /* streams of the last whole window where there is a choice; 0: none yet */
};

/* Nothing is measured yet. A depth below 1 counts as 1. */
void overlap_init(struct overlap *o, int depth);

/* Steps that may hold decoding rows at once, 1 to min(depth, streams). streams >= 1. */
int overlap_steps(const struct overlap *o, int streams);

/* The steps of one of the OVERLAP_CHOICES, and in *rate what it measured, in tokens/s (0: not yet);
 * 0 steps where the choice is no other than one before it. */
int overlap_measured(const struct overlap *o, int streams, int choice, double *rate);

/* A step's result came in at now_ns with `tokens` decoded tokens, while `streams` decode.
 * disturbed: prefill shared the stages, so that the time says nothing. */
void overlap_take(struct overlap *o, int streams, int tokens, bool disturbed, uint64_t now_ns);

#endif

/* A model under the real engine in this process, and loads to measure it with; for this folder
 * only. */
#ifndef SHOAL_NODE_BENCH_ENGINE_H
#define SHOAL_NODE_BENCH_ENGINE_H

#include "base/error.h"

#include <stdint.h>

struct bench_engine;
struct kernels;
struct source;

#define BENCH_MAX_STREAMS 16

struct bench_engine_options {
    const struct source *source;   /* borrowed until close */
    const struct kernels *kernels; /* borrowed */
    const char *split;             /* SPEC as for `shoal up`; NULL: one rank */
    const char *transport;         /* between the ranks, a name of transport_pair; NULL: memory */
    int threads;                   /* of each rank */
    int streams;                   /* at once, the most */
    int context;                   /* positions of one stream */
};

/* Loads the model. Errors: those of the split, of loading, of the engine. */
int bench_engine_open(struct bench_engine **ret, const struct bench_engine_options *o,
                      struct error *e);
/* NULL is fine. */
void bench_engine_close(struct bench_engine *g);

/* So many requests at once, each of `prompt` random tokens and greedy for `decode` tokens after
 * the first. */
struct bench_load {
    int streams, prompt, decode;
    uint64_t seed; /* a prompt that was there before would come from the prefix cache */
};

/* Tokens/s. */
struct bench_rates {
    double prefill; /* of a single stream; of several that of the first */
    double decode;  /* of all streams together, while all of them decode */
};

/* One measurement. Errors are the engine's; FAIL_STATE when the streams didn't overlap, because
 * `decode` is too short. */
int bench_engine_run(struct bench_engine *g, const struct bench_load *load, struct bench_rates *ret,
                     struct error *e);

#endif

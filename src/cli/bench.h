/* What the parts of `shoal bench` share; for this folder only. */
#ifndef SHOAL_CLI_BENCH_H
#define SHOAL_CLI_BENCH_H

#include "base/error.h"
#include "cli/report.h"
#include "graph/program.h"
#include "measure/machine.h"

#include <stdint.h>

struct kernels;
struct source;

/* In the order in which they are run; the last three measure a model. */
enum bench_part {
    BENCH_LIMITS,
    BENCH_KERNELS,
    BENCH_MODEL,
    BENCH_SPLITS,
    BENCH_STREAMS,
    BENCH_PART_COUNT
};

/* What the command was asked for. Texts borrowed from argv. */
struct bench_options {
    const char *model; /* NULL: the machine alone */
    const char *isa;   /* NULL: the best */
    const char *only;  /* names of parts joined by commas; NULL: all that there are */
    bool json;
    int64_t threads; /* 0: 1 up to the cores */
    int64_t rounds, prefill, decode;
};

/* The set of parts to run, bit 1 << part. FAIL_ARG for an unknown name, or a part of a model
 * without one. Pure. */
int bench_parts(const struct bench_options *o, unsigned *ret, struct error *e);

#define BENCH_MAX_COUNTS 16

/* Counts of threads to measure with, ascending: all up to four, doubling from there, and all
 * cores. Returns how many. Pure. */
int bench_thread_counts(int cores, int ret[static BENCH_MAX_COUNTS]);

/* A run of the command. */
struct bench {
    struct bench_options options;
    const struct kernels *kernels;
    struct machine *machine; /* for max_threads */
    struct report *report;
    int counts[BENCH_MAX_COUNTS]; /* of threads */
    int n_counts, max_threads;    /* max_threads: what a model gets */
    /* Of the model; NULL without one. */
    struct source *source;
    const struct program *program;
    struct program_work work;
    uint64_t prompts; /* made so far: no two are alike */
};

/* The parts. Each begins its own table. */
int bench_limits(struct bench *b, struct error *e);
int bench_kernels(struct bench *b, struct error *e);
int bench_model(struct bench *b, struct error *e);
int bench_splits(struct bench *b, struct error *e);
int bench_streams(struct bench *b, struct error *e);

#endif

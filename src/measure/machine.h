/* What this machine can do: its limits (bytes read from memory, multiply-adds), and the rates of
 * the kernels beside them. Each call is one measurement of some milliseconds, so that a caller can
 * measure limits and what is held against them in turn, in rounds: a machine that others use too
 * changes from second to second. */
#ifndef SHOAL_MEASURE_MACHINE_H
#define SHOAL_MEASURE_MACHINE_H

#include "base/error.h"
#include "quant/quants.h"

#include <stddef.h>

struct kernels;
struct machine; /* one thread uses it at a time */

/* Memory that is read in one measurement: far more than the caches of a home machine hold. */
#define MACHINE_BYTES ((size_t)256 << 20)

struct machine_options {
    const struct kernels *kernels; /* borrowed */
    int threads;                   /* the most that any measurement will use */
    size_t bytes;                  /* read in one measurement; 0: MACHINE_BYTES */
};

/* Takes twice `bytes` of memory and starts the threads. FAIL_NOMEM, FAIL_RANGE. */
int machine_open(struct machine **ret, const struct machine_options *options, struct error *e);
/* NULL is fine. */
void machine_close(struct machine *m);

enum machine_limit {
    LIMIT_READ,          /* bytes/s from memory in huge pages, where the system has them */
    LIMIT_READ_ORDINARY, /* bytes/s from memory in ordinary pages */
    LIMIT_INT8,          /* int8 multiply-adds/s by the table's instructions */
    LIMIT_F32,           /* f32 multiply-adds/s likewise */
    LIMIT_COUNT
};

/* One measurement by `threads` threads, 1 to those of the options. */
double machine_limit(struct machine *m, enum machine_limit limit, int threads);

/* The peak that a matmul with weights of this type is held against. */
enum machine_limit machine_peak_of(enum quant_type type);

/* --- kernels --- */

struct machine_kernel; /* the matmul with weights of one type; uses its machine's memory */

/* Tokens of a measured GEMM: a chunk of prefill. */
#define MACHINE_TOKENS 512

/* Makes weights of `cols` columns (a multiple of 256) that fill the machine's memory. One of a
 * machine at a time; closed before the machine. FAIL_UNSUPPORTED for a type without a kernel,
 * FAIL_RANGE for a width that doesn't fit the machine's memory, FAIL_NOMEM. */
int machine_kernel_open(struct machine_kernel **ret, struct machine *m, enum quant_type type,
                        int cols, struct error *e);
/* NULL is fine. */
void machine_kernel_close(struct machine_kernel *k);

/* One measurement each, by `threads` threads: bytes/s of packed weights that a product with one
 * token reads, multiply-adds/s of a product with MACHINE_TOKENS tokens, bytes/s of packed weights
 * that packing writes. */
double machine_gemv(struct machine_kernel *k, int threads);
double machine_gemm(struct machine_kernel *k, int threads);
double machine_pack(struct machine_kernel *k, int threads);

#endif

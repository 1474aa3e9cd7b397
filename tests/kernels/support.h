/* Seeded data for the kernel tests: weights of every type, references in double. */
#ifndef SHOAL_TESTS_KERNELS_SUPPORT_H
#define SHOAL_TESTS_KERNELS_SUPPORT_H

#include "kernels/kernels.h"

/* A generator of its own, so that digests never move with base/random.h. */
struct seed {
    uint64_t state;
};
uint32_t seed_bits(struct seed *s);
/* Uniform in [-1, 1). */
float seed_unit(struct seed *s);

/* A weight in both forms. Free with weight_free(). */
struct weight {
    struct packed packed;
    uint8_t *blocks; /* (rows, row_bytes) as in a file */
    uint8_t *groups; /* packed.data */
    size_t row_bytes;
};

/* Random blocks with scales near 1/sqrt(cols); aborts when there is no memory. */
void weight_make(struct weight *w, enum quant_type type, int rows, int cols, struct seed *s);
void weight_free(struct weight *w);

/* 64-byte aligned, zeroed; aborts when there is none. */
void *aligned_make(size_t bytes);

/* n values with a few large ones. */
void fill(float *x, size_t n, struct seed *s);

/* All types that can be multiplied; count in *n. */
const enum quant_type *computable_types(int *n);

#endif

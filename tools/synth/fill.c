/* Random weights in any block format: see synth_internal.h. */
#include "tools/synth/internal.h"

#include "base/random.h"

#include <stdlib.h>

#define PIECE 256    /* weights: whole blocks of every type */
#define BATCH 256    /* pieces quantized or copied before a write */
#define POOL 2048    /* pieces in a pool: half a million weights repeat */
#define MAX_POOLS 16 /* one for each (type, sigma) of a model */

struct pool {
    enum quant_type type;
    float sigma;
    uint8_t *pieces;
};

struct filler {
    struct gguf_writer *w;
    struct pool pools[MAX_POOLS];
    int n_pools;
    float weights[PIECE];
    uint8_t *batch; /* BATCH pieces of 4 bytes a weight */
};

/* Near enough to a normal distribution: the sum of four uniform numbers, scaled to sigma 1. Only
 * whole-number arithmetic before one product, so every machine draws the same bits. */
static void draw(struct random *random, float mean, float sigma, float *dst, size_t n)
{
    const float scale = sigma * 2.6428646e-5f; /* 1 / sqrt(4 * 65536^2 / 12) */
    for (size_t i = 0; i < n; i++) {
        uint64_t u = random_next(random);
        int sum = (int)(u & 65535) + (int)(u >> 16 & 65535) + (int)(u >> 32 & 65535) +
                  (int)(u >> 48) - 131070;
        dst[i] = mean + (float)sum * scale;
    }
}

static uint64_t name_seed(const char *name, uint64_t seed)
{
    for (; *name; name++)
        seed = random_mix(seed ^ (uint8_t)*name);
    return seed;
}

static const uint8_t *pool_of(struct filler *f, const struct synth_tensor *t)
{
    for (int i = 0; i < f->n_pools; i++)
        if (f->pools[i].type == t->type && f->pools[i].sigma == t->sigma)
            return f->pools[i].pieces;
    size_t bytes = quant_row_bytes(t->type, PIECE);
    uint8_t *pieces = f->n_pools < MAX_POOLS ? malloc(POOL * bytes) : NULL;
    if (!pieces)
        return NULL;
    struct random random = { (uint64_t)f->n_pools };
    for (int i = 0; i < POOL; i++) {
        draw(&random, t->mean, t->sigma, f->weights, PIECE);
        quant_quantize(t->type, f->weights, pieces + (size_t)i * bytes, PIECE);
    }
    f->pools[f->n_pools++] = (struct pool){ t->type, t->sigma, pieces };
    return pieces;
}

static int fill_tensor(struct filler *f, const struct synth_tensor *t,
                       const struct synth_spec *spec, struct error *e)
{
    struct random random = { name_seed(t->name, spec->seed) };
    uint64_t left = 1;
    for (int d = 0; d < t->n_dims; d++)
        left *= t->dims[d];
    size_t bytes = quant_row_bytes(t->type, PIECE);
    const uint8_t *pool = NULL;
    if (spec->pooled && left > PIECE * 64 && !(pool = pool_of(f, t)))
        return fail(e, FAIL_NOMEM, "the pool of %s", t->name);
    int r = 0;
    while (left && !r) {
        size_t filled = 0;
        for (int i = 0; i < BATCH && left; i++) {
            size_t n = left < PIECE ? (size_t)left : PIECE;
            size_t size = quant_row_bytes(t->type, n);
            if (pool) {
                memcpy(f->batch + filled, pool + random_below(&random, POOL) * bytes, size);
            } else {
                draw(&random, t->mean, t->sigma, f->weights, n);
                quant_quantize(t->type, f->weights, f->batch + filled, n);
            }
            filled += size;
            left -= n;
        }
        r = gguf_writer_data(f->w, bytes_of(f->batch, filled), e);
    }
    return r;
}

int synth_fill(struct gguf_writer *w, const struct synth_tensor *tensors, int n,
               const struct synth_spec *spec, struct error *e)
{
    struct filler f = { .w = w, .batch = malloc((size_t)BATCH * PIECE * sizeof(float)) };
    int r = f.batch ? 0 : fail(e, FAIL_NOMEM, "a batch of weights");
    for (int i = 0; i < n && !r; i++)
        r = fill_tensor(&f, &tensors[i], spec, e);
    for (int i = 0; i < f.n_pools; i++)
        free(f.pools[i].pieces);
    free(f.batch);
    return r;
}

/* Decode and prefill of whole models, as a share of the machine's own limits.
 *
 *     bench_model [--threads N] [--rounds N] [--prefill N] [--decode N] [--isa NAME] MODEL.gguf...
 *
 * One line a model: median tokens/s of decode (after a prompt) and of prefill, and the decoded
 * bytes per second against a plain read of memory measured between the rounds. */
#include "backend/backend.h"
#include "bench/limits.h"
#include "gguf/gguf.h"
#include "kernels/kernels.h"
#include "model/model.h"
#include "os/clock.h"
#include "os/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ROUNDS 32
#define CONTEXT 4096
#define LIMIT_BYTES ((size_t)512 << 20)

struct bench {
    int threads, rounds, prefill, decode;
    const char *isa;
    struct pool *pool;
    struct backend_ctx *backend;
    const struct program *program;
};

static int find_tensor(void *arg, const char *name, const uint8_t **data, uint64_t *size,
                       struct error *e)
{
    const struct gguf_tensor *t = gguf_tensor(arg, name);
    if (!t)
        return fail(e, ERR_NOT_FOUND, "no tensor %s", name);
    *data = t->data;
    *size = t->bytes;
    return 0;
}

/* count rows of session 1 from position first; logits of the last one. Seconds, or < 0. */
static double step(struct bench *b, int first, int count, struct error *e)
{
    static int32_t ids[CONTEXT];
    static uint8_t wanted[CONTEXT];
    for (int i = 0; i < count; i++) {
        ids[i] = (first + i) * 7919 % (b->program->vocab - 1);
        wanted[i] = i == count - 1;
    }
    const struct backend_run run = { 1, first, count };
    const struct backend_step s = {
        .runs = &run, .n_runs = 1, .ids = ids, .wanted = wanted, .n_rows = count
    };
    uint64_t start = clock_now_ns();
    if (backend_cpu.begin(b->backend, &s, e) || backend_cpu.run(b->backend, 0, e) ||
        backend_cpu.end(b->backend, e))
        return -1;
    return (double)(clock_now_ns() - start) / (double)CLOCK_NS_PER_S;
}

static int order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof(*values), order);
    return values[n / 2];
}

static int run_model(struct bench *b, const char *name, struct error *e)
{
    double prefill[MAX_ROUNDS], decode[MAX_ROUNDS], limit[MAX_ROUNDS];
    for (int r = 0; r < b->rounds; r++) {
        double seconds = 0, one;
        if (backend_cpu.create(b->backend, 1, e))
            return -1;
        if ((one = step(b, 0, b->prefill, e)) < 0)
            return -1;
        prefill[r] = b->prefill / one;
        for (int i = 0; i < b->decode; i++) {
            if ((one = step(b, b->prefill + i, 1, e)) < 0)
                return -1;
            seconds += one;
        }
        decode[r] = b->decode / seconds;
        backend_cpu.release(b->backend, 1, e);
        limit[r] = limits_read(b->pool, LIMIT_BYTES, 3);
    }
    double bytes = (double)backend_cpu.weight_bytes(b->backend);
    double d = median(decode, b->rounds), l = median(limit, b->rounds);
    printf("%-40s %d threads  decode %7.2f tok/s %6.2f GB/s = %3.0f %% of %5.1f GB/s  prefill(%d) "
           "%8.1f tok/s\n",
           name, b->threads, d, d * bytes / 1e9, 100 * d * bytes / l, l / 1e9, b->prefill,
           median(prefill, b->rounds));
    fflush(stdout);
    return 0;
}

static int bench_file(struct bench *b, const char *path, struct error *e)
{
    struct gguf *g = NULL;
    struct arena a = { 0 };
    struct program *p = NULL;
    int r = gguf_open(&g, path, e);
    if (!r)
        r = model_build(g, NULL, &a, &p, e);
    const struct kernels *k = kernels_choose(b->isa, e);
    if (!r && k) {
        const struct weight_source source = { .tensor = find_tensor, .arg = g };
        const struct backend_options o = { .pool = b->pool,
                                           .kernels = k,
                                           .max_rows = b->prefill,
                                           .max_sessions = 2,
                                           .state_tokens = CONTEXT };
        b->program = p;
        r = backend_cpu.open(&b->backend, p, &source, &o, e);
        const char *slash = strrchr(path, '/');
        if (!r) {
            r = run_model(b, slash ? slash + 1 : path, e);
            backend_cpu.close(b->backend);
        }
    }
    arena_done(&a);
    gguf_close(g);
    return r ? r : k ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct bench b = { .threads = 1, .rounds = 5, .prefill = 512, .decode = 32 };
    struct error e = { 0 };
    int i = 1;
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        int value = (int)strtol(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--threads") == 0)
            b.threads = value;
        else if (strcmp(argv[i], "--rounds") == 0)
            b.rounds = value < MAX_ROUNDS ? value : MAX_ROUNDS;
        else if (strcmp(argv[i], "--prefill") == 0)
            b.prefill = value < CONTEXT / 2 ? value : CONTEXT / 2;
        else if (strcmp(argv[i], "--decode") == 0)
            b.decode = value < CONTEXT / 2 ? value : CONTEXT / 2;
        else if (strcmp(argv[i], "--isa") == 0)
            b.isa = argv[i + 1];
    }
    if (i >= argc || pool_open(&b.pool, &(struct pool_options){ .threads = b.threads }, &e)) {
        fprintf(stderr, "usage: bench_model [--threads N] [--rounds N] MODEL.gguf... %s\n", e.text);
        return 2;
    }
    for (; i < argc; i++)
        if (bench_file(&b, argv[i], &e)) {
            fprintf(stderr, "%s: %s\n", argv[i], e.text);
            return 1;
        }
    pool_close(b.pool);
    return 0;
}

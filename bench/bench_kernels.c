/* The matmuls of every type against the machine's own limits, measured between the rounds.
 *
 *     bench_kernels [--threads N] [--isa NAME] [--rounds N] [--cols N] [TYPE]...
 *
 * GEMV reads weights larger than the caches: GB/s and the share of a plain read by as many threads.
 * GEMM has 512 tokens: GMAC/s and the share of the int8 or f32 peak of the same threads. Medians.
 */
#include "bench/peak.h"
#include "kernels/kernels.h"
#include "os/clock.h"
#include "os/memory.h"
#include "os/pool.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attributes.h"

#define MAX_ROUNDS 31
#define GEMV_BYTES ((size_t)192 << 20)
#define PIECE_BYTES ((size_t)2 << 20)
#define TOKENS 512
#define GEMM_GROUPS 64
#define PEAK_ROUNDS 4000

struct bench {
    int threads, rounds, cols;
    const struct kernels *k;
    const struct peak *peak;
    struct pool *pool;
    uint8_t *memory; /* GEMV_BYTES: weights, or bytes to be read */
    uint8_t *act;
    float *x, *y;
};

struct job {
    const struct bench *b;
    enum { JOB_READ, JOB_INT8, JOB_F32, JOB_MATMUL, JOB_PACK } kind;
    struct packed w;
    const uint8_t *blocks; /* JOB_PACK: 16 rows */
    int tokens, groups, piece;
    _Atomic int next;
    _Atomic int sum; /* keeps the work from being dropped */
};

/* Pieces [g, g + piece) of the job's groups, or of its bytes. */
static void work_piece(struct job *j, int g, int end)
{
    const struct bench *b = j->b;
    if (j->kind == JOB_READ)
        j->sum += b->peak->read(b->memory + (size_t)g * j->w.group_bytes,
                                (size_t)(end - g) * j->w.group_bytes / 256 * 256);
    else if (j->kind == JOB_MATMUL)
        b->k->matmul(&j->w, b->act, j->tokens, g, end, b->y, (size_t)j->w.rows);
    else
        for (; g < end; g++)
            kernels_pack_group(j->w.type, j->blocks, quant_row_bytes(j->w.type, (size_t)j->w.cols),
                               16, j->w.cols, b->memory + (size_t)g * j->w.group_bytes);
}

static void work(void *arg, int thread, int n_threads)
{
    struct job *j = arg;
    if (j->kind == JOB_INT8)
        j->sum += j->b->peak->int8(PEAK_ROUNDS);
    if (j->kind == JOB_F32)
        j->sum += (int)j->b->peak->f32(PEAK_ROUNDS / 4);
    while (j->kind != JOB_INT8 && j->kind != JOB_F32) {
        int g = atomic_fetch_add(&j->next, j->piece);
        if (g >= j->groups)
            break;
        work_piece(j, g, g + j->piece < j->groups ? g + j->piece : j->groups);
    }
}

/* Work done per second: bytes, or multiply-adds. */
static double rate(struct job *j, double amount)
{
    j->next = 0;
    uint64_t start = clock_now_ns();
    pool_run(j->b->pool, work, j);
    return amount * (double)CLOCK_NS_PER_S / (double)(clock_now_ns() - start);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof(*v), compare);
    return v[n / 2];
}

static void pack_tokens(const struct bench *b, enum activation format, int tokens)
{
    for (int t = 0; t * KERNEL_TILE < tokens; t++)
        b->k->pack_activation(format, b->x, (size_t)b->cols, tokens, b->cols, t, b->act);
}

/* Weights of one type into b->memory, from random blocks whose scales are harmless. */
static void make_weights(const struct bench *b, struct job *j, uint8_t *blocks)
{
    size_t row = quant_row_bytes(j->w.type, (size_t)b->cols);
    float *values = b->x;
    for (int r = 0; r < 16; r++) {
        for (int i = 0; i < b->cols; i++)
            values[i] = (float)((i * 37 + r * 11) % 201 - 100) * 1e-3f;
        quant_quantize(j->w.type, values, blocks + (size_t)r * row, (size_t)b->cols);
    }
    for (int i = 0; i < TOKENS * b->cols; i++)
        b->x[i] = (float)((i * 7919) % 2001 - 1000) * 1e-3f;
    j->blocks = blocks;
}

static void bench_type(struct bench *b, enum quant_type type, uint8_t *blocks)
{
    double read[MAX_ROUNDS], gemv[MAX_ROUNDS], peak[MAX_ROUNDS], gemm[MAX_ROUNDS], pack[MAX_ROUNDS];
    enum activation format = kernels_activation_format(type, false);
    size_t group = kernels_group_bytes(type, b->cols);
    struct job all = { .b = b,
                       .w = { type, 0, b->cols, group, b->memory },
                       .tokens = 1,
                       .groups = (int)(GEMV_BYTES / group) };
    all.w.rows = all.groups * KERNEL_LANES;
    all.piece = (int)(PIECE_BYTES / group) + 1;
    make_weights(b, &all, blocks);
    double bytes = (double)all.groups * (double)group, macs = (double)TOKENS * b->cols;
    all.kind = JOB_PACK;
    for (int i = 0; i < b->rounds; i++)
        pack[i] = rate(&all, bytes);
    for (int i = 0; i < b->rounds; i++) {
        all.kind = JOB_READ;
        read[i] = rate(&all, bytes);
        all.kind = JOB_MATMUL;
        pack_tokens(b, format, 1);
        gemv[i] = rate(&all, bytes);
        struct job many = { .b = b, .kind = JOB_MATMUL, .w = all.w, .tokens = TOKENS, .piece = 4 };
        many.groups = GEMM_GROUPS;
        many.w.rows = GEMM_GROUPS * KERNEL_LANES;
        pack_tokens(b, format, TOKENS);
        gemm[i] = rate(&many, macs * many.w.rows);
        many.kind = format == ACTIVATION_F32 ? JOB_F32 : JOB_INT8;
        int rounds = format == ACTIVATION_F32 ? PEAK_ROUNDS / 4 : PEAK_ROUNDS;
        peak[i] = rate(&many, (double)PEAK_MACS * rounds * b->threads);
    }
    double limit = median(read, b->rounds), top = median(peak, b->rounds);
    double v = median(gemv, b->rounds), m = median(gemm, b->rounds);
    printf("%-7s %7.1f %7.1f %5.0f %% %9.0f %7.0f %5.0f %% %8.1f\n", quant_format(type)->name,
           limit * 1e-9, v * 1e-9, 100 * v / limit, top * 1e-9, m * 1e-9, 100 * m / top,
           median(pack, b->rounds) * 1e-9);
    fflush(stdout);
}

static const struct peak *find_peak(const char *name)
{
    static const struct peak *const peaks[] = {
        &peak_scalar,
#if defined(__x86_64__)
        &peak_avx2,
        &peak_avx512,
#elif defined(__aarch64__)
        &peak_neon,
        &peak_dotprod,
#endif
    };
    for (size_t i = 0; i < ARRAY_LEN(peaks); i++)
        if (strcmp(peaks[i]->name, name) == 0)
            return peaks[i];
    return NULL;
}

static int parse(struct bench *b, const char **isa, int argc, char **argv)
{
    int i = 1;
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        int value = (int)strtol(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--isa") == 0)
            *isa = argv[i + 1];
        else if (strcmp(argv[i], "--threads") == 0)
            b->threads = value;
        else if (strcmp(argv[i], "--rounds") == 0)
            b->rounds = value;
        else if (strcmp(argv[i], "--cols") == 0)
            b->cols = value;
        else
            return -1;
    }
    bool sane = b->threads > 0 && b->rounds > 0 && b->rounds <= MAX_ROUNDS && b->cols > 0 &&
                b->cols <= 32768 && b->cols % 256 == 0;
    return sane ? i : -1;
}

int main(int argc, char **argv)
{
    struct bench b = { .threads = 1, .rounds = 7, .cols = 2048 };
    struct error e = { 0 };
    const char *isa = NULL;
    int first = parse(&b, &isa, argc, argv);
    if (first < 0) {
        fprintf(stderr, "usage: bench_kernels [--threads N] [--isa NAME] [--rounds N] "
                        "[--cols N] [TYPE]...\n");
        return 2;
    }
    b.k = kernels_choose(isa, &e);
    if (!b.k || pool_open(&b.pool, &(struct pool_options){ .threads = b.threads }, &e)) {
        fprintf(stderr, "bench_kernels: %s\n", e.text);
        return 1;
    }
    b.peak = find_peak(b.k->name);
    size_t x_bytes = (size_t)TOKENS * (size_t)b.cols * 4, y_bytes = (size_t)96 << 20;
    b.memory = memory_huge_alloc(GEMV_BYTES);
    b.act = memory_huge_alloc(2 * x_bytes);
    b.x = memory_huge_alloc(x_bytes);
    b.y = memory_huge_alloc(y_bytes);
    uint8_t *blocks = malloc((size_t)16 * (size_t)b.cols * 4);
    if (!b.memory || !b.act || !b.x || !b.y || !blocks)
        return 1;
    printf("%s, %d threads, %d wide, medians of %d\n", b.k->name, b.threads, b.cols, b.rounds);
    printf("%-7s %7s %7s %7s %9s %7s %7s %8s\n", "type", "read", "GEMV", "share", "peak", "GEMM",
           "share", "pack");
    printf("%-7s %7s %7s %7s %9s %7s %7s %8s\n", "", "GB/s", "GB/s", "", "GMAC/s", "GMAC/s", "",
           "GB/s");
    for (int t = 0; t < QUANT_COUNT; t++) {
        bool wanted = first >= argc;
        for (int i = first; i < argc; i++)
            wanted |= quant_from_name(argv[i]) == (enum quant_type)t;
        if (wanted && kernels_supports((enum quant_type)t))
            bench_type(&b, (enum quant_type)t, blocks);
    }
    free(blocks);
    pool_close(b.pool);
    return 0;
}

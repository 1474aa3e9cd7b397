/* The matmuls of one type: see machine.h. */
#include "measure/internal.h"

#include "kernels/kernels.h"
#include "os/memory.h"
#include "os/pool.h"

#include <stdlib.h>

/* Groups of a measured GEMM: a matrix of 1,024 rows, and more where there are many threads. */
#define GEMM_GROUPS 64
#define GEMM_THREAD_GROUPS 8

struct machine_kernel {
    struct machine *machine;
    struct packed w; /* in the machine's memory */
    int groups;      /* of w */
    uint8_t *blocks; /* 16 rows as in a file */
    float *x, *y;    /* x (MACHINE_TOKENS, cols) */
    uint8_t *act;    /* x, packed */
    size_t x_bytes, y_bytes, act_bytes;
    int packed_tokens; /* that act holds now */
};

/* One run over a kernel's groups. */
struct run {
    struct machine_kernel *kernel;
    struct packed w;
    int groups, piece, tokens; /* tokens 0: packing */
    atomic_size_t next;
};

static void work_groups(void *arg)
{
    struct run *r = arg;
    struct machine_kernel *k = r->kernel;
    size_t row = quant_row_bytes(r->w.type, (size_t)r->w.cols);
    for (;;) {
        int g = (int)pool_claim(k->machine->pool, &r->next, (size_t)r->piece);
        if (g >= r->groups)
            return;
        int end = r->groups - g < r->piece ? r->groups : g + r->piece;
        if (r->tokens > 0)
            k->machine->kernels->matmul(&r->w, k->act, r->tokens, g, end, k->y, (size_t)r->w.rows);
        for (; r->tokens == 0 && g < end; g++)
            kernels_pack_group(r->w.type, k->blocks, row, KERNEL_LANES, r->w.cols,
                               k->machine->memory + (size_t)g * r->w.group_bytes);
    }
}

static double run_seconds(struct machine_kernel *k, int groups, int tokens, int threads)
{
    struct run r = { .kernel = k, .w = k->w, .groups = groups, .tokens = tokens };
    r.w.rows = groups * KERNEL_LANES;
    r.piece = (int)(MEASURE_PIECE / k->w.group_bytes) + 1;
    if (tokens > 1)
        r.piece = groups / (4 * threads) > 0 ? groups / (4 * threads) : 1;
    enum activation format = kernels_activation_format(k->w.type, false);
    for (int t = 0; tokens != k->packed_tokens && t * KERNEL_TILE < tokens; t++)
        k->machine->kernels->pack_activation(format, k->x, (size_t)k->w.cols, tokens, k->w.cols, t,
                                             k->act);
    if (tokens > 0)
        k->packed_tokens = tokens;
    return machine_time(k->machine, threads, work_groups, &r);
}

double machine_gemv(struct machine_kernel *k, int threads)
{
    return (double)k->groups * (double)k->w.group_bytes / run_seconds(k, k->groups, 1, threads);
}

static int gemm_groups(const struct machine_kernel *k, int threads)
{
    int groups = threads * GEMM_THREAD_GROUPS;
    groups = groups > GEMM_GROUPS ? groups : GEMM_GROUPS;
    return groups < k->groups ? groups : k->groups;
}

double machine_gemm(struct machine_kernel *k, int threads)
{
    int groups = gemm_groups(k, threads);
    double macs = (double)MACHINE_TOKENS * k->w.cols * groups * KERNEL_LANES;
    return macs / run_seconds(k, groups, MACHINE_TOKENS, threads);
}

double machine_pack(struct machine_kernel *k, int threads)
{
    return (double)k->groups * (double)k->w.group_bytes / run_seconds(k, k->groups, 0, threads);
}

/* Harmless numbers in the type's blocks, and inputs. */
static void fill(struct machine_kernel *k)
{
    size_t row = quant_row_bytes(k->w.type, (size_t)k->w.cols);
    for (int r = 0; r < KERNEL_LANES; r++) {
        for (int i = 0; i < k->w.cols; i++)
            k->x[i] = (float)((i * 37 + r * 11) % 201 - 100) * 1e-3f;
        quant_quantize(k->w.type, k->x, k->blocks + (size_t)r * row, (size_t)k->w.cols);
    }
    for (int i = 0; i < MACHINE_TOKENS * k->w.cols; i++)
        k->x[i] = (float)(i % 2001 - 1000) * 1e-3f;
}

static int take_memory(struct machine_kernel *k, struct error *e)
{
    size_t cols = (size_t)k->w.cols;
    size_t most =
        (size_t)MACHINE_TOKENS * KERNEL_LANES * (size_t)gemm_groups(k, k->machine->threads);
    enum activation format = kernels_activation_format(k->w.type, false);
    k->x_bytes = (size_t)MACHINE_TOKENS * cols * sizeof(float);
    k->act_bytes = kernels_activation_bytes(format, MACHINE_TOKENS, k->w.cols);
    most = most > (size_t)k->w.rows ? most : (size_t)k->w.rows;
    k->y_bytes = most * sizeof(float);
    k->blocks = malloc(KERNEL_LANES * quant_row_bytes(k->w.type, cols));
    k->x = memory_huge_alloc(k->x_bytes);
    k->act = memory_huge_alloc(k->act_bytes);
    k->y = memory_huge_alloc(k->y_bytes);
    return k->blocks && k->x && k->act && k->y ? 0 : fail(e, FAIL_NOMEM, "a kernel's operands");
}

int machine_kernel_open(struct machine_kernel **ret, struct machine *m, enum quant_type type,
                        int cols, struct error *e)
{
    if (!kernels_supports(type))
        return fail(e, FAIL_UNSUPPORTED, "no kernel for weights of type %s",
                    quant_format(type)->name);
    size_t group = cols > 0 && cols % 256 == 0 ? kernels_group_bytes(type, cols) : 0;
    if (!group || group > m->bytes)
        return fail(e, FAIL_RANGE, "%d columns of %s: not whole blocks within %zu bytes", cols,
                    quant_format(type)->name, m->bytes);
    struct machine_kernel *k = calloc(1, sizeof(*k));
    if (!k)
        return fail(e, FAIL_NOMEM, "a kernel's operands");
    k->machine = m;
    k->groups = (int)(m->bytes / group);
    k->w = (struct packed){ type, k->groups * KERNEL_LANES, cols, group, m->memory };
    int r = take_memory(k, e);
    if (r) {
        machine_kernel_close(k);
        return r;
    }
    fill(k);
    machine_pack(k, m->threads);
    *ret = k;
    return 0;
}

void machine_kernel_close(struct machine_kernel *k)
{
    if (!k)
        return;
    free(k->blocks);
    memory_huge_free(k->x, k->x_bytes);
    memory_huge_free(k->act, k->act_bytes);
    memory_huge_free(k->y, k->y_bytes);
    free(k);
}

/* Expert matmuls: rows are gathered by the expert they chose, each expert's rows are multiplied
 * as one batch, and the results go back to their slots. A row's arithmetic does not depend on who
 * else chose the expert. */
#include "backend/cpu/internal.h"

/* Scratch shared by all expert phases of a step, rebuilt at each. */
struct cpu_experts {
    int max_pairs; /* rows * top_k */
    int max_experts;
    int *order;      /* (pairs) row * top_k + slot, grouped by expert */
    int *begin;      /* (experts + 1) into order */
    int n_pairs;     /* that chose an expert of this rank */
    float *input;    /* (pairs, cols): gathered rows */
    uint8_t *packed; /* activations, each expert's at its own offset */
    float *output;   /* (pairs, rows of the weight) */
    size_t packed_bytes;
};

int cpu_experts_init(struct cpu_ctx *c, struct error *e)
{
    const struct program *p = c->program;
    int top_k = 0, experts = 0, cols = 0, rows = 0;
    for (int i = 0; i < p->n_instrs; i++) {
        const struct instr *in = &p->instrs[i];
        if (in->op != OP_EXPERT_MATMUL)
            continue;
        const struct cpu_weight *w = &c->weights[in->weight[0]];
        top_k = in->experts.top_k > top_k ? in->experts.top_k : top_k;
        experts =
            p->weights[in->weight[0]].mats > experts ? p->weights[in->weight[0]].mats : experts;
        cols = w->packed.cols > cols ? w->packed.cols : cols;
        rows = w->packed.rows > rows ? w->packed.rows : rows;
    }
    if (!top_k)
        return 0;
    struct cpu_experts *x = c->experts = arena_alloc(&c->arena, sizeof(*x));
    if (!x)
        return fail(e, FAIL_NOMEM, "expert scratch");
    x->max_pairs = c->options.max_rows * top_k;
    x->max_experts = experts;
    x->order = arena_array(&c->arena, int, x->max_pairs);
    x->begin = arena_array(&c->arena, int, 2 * experts + 2);
    x->input = arena_array(&c->arena, float, (size_t)x->max_pairs *(size_t)cols);
    x->output = arena_array(&c->arena, float, (size_t)x->max_pairs *(size_t)rows + 16);
    /* Every expert's batch is packed from a tile boundary of its own. */
    int tiles = x->max_pairs + KERNEL_TILE * experts;
    size_t f32 = kernels_activation_bytes(ACTIVATION_F32, tiles, cols);
    size_t q8 = kernels_activation_bytes(ACTIVATION_Q8, tiles, cols);
    x->packed_bytes = (f32 > q8 ? f32 : q8) + (size_t)experts * 64;
    x->packed = arena_alloc(&c->arena, x->packed_bytes);
    if (!x->order || !x->begin || !x->input || !x->output || !x->packed)
        return fail(e, FAIL_NOMEM, "expert scratch for %d rows", c->options.max_rows);
    return 0;
}

void cpu_experts_done(struct cpu_ctx *c)
{
    c->experts = NULL; /* in the arena */
}

/* Counting sort of (row, slot) pairs by expert; pairs of other ranks' experts are left out. */
static void gather_pairs(struct cpu_ctx *c, const struct instr *in)
{
    struct cpu_experts *x = c->experts;
    const float *route = cpu_value(c, in->in[1]);
    int pairs = c->step.n_rows * in->experts.top_k, n = in->experts.count;
    for (int i = 0; i <= n; i++)
        x->begin[i] = 0;
    for (int i = 0; i < pairs; i++) {
        int expert = (int)route[2 * i] - in->experts.first;
        if (expert >= 0 && expert < n)
            x->begin[expert + 1]++;
    }
    for (int i = 0; i < n; i++)
        x->begin[i + 1] += x->begin[i];
    x->n_pairs = x->begin[n];
    int *next = x->begin + x->max_experts + 1;
    memcpy(next, x->begin, (size_t)n * sizeof(int));
    for (int i = 0; i < pairs; i++) {
        int expert = (int)route[2 * i] - in->experts.first;
        if (expert >= 0 && expert < n)
            x->order[next[expert]++] = i;
    }
}

struct expert_batch {
    int expert, first, count; /* of the pairs in order */
    uint8_t *packed;
    enum activation format;
};

/* Where expert i's packed activations lie: its first pair rounded up to whole tiles before. */
static uint8_t *packed_of(struct cpu_ctx *c, const struct cpu_weight *w, enum activation format,
                          int expert, int first)
{
    int tokens = (first / KERNEL_TILE + expert) * KERNEL_TILE;
    size_t at = kernels_activation_bytes(format, tokens, w->packed.cols);
    return c->experts->packed + size_round_up(at, 64);
}

static void pack_expert(struct cpu_ctx *c, const struct instr *in, const struct expert_batch *b)
{
    const struct cpu_weight *w = &c->weights[in->weight[0]];
    struct cpu_experts *x = c->experts;
    int width = c->program->values[in->in[0]].width, cols = w->packed.cols;
    int k = c->program->weights[in->weight[0]].col_count;
    bool by_slot = width != k;
    const float *from = cpu_value(c, in->in[0]);
    for (int i = b->first; i < b->first + b->count; i++) {
        int pair = x->order[i], row = pair / in->experts.top_k, slot = pair % in->experts.top_k;
        float *to = x->input + (size_t)i * (size_t)cols;
        const float *src =
            from + (size_t)row * (size_t)width + (by_slot ? (size_t)slot * (size_t)k : 0);
        if (cols != k)
            memset(to, 0, (size_t)cols * sizeof(float));
        memcpy(to + w->pad_left, src, (size_t)k * sizeof(float));
    }
    for (int t = 0; t * KERNEL_TILE < b->count; t++)
        c->k->pack_activation(b->format, x->input + (size_t)b->first * (size_t)cols, (size_t)cols,
                              b->count, cols, t, b->packed);
}

/* Rows of groups [g0, g1) of one expert for all its pairs, then back to the pairs' slots. */
static void multiply_expert(struct cpu_ctx *c, const struct instr *in, const struct expert_batch *b,
                            int g0, int g1)
{
    const struct cpu_weight *w = &c->weights[in->weight[0]];
    struct cpu_experts *x = c->experts;
    int n = w->packed.rows, out_width = c->program->values[in->out].width;
    struct packed one = w->packed;
    one.data += (size_t)b->expert * w->mat_bytes;
    float *y = x->output + (size_t)b->first * (size_t)n;
    (c->options.exact ? c->k->matmul_exact : c->k->matmul)(&one, b->packed, b->count, g0, g1, y,
                                                           (size_t)n);
    int first = g0 * KERNEL_LANES, end = g1 * KERNEL_LANES < n ? g1 * KERNEL_LANES : n;
    for (int i = 0; i < b->count; i++) {
        int pair = x->order[b->first + i];
        float *to = cpu_value(c, in->out) + (size_t)(pair / in->experts.top_k) * (size_t)out_width +
                    (size_t)(pair % in->experts.top_k) * (size_t)n;
        const float *from = y + (size_t)i * (size_t)n + first;
        if (in->weight[2] != PROGRAM_NONE)
            c->k->scale(from, c->weights[in->weight[2]].vector[b->expert], end - first, to + first);
        else
            memcpy(to + first, from, (size_t)(end - first) * sizeof(float));
    }
}

void cpu_run_experts(struct cpu_ctx *c, struct cpu_phase *phase, int thread)
{
    const struct instr *in = &c->program->instrs[phase->instrs[0]];
    const struct cpu_weight *w = &c->weights[in->weight[0]];
    struct cpu_experts *x = c->experts;
    if (in->experts.count == 0 || w->packed.rows == 0)
        return;
    if (thread == 0)
        gather_pairs(c, in);
    pool_barrier(c->options.pool, thread);
    enum activation format = kernels_activation_format(w->packed.type, c->options.exact);
    for (int i = thread; i < in->experts.count; i += c->n_threads) {
        struct expert_batch b = { i, x->begin[i], x->begin[i + 1] - x->begin[i], NULL, format };
        if (b.count == 0)
            continue;
        b.packed = packed_of(c, w, format, i, b.first);
        pack_expert(c, in, &b);
    }
    pool_barrier(c->options.pool, thread);
    int groups = (w->packed.rows + KERNEL_LANES - 1) / KERNEL_LANES;
    int pieces = c->n_threads > 1 ? 2 : 1;
    for (;;) {
        int task = atomic_fetch_add_explicit(&phase->claimed, 1, memory_order_relaxed);
        int i = task / pieces, part = task % pieces;
        if (i >= in->experts.count)
            return;
        struct expert_batch b = { i, x->begin[i], x->begin[i + 1] - x->begin[i], NULL, format };
        if (b.count == 0)
            continue;
        b.packed = packed_of(c, w, format, i, b.first);
        multiply_expert(c, in, &b, groups * part / pieces, groups * (part + 1) / pieces);
    }
}

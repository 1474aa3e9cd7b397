/* Weights from the file's blocks to the compute layout, in one region of huge pages. */
#include "backend/cpu/internal.h"

#include "os/memory.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

/* What a weight is used for decides its form. */
enum use { USE_NONE = 0, USE_MATRIX = 1, USE_EMBED = 2, USE_VECTOR = 4 };

static void mark_uses(const struct program *p, uint8_t *uses)
{
    for (int i = 0; i < p->n_instrs; i++) {
        const struct instr *in = &p->instrs[i];
        for (int k = 0; k < PROGRAM_MAX_WEIGHTS; k++) {
            if (in->weight[k] == PROGRAM_NONE)
                continue;
            bool matrix = k == 0 && (in->op == OP_MATMUL || in->op == OP_EXPERT_MATMUL);
            uses[in->weight[k]] |= matrix               ? USE_MATRIX
                                   : in->op == OP_EMBED ? USE_EMBED
                                                        : USE_VECTOR;
        }
    }
    for (int i = 0; i < p->n_ropes; i++)
        if (p->ropes[i].factors != PROGRAM_NONE)
            uses[p->ropes[i].factors] |= USE_VECTOR;
}

static bool same_rectangle(const struct weight *a, const struct weight *b)
{
    return strcmp(a->tensor, b->tensor) == 0 && a->row_first == b->row_first &&
           a->row_count == b->row_count && a->col_first == b->col_first &&
           a->col_count == b->col_count && a->mat_first == b->mat_first &&
           a->mat_count == b->mat_count;
}

/* The columns that are loaded: the slice widened to whole blocks. */
static void block_columns(const struct weight *w, int *first, int *end)
{
    int block = (int)quant_format(w->type)->block;
    *first = w->col_first / block * block;
    *end = (w->col_first + w->col_count + block - 1) / block * block;
    if (*end > w->tensor_cols)
        *end = w->tensor_cols;
}

static int groups_of(const struct weight *w)
{
    return (w->row_count + KERNEL_LANES - 1) / KERNEL_LANES;
}

static int refuse_type(const struct weight *w, struct error *e)
{
    return fail(e, FAIL_UNSUPPORTED,
                "tensor %s: type %s can't be computed with (at byte %" PRIu64 ")", w->tensor,
                quant_format(w->type)->name, w->byte);
}

/* Bytes that weight i takes in the region; sets the layout fields. */
static int plan_weight(struct backend_ctx *c, int i, uint8_t use, size_t *bytes, struct error *e)
{
    const struct weight *w = &c->program->weights[i];
    struct cpu_weight *cw = &c->weights[i];
    cw->tied = PROGRAM_NONE;
    *bytes = 0;
    if (use == USE_NONE)
        return 0;
    int first, end;
    block_columns(w, &first, &end);
    if (use & USE_VECTOR) {
        if (!quant_can_dequantize(w->type))
            return refuse_type(w, e);
        *bytes = (size_t)w->row_count * (size_t)w->col_count * sizeof(float);
        return 0;
    }
    for (int j = 0; j < i; j++)
        if (same_rectangle(w, &c->program->weights[j]) &&
            (c->weights[j].packed.group_bytes || c->weights[j].raw_row_bytes)) {
            cw->tied = j;
            return 0;
        }
    if (!kernels_supports(w->type))
        return refuse_type(w, e);
    cw->pad_left = w->col_first - first;
    if (use == USE_EMBED) {
        cw->raw_row_bytes = quant_row_bytes(w->type, (size_t)w->tensor_cols);
        *bytes = cw->raw_row_bytes * (size_t)w->row_count;
        return 0;
    }
    cw->packed = (struct packed){ .type = w->type,
                                  .rows = w->row_count,
                                  .cols = end - first,
                                  .group_bytes = kernels_group_bytes(w->type, end - first) };
    cw->mat_bytes = cw->packed.group_bytes * (size_t)groups_of(w);
    *bytes = cw->mat_bytes * (size_t)w->mat_count;
    return 0;
}

struct pack_job {
    const struct weight *weight;
    struct cpu_weight *to;
    const uint8_t *data;
    size_t row_bytes;
    int first_col, end_col;
    _Atomic int next;
};

/* Groups are claimed 16 at a time by all threads. */
static void pack_groups(void *arg, int thread, int n_threads)
{
    struct pack_job *job = arg;
    const struct weight *w = job->weight;
    int per_mat = groups_of(w);
    int total = per_mat * w->mat_count;
    size_t skip = quant_row_bytes(w->type, (size_t)job->first_col);
    for (;;) {
        int at = atomic_fetch_add_explicit(&job->next, 16, memory_order_relaxed);
        if (at >= total)
            return;
        int end = at + 16 < total ? at + 16 : total;
        for (int g = at; g < end; g++) {
            int mat = g / per_mat, group = g % per_mat;
            int row = group * KERNEL_LANES;
            int n = w->row_count - row < KERNEL_LANES ? w->row_count - row : KERNEL_LANES;
            const uint8_t *src = job->data +
                                 ((size_t)(w->mat_first + mat) * (size_t)w->tensor_rows +
                                  (size_t)(w->row_first + row)) *
                                     job->row_bytes +
                                 skip;
            uint8_t *dst = (uint8_t *)job->to->packed.data + (size_t)mat * job->to->mat_bytes +
                           (size_t)group * job->to->packed.group_bytes;
            kernels_pack_group(w->type, src, job->row_bytes, n, job->end_col - job->first_col, dst);
        }
    }
}

static void load_vector(const struct weight *w, struct cpu_weight *cw, const uint8_t *data,
                        float *scratch)
{
    size_t row_bytes = quant_row_bytes(w->type, (size_t)w->tensor_cols);
    for (int r = 0; r < w->row_count; r++) {
        quant_dequantize(w->type, data + (size_t)(w->row_first + r) * row_bytes, scratch,
                         (size_t)w->tensor_cols);
        memcpy(cw->vector + (size_t)r * (size_t)w->col_count, scratch + w->col_first,
               (size_t)w->col_count * sizeof(float));
    }
}

static int load_weight(struct backend_ctx *c, int i, const struct weight_source *source,
                       struct error *e)
{
    const struct weight *w = &c->program->weights[i];
    struct cpu_weight *cw = &c->weights[i];
    const uint8_t *data;
    uint64_t size;
    int r = source->tensor(source->arg, w->tensor, &data, &size, e);
    if (r)
        return r;
    size_t row_bytes = quant_row_bytes(w->type, (size_t)w->tensor_cols);
    uint64_t need = (uint64_t)row_bytes * (uint64_t)w->tensor_rows * (uint64_t)w->mats;
    if (size < need)
        return fail(e, FAIL_FORMAT,
                    "tensor %s has %" PRIu64 " bytes, its shape needs %" PRIu64 " (at byte %" PRIu64
                    ")",
                    w->tensor, size, need, w->byte);
    if (cw->vector) {
        float *scratch = malloc((size_t)w->tensor_cols * sizeof(float));
        if (!scratch)
            return fail(e, FAIL_NOMEM, "tensor %s", w->tensor);
        load_vector(w, cw, data, scratch);
        free(scratch);
        return 0;
    }
    if (cw->raw_row_bytes) {
        memcpy((uint8_t *)cw->raw, data + (size_t)w->row_first * row_bytes,
               row_bytes * (size_t)w->row_count);
        return 0;
    }
    struct pack_job job = { .weight = w, .to = cw, .data = data, .row_bytes = row_bytes };
    block_columns(w, &job.first_col, &job.end_col);
    pool_run(c->options.pool, pack_groups, &job);
    return 0;
}

/* Points every weight into the region, in program order, so that decode reads forward. */
static void place_weights(struct backend_ctx *c, const uint8_t *uses, const size_t *sizes)
{
    size_t at = 0;
    for (int i = 0; i < c->program->n_weights; i++) {
        struct cpu_weight *cw = &c->weights[i];
        uint8_t *memory = c->weight_memory + at;
        if (sizes[i] == 0)
            continue;
        if (uses[i] & USE_VECTOR)
            cw->vector = (float *)memory;
        else if (cw->raw_row_bytes)
            cw->raw = memory;
        else
            cw->packed.data = memory;
        at += size_round_up(sizes[i], 64);
    }
    for (int i = 0; i < c->program->n_weights; i++) {
        int tied = c->weights[i].tied;
        if (tied == PROGRAM_NONE)
            continue;
        c->weights[i] = c->weights[tied];
        c->weights[i].tied = tied;
    }
}

/* An embedding that is also the output matrix must take the matrix's form, whichever comes first
 * in the program. */
static void join_tied_uses(const struct program *p, uint8_t *uses)
{
    for (int i = 0; i < p->n_weights; i++)
        for (int j = 0; j < p->n_weights; j++)
            if (i != j && uses[i] == USE_EMBED && (uses[j] & USE_MATRIX) &&
                same_rectangle(&p->weights[i], &p->weights[j]))
                uses[i] |= USE_MATRIX;
}

int cpu_load_weights(struct backend_ctx *c, const struct weight_source *source, struct error *e)
{
    const struct program *p = c->program;
    c->weights = arena_array(&c->arena, struct cpu_weight, p->n_weights + 1);
    uint8_t *uses = arena_array(&c->arena, uint8_t, p->n_weights + 1);
    size_t *sizes = arena_array(&c->arena, size_t, p->n_weights + 1);
    if (!c->weights || !uses || !sizes)
        return fail(e, FAIL_NOMEM, "%d weights", p->n_weights);
    mark_uses(p, uses);
    join_tied_uses(p, uses);
    size_t total = 0;
    int r = 0;
    for (int i = 0; i < p->n_weights && !r; i++) {
        r = plan_weight(c, i, uses[i], &sizes[i], e);
        total += size_round_up(sizes[i], 64);
    }
    if (r)
        return r;
    c->weight_size = total;
    c->weight_memory = memory_huge_alloc(total ? total : 64);
    if (!c->weight_memory)
        return fail(e, FAIL_NOMEM, "%.1f MiB for weights", (double)total / 1048576.0);
    place_weights(c, uses, sizes);
    uint64_t done = 0;
    for (int i = 0; i < p->n_weights; i++) {
        if (sizes[i] == 0)
            continue;
        if ((r = load_weight(c, i, source, e)))
            return r;
        done += sizes[i];
        if (source->progress && source->progress(source->arg, done, total))
            return fail(e, FAIL_CANCELLED, "loading was cancelled");
    }
    c->weight_bytes = done;
    return 0;
}

void cpu_free_weights(struct backend_ctx *c)
{
    if (c->weight_memory)
        memory_huge_free(c->weight_memory, c->weight_size ? c->weight_size : 64);
    c->weight_memory = NULL;
}

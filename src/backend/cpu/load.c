/* Weights from the file's blocks to the compute layout, in one region of huge pages. */
#include "backend/cpu/internal.h"

#include "graph/wants.h"
#include "os/memory.h"

#include <inttypes.h>

/* Weights that can't be mapped are read so many bytes at a time. */
#define READ_BYTES ((size_t)4 << 20)

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
static int plan_weight(struct cpu_ctx *c, int i, uint8_t use, size_t *bytes, struct error *e)
{
    const struct weight *w = &c->program->weights[i];
    struct cpu_weight *cw = &c->weights[i];
    cw->tied = PROGRAM_NONE;
    *bytes = 0;
    if (use == USE_NONE)
        return 0;
    int first, end;
    weight_block_columns(w, &first, &end);
    if (use & USE_VECTOR) {
        if (!quant_can_dequantize(w->type))
            return refuse_type(w, e);
        *bytes = (size_t)w->row_count * (size_t)w->col_count * sizeof(float);
        return 0;
    }
    for (int j = 0; j < i; j++)
        if (weight_same_bytes(w, &c->program->weights[j]) &&
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

/* Loading: where bytes come from, and how far it is. */
struct load {
    struct cpu_ctx *c;
    const struct weight_source *source;
    uint8_t *staging; /* of what is read, where tensors can't be mapped */
    size_t staging_size;
    const uint8_t *mapped; /* the present tensor, or NULL */
    uint64_t done, total;
};

static int tell_progress(struct load *l, uint64_t more, struct error *e)
{
    l->done += more;
    if (l->source->progress && l->source->progress(l->source->arg, l->done, l->total))
        return fail(e, FAIL_CANCELLED, "loading was cancelled");
    return 0;
}

/* Bytes of a row of the tensor. */
static size_t row_bytes_of(const struct weight *w)
{
    return quant_row_bytes(w->type, (size_t)w->tensor_cols);
}

/* Maps the tensor where its source can, and checks that it is all there. */
static int open_tensor(struct load *l, const struct weight *w, struct error *e)
{
    uint64_t size = 0, need = (uint64_t)row_bytes_of(w) * (uint64_t)w->tensor_rows;
    need *= (uint64_t)w->mats;
    l->mapped = NULL;
    if (!l->source->map)
        return 0;
    int r = l->source->map(l->source->arg, w->tensor, &l->mapped, &size, e);
    if (!r && size < need)
        r = fail(e, FAIL_FORMAT,
                 "tensor %s has %" PRIu64 " bytes, its shape needs %" PRIu64 " (at byte %" PRIu64
                 ")",
                 w->tensor, size, need, w->byte);
    return r;
}

static int grow_staging(struct load *l, size_t size, struct error *e)
{
    if (size <= l->staging_size)
        return 0;
    free(l->staging);
    l->staging = malloc(size);
    l->staging_size = l->staging ? size : 0;
    return l->staging ? 0 : fail(e, FAIL_NOMEM, "%zu bytes to read weights into", size);
}

/* `runs` runs of `size` bytes, `stride` apart in the tensor from `offset` on: *ret points to the
 * first, the others follow after *apart bytes each. Valid until the next call. */
static int fetch(struct load *l, const struct weight *w, struct want want, const uint8_t **ret,
                 size_t *apart, struct error *e)
{
    if (l->mapped) {
        *ret = l->mapped + want.offset;
        *apart = (size_t)want.stride;
        return 0;
    }
    *apart = (size_t)want.size;
    if (want.size == want.stride) { /* they touch */
        want.size *= want.runs;
        want.runs = 1;
    }
    int r = grow_staging(l, (size_t)(want.size * want.runs), e);
    for (uint64_t i = 0; i < want.runs && !r; i++)
        r = l->source->read(l->source->arg, w->tensor, want.offset + i * want.stride, want.size,
                            l->staging + i * want.size, e);
    *ret = l->staging;
    return r;
}

/* Rows of one or several matrices to pack. */
struct pack_job {
    const struct cpu_weight *to;
    enum quant_type type;
    const uint8_t *data; /* of the first row of the first matrix */
    size_t row_stride, mat_stride;
    int cols, rows;             /* of each matrix here; rows that are left out follow */
    int first_group, first_mat; /* in the packed weight */
    int groups, mats;
    _Atomic int next;
};

/* Groups are claimed 16 at a time by all threads. */
static void pack_groups(void *arg, int thread, int n_threads)
{
    struct pack_job *job = arg;
    int total = job->groups * job->mats;
    for (;;) {
        int at = atomic_fetch_add_explicit(&job->next, 16, memory_order_relaxed);
        if (at >= total)
            return;
        int end = at + 16 < total ? at + 16 : total;
        for (int g = at; g < end; g++) {
            int mat = g / job->groups, group = g % job->groups, row = group * KERNEL_LANES;
            int n = job->rows - row < KERNEL_LANES ? job->rows - row : KERNEL_LANES;
            const uint8_t *src =
                job->data + (size_t)mat * job->mat_stride + (size_t)row * job->row_stride;
            uint8_t *dst = (uint8_t *)job->to->packed.data +
                           (size_t)(job->first_mat + mat) * job->to->mat_bytes +
                           (size_t)(job->first_group + group) * job->to->packed.group_bytes;
            kernels_pack_group(job->type, src, job->row_stride, n, job->cols, dst);
        }
    }
}

/* Rows [row, row + rows) of `mats` matrices from `mat` on, both counted within the weight. */
struct block {
    int mat, mats, row, rows;
};

static int pack_block(struct load *l, int i, struct block b, struct error *e)
{
    const struct weight *w = &l->c->program->weights[i];
    size_t row_bytes = row_bytes_of(w), mat_bytes = row_bytes * (size_t)w->tensor_rows;
    int first, end;
    weight_block_columns(w, &first, &end);
    size_t skip = quant_row_bytes(w->type, (size_t)first);
    const struct want want = { .offset = (uint64_t)(w->mat_first + b.mat) * mat_bytes +
                                         (uint64_t)(w->row_first + b.row) * row_bytes + skip,
                               .size = quant_row_bytes(w->type, (size_t)end) - skip,
                               .runs = (uint64_t)b.rows,
                               .stride = row_bytes };
    struct pack_job job = { .to = &l->c->weights[i],
                            .type = w->type,
                            .mat_stride = mat_bytes,
                            .cols = end - first,
                            .rows = b.rows,
                            .first_group = b.row / KERNEL_LANES,
                            .first_mat = b.mat,
                            .groups = (b.rows + KERNEL_LANES - 1) / KERNEL_LANES,
                            .mats = b.mats };
    int r = fetch(l, w, want, &job.data, &job.row_stride, e);
    if (r)
        return r;
    pool_run(l->c->options.pool, pack_groups, &job);
    return tell_progress(l, (uint64_t)job.groups * (uint64_t)b.mats * job.to->packed.group_bytes,
                         e);
}

static int load_matrix(struct load *l, int i, struct error *e)
{
    const struct weight *w = &l->c->program->weights[i];
    if (w->row_count == 0 || w->mat_count == 0)
        return 0;
    if (l->mapped)
        return pack_block(l, i, (struct block){ 0, w->mat_count, 0, w->row_count }, e);
    size_t rows = READ_BYTES / row_bytes_of(w) / KERNEL_LANES * KERNEL_LANES;
    int most = rows > INT32_MAX ? INT32_MAX : rows < KERNEL_LANES ? KERNEL_LANES : (int)rows;
    int r = 0;
    for (int mat = 0; mat < w->mat_count && !r; mat++)
        for (int row = 0; row < w->row_count && !r; row += most) {
            int n = w->row_count - row < most ? w->row_count - row : most;
            r = pack_block(l, i, (struct block){ mat, 1, row, n }, e);
        }
    return r;
}

/* Whole rows of the tensor, the weight's own. */
static int fetch_rows(struct load *l, const struct weight *w, const uint8_t **ret, struct error *e)
{
    size_t row_bytes = row_bytes_of(w), apart;
    return fetch(l, w,
                 (struct want){ .offset = (uint64_t)w->row_first * row_bytes,
                                .size = row_bytes,
                                .runs = (uint64_t)w->row_count,
                                .stride = row_bytes },
                 ret, &apart, e);
}

static int load_vector(struct load *l, int i, struct error *e)
{
    const struct weight *w = &l->c->program->weights[i];
    float *to = l->c->weights[i].vector;
    const uint8_t *data;
    size_t count = (size_t)w->col_count;
    float *row = malloc((size_t)w->tensor_cols * sizeof(*row));
    int r = row ? fetch_rows(l, w, &data, e) : fail(e, FAIL_NOMEM, "tensor %s", w->tensor);
    for (int k = 0; k < w->row_count && !r; k++) {
        quant_dequantize(w->type, data + (size_t)k * row_bytes_of(w), row, (size_t)w->tensor_cols);
        memcpy(to + (size_t)k * count, row + w->col_first, count * sizeof(*row));
    }
    free(row);
    return r ? r : tell_progress(l, (uint64_t)w->row_count * count * sizeof(*row), e);
}

/* Rows of a table that are looked up, as they are in the file. */
static int load_table(struct load *l, int i, struct error *e)
{
    const struct weight *w = &l->c->program->weights[i];
    size_t row_bytes = row_bytes_of(w), most = READ_BYTES / row_bytes + 1;
    uint8_t *to = (uint8_t *)l->c->weights[i].raw;
    int r = 0;
    for (size_t row = 0; row < (size_t)w->row_count && !r; row += most) {
        size_t n = (size_t)w->row_count - row < most ? (size_t)w->row_count - row : most;
        uint64_t from = ((uint64_t)w->row_first + row) * row_bytes;
        if (l->mapped)
            memcpy(to + row * row_bytes, l->mapped + from, n * row_bytes);
        else
            r = l->source->read(l->source->arg, w->tensor, from, n * row_bytes,
                                to + row * row_bytes, e);
        r = r ? r : tell_progress(l, n * row_bytes, e);
    }
    return r;
}

static int load_weight(struct load *l, int i, struct error *e)
{
    const struct cpu_weight *cw = &l->c->weights[i];
    int r = open_tensor(l, &l->c->program->weights[i], e);
    if (r)
        return r;
    if (cw->vector)
        return load_vector(l, i, e);
    return cw->raw_row_bytes ? load_table(l, i, e) : load_matrix(l, i, e);
}

/* Points every weight into the region, in program order, so that decode reads forward. */
static void place_weights(struct cpu_ctx *c, const uint8_t *uses, const size_t *sizes)
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
                weight_same_bytes(&p->weights[i], &p->weights[j]))
                uses[i] |= USE_MATRIX;
}

int cpu_load_weights(struct cpu_ctx *c, const struct weight_source *source, struct error *e)
{
    const struct program *p = c->program;
    c->weights = arena_array(&c->arena, struct cpu_weight, p->n_weights + 1);
    uint8_t *uses = arena_array(&c->arena, uint8_t, p->n_weights + 1);
    size_t *sizes = arena_array(&c->arena, size_t, p->n_weights + 1);
    if (!c->weights || !uses || !sizes)
        return fail(e, FAIL_NOMEM, "%d weights", p->n_weights);
    mark_uses(p, uses);
    join_tied_uses(p, uses);
    size_t total = 0, region = 0;
    int r = 0;
    for (int i = 0; i < p->n_weights && !r; i++) {
        r = plan_weight(c, i, uses[i], &sizes[i], e);
        total += sizes[i];
        region += size_round_up(sizes[i], 64);
    }
    if (r)
        return r;
    c->weight_size = region;
    c->weight_memory = memory_huge_alloc(region ? region : 64);
    if (!c->weight_memory)
        return fail(e, FAIL_NOMEM, "%.1f MiB for weights", (double)region / 1048576.0);
    place_weights(c, uses, sizes);
    struct load l = { .c = c, .source = source, .total = total };
    for (int i = 0; i < p->n_weights && !r; i++)
        r = sizes[i] ? load_weight(&l, i, e) : 0;
    free(l.staging);
    c->weight_bytes = total;
    return r;
}

void cpu_free_weights(struct cpu_ctx *c)
{
    if (c->weight_memory)
        memory_huge_free(c->weight_memory, c->weight_size ? c->weight_size : 64);
    c->weight_memory = NULL;
}

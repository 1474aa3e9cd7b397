/* The CPU backend: opens programs and runs their segments on the pool. */
#include "backend/cpu/internal.h"

#include "os/memory.h"

#include <assert.h>

/* Weights claimed at a time in a matmul phase. Measured on two cores: about 2 MiB reads at 91-97 %
 * of the bandwidth, 128 KiB at 73 %; small matrices are still shared by all threads. */
#define PIECE_BYTES ((size_t)2 << 20)
#define PIECE_LEAST ((size_t)192 << 10)

static int open_scratch(struct cpu_ctx *c, struct error *e)
{
    const struct program *p = c->program;
    int max_rows = c->options.max_rows, pad_cols = 0, queries = KERNEL_QUERIES;
    for (int i = 0; i < c->n_packs; i++)
        pad_cols = c->packs[i].cols > pad_cols ? c->packs[i].cols : pad_cols;
    for (int i = 0; i < p->n_instrs; i++)
        if (p->instrs[i].op == OP_ATTEND && p->instrs[i].attend.heads_per_kv > queries)
            queries = p->instrs[i].attend.heads_per_kv;
    if (queries > KERNEL_QUERIES * 8)
        return fail(e, FAIL_UNSUPPORTED, "%d query heads for one KV head", queries);
    c->rows = arena_array(&c->arena, struct cpu_row, max_rows);
    c->wanted_rows = arena_array(&c->arena, int, max_rows);
    c->runs = arena_array(&c->arena, struct backend_run, max_rows);
    c->run_sessions = arena_array(&c->arena, int, max_rows);
    c->step_ids = arena_array(&c->arena, int32_t, max_rows);
    c->thread_rows = arena_array(&c->arena, float *, c->n_threads);
    c->thread_scores = arena_array(&c->arena, float *, c->n_threads);
    c->thread_pages = arena_array(&c->arena, const uint8_t **, c->n_threads);
    bool ok = c->rows && c->wanted_rows && c->runs && c->run_sessions && c->step_ids &&
              c->thread_rows && c->thread_scores && c->thread_pages;
    /* Touched as far as contexts reach, so no heap. */
    c->scores_bytes =
        kernels_attention_scratch(queries, c->table_pages * CPU_PAGE) * sizeof(float) + 64;
    for (int t = 0; t < c->n_threads && ok; t++) {
        c->thread_rows[t] = arena_array(&c->arena, float, (size_t)pad_cols *KERNEL_TILE + 16);
        c->thread_scores[t] = memory_ordinary_alloc(c->scores_bytes);
        c->thread_pages[t] = arena_array(&c->arena, const uint8_t *, c->table_pages + 1);
        ok = c->thread_rows[t] && c->thread_scores[t] && c->thread_pages[t];
    }
    return ok ? 0 : fail(e, FAIL_NOMEM, "scratch for %d rows", max_rows);
}

static void close_program(struct cpu_ctx *c)
{
    if (!c)
        return;
    cpu_experts_done(c);
    for (int t = 0; c->thread_scores && t < c->n_threads; t++)
        memory_huge_free(c->thread_scores[t], c->scores_bytes);
    cpu_state_close(c);
    cpu_free_weights(c);
    free(c->work);
    arena_done(&c->arena);
    free(c);
}

static int check_step(struct cpu_ctx *c, const struct backend_step *s, struct error *e)
{
    if (s->n_rows < 1 || s->n_rows > c->options.max_rows)
        return fail(e, FAIL_RANGE, "a step of %d rows, at most %d fit", s->n_rows,
                    c->options.max_rows);
    for (int i = 0; i < s->n_rows; i++)
        if (s->ids[i] < 0 || (c->program->vocab > 0 && s->ids[i] >= c->program->vocab))
            return fail(e, FAIL_RANGE, "token %d is not in the vocabulary of %d", s->ids[i],
                        c->program->vocab);
    return 0;
}

/* Pages that the first n runs of the step took. */
static void abandon(struct cpu_ctx *c, int n)
{
    for (int i = 0; i < n; i++)
        cpu_state_abandon(c, &c->sessions[c->run_sessions[i]]);
}

/* Run i of the step, whose rows begin at *row: reserves its pages. */
static int take_run(struct cpu_ctx *c, const struct backend_step *s, int i, int *row,
                    struct error *e)
{
    const struct backend_run *run = &s->runs[i];
    struct cpu_session *session = cpu_session_find(c, run->session, false);
    if (!session)
        return fail(e, FAIL_NOT_FOUND, "no session %u", run->session);
    if (run->first != session->position || run->count < 1 || run->count > s->n_rows - *row)
        return fail(e, FAIL_STATE, "session %u is at position %d, the run starts at %d",
                    run->session, session->position, run->first);
    for (int k = 0; k < i; k++)
        if (c->runs[k].session == run->session)
            return fail(e, FAIL_STATE, "session %u has two runs in one step", run->session);
    int r = cpu_state_reserve(c, session, run->count, e);
    if (r)
        return r;
    c->runs[i] = *run;
    c->run_sessions[i] = (int)(session - c->sessions);
    for (int j = 0; j < run->count; j++)
        c->rows[(*row)++] = (struct cpu_row){ c->run_sessions[i], run->first + j };
    return 0;
}

static int begin_step(struct cpu_ctx *c, const struct backend_step *s, struct error *e)
{
    assert(!c->in_step);
    int r = check_step(c, s, e);
    if (r)
        return r;
    int row = 0, wanted = 0, n = 0;
    while (n < s->n_runs && (r = take_run(c, s, n, &row, e)) == 0)
        n++;
    if (!r && row != s->n_rows)
        r = fail(e, FAIL_FORMAT, "runs of %d rows in a step of %d", row, s->n_rows);
    if (r) {
        abandon(c, n);
        return r;
    }
    for (int i = 0; i < s->n_rows; i++) {
        c->step_ids[i] = s->ids[i];
        if (s->wanted[i])
            c->wanted_rows[wanted++] = i;
    }
    c->step = *s;
    c->step.ids = c->step_ids;
    c->step.runs = c->runs;
    c->step.n_wanted = wanted;
    c->in_step = true;
    cpu_rope_step(c);
    return 0;
}

/* One matmul of a phase as pieces of whole row groups. */
struct pieces {
    int groups, piece, count;
};

static void cut_pieces(const struct cpu_ctx *c, const struct cpu_phase *phase, struct pieces *ret)
{
    size_t total = 0;
    for (int i = 0; i < phase->n_instrs; i++) {
        const struct instr *in = &c->program->instrs[phase->instrs[i]];
        total += c->weights[in->weight[0]].mat_bytes;
    }
    size_t piece = total / (size_t)(c->n_threads * 4);
    if (piece < PIECE_LEAST)
        piece = PIECE_LEAST;
    if (piece > total / (size_t)c->n_threads)
        piece = total / (size_t)c->n_threads;
    if (piece > PIECE_BYTES)
        piece = PIECE_BYTES;
    for (int i = 0; i < phase->n_instrs; i++) {
        const struct instr *in = &c->program->instrs[phase->instrs[i]];
        const struct packed *w = &c->weights[in->weight[0]].packed;
        struct pieces *p = &ret[i];
        p->groups = (w->rows + KERNEL_LANES - 1) / KERNEL_LANES;
        p->piece = w->group_bytes ? (int)((piece + w->group_bytes - 1) / w->group_bytes) : 1;
        if (p->piece < 1)
            p->piece = 1;
        p->count = (p->groups + p->piece - 1) / p->piece;
    }
}

static void run_piece(struct cpu_ctx *c, const struct cpu_phase *phase, int i,
                      const struct pieces *p, int piece)
{
    const struct instr *in = &c->program->instrs[phase->instrs[i]];
    const struct cpu_weight *w = &c->weights[in->weight[0]];
    int rows = cpu_value_rows(c, in->out), width = c->program->values[in->out].width;
    int g0 = piece * p->piece, g1 = g0 + p->piece < p->groups ? g0 + p->piece : p->groups;
    float *y = cpu_value(c, in->out);
    (c->options.exact ? c->k->matmul_exact : c->k->matmul)(
        &w->packed, c->work + c->packs[phase->packs[i]].offset, rows, g0, g1, y, (size_t)width);
    if (in->weight[1] == PROGRAM_NONE && in->weight[2] == PROGRAM_NONE)
        return;
    int first = g0 * KERNEL_LANES;
    int end = g1 * KERNEL_LANES < width ? g1 * KERNEL_LANES : width;
    for (int row = 0; row < rows; row++) {
        float *at = y + (size_t)row * (size_t)width + first;
        if (in->weight[2] != PROGRAM_NONE)
            c->k->scale(at, *c->weights[in->weight[2]].vector, end - first, at);
        if (in->weight[1] != PROGRAM_NONE)
            c->k->add(at, c->weights[in->weight[1]].vector + first, end - first, at);
    }
}

static void run_matmul(struct cpu_ctx *c, struct cpu_phase *phase)
{
    struct pieces pieces[CPU_MAX_MATMULS];
    if (cpu_value_rows(c, c->program->instrs[phase->instrs[0]].out) == 0)
        return;
    cut_pieces(c, phase, pieces);
    int i = 0, before = 0;
    for (;;) {
        int at = atomic_fetch_add_explicit(&phase->claimed, 1, memory_order_relaxed);
        while (i < phase->n_instrs && at >= before + pieces[i].count)
            before += pieces[i++].count;
        if (i == phase->n_instrs)
            return;
        run_piece(c, phase, i, &pieces[i], at - before);
    }
}

/* Few rows: the last thread to arrive does them all while the others wait at the barrier that
 * would be needed anyway. Many rows: tiles are shared out. */
static void run_row_phase(struct cpu_ctx *c, struct cpu_phase *phase, int thread, bool serial)
{
    int rows = phase->rows == ROWS_WANTED ? c->step.n_wanted : c->step.n_rows;
    if (serial) {
        if (atomic_fetch_add_explicit(&phase->arrived, 1, memory_order_acq_rel) == c->n_threads - 1)
            cpu_run_rows(c, phase, 0, rows, thread);
        return;
    }
    for (;;) {
        int first =
            KERNEL_TILE * atomic_fetch_add_explicit(&phase->claimed, 1, memory_order_relaxed);
        if (first >= rows)
            return;
        cpu_run_rows(c, phase, first, first + KERNEL_TILE < rows ? first + KERNEL_TILE : rows,
                     thread);
    }
}

static void run_phases(void *arg, int thread, int n_threads)
{
    struct cpu_ctx *c = arg;
    bool met = true; /* all threads are past what this phase needs */
    for (int i = c->phase_base; i < c->phase_end; i++) {
        struct cpu_phase *phase = &c->phases[i];
        bool serial = phase->kind == PHASE_ROWS && c->step.n_rows <= CPU_SERIAL_ROWS;
        if (!met && !serial)
            pool_barrier(c->options.pool, thread);
        switch (phase->kind) {
        case PHASE_ROWS:
            run_row_phase(c, phase, thread, serial);
            break;
        case PHASE_MATMUL:
            run_matmul(c, phase);
            break;
        case PHASE_ATTEND:
            cpu_run_attend(c, phase, thread);
            break;
        case PHASE_EXPERTS:
            cpu_run_experts(c, phase, thread);
            break;
        }
        met = serial;
        if (serial)
            pool_barrier(c->options.pool, thread);
    }
}

static int run_segment(struct cpu_ctx *c, int segment, struct error *e)
{
    if (!c->in_step || segment < 0 || segment >= c->n_segments)
        return fail(e, FAIL_STATE, "segment %d of %d", segment, c->n_segments);
    c->phase_base = c->cpu_segments[segment].first_phase;
    c->phase_end = c->phase_base + c->cpu_segments[segment].n_phases;
    for (int i = c->phase_base; i < c->phase_end; i++) {
        atomic_store_explicit(&c->phases[i].arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&c->phases[i].claimed, 0, memory_order_relaxed);
    }
    if (c->phase_base < c->phase_end)
        pool_run(c->options.pool, run_phases, c);
    return 0;
}

static int end_step(struct cpu_ctx *c, struct error *e)
{
    if (!c->in_step)
        return fail(e, FAIL_STATE, "no step is under way");
    for (int i = 0; i < c->step.n_runs; i++)
        cpu_state_commit(c, &c->sessions[c->run_sessions[i]], c->runs[i].count);
    c->in_step = false;
    return 0;
}

static void abort_step(struct cpu_ctx *c)
{
    abandon(c, c->in_step ? c->step.n_runs : 0);
    c->in_step = false;
}

static uint64_t state_bytes(const struct cpu_ctx *c)
{
    uint64_t total = 2 * (uint64_t)c->recurrent_floats * sizeof(float) * (uint64_t)c->n_sessions;
    for (int k = 0; k < c->n_classes; k++)
        total +=
            (uint64_t)(c->classes[k].n_pages - c->classes[k].n_free) * c->classes[k].page_bytes;
    return total;
}

/* --- the interface: each call with our own struct --- */

static struct cpu_ctx *own(struct backend_ctx *c)
{
    return (struct cpu_ctx *)c;
}

static void cpu_close(struct backend_ctx *c)
{
    close_program(own(c));
}

static int cpu_create(struct backend_ctx *c, uint32_t session, struct error *e)
{
    return cpu_session_create(own(c), session, e);
}

static int cpu_release(struct backend_ctx *c, uint32_t session, struct error *e)
{
    return cpu_session_release(own(c), session, e);
}

static int cpu_truncate(struct backend_ctx *c, uint32_t session, int32_t position, struct error *e)
{
    return cpu_session_truncate(own(c), session, position, e);
}

static int cpu_fork(struct backend_ctx *c, uint32_t session, uint32_t from, struct error *e)
{
    return cpu_session_fork(own(c), session, from, e);
}

static int cpu_checkpoint(struct backend_ctx *c, uint32_t session, uint32_t id, struct error *e)
{
    return cpu_session_checkpoint(own(c), session, id, e);
}

static int cpu_restore(struct backend_ctx *c, uint32_t session, uint32_t id, struct error *e)
{
    return cpu_session_restore(own(c), session, id, e);
}

static int32_t cpu_earliest(struct backend_ctx *c, uint32_t session)
{
    return cpu_session_earliest(own(c), session);
}

static uint64_t cpu_weight_bytes(const struct backend_ctx *c)
{
    return ((const struct cpu_ctx *)c)->weight_bytes;
}

static uint64_t cpu_state_bytes(const struct backend_ctx *c)
{
    return state_bytes((const struct cpu_ctx *)c);
}

static int cpu_begin(struct backend_ctx *c, const struct backend_step *s, struct error *e)
{
    return begin_step(own(c), s, e);
}

static int cpu_run(struct backend_ctx *c, int segment, struct error *e)
{
    return run_segment(own(c), segment, e);
}

static int cpu_end(struct backend_ctx *c, struct error *e)
{
    return end_step(own(c), e);
}

static void cpu_abort(struct backend_ctx *c)
{
    abort_step(own(c));
}

/* Values lie in host memory, to be read and written alike. */
static int cpu_rows(struct backend_ctx *b, int value, struct backend_rows *ret, struct error *e)
{
    struct cpu_ctx *c = own(b);
    if (!c->in_step || value < 0 || value >= c->program->n_values)
        return fail(e, FAIL_STATE, "value %d of %d outside of a step", value, c->program->n_values);
    *ret = (struct backend_rows){ .data = cpu_value(c, value),
                                  .rows = cpu_value_rows(c, value),
                                  .width = c->program->values[value].width };
    return 0;
}

static const struct backend_ops cpu_ops = {
    .close = cpu_close,
    .create = cpu_create,
    .release = cpu_release,
    .truncate = cpu_truncate,
    .fork = cpu_fork,
    .checkpoint = cpu_checkpoint,
    .restore = cpu_restore,
    .earliest = cpu_earliest,
    .weight_bytes = cpu_weight_bytes,
    .state_bytes = cpu_state_bytes,
    .begin = cpu_begin,
    .run = cpu_run,
    .end = cpu_end,
    .abort = cpu_abort,
    .read = cpu_rows,
    .write = cpu_rows,
};

static int cpu_open(struct backend_ctx **ret, const struct program *program,
                    const struct weight_source *source, const struct backend_options *options,
                    struct error *e)
{
    assert(options->max_rows > 0 && options->max_sessions > 0);
    int r = program_validate(program, e);
    if (r)
        return r;
    struct cpu_ctx *c = calloc(1, sizeof(*c));
    if (!c)
        return fail(e, FAIL_NOMEM, "opening %s", program->family);
    c->base.ops = &cpu_ops;
    c->program = program;
    c->options = *options;
    c->k = options->kernels;
    c->n_threads = pool_threads(options->pool);
    if ((r = cpu_load_weights(c, source, e)) || (r = cpu_state_open(c, e)) ||
        (r = cpu_compile(c, e)) || (r = open_scratch(c, e)) || (r = cpu_rope_init(c, e)) ||
        (r = cpu_experts_init(c, e)))
        goto out;
    c->work = aligned_alloc(64, size_round_up(c->work_size + 64, 64));
    if (!c->work)
        r = fail(e, FAIL_NOMEM, "%.1f MiB of working memory", (double)c->work_size / 1048576.0);
out:
    if (r)
        close_program(c);
    else
        *ret = &c->base;
    return r;
}

/* The processor is one device. All it computes is exact: no result depends on the instruction set,
 * the threads or the batch. */
static int cpu_devices(struct compute_device *ret, int most)
{
    if (most < 1)
        return 0;
    *ret = (struct compute_device){
        .backend = &backend_cpu, .name = "cpu", .memory = memory_usable(), .exact = true
    };
    for (int i = 0; i < OP_COUNT; i++)
        ret->ops[i] = true;
    for (int i = 0; i < QUANT_COUNT; i++)
        ret->types[i] = kernels_supports((enum quant_type)i);
    return 1;
}

const struct backend backend_cpu = {
    .name = "cpu",
    .devices = cpu_devices,
    .open = cpu_open,
};

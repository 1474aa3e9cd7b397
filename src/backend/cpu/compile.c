/* From a segment's instructions to phases, and the memory that values and packed activations
 * share. */
#include "backend/cpu/internal.h"

static void *grow(struct arena *a, void *array, int n, int *capacity, size_t size)
{
    if (n < *capacity)
        return array;
    int more = *capacity ? *capacity * 2 : 64;
    void *fresh = arena_alloc_array(a, (size_t)more, size);
    if (fresh && n)
        memcpy(fresh, array, (size_t)n * size);
    if (fresh)
        *capacity = more;
    return fresh;
}

static struct cpu_phase *phase_add(struct cpu_ctx *c, enum cpu_phase_kind kind)
{
    struct cpu_phase *grown =
        grow(&c->arena, c->phases, c->n_phases, &c->cap_phases, sizeof(*grown));
    if (!grown)
        return NULL;
    c->phases = grown;
    struct cpu_phase *p = &c->phases[c->n_phases++];
    *p = (struct cpu_phase){ .kind = kind, .first_op = c->n_row_ops };
    return p;
}

/* The row phase that work on rows of this kind can join: the last phase, if it is one. */
static struct cpu_phase *row_phase(struct cpu_ctx *c, int first_phase, enum value_rows rows)
{
    if (c->n_phases > first_phase) {
        struct cpu_phase *last = &c->phases[c->n_phases - 1];
        if (last->kind == PHASE_ROWS && last->rows == rows)
            return last;
    }
    struct cpu_phase *p = phase_add(c, PHASE_ROWS);
    if (p)
        p->rows = rows;
    return p;
}

static int row_op_add(struct cpu_ctx *c, int first_phase, enum value_rows rows,
                      struct cpu_row_op op)
{
    struct cpu_phase *p = row_phase(c, first_phase, rows);
    struct cpu_row_op *grown =
        grow(&c->arena, c->row_ops, c->n_row_ops, &c->cap_row_ops, sizeof(*grown));
    if (!p || !grown)
        return FAIL_NOMEM;
    c->row_ops = grown;
    c->row_ops[c->n_row_ops++] = op;
    p->n_ops++;
    return 0;
}

/* The packed form of a matmul's input; made in a row phase before if it isn't there yet. */
static int pack_for(struct cpu_ctx *c, int first_phase, const struct instr *in, int *ret)
{
    const struct cpu_weight *w = &c->weights[in->weight[0]];
    struct cpu_pack want = {
        .value = in->in[0],
        .format = kernels_activation_format(w->packed.type, c->options.exact),
        .cols = w->packed.cols,
        .pad_left = w->pad_left,
    };
    for (int i = 0; i < c->n_packs; i++) {
        const struct cpu_pack *p = &c->packs[i];
        if (p->value == want.value && p->format == want.format && p->cols == want.cols &&
            p->pad_left == want.pad_left && p->first_phase >= first_phase) {
            *ret = i;
            return 0;
        }
    }
    struct cpu_pack *grown = grow(&c->arena, c->packs, c->n_packs, &c->cap_packs, sizeof(*grown));
    if (!grown)
        return FAIL_NOMEM;
    c->packs = grown;
    *ret = c->n_packs++;
    int r = row_op_add(c, first_phase, c->program->values[want.value].rows,
                       (struct cpu_row_op){ .instr = PROGRAM_NONE, .pack = *ret });
    want.first_phase = want.last_phase = c->n_phases - 1;
    c->packs[*ret] = want;
    return r;
}

static int compile_matmul(struct cpu_ctx *c, int first_phase, int index)
{
    const struct program *p = c->program;
    const struct instr *in = &p->instrs[index];
    struct cpu_phase *last = c->n_phases > first_phase ? &c->phases[c->n_phases - 1] : NULL;
    bool join = last && last->kind == PHASE_MATMUL && last->n_instrs < CPU_MAX_MATMULS &&
                p->instrs[last->instrs[0]].in[0] == in->in[0];
    int pack = PROGRAM_NONE;
    if (join) {
        /* Joining is only possible when the packed input is there already. */
        int before = c->n_packs;
        const struct cpu_weight *w = &c->weights[in->weight[0]];
        enum activation format = kernels_activation_format(w->packed.type, c->options.exact);
        for (int i = 0; i < last->n_instrs && pack == PROGRAM_NONE; i++) {
            const struct cpu_pack *k = &c->packs[last->packs[i]];
            if (k->format == format && k->cols == w->packed.cols && k->pad_left == w->pad_left)
                pack = last->packs[i];
        }
        join = pack != PROGRAM_NONE && before == c->n_packs;
    }
    if (!join) {
        if (pack_for(c, first_phase, in, &pack) || !(last = phase_add(c, PHASE_MATMUL)))
            return FAIL_NOMEM;
    }
    last->instrs[last->n_instrs] = index;
    last->packs[last->n_instrs++] = pack;
    c->packs[pack].last_phase = c->n_phases - 1;
    return 0;
}

static int compile_instr(struct cpu_ctx *c, int first_phase, int index)
{
    const struct program *p = c->program;
    const struct instr *in = &p->instrs[index];
    enum value_rows rows = p->values[in->out].rows;
    struct cpu_phase *phase;
    switch (in->op) {
    case OP_MATMUL:
        return compile_matmul(c, first_phase, index);
    case OP_ATTEND:
        if ((in->in[1] != PROGRAM_NONE &&
             row_op_add(c, first_phase, rows,
                        (struct cpu_row_op){ index, PROGRAM_NONE, .store_kv = true })) ||
            !(phase = phase_add(c, PHASE_ATTEND)))
            return FAIL_NOMEM;
        phase->instrs[phase->n_instrs++] = index;
        return 0;
    case OP_EXPERT_MATMUL:
        if (!(phase = phase_add(c, PHASE_EXPERTS)))
            return FAIL_NOMEM;
        phase->instrs[phase->n_instrs++] = index;
        return 0;
    case OP_CONV:
        /* Looks at other rows of its input, so the input is finished in a phase before; the new
         * state is stored in a phase after, when no row needs the old one. */
        if (!(phase = phase_add(c, PHASE_ROWS)))
            return FAIL_NOMEM;
        phase->rows = rows;
        if (row_op_add(c, first_phase, rows, (struct cpu_row_op){ index, PROGRAM_NONE, false }) ||
            !(phase = phase_add(c, PHASE_ROWS)))
            return FAIL_NOMEM;
        phase->rows = rows;
        return row_op_add(c, first_phase, rows, (struct cpu_row_op){ index, PROGRAM_NONE, true });
    default:
        return row_op_add(c, first_phase, rows, (struct cpu_row_op){ index, PROGRAM_NONE, false });
    }
}

/* Where a piece of work memory is live, in phases. */
struct interval {
    size_t bytes;
    size_t *offset;
    int first, last;
};

static int interval_order(const void *a, const void *b)
{
    const struct interval *x = a, *y = b;
    return x->first != y->first ? (x->first < y->first ? -1 : 1) : 0;
}

struct slot {
    size_t bytes;
    int busy_until;
};

/* Greedy sharing: an interval takes the smallest free slot that is large enough, else the largest
 * free one, which grows. Offsets hold slot numbers until all sizes are known. */
static int share_memory(struct cpu_ctx *c, struct interval *list, int n)
{
    struct slot *slots = arena_array(&c->arena, struct slot, n + 1);
    size_t *starts = arena_array(&c->arena, size_t, n + 1);
    if (!slots || !starts)
        return FAIL_NOMEM;
    int n_slots = 0;
    qsort(list, (size_t)n, sizeof(*list), interval_order);
    for (int i = 0; i < n; i++) {
        int best = -1;
        for (int s = 0; s < n_slots; s++) {
            if (slots[s].busy_until >= list[i].first)
                continue;
            bool fits = slots[s].bytes >= list[i].bytes;
            bool best_fits = best >= 0 && slots[best].bytes >= list[i].bytes;
            if (best < 0 || (fits && (!best_fits || slots[s].bytes < slots[best].bytes)) ||
                (!fits && !best_fits && slots[s].bytes > slots[best].bytes))
                best = s;
        }
        if (best < 0)
            best = n_slots++;
        if (slots[best].bytes < list[i].bytes)
            slots[best].bytes = list[i].bytes;
        slots[best].busy_until = list[i].last;
        *list[i].offset = (size_t)best;
    }
    size_t total = 0;
    for (int s = 0; s < n_slots; s++) {
        starts[s] = total;
        total += size_round_up(slots[s].bytes, 256);
    }
    for (int i = 0; i < n; i++)
        *list[i].offset = starts[*list[i].offset];
    c->work_size = total;
    return 0;
}

/* First and last phase that touches each value, -1 for none. Inputs live from the start, outputs to
 * the end, and what another segment uses lives through all phases between. */
static void find_lifetimes(const struct cpu_ctx *c, int *first, int *last)
{
    const struct program *p = c->program;
    for (int v = 0; v < p->n_values; v++)
        first[v] = last[v] = -1;
    for (int ph = 0; ph < c->n_phases; ph++) {
        const struct cpu_phase *phase = &c->phases[ph];
        int n = phase->kind == PHASE_ROWS ? phase->n_ops : phase->n_instrs;
        for (int i = 0; i < n; i++) {
            int index = phase->instrs[i < CPU_MAX_MATMULS ? i : 0];
            if (phase->kind == PHASE_ROWS) {
                const struct cpu_row_op *op = &c->row_ops[phase->first_op + i];
                index = op->instr;
                if (index == PROGRAM_NONE) {
                    last[c->packs[op->pack].value] = ph;
                    continue;
                }
            }
            const struct instr *in = &p->instrs[index];
            if (first[in->out] < 0)
                first[in->out] = ph;
            last[in->out] = ph > last[in->out] ? ph : last[in->out];
            for (int k = 0; k < PROGRAM_MAX_INPUTS; k++)
                if (in->in[k] != PROGRAM_NONE)
                    last[in->in[k]] = ph;
        }
    }
    /* An exchange reads its input and makes its output between two segments. */
    for (int s = 0; s < c->n_segments; s++) {
        if (c->segments[s].exchange == PROGRAM_NONE)
            continue;
        const struct instr *in = &p->instrs[c->segments[s].exchange];
        int at = c->cpu_segments[s].first_phase + c->cpu_segments[s].n_phases;
        if (last[in->in[0]] < at)
            last[in->in[0]] = at;
        first[in->out] = at - 1;
        if (last[in->out] < at)
            last[in->out] = at;
    }
    for (int i = 0; i < p->n_inputs; i++) {
        first[p->inputs[i]] = 0;
        if (last[p->inputs[i]] < 0)
            last[p->inputs[i]] = 0;
    }
    for (int i = 0; i < p->n_outputs; i++)
        last[p->outputs[i]] = c->n_phases;
    if (p->hidden != PROGRAM_NONE)
        last[p->hidden] = c->n_phases;
}

/* Gives each value and packed activation its place in the work memory. */
static int lay_out_memory(struct cpu_ctx *c)
{
    const struct program *p = c->program;
    int *first = arena_array(&c->arena, int, p->n_values + 1);
    int *last = arena_array(&c->arena, int, p->n_values + 1);
    struct interval *list = arena_array(&c->arena, struct interval, p->n_values + c->n_packs + 1);
    c->value_offset = arena_array(&c->arena, size_t, p->n_values + 1);
    if (!first || !last || !list || !c->value_offset)
        return FAIL_NOMEM;
    find_lifetimes(c, first, last);
    int n = 0;
    for (int v = 0; v < p->n_values; v++) {
        if (last[v] < 0)
            continue;
        list[n++] = (struct interval){
            (size_t)c->options.max_rows * (size_t)p->values[v].width * sizeof(float) + 64,
            &c->value_offset[v], first[v] < 0 ? 0 : first[v], last[v]
        };
    }
    for (int i = 0; i < c->n_packs; i++) {
        struct cpu_pack *k = &c->packs[i];
        list[n++] =
            (struct interval){ kernels_activation_bytes(k->format, c->options.max_rows, k->cols),
                               &k->offset, k->first_phase, k->last_phase };
    }
    return share_memory(c, list, n);
}

int cpu_compile(struct cpu_ctx *c, struct error *e)
{
    const struct program *p = c->program;
    c->n_segments = program_segments(p, &c->arena, &c->segments);
    if (c->n_segments < 0)
        return fail(e, FAIL_NOMEM, "compiling %s", p->family);
    c->cpu_segments = arena_array(&c->arena, struct cpu_segment, c->n_segments);
    int r = c->cpu_segments ? 0 : FAIL_NOMEM;
    for (int s = 0; s < c->n_segments && !r; s++) {
        int first_phase = c->n_phases;
        for (int i = c->segments[s].first; i < c->segments[s].end && !r; i++)
            r = compile_instr(c, first_phase, i);
        c->cpu_segments[s] = (struct cpu_segment){ first_phase, c->n_phases - first_phase };
    }
    if (!r)
        r = lay_out_memory(c);
    return r ? fail(e, FAIL_NOMEM, "compiling %s", p->family) : 0;
}

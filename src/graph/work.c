/* What a program's matrices cost: see struct program_work. */
#include "graph/program.h"

#include "quant/quants.h"

/* Weights of one of an instruction's matrices, and how many of them a row uses; 0 for what is no
 * product. */
static uint64_t matrix_weights(const struct program *p, const struct instr *in, int *used)
{
    if (in->op != OP_MATMUL && in->op != OP_EXPERT_MATMUL)
        return 0;
    const struct weight *w = &p->weights[in->weight[0]];
    bool chosen = in->op == OP_EXPERT_MATMUL && in->top_k < w->mat_count;
    *used = chosen ? in->top_k : w->mat_count;
    return (uint64_t)w->row_count * (uint64_t)w->col_count;
}

void program_work(const struct program *p, struct program_work *ret)
{
    *ret = (struct program_work){ 0 };
    for (int i = 0; i < p->n_instrs; i++) {
        const struct instr *in = &p->instrs[i];
        int used = 0;
        uint64_t weights = matrix_weights(p, in, &used);
        if (!weights)
            continue;
        uint64_t *to = p->values[in->out].rows == ROWS_WANTED ? ret->wanted_macs : ret->macs;
        to[p->weights[in->weight[0]].type] += weights * (uint64_t)used;
    }
}

double program_read_bytes(const struct program *p, int n_rows)
{
    double total = 0;
    for (int i = 0; i < p->n_instrs; i++) {
        int used = 0;
        uint64_t weights = matrix_weights(p, &p->instrs[i], &used);
        if (!weights)
            continue;
        const struct weight *w = &p->weights[p->instrs[i].weight[0]];
        double missed = 1; /* chance that no row chooses a certain matrix */
        for (int row = 0; row < n_rows; row++)
            missed *= 1 - (double)used / w->mat_count;
        const struct quant_format *f = quant_format(w->type);
        total += (1 - missed) * w->mat_count * (double)weights * f->bytes / f->block;
    }
    return total;
}

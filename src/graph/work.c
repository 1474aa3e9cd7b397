/* What a program's matrices cost: see struct program_work. */
#include "graph/program.h"

#include "quant/quants.h"

void program_work(const struct program *p, struct program_work *ret)
{
    *ret = (struct program_work){ 0 };
    for (int i = 0; i < p->n_instrs; i++) {
        const struct instr *in = &p->instrs[i];
        if (in->op != OP_MATMUL && in->op != OP_EXPERT_MATMUL)
            continue;
        const struct weight *w = &p->weights[in->weight[0]];
        bool experts = in->op == OP_EXPERT_MATMUL;
        uint64_t mats = (uint64_t)(experts && in->top_k < w->mat_count ? in->top_k : w->mat_count);
        uint64_t weights = mats * (uint64_t)w->row_count * (uint64_t)w->col_count;
        const struct quant_format *f = quant_format(w->type);
        bool wanted = p->values[in->out].rows == ROWS_WANTED;
        *(wanted ? &ret->wanted_macs[w->type] : &ret->macs[w->type]) += weights;
        ret->bytes += weights * f->bytes / f->block;
    }
}

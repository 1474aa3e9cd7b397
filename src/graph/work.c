/* What a program's matrices and states cost: see struct program_work. */
#include "graph/ops.h"
#include "graph/wants.h"

#include "quant/quants.h"

static struct op_cost cost_of(const struct program *p, const struct instr *in)
{
    struct op_cost cost = { 0 };
    if (op_info(in->op)->cost)
        op_info(in->op)->cost(p, in, &cost);
    return cost;
}

void program_work(const struct program *p, struct program_work *ret)
{
    *ret = (struct program_work){ 0 };
    for (int i = 0; i < p->n_instrs; i++) {
        const struct instr *in = &p->instrs[i];
        struct op_cost cost = cost_of(p, in);
        if (!cost.weights)
            continue;
        uint64_t *to = p->values[in->out].rows == ROWS_WANTED ? ret->wanted_macs : ret->macs;
        to[p->weights[in->weight[0]].type] += cost.weights * (uint64_t)cost.mats;
    }
}

double program_read_bytes(const struct program *p, int n_rows)
{
    double total = 0;
    for (int i = 0; i < p->n_instrs; i++) {
        struct op_cost cost = cost_of(p, &p->instrs[i]);
        if (!cost.weights)
            continue;
        const struct weight *w = &p->weights[p->instrs[i].weight[0]];
        double missed = 1; /* chance that no row chooses a certain matrix */
        for (int row = 0; row < n_rows; row++)
            missed *= 1 - (double)cost.mats / w->mat_count;
        const struct quant_format *f = quant_format(w->type);
        total += (1 - missed) * w->mat_count * (double)cost.weights * f->bytes / f->block;
    }
    return total;
}

uint64_t program_weight_bytes(const struct program *p)
{
    uint64_t total = 0;
    for (int i = 0; i < p->n_weights; i++) {
        struct want want;
        bool seen = false; /* a tied matrix is one set of bytes */
        for (int j = 0; j < i && !seen; j++)
            seen = weight_same_bytes(&p->weights[i], &p->weights[j]);
        want_of_weight(&p->weights[i], &want);
        if (!seen)
            total += want_bytes(&want);
    }
    return total;
}

uint64_t state_token_numbers(const struct state *s)
{
    return state_info(s->kind)->token_numbers(s);
}

uint64_t state_fixed_numbers(const struct state *s)
{
    return state_info(s->kind)->fixed_numbers(s);
}

uint64_t program_state_bytes_per_token(const struct program *p, int element_bytes)
{
    uint64_t total = 0;
    for (int i = 0; i < p->n_states; i++)
        total += state_token_numbers(&p->states[i]);
    return total * (uint64_t)element_bytes;
}

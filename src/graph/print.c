/* A program as text for people: one line an instruction. */
#include "graph/ops.h"

static void print_value(const struct program *p, int v, struct buffer *out)
{
    const struct value *value = &p->values[v];
    static const char *const layouts[] = { "", " sharded", " partial" };
    buffer_printf(out, "%%%d:%s[%d%s%s]", v, value->name, value->width, layouts[value->layout],
                  value->rows == ROWS_WANTED ? " wanted" : "");
}

static void print_weight(const struct program *p, int index, struct buffer *out)
{
    const struct weight *w = &p->weights[index];
    buffer_printf(out, " {%s %s", w->tensor, quant_format(w->type)->name);
    if (w->mats > 1)
        buffer_printf(out, " mats %d+%d/%d", w->mat_first, w->mat_count, w->mats);
    if (w->tensor_rows > 1 || w->row_count != w->tensor_rows)
        buffer_printf(out, " rows %d+%d/%d", w->row_first, w->row_count, w->tensor_rows);
    buffer_printf(out, " cols %d+%d/%d}", w->col_first, w->col_count, w->tensor_cols);
}

static void print_instr(const struct program *p, const struct instr *in, struct buffer *out)
{
    buffer_printf(out, "%4d  ", in->layer);
    print_value(p, in->out, out);
    buffer_printf(out, " = %s", op_name(in->op));
    for (int i = 0; i < PROGRAM_MAX_INPUTS; i++)
        if (in->in[i] != PROGRAM_NONE)
            buffer_printf(out, " %%%d", in->in[i]);
    for (int i = 0; i < PROGRAM_MAX_WEIGHTS; i++)
        if (in->weight[i] != PROGRAM_NONE)
            print_weight(p, in->weight[i], out);
    if (op_info(in->op)->print)
        op_info(in->op)->print(p, in, out);
    buffer_text(out, "\n");
}

int program_print(const struct program *p, struct buffer *out)
{
    buffer_printf(out,
                  "program %s: layers %d..%d of %d, width %d, vocabulary %d, rank %d of %d, "
                  "%d instructions\n",
                  p->family, p->first_layer, p->end_layer, p->n_layers, p->width, p->vocab, p->rank,
                  p->n_ranks, p->n_instrs);
    for (int i = 0; i < p->n_ranges; i++) {
        const struct range *r = &p->ranges[i];
        buffer_printf(out, "range %s: %d units, granule %d, here [%d, %d)\n", r->name, r->count,
                      r->granule, r->first, r->end);
    }
    for (int i = 0; i < p->n_ropes; i++) {
        const struct rope *r = &p->ropes[i];
        static const char *const kinds[] = { "none", "linear", "yarn", "llama3" };
        buffer_printf(out, "rope %d: %d dims %s base %g scaling %s factor %g\n", i, r->dims,
                      r->interleaved ? "interleaved" : "halves", (double)r->base, kinds[r->scaling],
                      (double)r->factor);
    }
    for (int i = 0; i < p->n_states; i++) {
        const struct state *st = &p->states[i];
        buffer_printf(out, "state %d: %s of layer %d, %d x %d + %d", i, state_info(st->kind)->name,
                      st->layer, st->heads, st->key_dim, st->value_dim);
        if (st->window)
            buffer_printf(out, " window %d", st->window);
        buffer_text(out, "\n");
    }
    for (int i = 0; i < p->n_inputs; i++) {
        buffer_text(out, "input  ");
        print_value(p, p->inputs[i], out);
        buffer_text(out, "\n");
    }
    for (int i = 0; i < p->n_instrs; i++)
        print_instr(p, &p->instrs[i], out);
    for (int i = 0; i < p->n_outputs; i++) {
        buffer_text(out, "output ");
        print_value(p, p->outputs[i], out);
        buffer_text(out, "\n");
    }
    return out->failed ? FAIL_LIMIT : 0;
}

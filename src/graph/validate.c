/* Checks a program before it runs, so that a backend may trust every index and shape. */
#include "graph/ops.h"

static int check_weight(const struct weight *w, struct error *e)
{
    if (w->mats < 1 || w->tensor_rows < 1 || w->tensor_cols < 1 || w->mat_first < 0 ||
        w->mat_count < 0 || w->row_first < 0 || w->row_count < 0 || w->col_first < 0 ||
        w->col_count < 0 || w->mat_first > w->mats - w->mat_count ||
        w->row_first > w->tensor_rows - w->row_count ||
        w->col_first > w->tensor_cols - w->col_count)
        return fail(e, FAIL_FORMAT, "weight %s: a slice outside the tensor", w->tensor);
    return 0;
}

/* Inputs defined before, the output defined once, indices in range, as many as the op takes. */
static int check_links(const struct check *c, uint8_t *defined)
{
    const struct instr *in = c->in;
    const struct op_info *op = op_info(in->op);
    enum value_rows rows = ROWS_ALL;
    for (int i = 0; i < PROGRAM_MAX_INPUTS; i++) {
        int v = in->in[i];
        if (v == PROGRAM_NONE) {
            if (i < op->inputs)
                return check_failed(c, "an input is missing");
            continue;
        }
        if (i >= op->most_inputs)
            return check_failed(c, "an input more than the operation takes");
        if (v < 0 || v >= c->p->n_values || !defined[v])
            return check_failed(c, "an input is used before it is made");
        if (i > 0 && c->p->values[v].rows != rows)
            return check_failed(c, "inputs differ in rows");
        rows = c->p->values[v].rows;
    }
    for (int i = 0; i < PROGRAM_MAX_WEIGHTS; i++)
        if (in->weight[i] != PROGRAM_NONE &&
            (in->weight[i] < 0 || in->weight[i] >= c->p->n_weights))
            return check_failed(c, "no such weight");
    for (int i = 0; i < op->weights; i++)
        if (in->weight[i] == PROGRAM_NONE)
            return check_failed(c, "a weight is missing");
    if (in->out < 0 || in->out >= c->p->n_values || defined[in->out])
        return check_failed(c, "the output is made twice");
    if (in->op == OP_ROWS)
        rows = ROWS_WANTED;
    if (c->p->values[in->out].rows != rows)
        return check_failed(c, "the output has other rows than the inputs");
    defined[in->out] = 1;
    return 0;
}

int program_validate(const struct program *p, struct error *e)
{
    struct arena scratch = { 0 };
    uint8_t *defined = arena_array(&scratch, uint8_t, p->n_values + 1);
    int r = defined ? 0 : fail(e, FAIL_NOMEM, "validating %d values", p->n_values);
    for (int i = 0; i < p->n_weights && !r; i++)
        r = check_weight(&p->weights[i], e);
    for (int i = 0; i < p->n_states && !r; i++)
        if ((unsigned)p->states[i].kind >= STATE_KIND_COUNT)
            r = fail(e, FAIL_FORMAT, "state %d: unknown kind", i);
    for (int i = 0; i < p->n_inputs && !r; i++)
        defined[p->inputs[i]] = 1;
    for (int i = 0; i < p->n_instrs && !r; i++) {
        struct check c = { .p = p, .in = &p->instrs[i], .index = i, .error = e };
        if ((unsigned)c.in->op >= OP_COUNT) {
            r = fail(e, FAIL_FORMAT, "instruction %d: unknown operation", i);
            break;
        }
        c.name = op_info(c.in->op)->name;
        r = check_links(&c, defined);
        if (!r)
            r = op_info(c.in->op)->check(&c);
    }
    for (int i = 0; i < p->n_outputs && !r; i++)
        if (!defined[p->outputs[i]])
            r = fail(e, FAIL_FORMAT, "output %d is never made", i);
    arena_done(&scratch);
    return r;
}

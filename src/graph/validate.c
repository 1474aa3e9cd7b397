/* Checks a program before it runs, so that a backend may trust every index and shape. */
#include "graph/program.h"

struct check {
    const struct program *p;
    const struct instr *in;
    int index;
    struct error *error;
};

static int bad(const struct check *c, const char *what)
{
    return fail(c->error, FAIL_FORMAT, "instruction %d (layer %d, %s): %s", c->index, c->in->layer,
                op_name(c->in->op), what);
}

static int width_of(const struct check *c, int i)
{
    return c->p->values[c->in->in[i]].width;
}

static int out_width(const struct check *c)
{
    return c->p->values[c->in->out].width;
}

static const struct weight *weight_of(const struct check *c, int i)
{
    return c->in->weight[i] == PROGRAM_NONE ? NULL : &c->p->weights[c->in->weight[i]];
}

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

static int check_vector(const struct check *c, const struct weight *w, int n, const char *what)
{
    if (w && (w->mats != 1 || w->row_count != 1 || w->col_count != n))
        return bad(c, what);
    return 0;
}

static int check_matmul(const struct check *c)
{
    const struct weight *w = weight_of(c, 0);
    if (w->mats != 1)
        return bad(c, "a stack of matrices where one is needed");
    if (width_of(c, 0) != w->col_count)
        return bad(c, "the input's width is not the weight's columns");
    if (out_width(c) != w->row_count)
        return bad(c, "the output's width is not the weight's rows");
    int r = check_vector(c, weight_of(c, 1), w->row_count, "the bias has another length");
    return r ? r : check_vector(c, weight_of(c, 2), 1, "the scale is not one number");
}

static int check_norm(const struct check *c)
{
    int group = c->in->group ? c->in->group : width_of(c, 0);
    if (group < 1 || width_of(c, 0) % group)
        return bad(c, "the width is not a multiple of the group");
    if (out_width(c) != width_of(c, 0))
        return bad(c, "input and output differ in width");
    int r = check_vector(c, weight_of(c, 0), group, "the norm weight has another length");
    return r ? r : check_vector(c, weight_of(c, 1), group, "the norm bias has another length");
}

static int check_rope(const struct check *c)
{
    const struct program *p = c->p;
    if (c->in->table < 0 || c->in->table >= p->n_ropes)
        return bad(c, "no such table of angles");
    const struct rope *r = &p->ropes[c->in->table];
    if (r->dims < 2 || r->dims % 2 || r->dims > c->in->group)
        return bad(c, "rotated dimensions don't fit the head");
    if (r->factors != PROGRAM_NONE &&
        (r->factors >= p->n_weights || p->weights[r->factors].col_count != r->dims / 2))
        return bad(c, "frequency factors have another length");
    if (c->in->group < 1 || width_of(c, 0) % c->in->group || out_width(c) != width_of(c, 0))
        return bad(c, "the width is not whole heads");
    return 0;
}

/* An earlier instruction fills the state that this one only reads. */
static bool is_stored_before(const struct check *c)
{
    for (int i = 0; i < c->index; i++)
        if (c->p->instrs[i].op == OP_ATTEND && c->p->instrs[i].state == c->in->state &&
            c->p->instrs[i].in[1] != PROGRAM_NONE)
            return true;
    return false;
}

static int check_attend(const struct check *c)
{
    const struct instr *in = c->in;
    if (in->state < 0 || in->state >= c->p->n_states)
        return bad(c, "no such state");
    const struct state *s = &c->p->states[in->state];
    if (s->kind != STATE_KV || s->key_dim < 1 || s->value_dim < 1 || in->heads_per_kv < 1)
        return bad(c, "not a KV state");
    bool shares = in->in[1] == PROGRAM_NONE;
    if (shares && !is_stored_before(c))
        return bad(c, "no layer before stores the keys and values it shares");
    if (width_of(c, 0) % s->key_dim || (!shares && (width_of(c, 1) != s->heads * s->key_dim ||
                                                    width_of(c, 2) != s->heads * s->value_dim)))
        return bad(c, "q, k or v is not whole heads");
    int heads = width_of(c, 0) / s->key_dim;
    if (out_width(c) != heads * s->value_dim)
        return bad(c, "the output is not one value a head");
    if (heads > 0 && (in->head_first / in->heads_per_kv < in->kv_first ||
                      (in->head_first + heads - 1) / in->heads_per_kv >= in->kv_first + s->heads))
        return bad(c, "a query head's KV head is not held here");
    return 0;
}

static int check_experts(const struct check *c)
{
    const struct instr *in = c->in;
    if (in->top_k < 1 || in->top_k > 1024 || width_of(c, 1) != 2 * in->top_k)
        return bad(c, "the route has another width");
    if (in->op == OP_EXPERT_SUM)
        return width_of(c, 0) == in->top_k * out_width(c) ? 0 : bad(c, "not one row an expert");
    const struct weight *w = weight_of(c, 0);
    if (width_of(c, 0) != w->col_count && width_of(c, 0) != in->top_k * w->col_count)
        return bad(c, "the input's width is not the weight's columns");
    int r = check_vector(c, weight_of(c, 2), w->mat_count, "not one scale an expert");
    if (r)
        return r;
    return out_width(c) == in->top_k * w->row_count ? 0 : bad(c, "not one row an expert");
}

static int check_conv(const struct check *c)
{
    const struct instr *in = c->in;
    if (in->state < 0 || in->state >= c->p->n_states || c->p->states[in->state].kind != STATE_CONV)
        return bad(c, "not a convolution state");
    const struct state *s = &c->p->states[in->state];
    const struct weight *w = weight_of(c, 0);
    if (width_of(c, 0) != s->key_dim || out_width(c) != s->key_dim || w->row_count != s->key_dim ||
        w->col_count != s->value_dim + 1)
        return bad(c, "channels or kernel don't fit");
    return 0;
}

static int check_shape(const struct check *c)
{
    const struct instr *in = c->in;
    switch (in->op) {
    case OP_EMBED:
        return out_width(c) == weight_of(c, 0)->col_count ? 0 : bad(c, "width is not a row's");
    case OP_MATMUL:
        return check_matmul(c);
    case OP_RMS_NORM:
    case OP_LAYER_NORM:
        return check_norm(c);
    case OP_ROPE:
        return check_rope(c);
    case OP_ATTEND:
        return check_attend(c);
    case OP_EXPERT_MATMUL:
    case OP_EXPERT_SUM:
        return check_experts(c);
    case OP_CONV:
        return check_conv(c);
    case OP_ROUTE:
        return in->top_k >= 1 && in->top_k <= width_of(c, 0) && out_width(c) == 2 * in->top_k
                   ? 0
                   : bad(c, "more experts chosen than there are");
    case OP_SLICE:
        return in->group >= 0 && in->group + out_width(c) <= width_of(c, 0) ? 0
                                                                            : bad(c, "too wide");
    case OP_PAD:
        return in->group >= 0 && in->group + width_of(c, 0) <= out_width(c) ? 0
                                                                            : bad(c, "too wide");
    default: /* element by element */
        if (out_width(c) != width_of(c, 0) ||
            (in->in[1] != PROGRAM_NONE && width_of(c, 1) != width_of(c, 0)))
            return bad(c, "widths differ");
        return 0;
    }
}

/* Inputs defined before, the output defined once, indices in range, as many as the op takes. */
static int check_links(const struct check *c, uint8_t *defined)
{
    static const int n_inputs[] = {
#define ROW(name, text, inputs, weights) inputs,
        PROGRAM_OPS(ROW)
#undef ROW
    };
    const struct instr *in = c->in;
    int needed = n_inputs[in->op];
    if (in->op == OP_ACT ||
        (in->op == OP_ATTEND && in->in[1] == PROGRAM_NONE && in->in[2] == PROGRAM_NONE))
        needed = 1;
    enum value_rows rows = ROWS_ALL;
    for (int i = 0; i < PROGRAM_MAX_INPUTS; i++) {
        int v = in->in[i];
        if (v == PROGRAM_NONE) {
            if (i < needed)
                return bad(c, "an input is missing");
            continue;
        }
        if (v < 0 || v >= c->p->n_values || !defined[v])
            return bad(c, "an input is used before it is made");
        if (i > 0 && c->p->values[v].rows != rows)
            return bad(c, "inputs differ in rows");
        rows = c->p->values[v].rows;
    }
    for (int i = 0; i < PROGRAM_MAX_WEIGHTS; i++)
        if (in->weight[i] != PROGRAM_NONE &&
            (in->weight[i] < 0 || in->weight[i] >= c->p->n_weights))
            return bad(c, "no such weight");
    bool must = in->op == OP_EMBED || in->op == OP_MATMUL || in->op == OP_EXPERT_MATMUL ||
                in->op == OP_CONV;
    if (must && in->weight[0] == PROGRAM_NONE)
        return bad(c, "a weight is missing");
    if (in->out < 0 || in->out >= c->p->n_values || defined[in->out])
        return bad(c, "the output is made twice");
    if (in->op == OP_ROWS)
        rows = ROWS_WANTED;
    if (c->p->values[in->out].rows != rows)
        return bad(c, "the output has other rows than the inputs");
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
    for (int i = 0; i < p->n_inputs && !r; i++)
        defined[p->inputs[i]] = 1;
    for (int i = 0; i < p->n_instrs && !r; i++) {
        struct check c = { .p = p, .in = &p->instrs[i], .index = i, .error = e };
        if ((unsigned)c.in->op >= OP_COUNT)
            r = fail(e, FAIL_FORMAT, "instruction %d: unknown operation", i);
        if (!r)
            r = check_links(&c, defined);
        if (!r)
            r = check_shape(&c);
    }
    for (int i = 0; i < p->n_outputs && !r; i++)
        if (!defined[p->outputs[i]])
            r = fail(e, FAIL_FORMAT, "output %d is never made", i);
    arena_done(&scratch);
    return r;
}

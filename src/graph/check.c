/* See check.h. */
#include "graph/check.h"

int check_failed(const struct check *c, const char *what)
{
    return fail(c->error, FAIL_FORMAT, "instruction %d (layer %d, %s): %s", c->index, c->in->layer,
                c->name, what);
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

static int check_vector(const struct check *c, const struct weight *w, int n, const char *what)
{
    if (w && (w->mats != 1 || w->row_count != 1 || w->col_count != n))
        return check_failed(c, what);
    return 0;
}

int check_matmul(const struct check *c)
{
    const struct weight *w = weight_of(c, 0);
    if (w->mats != 1)
        return check_failed(c, "a stack of matrices where one is needed");
    if (width_of(c, 0) != w->col_count)
        return check_failed(c, "the input's width is not the weight's columns");
    if (out_width(c) != w->row_count)
        return check_failed(c, "the output's width is not the weight's rows");
    int r = check_vector(c, weight_of(c, 1), w->row_count, "the bias has another length");
    return r ? r : check_vector(c, weight_of(c, 2), 1, "the scale is not one number");
}

int check_norm(const struct check *c)
{
    int group = c->in->norm.group ? c->in->norm.group : width_of(c, 0);
    if (group < 1 || width_of(c, 0) % group)
        return check_failed(c, "the width is not a multiple of the group");
    if (out_width(c) != width_of(c, 0))
        return check_failed(c, "input and output differ in width");
    int r = check_vector(c, weight_of(c, 0), group, "the norm weight has another length");
    return r ? r : check_vector(c, weight_of(c, 1), group, "the norm bias has another length");
}

int check_rope(const struct check *c)
{
    const struct program *p = c->p;
    if (c->in->rope.table < 0 || c->in->rope.table >= p->n_ropes)
        return check_failed(c, "no such table of angles");
    const struct rope *r = &p->ropes[c->in->rope.table];
    if (r->dims < 2 || r->dims % 2 || r->dims > c->in->rope.head_dim)
        return check_failed(c, "rotated dimensions don't fit the head");
    if (r->factors != PROGRAM_NONE &&
        (r->factors >= p->n_weights || p->weights[r->factors].col_count != r->dims / 2))
        return check_failed(c, "frequency factors have another length");
    if (c->in->rope.head_dim < 1 || width_of(c, 0) % c->in->rope.head_dim ||
        out_width(c) != width_of(c, 0))
        return check_failed(c, "the width is not whole heads");
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

int check_attend(const struct check *c)
{
    const struct instr *in = c->in;
    const struct attend_args *at = &in->attend;
    if (in->state < 0 || in->state >= c->p->n_states)
        return check_failed(c, "no such state");
    const struct state *s = &c->p->states[in->state];
    if (s->kind != STATE_KV || s->key_dim < 1 || s->value_dim < 1 || at->heads_per_kv < 1)
        return check_failed(c, "not a KV state");
    bool shares = in->in[1] == PROGRAM_NONE;
    if (shares && !is_stored_before(c))
        return check_failed(c, "no layer before stores the keys and values it shares");
    if (width_of(c, 0) % s->key_dim || (!shares && (width_of(c, 1) != s->heads * s->key_dim ||
                                                    width_of(c, 2) != s->heads * s->value_dim)))
        return check_failed(c, "q, k or v is not whole heads");
    int heads = width_of(c, 0) / s->key_dim;
    if (out_width(c) != heads * s->value_dim)
        return check_failed(c, "the output is not one value a head");
    if (heads > 0 && (at->head_first / at->heads_per_kv < at->kv_first ||
                      (at->head_first + heads - 1) / at->heads_per_kv >= at->kv_first + s->heads))
        return check_failed(c, "a query head's KV head is not held here");
    return 0;
}

/* The choice that a router made: (expert id, weight) pairs. */
static int check_choice(const struct check *c)
{
    int top_k = c->in->experts.top_k;
    return top_k < 1 || top_k > 1024 || width_of(c, 1) != 2 * top_k
               ? check_failed(c, "the route has another width")
               : 0;
}

int check_expert_sum(const struct check *c)
{
    int r = check_choice(c);
    if (!r && width_of(c, 0) != c->in->experts.top_k * out_width(c))
        r = check_failed(c, "not one row an expert");
    return r;
}

int check_expert_matmul(const struct check *c)
{
    const struct weight *w = weight_of(c, 0);
    int top_k = c->in->experts.top_k;
    int r = check_choice(c);
    if (r)
        return r;
    if (width_of(c, 0) != w->col_count && width_of(c, 0) != top_k * w->col_count)
        return check_failed(c, "the input's width is not the weight's columns");
    if ((r = check_vector(c, weight_of(c, 2), w->mat_count, "not one scale an expert")))
        return r;
    return out_width(c) == top_k * w->row_count ? 0 : check_failed(c, "not one row an expert");
}

int check_conv(const struct check *c)
{
    const struct instr *in = c->in;
    if (in->state < 0 || in->state >= c->p->n_states || c->p->states[in->state].kind != STATE_CONV)
        return check_failed(c, "not a convolution state");
    const struct state *s = &c->p->states[in->state];
    const struct weight *w = weight_of(c, 0);
    if (width_of(c, 0) != s->key_dim || out_width(c) != s->key_dim || w->row_count != s->key_dim ||
        w->col_count != s->value_dim + 1)
        return check_failed(c, "channels or kernel don't fit");
    return 0;
}

int check_embed(const struct check *c)
{
    return out_width(c) == weight_of(c, 0)->col_count ? 0 : check_failed(c, "width is not a row's");
}

int check_route(const struct check *c)
{
    int top_k = c->in->route.top_k;
    return top_k >= 1 && top_k <= width_of(c, 0) && out_width(c) == 2 * top_k
               ? 0
               : check_failed(c, "more experts chosen than there are");
}

int check_slice(const struct check *c)
{
    int offset = c->in->slice.offset;
    return offset >= 0 && offset + out_width(c) <= width_of(c, 0) ? 0 : check_failed(c, "too wide");
}

int check_pad(const struct check *c)
{
    int offset = c->in->slice.offset;
    return offset >= 0 && offset + width_of(c, 0) <= out_width(c) ? 0 : check_failed(c, "too wide");
}

int check_elementwise(const struct check *c)
{
    if (out_width(c) != width_of(c, 0) ||
        (c->in->in[1] != PROGRAM_NONE && width_of(c, 1) != width_of(c, 0)))
        return check_failed(c, "widths differ");
    return 0;
}

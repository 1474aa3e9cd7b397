/* See deal.h. Nothing here knows a family. */
#include "graph/deal.h"

void deal_slice(const struct program *p, struct axis axis, int *first, int *count)
{
    if (axis.range == PROGRAM_NONE)
        return;
    const struct range *r = &p->ranges[axis.range];
    *first += r->first * axis.unit;
    *count = (r->end - r->first) * axis.unit;
}

static void set_layout(struct deal *d, int v, enum value_layout layout, struct axis axis)
{
    struct value *value = &d->to->values[v];
    value->layout = layout;
    value->axis = axis;
    if (layout == VALUE_SHARDED && axis.unit > 0) {
        int first = 0;
        deal_slice(d->to, axis, &first, &value->width);
    }
}

int deal_emit(struct deal *d, const struct instr *in)
{
    if (program_add_instr(d->to, in) == PROGRAM_NONE)
        return fail(d->error, FAIL_NOMEM, "sharding %s", d->from->family);
    return 0;
}

/* A new whole value like v; *ret is its index. */
static int new_value(struct deal *d, int v, int width, enum value_layout layout, int *ret)
{
    struct program *p = d->to;
    const struct value *old = &p->values[v];
    enum value_rows rows = old->rows;
    *ret = program_add_value(p, old->name, width, axis_none());
    if (*ret == PROGRAM_NONE)
        return fail(d->error, FAIL_NOMEM, "sharding %s", p->family);
    p->values[*ret].rows = rows;
    p->values[*ret].layout = layout;
    return 0;
}

int deal_need_whole(struct deal *d, struct instr *in, int i)
{
    int v = in->in[i];
    struct program *p = d->to;
    if (v == PROGRAM_NONE || p->values[v].layout == VALUE_WHOLE)
        return 0;
    if (d->whole[v] != PROGRAM_NONE) {
        in->in[i] = d->whole[v];
        return 0;
    }
    int source = v, r = 0;
    if (p->values[v].layout == VALUE_SHARDED) {
        const struct range *range = &p->ranges[p->values[v].axis.range];
        if (range->parent != PROGRAM_NONE || p->values[v].axis.unit == 0)
            return fail(d->error, FAIL_UNSUPPORTED,
                        "%s can't be split: %s is needed whole where it is only held in parts",
                        p->family, p->values[v].name);
        struct instr pad = instr_init(OP_PAD, in->layer);
        pad.in[0] = v;
        pad.slice.offset = range->first * p->values[v].axis.unit;
        r = new_value(d, v, range->count * p->values[v].axis.unit, VALUE_PARTIAL, &source);
        pad.out = source;
        if (r || (r = deal_emit(d, &pad)))
            return r;
    }
    struct instr sum = instr_init(OP_ALL_REDUCE, in->layer);
    sum.in[0] = source;
    if ((r = new_value(d, source, p->values[source].width, VALUE_WHOLE, &sum.out)))
        return r;
    d->whole[v] = sum.out;
    in->in[i] = sum.out;
    return deal_emit(d, &sum);
}

int deal_whole(struct deal *d, struct instr *in)
{
    for (int i = 0; i < PROGRAM_MAX_INPUTS; i++) {
        int r = deal_need_whole(d, in, i);
        if (r)
            return r;
    }
    set_layout(d, in->out, VALUE_WHOLE, axis_none());
    return 0;
}

static enum value_layout layout_of(const struct deal *d, const struct instr *in, int i)
{
    return in->in[i] == PROGRAM_NONE ? VALUE_WHOLE : d->to->values[in->in[i]].layout;
}

int deal_embed(struct deal *d, struct instr *in)
{
    bool whole = d->to->weights[in->weight[0]].row_axis.range == PROGRAM_NONE;
    set_layout(d, in->out, whole ? VALUE_WHOLE : VALUE_PARTIAL, axis_none());
    return 0;
}

/* Sharded columns meet a sharded input: the product is a partial sum. */
static bool is_partial(const struct deal *d, const struct instr *in)
{
    return d->to->weights[in->weight[0]].col_axis.range != PROGRAM_NONE &&
           layout_of(d, in, 0) == VALUE_SHARDED;
}

/* Rows of the weight are the output's; repeat: how often they stand side by side. */
static int by_rows(struct deal *d, struct instr *in, int repeat)
{
    const struct axis axis = d->to->weights[in->weight[0]].row_axis;
    int r = deal_need_whole(d, in, 0);
    if (axis.range == PROGRAM_NONE)
        set_layout(d, in->out, VALUE_WHOLE, axis);
    else
        set_layout(d, in->out, VALUE_SHARDED, (struct axis){ axis.range, axis.unit * repeat });
    return r;
}

int deal_matmul(struct deal *d, struct instr *in)
{
    if (!is_partial(d, in))
        return by_rows(d, in, 1);
    /* The bias is added once, by the first rank's partial. */
    if (d->to->rank != 0)
        in->weight[1] = PROGRAM_NONE;
    set_layout(d, in->out, VALUE_PARTIAL, axis_none());
    return 0;
}

int deal_expert_matmul(struct deal *d, struct instr *in)
{
    const struct weight *w = &d->to->weights[in->weight[0]];
    in->experts.first = w->mat_first;
    in->experts.count = w->mat_count;
    if (w->mat_axis.range != PROGRAM_NONE) {
        /* Slots of other ranks' experts stay untouched; EXPERT_SUM passes them over. */
        int r = layout_of(d, in, 0) == VALUE_SHARDED ? 0 : deal_need_whole(d, in, 0);
        set_layout(d, in->out, VALUE_SHARDED, (struct axis){ w->mat_axis.range, 0 });
        return r;
    }
    if (!is_partial(d, in))
        return by_rows(d, in, in->experts.top_k);
    set_layout(d, in->out, VALUE_PARTIAL, axis_none());
    return 0;
}

int deal_attend(struct deal *d, struct instr *in)
{
    struct program *p = d->to;
    const struct state *s = &p->states[in->state];
    if (s->axis.range == PROGRAM_NONE)
        return deal_whole(d, in);
    const struct range *kv = &p->ranges[s->axis.range];
    const struct range *heads = kv->parent == PROGRAM_NONE ? kv : &p->ranges[kv->parent];
    in->attend.head_first = heads->first;
    in->attend.kv_first = kv->first;
    int heads_range = kv->parent == PROGRAM_NONE ? s->axis.range : kv->parent;
    set_layout(d, in->out, VALUE_SHARDED, (struct axis){ heads_range, s->value_dim });
    return 0;
}

/* Two or one inputs element by element: sharded alike stays sharded; sums of partials (when the
 * operation is linear) stay partial; anything else is made whole. */
static int elementwise(struct deal *d, struct instr *in, bool linear)
{
    enum value_layout a = layout_of(d, in, 0), b = a;
    struct axis axis = d->to->values[in->in[0]].axis;
    if (in->in[1] != PROGRAM_NONE) {
        b = layout_of(d, in, 1);
        struct axis other = d->to->values[in->in[1]].axis;
        if (b == VALUE_SHARDED && (other.range != axis.range || other.unit != axis.unit))
            return deal_whole(d, in);
    }
    if (a != b || (a == VALUE_PARTIAL && !linear))
        return deal_whole(d, in);
    set_layout(d, in->out, a, axis);
    return 0;
}

int deal_linear(struct deal *d, struct instr *in)
{
    return elementwise(d, in, true);
}

int deal_elementwise(struct deal *d, struct instr *in)
{
    return elementwise(d, in, false);
}

/* A norm by heads, or a rotation of them: sharded where whole heads are. */
static int by_group(struct deal *d, struct instr *in, int group)
{
    const struct value *v = &d->to->values[in->in[0]];
    if (v->layout == VALUE_SHARDED && group > 0 && v->axis.unit % group == 0)
        return elementwise(d, in, false);
    return deal_whole(d, in);
}

int deal_norm(struct deal *d, struct instr *in)
{
    return by_group(d, in, in->norm.group);
}

int deal_rope(struct deal *d, struct instr *in)
{
    return by_group(d, in, in->rope.head_dim);
}

int deal_expert_sum(struct deal *d, struct instr *in)
{
    enum value_layout a = layout_of(d, in, 0);
    if (a == VALUE_WHOLE)
        return deal_whole(d, in);
    const struct axis axis = d->to->values[in->in[0]].axis;
    if (a == VALUE_SHARDED && axis.unit == 0) {
        in->experts.first = d->to->ranges[axis.range].first;
        in->experts.count = d->to->ranges[axis.range].end - in->experts.first;
    }
    set_layout(d, in->out, VALUE_PARTIAL, axis_none());
    return 0;
}

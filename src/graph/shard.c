/* Dealing a program to tensor ranks. Weights are sliced by what their dimensions carry; then one
 * walk over the instructions follows each value's layout and puts an exchange where a sharded or
 * partial value meets an instruction that needs it whole. Nothing here knows a family. */
#include "graph/program.h"

void shares_deal(int count, int granule, const int *shares, int n, int *begin)
{
    int64_t total = 0;
    int positive = 0;
    for (int i = 0; i < n; i++) {
        total += shares[i];
        positive += shares[i] > 0;
    }
    if (granule < 1 || (count + granule - 1) / granule < positive)
        granule = 1;
    int64_t units = (count + granule - 1) / granule;
    /* Cumulative rounding keeps every share within one granule of its proportion... */
    int64_t sum = 0;
    begin[0] = 0;
    for (int i = 0; i < n; i++) {
        sum += shares[i];
        begin[i + 1] = total ? (int)((sum * units * 2 + total) / (2 * total)) : 0;
    }
    /* ...then a positive share that got nothing takes one from the neighbour before or after. */
    if (units >= positive) {
        for (int i = 0; i < n; i++) {
            int least = begin[i] + (shares[i] > 0 ? 1 : 0);
            if (begin[i + 1] < least)
                begin[i + 1] = least;
        }
        int after = (int)units;
        for (int i = n; i > 0; i--) {
            if (begin[i] > after)
                begin[i] = after;
            after = begin[i] - (shares[i - 1] > 0 ? 1 : 0);
        }
    }
    for (int i = 1; i <= n; i++) {
        begin[i] *= granule;
        if (begin[i] > count)
            begin[i] = count;
    }
    begin[n] = count;
}

struct walk {
    const struct program *from;
    struct program *to;
    int *whole; /* value -> its exchanged form, or PROGRAM_NONE */
    struct error *error;
};

/* Units of each range that fall to this rank. A range with a parent follows it: it covers every
 * unit that a parent unit of this rank needs, so it may be shared with a neighbour. */
static void deal_ranges(struct program *p, const int *shares, int n_ranks, int rank, int *begin)
{
    for (int i = 0; i < p->n_ranges; i++) {
        struct range *r = &p->ranges[i];
        if (r->parent == PROGRAM_NONE) {
            shares_deal(r->count, r->granule, shares, n_ranks, begin);
            r->first = begin[rank];
            r->end = begin[rank + 1];
        } else {
            const struct range *parent = &p->ranges[r->parent];
            r->first = parent->first / r->group;
            r->end =
                parent->end > parent->first ? (parent->end + r->group - 1) / r->group : r->first;
        }
    }
}

static void slice(const struct program *p, struct axis axis, int *first, int *count)
{
    if (axis.range == PROGRAM_NONE)
        return;
    const struct range *r = &p->ranges[axis.range];
    *first += r->first * axis.unit;
    *count = (r->end - r->first) * axis.unit;
}

static void slice_weights(struct program *p)
{
    for (int i = 0; i < p->n_weights; i++) {
        struct weight *w = &p->weights[i];
        slice(p, w->mat_axis, &w->mat_first, &w->mat_count);
        slice(p, w->row_axis, &w->row_first, &w->row_count);
        slice(p, w->col_axis, &w->col_first, &w->col_count);
    }
    for (int i = 0; i < p->n_states; i++) {
        struct state *s = &p->states[i];
        int first = 0;
        slice(p, s->axis, &first, s->kind == STATE_CONV ? &s->key_dim : &s->heads);
    }
}

static void set_layout(struct walk *k, int v, enum value_layout layout, struct axis axis)
{
    struct value *value = &k->to->values[v];
    value->layout = layout;
    value->axis = axis;
    if (layout == VALUE_SHARDED && axis.unit > 0) {
        int first = 0;
        slice(k->to, axis, &first, &value->width);
    }
}

static int emit(struct walk *k, const struct instr *in)
{
    if (program_add_instr(k->to, in) == PROGRAM_NONE)
        return fail(k->error, FAIL_NOMEM, "sharding %s", k->from->family);
    return 0;
}

/* A new whole value like v; *ret is its index. */
static int new_value(struct walk *k, int v, int width, enum value_layout layout, int *ret)
{
    struct program *p = k->to;
    const struct value *old = &p->values[v];
    enum value_rows rows = old->rows;
    *ret = program_add_value(p, old->name, width, (struct axis){ PROGRAM_NONE, 0 });
    if (*ret == PROGRAM_NONE)
        return fail(k->error, FAIL_NOMEM, "sharding %s", p->family);
    p->values[*ret].rows = rows;
    p->values[*ret].layout = layout;
    return 0;
}

/* Makes input slot i of `in` whole: nothing for a whole value, one exchange for each value. */
static int need_whole(struct walk *k, struct instr *in, int i)
{
    int v = in->in[i];
    struct program *p = k->to;
    if (v == PROGRAM_NONE || p->values[v].layout == VALUE_WHOLE)
        return 0;
    if (k->whole[v] != PROGRAM_NONE) {
        in->in[i] = k->whole[v];
        return 0;
    }
    int source = v, r = 0;
    if (p->values[v].layout == VALUE_SHARDED) {
        const struct range *range = &p->ranges[p->values[v].axis.range];
        if (range->parent != PROGRAM_NONE || p->values[v].axis.unit == 0)
            return fail(k->error, FAIL_UNSUPPORTED,
                        "%s can't be split: %s is needed whole where it is only held in parts",
                        p->family, p->values[v].name);
        struct instr pad = instr_init(OP_PAD, in->layer);
        pad.in[0] = v;
        pad.group = range->first * p->values[v].axis.unit;
        r = new_value(k, v, range->count * p->values[v].axis.unit, VALUE_PARTIAL, &source);
        pad.out = source;
        if (r || (r = emit(k, &pad)))
            return r;
    }
    struct instr sum = instr_init(OP_ALL_REDUCE, in->layer);
    sum.in[0] = source;
    if ((r = new_value(k, source, p->values[source].width, VALUE_WHOLE, &sum.out)))
        return r;
    k->whole[v] = sum.out;
    in->in[i] = sum.out;
    return emit(k, &sum);
}

static int need_all_whole(struct walk *k, struct instr *in)
{
    for (int i = 0; i < PROGRAM_MAX_INPUTS; i++) {
        int r = need_whole(k, in, i);
        if (r)
            return r;
    }
    set_layout(k, in->out, VALUE_WHOLE, (struct axis){ PROGRAM_NONE, 0 });
    return 0;
}

static enum value_layout layout_of(const struct walk *k, const struct instr *in, int i)
{
    return in->in[i] == PROGRAM_NONE ? VALUE_WHOLE : k->to->values[in->in[i]].layout;
}

static int walk_matmul(struct walk *k, struct instr *in)
{
    struct program *p = k->to;
    const struct weight *w = &p->weights[in->weight[0]];
    struct axis out_axis = w->row_axis;
    bool experts = in->op == OP_EXPERT_MATMUL && w->mat_axis.range != PROGRAM_NONE;
    if (experts) {
        /* Slots of other ranks' experts stay untouched; EXPERT_SUM passes them over. */
        int r = layout_of(k, in, 0) == VALUE_SHARDED ? 0 : need_whole(k, in, 0);
        in->expert_first = w->mat_first;
        in->expert_count = w->mat_count;
        set_layout(k, in->out, VALUE_SHARDED, (struct axis){ w->mat_axis.range, 0 });
        return r;
    }
    in->expert_first = w->mat_first;
    in->expert_count = w->mat_count;
    if (w->col_axis.range != PROGRAM_NONE && layout_of(k, in, 0) == VALUE_SHARDED) {
        /* The bias is added once, by the first rank's partial. */
        if (p->rank != 0)
            in->weight[1] = PROGRAM_NONE;
        set_layout(k, in->out, VALUE_PARTIAL, (struct axis){ PROGRAM_NONE, 0 });
        return 0;
    }
    int r = need_whole(k, in, 0);
    if (out_axis.range == PROGRAM_NONE)
        set_layout(k, in->out, VALUE_WHOLE, out_axis);
    else if (in->op == OP_EXPERT_MATMUL)
        set_layout(k, in->out, VALUE_SHARDED,
                   (struct axis){ out_axis.range, out_axis.unit * in->top_k });
    else
        set_layout(k, in->out, VALUE_SHARDED, out_axis);
    return r;
}

static int walk_attend(struct walk *k, struct instr *in)
{
    struct program *p = k->to;
    const struct state *s = &p->states[in->state];
    if (s->axis.range == PROGRAM_NONE)
        return need_all_whole(k, in);
    const struct range *kv = &p->ranges[s->axis.range];
    const struct range *heads = kv->parent == PROGRAM_NONE ? kv : &p->ranges[kv->parent];
    in->head_first = heads->first;
    in->kv_first = kv->first;
    int heads_range = kv->parent == PROGRAM_NONE ? s->axis.range : kv->parent;
    set_layout(k, in->out, VALUE_SHARDED, (struct axis){ heads_range, s->value_dim });
    return 0;
}

/* Two or one inputs element by element: sharded alike stays sharded; sums of partials (when the
 * operation is linear) stay partial; anything else is made whole. */
static int walk_elementwise(struct walk *k, struct instr *in, bool linear)
{
    enum value_layout a = layout_of(k, in, 0), b = a;
    struct axis axis = k->to->values[in->in[0]].axis;
    if (in->in[1] != PROGRAM_NONE) {
        b = layout_of(k, in, 1);
        struct axis other = k->to->values[in->in[1]].axis;
        if (b == VALUE_SHARDED && (other.range != axis.range || other.unit != axis.unit))
            return need_all_whole(k, in);
    }
    if (a != b || (a == VALUE_PARTIAL && !linear))
        return need_all_whole(k, in);
    set_layout(k, in->out, a, axis);
    return 0;
}

static int walk_norm(struct walk *k, struct instr *in)
{
    const struct value *v = &k->to->values[in->in[0]];
    if (v->layout == VALUE_SHARDED && in->group > 0 && v->axis.unit % in->group == 0)
        return walk_elementwise(k, in, false);
    return need_all_whole(k, in);
}

static int walk_expert_sum(struct walk *k, struct instr *in)
{
    enum value_layout a = layout_of(k, in, 0);
    if (a == VALUE_WHOLE)
        return need_all_whole(k, in);
    const struct axis axis = k->to->values[in->in[0]].axis;
    if (a == VALUE_SHARDED && axis.unit == 0) {
        in->expert_first = k->to->ranges[axis.range].first;
        in->expert_count = k->to->ranges[axis.range].end - in->expert_first;
    }
    set_layout(k, in->out, VALUE_PARTIAL, (struct axis){ PROGRAM_NONE, 0 });
    return 0;
}

static int walk_instr(struct walk *k, const struct instr *original)
{
    struct instr in = *original;
    int r = 0;
    switch (in.op) {
    case OP_EMBED:
        set_layout(k, in.out,
                   k->to->weights[in.weight[0]].row_axis.range == PROGRAM_NONE ? VALUE_WHOLE
                                                                               : VALUE_PARTIAL,
                   (struct axis){ PROGRAM_NONE, 0 });
        break;
    case OP_MATMUL:
    case OP_EXPERT_MATMUL:
        r = walk_matmul(k, &in);
        break;
    case OP_RMS_NORM:
    case OP_ROPE:
        r = walk_norm(k, &in);
        break;
    case OP_ATTEND:
        r = walk_attend(k, &in);
        break;
    case OP_ADD:
    case OP_SCALE:
    case OP_ROWS:
        r = walk_elementwise(k, &in, true);
        break;
    case OP_ACT:
    case OP_MUL:
    case OP_SOFTCAP:
    case OP_CONV:
        r = walk_elementwise(k, &in, false);
        break;
    case OP_EXPERT_SUM:
        r = walk_expert_sum(k, &in);
        break;
    default: /* LAYER_NORM, ROUTE */
        r = need_all_whole(k, &in);
        break;
    }
    return r ? r : emit(k, &in);
}

/* A stage hands on whole values; the logits alone may leave sharded. */
static int finish_outputs(struct walk *k)
{
    struct program *p = k->to;
    for (int i = 0; i < p->n_outputs; i++) {
        struct instr use = instr_init(OP_ROWS, p->n_layers);
        if (p->outputs[i] == p->logits)
            continue;
        use.in[0] = p->outputs[i];
        int r = need_whole(k, &use, 0);
        if (r)
            return r;
        p->outputs[i] = use.in[0];
    }
    if (p->logits != PROGRAM_NONE && p->values[p->logits].layout == VALUE_PARTIAL)
        return fail(k->error, FAIL_UNSUPPORTED, "%s: the logits are only partial sums", p->family);
    return 0;
}

int program_shard(const struct program *p, const struct rank_share *share, struct arena *arena,
                  struct program **ret, struct error *e)
{
    int n_ranks = share->n_ranks, rank = share->rank;
    if (n_ranks < 1 || rank < 0 || rank >= n_ranks)
        return fail(e, FAIL_RANGE, "rank %d of %d", rank, n_ranks);
    if (p->n_ranks != 1)
        return fail(e, FAIL_STATE, "a rank's part can't be split again");
    struct program *c = program_clone(p, arena);
    /* A value gets at most a padded and a summed form. */
    int *whole = arena_array(arena, int, 3 * p->n_values + 1);
    int *begin = arena_array(arena, int, n_ranks + 1);
    if (!c || !whole || !begin)
        return fail(e, FAIL_NOMEM, "sharding %s", p->family);
    *ret = c;
    if (n_ranks == 1)
        return 0;
    for (int i = 0; i < 3 * p->n_values + 1; i++)
        whole[i] = PROGRAM_NONE;
    c->n_ranks = n_ranks;
    c->rank = rank;
    deal_ranges(c, share->shares, n_ranks, rank, begin);
    slice_weights(c);
    c->n_instrs = 0;
    for (int i = 0; i < c->n_values; i++)
        c->values[i].layout = VALUE_WHOLE;
    struct walk k = { .from = p, .to = c, .whole = whole, .error = e };
    int r = 0;
    for (int i = 0; i < p->n_instrs && !r; i++)
        r = walk_instr(&k, &p->instrs[i]);
    return r ? r : finish_outputs(&k);
}

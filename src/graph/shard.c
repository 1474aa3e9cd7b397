/* Dealing a program to tensor ranks. Weights are sliced by what their dimensions carry; then one
 * walk over the instructions follows each value's layout and puts an exchange where a sharded or
 * partial value meets an instruction that needs it whole. Nothing here knows a family. */
#include "graph/ops.h"

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

static void slice_weights(struct program *p)
{
    for (int i = 0; i < p->n_weights; i++) {
        struct weight *w = &p->weights[i];
        deal_slice(p, w->mat_axis, &w->mat_first, &w->mat_count);
        deal_slice(p, w->row_axis, &w->row_first, &w->row_count);
        deal_slice(p, w->col_axis, &w->col_first, &w->col_count);
    }
    for (int i = 0; i < p->n_states; i++) {
        struct state *s = &p->states[i];
        int first = 0;
        deal_slice(p, s->axis, &first, state_info(s->kind)->sharded(s));
    }
}

/* A stage hands on whole values; the logits alone may leave sharded. */
static int finish_outputs(struct deal *d)
{
    struct program *p = d->to;
    for (int i = 0; i < p->n_outputs; i++) {
        struct instr use = instr_init(OP_ROWS, p->n_layers);
        if (p->outputs[i] == p->logits)
            continue;
        use.in[0] = p->outputs[i];
        int r = deal_need_whole(d, &use, 0);
        if (r)
            return r;
        p->outputs[i] = use.in[0];
    }
    if (p->hidden != PROGRAM_NONE && p->values[p->hidden].layout != VALUE_WHOLE)
        p->hidden = PROGRAM_NONE;
    if (p->logits != PROGRAM_NONE && p->values[p->logits].layout == VALUE_PARTIAL)
        return fail(d->error, FAIL_UNSUPPORTED, "%s: the logits are only partial sums", p->family);
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
    struct deal d = { .from = p, .to = c, .whole = whole, .error = e };
    int r = 0;
    for (int i = 0; i < p->n_instrs && !r; i++) {
        struct instr in = p->instrs[i];
        r = op_info(in.op)->shard(&d, &in);
        r = r ? r : deal_emit(&d, &in);
    }
    return r ? r : finish_outputs(&d);
}

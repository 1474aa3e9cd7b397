/* The tables of operations and states: see ops.h. */
#include "graph/ops.h"

#include <assert.h>

static void print_embed(const struct program *p, const struct instr *in, struct buffer *out)
{
    buffer_printf(out, " scale=%g", (double)in->embed.scale);
}

static void print_norm(const struct program *p, const struct instr *in, struct buffer *out)
{
    if (in->norm.group)
        buffer_printf(out, " group=%d", in->norm.group);
    buffer_printf(out, " eps=%g", (double)in->norm.eps);
}

static void print_rope(const struct program *p, const struct instr *in, struct buffer *out)
{
    buffer_printf(out, " head_dim=%d table=%d", in->rope.head_dim, in->rope.table);
}

static void print_attend(const struct program *p, const struct instr *in, struct buffer *out)
{
    const struct attend_args *a = &in->attend;
    const struct state *s = &p->states[in->state];
    buffer_printf(out, " head_dim=%d heads=%d.. kv=%d+%d per_kv=%d scale=%g", a->head_dim,
                  a->head_first, a->kv_first, s->heads, a->heads_per_kv, (double)a->scale);
    if (s->window)
        buffer_printf(out, " window=%d", s->window);
    if (a->softcap > 0)
        buffer_printf(out, " softcap=%g", (double)a->softcap);
}

static void print_act(const struct program *p, const struct instr *in, struct buffer *out)
{
    static const char *const names[] = {
        [ACT_SILU] = "silu", [ACT_GELU] = "gelu", [ACT_RELU2] = "relu2", [ACT_SIGMOID] = "sigmoid"
    };
    _Static_assert(ARRAY_LEN(names) == ACT_KIND_COUNT, "a name for each");
    buffer_printf(out, " %s", names[in->act]);
}

static void print_scale(const struct program *p, const struct instr *in, struct buffer *out)
{
    buffer_printf(out, " factor=%g", (double)in->scale.factor);
}

static void print_softcap(const struct program *p, const struct instr *in, struct buffer *out)
{
    buffer_printf(out, " cap=%g", (double)in->softcap.cap);
}

static void print_route(const struct program *p, const struct instr *in, struct buffer *out)
{
    buffer_printf(out, " top_k=%d%s", in->route.top_k, in->route.normalize ? " normalized" : "");
}

static void print_experts(const struct program *p, const struct instr *in, struct buffer *out)
{
    buffer_printf(out, " top_k=%d experts=%d+%d", in->experts.top_k, in->experts.first,
                  in->experts.count);
}

static void print_slice(const struct program *p, const struct instr *in, struct buffer *out)
{
    buffer_printf(out, " offset=%d", in->slice.offset);
}

static uint64_t rectangle(const struct program *p, const struct instr *in)
{
    const struct weight *w = &p->weights[in->weight[0]];
    return (uint64_t)w->row_count * (uint64_t)w->col_count;
}

static void cost_matmul(const struct program *p, const struct instr *in, struct op_cost *ret)
{
    ret->weights = rectangle(p, in);
    ret->mats = p->weights[in->weight[0]].mat_count;
}

static void cost_experts(const struct program *p, const struct instr *in, struct op_cost *ret)
{
    int here = p->weights[in->weight[0]].mat_count;
    ret->weights = rectangle(p, in);
    ret->mats = in->experts.top_k < here ? in->experts.top_k : here;
}

/* Each query head: q . k and the sum of weighted values. */
static void cost_attend(const struct program *p, const struct instr *in, struct op_cost *ret)
{
    const struct state *s = &p->states[in->state];
    int heads = s->key_dim ? p->values[in->in[0]].width / s->key_dim : 0;
    ret->position_macs = (uint64_t)heads * (uint64_t)(s->key_dim + s->value_dim);
}

static const struct op_info ops[] = {
    [OP_EMBED] = { "embed", 0, 0, 1, check_embed, deal_embed, print_embed, NULL },
    [OP_MATMUL] = { "matmul", 1, 1, 1, check_matmul, deal_matmul, NULL, cost_matmul },
    [OP_RMS_NORM] = { "rms_norm", 1, 1, 0, check_norm, deal_norm, print_norm, NULL },
    [OP_LAYER_NORM] = { "layer_norm", 1, 1, 0, check_norm, deal_whole, print_norm, NULL },
    [OP_ROPE] = { "rope", 1, 1, 0, check_rope, deal_rope, print_rope, NULL },
    [OP_ATTEND] = { "attend", 1, 3, 0, check_attend, deal_attend, print_attend, cost_attend },
    [OP_ACT] = { "act", 1, 2, 0, check_elementwise, deal_elementwise, print_act, NULL },
    [OP_ADD] = { "add", 2, 2, 0, check_elementwise, deal_linear, NULL, NULL },
    [OP_MUL] = { "mul", 2, 2, 0, check_elementwise, deal_elementwise, NULL, NULL },
    [OP_SCALE] = { "scale", 1, 1, 0, check_elementwise, deal_linear, print_scale, NULL },
    [OP_SOFTCAP] = { "softcap", 1, 1, 0, check_elementwise, deal_elementwise, print_softcap, NULL },
    [OP_ROWS] = { "rows", 1, 1, 0, check_elementwise, deal_linear, NULL, NULL },
    [OP_ROUTE] = { "route", 1, 1, 0, check_route, deal_whole, print_route, NULL },
    [OP_EXPERT_MATMUL] = { "expert_matmul", 2, 2, 1, check_expert_matmul, deal_expert_matmul,
                           print_experts, cost_experts },
    [OP_EXPERT_SUM] = { "expert_sum", 2, 2, 0, check_expert_sum, deal_expert_sum, print_experts,
                        NULL },
    [OP_CONV] = { "conv", 1, 1, 1, check_conv, deal_elementwise, NULL, NULL },
    [OP_SLICE] = { "slice", 1, 1, 0, check_slice, deal_whole, print_slice, NULL },
    [OP_PAD] = { "pad", 1, 1, 0, check_pad, deal_whole, print_slice, NULL },
    [OP_ALL_REDUCE] = { "all_reduce", 1, 1, 0, check_elementwise, deal_whole, NULL, NULL },
};
_Static_assert(ARRAY_LEN(ops) == OP_COUNT, "a row for each operation");

const struct op_info *op_info(enum op op)
{
    assert((unsigned)op < OP_COUNT && ops[op].name);
    return &ops[op];
}

const char *op_name(enum op op)
{
    return op_info(op)->name;
}

static int *kv_sharded(struct state *s)
{
    return &s->heads;
}

static uint64_t kv_token(const struct state *s)
{
    return (uint64_t)s->heads * (uint64_t)(s->key_dim + s->value_dim);
}

static uint64_t no_numbers(const struct state *s)
{
    return 0;
}

static int *conv_sharded(struct state *s)
{
    return &s->key_dim;
}

static uint64_t conv_fixed(const struct state *s)
{
    return (uint64_t)s->key_dim * (uint64_t)s->value_dim;
}

static const struct state_info states[] = {
    [STATE_KV] = { "kv", kv_sharded, kv_token, no_numbers },
    [STATE_CONV] = { "conv", conv_sharded, no_numbers, conv_fixed },
};
_Static_assert(ARRAY_LEN(states) == STATE_KIND_COUNT, "a row for each kind of state");

const struct state_info *state_info(enum state_kind kind)
{
    assert((unsigned)kind < STATE_KIND_COUNT);
    return &states[kind];
}

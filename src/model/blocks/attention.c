/* Softmax attention over a KV cache. */
#include "model/blocks/blocks.h"

/* Queries, keys and values may lie in one tensor, in this order. */
#define FUSED "attn_qkv"

/* The heads of this layer and the KV heads that follow them. */
static void head_ranges(struct builder *b, const struct attention_recipe *a, int *heads, int *kv)
{
    int group = a->heads / a->kv_heads;
    *heads = add_range(
        b, &(struct range){
               .name = "heads", .count = a->heads, .granule = group, .parent = PROGRAM_NONE });
    *kv = add_range(
        b,
        &(struct range){
            .name = "kv", .count = a->kv_heads, .granule = 1, .parent = *heads, .group = group });
}

/* One of the three projections: a tensor of its own, or rows [first, first + rows) of the fused
 * one. */
static int project(struct builder *b, const struct attention_recipe *a, int x,
                   const struct matrix *own, const char *value)
{
    struct matrix m = *own;
    if (!has_matrix(b, m.name) && has_matrix(b, FUSED)) {
        m.name = FUSED;
        m.tensor_rows = a->heads * a->head_dim + a->kv_heads * (a->head_dim + a->value_dim);
    } else {
        m.first_row = 0;
    }
    return emit_matmul(b, x, &m, value);
}

static int rotate(struct builder *b, const struct attention_recipe *a, int x, const char *value)
{
    if (a->rope == PROGRAM_NONE || b->result)
        return x;
    struct instr in = instr_init(OP_ROPE, b->layer);
    in.in[0] = x;
    in.rope.head_dim = a->head_dim;
    in.rope.table = a->rope;
    return emit(b, in, value, b->p->values[x].width, b->p->values[x].axis);
}

/* Keys and values of this layer, normed and rotated; the layer's state takes them. */
static void build_kv(struct builder *b, const struct attention_recipe *a, int x, int kv, int out[2])
{
    int keys = a->kv_heads * a->head_dim, before = a->heads * a->head_dim;
    struct matrix m = { .name = a->k,
                        .first_row = before,
                        .rows = keys,
                        .cols = b->recipe->width,
                        .row_axis = { kv, a->head_dim },
                        .col_axis = axis_none() };
    int k = project(b, a, x, &m, "k");
    if (!a->value_from_key || has_matrix(b, FUSED)) {
        m.name = a->v;
        m.first_row = before + keys;
        m.rows = a->kv_heads * a->value_dim;
        m.row_axis.unit = a->value_dim;
    }
    int v = project(b, a, x, &m, "v");
    k = emit_norm(b, k, &a->k_norm, a->head_dim, "k_norm");
    out[1] = emit_norm(b, v, &a->v_norm, a->value_dim, "v_norm");
    out[0] = rotate(b, a, k, "k_rope");
    if (b->result)
        return;
    b->layer_state[b->layer] = program_add_state(b->p, &(struct state){ .kind = STATE_KV,
                                                                        .layer = b->layer,
                                                                        .heads = a->kv_heads,
                                                                        .key_dim = a->head_dim,
                                                                        .value_dim = a->value_dim,
                                                                        .window = a->window,
                                                                        .axis = { kv, 1 } });
    if (b->layer_state[b->layer] == PROGRAM_NONE)
        b->result = fail(b->error, FAIL_NOMEM, "the program of %s", b->recipe->family);
}

/* A layer that attends to an earlier one's keys and values may still have projections of its own,
 * which nothing reads. */
static void pass_over_kv(struct builder *b, const struct attention_recipe *a)
{
    pass_over(b, a->k);
    pass_over(b, a->v);
    if (a->k_norm.tensor)
        find_tensor(b, a->k_norm.tensor);
}

int build_attention(struct builder *b, const struct attention_recipe *a, int x)
{
    int heads, kv;
    head_ranges(b, a, &heads, &kv);
    const struct axis q_axis = { heads, a->head_dim }, out_axis = { heads, a->value_dim };
    struct instr in = instr_init(OP_ATTEND, b->layer);
    int q = project(b, a, x,
                    &(struct matrix){ .name = a->q,
                                      .rows = a->heads * a->head_dim,
                                      .cols = b->recipe->width,
                                      .row_axis = q_axis,
                                      .col_axis = axis_none() },
                    "q");
    if (a->kv_layer == b->layer)
        build_kv(b, a, x, kv, &in.in[1]);
    else
        pass_over_kv(b, a);
    q = emit_norm(b, q, &a->q_norm, a->head_dim, "q_norm");
    in.in[0] = rotate(b, a, q, "q_rope");
    in.attend = (struct attend_args){ .head_dim = a->head_dim,
                                      .heads_per_kv = a->heads / a->kv_heads,
                                      .scale = a->scale };
    in.state = b->layer_state[a->kv_layer];
    int out = emit(b, in, "attention", a->heads * a->value_dim, out_axis);
    return emit_matmul(b, out,
                       &(struct matrix){ .name = a->out,
                                         .rows = b->recipe->width,
                                         .cols = a->heads * a->value_dim,
                                         .row_axis = axis_none(),
                                         .col_axis = out_axis },
                       "attn_out");
}

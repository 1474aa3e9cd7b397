/* The halves of a layer. Which options a layer has is read off the tensors that are there. */
#include "model/builder.h"

/* The heads of this layer and the KV heads that follow them. */
static void head_ranges(struct builder *b, int *heads, int *kv)
{
    const struct layer_params *l = &b->h.layers[b->layer];
    int group = l->heads / l->kv_heads;
    *heads = add_range(
        b, &(struct range){
               .name = "heads", .count = l->heads, .granule = group, .parent = PROGRAM_NONE });
    *kv = add_range(
        b,
        &(struct range){
            .name = "kv", .count = l->kv_heads, .granule = 1, .parent = *heads, .group = group });
}

static int rotate(struct builder *b, int x, const char *value)
{
    const struct layer_params *l = &b->h.layers[b->layer];
    if (l->rope == PROGRAM_NONE || b->result)
        return x;
    struct instr in = instr_init(OP_ROPE, b->layer);
    in.in[0] = x;
    in.group = b->h.head_dim;
    in.table = l->rope;
    return emit(b, in, value, b->p->values[x].width, b->p->values[x].axis);
}

int build_attention(struct builder *b, int x)
{
    const struct hparams *h = &b->h;
    const struct layer_params *l = &h->layers[b->layer];
    int heads, kv;
    head_ranges(b, &heads, &kv);
    const struct axis q_axis = { heads, h->head_dim }, k_axis = { kv, h->head_dim };
    const struct axis v_axis = { kv, h->value_dim }, out_axis = { heads, h->value_dim };
    const struct axis none = axis_none();
    int q = emit_matmul(b, x,
                        &(struct matrix){ .name = "attn_q.weight",
                                          .rows = l->heads * h->head_dim,
                                          .cols = h->width,
                                          .row_axis = q_axis,
                                          .col_axis = none },
                        "q");
    int k = emit_matmul(b, x,
                        &(struct matrix){ .name = "attn_k.weight",
                                          .rows = l->kv_heads * h->head_dim,
                                          .cols = h->width,
                                          .row_axis = k_axis,
                                          .col_axis = none },
                        "k");
    int v = emit_matmul(b, x,
                        &(struct matrix){ .name = "attn_v.weight",
                                          .rows = l->kv_heads * h->value_dim,
                                          .cols = h->width,
                                          .row_axis = v_axis,
                                          .col_axis = none },
                        "v");
    if (has_tensor(b, "attn_q_norm.weight"))
        q = emit_norm(b, q, "attn_q_norm.weight", h->head_dim, "q_norm");
    if (has_tensor(b, "attn_k_norm.weight"))
        k = emit_norm(b, k, "attn_k_norm.weight", h->head_dim, "k_norm");
    q = rotate(b, q, "q_rope");
    k = rotate(b, k, "k_rope");
    struct instr in = instr_init(OP_ATTEND, b->layer);
    in.in[0] = q;
    in.in[1] = k;
    in.in[2] = v;
    in.group = h->head_dim;
    in.heads_per_kv = l->heads / l->kv_heads;
    in.scale = h->attention_scale;
    in.state = program_add_state(b->p, &(struct state){ .kind = STATE_KV,
                                                        .layer = b->layer,
                                                        .heads = l->kv_heads,
                                                        .key_dim = h->head_dim,
                                                        .value_dim = h->value_dim,
                                                        .window = l->window,
                                                        .axis = { kv, 1 } });
    int out = emit(b, in, "attention", l->heads * h->value_dim, out_axis);
    return emit_matmul(b, out,
                       &(struct matrix){ .name = "attn_output.weight",
                                         .rows = h->width,
                                         .cols = l->heads * h->value_dim,
                                         .row_axis = none,
                                         .col_axis = out_axis },
                       "attn_out");
}

int build_ffn(struct builder *b, int x)
{
    const struct hparams *h = &b->h;
    const struct axis ffn = { b->ffn_range, 1 }, none = axis_none();
    int gate = emit_matmul(b, x,
                           &(struct matrix){ .name = "ffn_gate.weight",
                                             .rows = h->ffn,
                                             .cols = h->width,
                                             .row_axis = ffn,
                                             .col_axis = none },
                           "gate");
    int up = emit_matmul(b, x,
                         &(struct matrix){ .name = "ffn_up.weight",
                                           .rows = h->ffn,
                                           .cols = h->width,
                                           .row_axis = ffn,
                                           .col_axis = none },
                         "up");
    int act = emit_binary(b, OP_ACT, gate, up, "act");
    return emit_matmul(b, act,
                       &(struct matrix){ .name = "ffn_down.weight",
                                         .rows = h->width,
                                         .cols = h->ffn,
                                         .row_axis = none,
                                         .col_axis = ffn },
                       "ffn_out");
}

static int emit_expert_matmul(struct builder *b, int x, int route, const struct matrix *m,
                              const char *value)
{
    struct instr in = instr_init(OP_EXPERT_MATMUL, b->layer);
    in.in[0] = x;
    in.in[1] = route;
    in.weight[0] = add_matrix(b, m);
    in.top_k = b->h.experts_used;
    in.expert_count = b->h.experts;
    struct axis axis = m->row_axis;
    axis.unit *= in.top_k;
    return emit(b, in, value, in.top_k * m->rows, axis);
}

int build_experts(struct builder *b, int x)
{
    const struct hparams *h = &b->h;
    const struct axis none = axis_none();
    const struct axis whole =
        b->options.expert_columns ? none : (struct axis){ b->expert_range, 1 };
    const struct axis columns =
        b->options.expert_columns ? (struct axis){ b->expert_ffn_range, 1 } : none;
    int n = h->experts, ffn = h->expert_ffn;
    int logits = emit_matmul(b, x,
                             &(struct matrix){ .name = "ffn_gate_inp.weight",
                                               .rows = n,
                                               .cols = h->width,
                                               .row_axis = none,
                                               .col_axis = none },
                             "router");
    struct instr in = instr_init(OP_ROUTE, b->layer);
    in.in[0] = logits;
    in.top_k = h->experts_used;
    in.route_normalize = h->route_normalize;
    int route = emit(b, in, "route", 2 * h->experts_used, none);
    struct matrix m = { .name = "ffn_gate_exps.weight",
                        .mats = n,
                        .rows = ffn,
                        .cols = h->width,
                        .row_axis = columns,
                        .col_axis = none,
                        .mat_axis = whole };
    int gate = emit_expert_matmul(b, x, route, &m, "expert_gate");
    m.name = "ffn_up_exps.weight";
    int up = emit_expert_matmul(b, x, route, &m, "expert_up");
    int act = emit_binary(b, OP_ACT, gate, up, "expert_act");
    struct matrix down = { .name = "ffn_down_exps.weight",
                           .mats = n,
                           .rows = h->width,
                           .cols = ffn,
                           .row_axis = none,
                           .col_axis = columns,
                           .mat_axis = whole };
    int out = emit_expert_matmul(b, act, route, &down, "expert_out");
    struct instr sum = instr_init(OP_EXPERT_SUM, b->layer);
    sum.in[0] = out;
    sum.in[1] = route;
    sum.top_k = h->experts_used;
    sum.expert_count = n;
    return emit(b, sum, "experts", h->width, none);
}

/* LFM2's gated short convolution: in_proj holds three ranges of rows (b, c, x); the convolution
 * runs over b * x, and c gates its result. Source: Lfm2ShortConv in transformers. */
int build_short_conv(struct builder *b, int x)
{
    const struct hparams *h = &b->h;
    int channels = add_range(
        b, &(struct range){
               .name = "channels", .count = h->width, .granule = 32, .parent = PROGRAM_NONE });
    const struct axis axis = { channels, 1 }, none = axis_none();
    static const char *const names[] = { "conv_b", "conv_c", "conv_x" };
    int parts[3];
    for (int i = 0; i < 3; i++)
        parts[i] = emit_matmul(b, x,
                               &(struct matrix){ .name = "shortconv.in_proj.weight",
                                                 .first_row = i * h->width,
                                                 .rows = h->width,
                                                 .tensor_rows = 3 * h->width,
                                                 .cols = h->width,
                                                 .row_axis = axis,
                                                 .col_axis = none },
                               names[i]);
    int gated = emit_binary(b, OP_MUL, parts[0], parts[2], "conv_in");
    struct instr in = instr_init(OP_CONV, b->layer);
    in.in[0] = gated;
    in.weight[0] = add_matrix(b, &(struct matrix){ .name = "shortconv.conv.weight",
                                                   .rows = h->width,
                                                   .cols = h->conv_kernel,
                                                   .row_axis = axis,
                                                   .col_axis = none });
    in.state = program_add_state(b->p, &(struct state){ .kind = STATE_CONV,
                                                        .layer = b->layer,
                                                        .heads = 1,
                                                        .key_dim = h->width,
                                                        .value_dim = h->conv_kernel - 1,
                                                        .axis = axis });
    int conv = emit(b, in, "conv", h->width, axis);
    int out = emit_binary(b, OP_MUL, parts[1], conv, "conv_gated");
    return emit_matmul(b, out,
                       &(struct matrix){ .name = "shortconv.out_proj.weight",
                                         .rows = h->width,
                                         .cols = h->width,
                                         .row_axis = none,
                                         .col_axis = axis },
                       "conv_out");
}

/* The halves of a layer. Which options a layer has is read off the tensors that are there. */
#include "model/builder.h"

#include <math.h>

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
    in.group = l->head_dim;
    in.table = l->rope;
    return emit(b, in, value, b->p->values[x].width, b->p->values[x].axis);
}

/* Keys and values of this layer, normed and rotated; the layer's state takes them. */
static void build_kv(struct builder *b, int x, int kv, int *k, int *v)
{
    const struct hparams *h = &b->h;
    struct layer_params *l = &h->layers[b->layer];
    const struct axis k_axis = { kv, l->head_dim }, v_axis = { kv, l->value_dim };
    *k = emit_matmul(b, x,
                     &(struct matrix){ .name = "attn_k.weight",
                                       .rows = l->kv_heads * l->head_dim,
                                       .cols = h->width,
                                       .row_axis = k_axis,
                                       .col_axis = axis_none() },
                     "k");
    *v = emit_matmul(b, x,
                     &(struct matrix){ .name = "attn_v.weight",
                                       .rows = l->kv_heads * l->value_dim,
                                       .cols = h->width,
                                       .row_axis = v_axis,
                                       .col_axis = axis_none() },
                     "v");
    if (has_tensor(b, "attn_k_norm.weight"))
        *k = emit_norm(b, *k, "attn_k_norm.weight", l->head_dim, "k_norm");
    if (h->family->value_norm)
        *v = emit_norm(b, *v, NULL, l->value_dim, "v_norm");
    *k = rotate(b, *k, "k_rope");
    l->state = program_add_state(b->p, &(struct state){ .kind = STATE_KV,
                                                        .layer = b->layer,
                                                        .heads = l->kv_heads,
                                                        .key_dim = l->head_dim,
                                                        .value_dim = l->value_dim,
                                                        .window = l->window,
                                                        .axis = { kv, 1 } });
}

int build_attention(struct builder *b, int x)
{
    const struct hparams *h = &b->h;
    const struct layer_params *l = &h->layers[b->layer];
    int heads, kv;
    head_ranges(b, &heads, &kv);
    const struct axis q_axis = { heads, l->head_dim }, out_axis = { heads, l->value_dim };
    struct instr in = instr_init(OP_ATTEND, b->layer);
    int q = emit_matmul(b, x,
                        &(struct matrix){ .name = "attn_q.weight",
                                          .rows = l->heads * l->head_dim,
                                          .cols = h->width,
                                          .row_axis = q_axis,
                                          .col_axis = axis_none() },
                        "q");
    if (l->kv_layer == b->layer)
        build_kv(b, x, kv, &in.in[1], &in.in[2]);
    if (has_tensor(b, "attn_q_norm.weight"))
        q = emit_norm(b, q, "attn_q_norm.weight", l->head_dim, "q_norm");
    in.in[0] = rotate(b, q, "q_rope");
    in.group = l->head_dim;
    in.heads_per_kv = l->heads / l->kv_heads;
    in.scale = h->family->attention_scale > 0 ? h->family->attention_scale
                                              : (float)(1.0 / sqrt((double)l->head_dim));
    in.state = h->layers[l->kv_layer].state;
    int out = emit(b, in, "attention", l->heads * l->value_dim, out_axis);
    return emit_matmul(b, out,
                       &(struct matrix){ .name = "attn_output.weight",
                                         .rows = h->width,
                                         .cols = l->heads * l->value_dim,
                                         .row_axis = axis_none(),
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

static int scaled(struct builder *b, int x, double factor, const char *value)
{
    struct instr in = instr_init(OP_SCALE, b->layer);
    if (b->result)
        return PROGRAM_NONE;
    in.in[0] = x;
    in.scale = (float)factor;
    return emit(b, in, value, b->p->values[x].width, b->p->values[x].axis);
}

/* Gemma 4's inputs of all layers side by side: a second embedding of the ids, and a projection of
 * the first one. Live across every cut. Source: Gemma4TextModel in transformers. */
int build_layer_inputs(struct builder *b, int x)
{
    const struct hparams *h = &b->h;
    int width = h->n_layers * h->layer_input;
    struct instr in = instr_init(OP_EMBED, -1);
    in.scale = sqrtf((float)h->layer_input);
    in.weight[0] = add_matrix(b, &(struct matrix){ .name = "per_layer_token_embd.weight",
                                                   .rows = h->vocab,
                                                   .cols = width,
                                                   .row_axis = { b->vocab_range, 1 },
                                                   .col_axis = axis_none() });
    int ids = emit(b, in, "layer_embedding", width, axis_none());
    int projected = emit_matmul(b, x,
                                &(struct matrix){ .name = "per_layer_model_proj.weight",
                                                  .rows = width,
                                                  .cols = h->width,
                                                  .row_axis = axis_none(),
                                                  .col_axis = axis_none() },
                                "layer_projection");
    projected = scaled(b, projected, 1.0 / sqrt((double)h->width), "layer_projection");
    projected = emit_norm(b, projected, "per_layer_proj_norm.weight", h->layer_input,
                          "layer_projection_norm");
    return scaled(b, emit_binary(b, OP_ADD, projected, ids, "layer_sum"), sqrt(0.5),
                  "layer_inputs");
}

/* The layer's own input gates a branch of the residual stream. */
int build_layer_input_branch(struct builder *b, int x, int inputs)
{
    const struct hparams *h = &b->h;
    struct instr slice = instr_init(OP_SLICE, b->layer);
    slice.in[0] = inputs;
    slice.group = b->layer * h->layer_input;
    int own = emit(b, slice, "layer_input", h->layer_input, axis_none());
    int gate = emit_matmul(b, x,
                           &(struct matrix){ .name = "inp_gate.weight",
                                             .rows = h->layer_input,
                                             .cols = h->width,
                                             .row_axis = axis_none(),
                                             .col_axis = axis_none() },
                           "input_gate");
    int branch = emit_matmul(b, emit_binary(b, OP_ACT, gate, own, "input_act"),
                             &(struct matrix){ .name = "proj.weight",
                                               .rows = h->width,
                                               .cols = h->layer_input,
                                               .row_axis = axis_none(),
                                               .col_axis = axis_none() },
                             "input_out");
    branch = emit_norm(b, branch, "post_norm.weight", 0, "post_input");
    return emit_binary(b, OP_ADD, x, branch, "residual");
}

int build_output_scale(struct builder *b, int x)
{
    char name[128];
    tensor_name(b, "layer_output_scale.weight", name);
    const struct gguf_tensor *t = gguf_tensor(b->g, name);
    float factor = 1;
    if (!t || b->result)
        return x;
    if (t->elements != 1 || t->type != QUANT_F32) {
        b->result =
            gguf_refuse(b->g, name, b->error, FAIL_FORMAT, "tensor %s is not one f32", name);
        return PROGRAM_NONE;
    }
    memcpy(&factor, t->data, sizeof(factor));
    return scaled(b, x, (double)factor, "scaled");
}

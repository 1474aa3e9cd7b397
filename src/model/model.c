/* One decoder for all families: the layer loop is never copied. */
#include "model/builder.h"

#include <math.h>

/* FFN columns are dealt in whole quantization blocks where there are plenty of them, else in 32s
 * (a cut inside a block is legal; the block is then loaded on both sides). */
static int ffn_granule(const struct builder *b, const char *down, int ffn)
{
    const struct gguf_tensor *t = gguf_tensor(b->g, down);
    int block = t ? (int)quant_format(t->type)->block : 32;
    return block > 32 && ffn / block >= 16 ? block : 32;
}

static void model_ranges(struct builder *b)
{
    const struct hparams *h = &b->h;
    b->vocab_range = add_range(
        b, &(struct range){
               .name = "vocab", .count = h->vocab, .granule = 16, .parent = PROGRAM_NONE });
    b->ffn_range =
        add_range(b, &(struct range){ .name = "ffn",
                                      .count = h->ffn,
                                      .granule = ffn_granule(b, "blk.0.ffn_down.weight", h->ffn),
                                      .parent = PROGRAM_NONE });
    if (!h->experts)
        return;
    b->expert_range = add_range(
        b, &(struct range){
               .name = "experts", .count = h->experts, .granule = 1, .parent = PROGRAM_NONE });
    b->expert_ffn_range = add_range(b, &(struct range){ .name = "expert_ffn",
                                                        .count = h->expert_ffn,
                                                        .granule = 32,
                                                        .parent = PROGRAM_NONE });
}

static int build_embedding(struct builder *b)
{
    const struct hparams *h = &b->h;
    struct instr in = instr_init(OP_EMBED, -1);
    b->layer = -1;
    in.scale = h->family->embedding_scaled ? sqrtf((float)h->width) : 1.0f;
    in.weight[0] = add_matrix(b, &(struct matrix){ .name = "token_embd.weight",
                                                   .rows = h->vocab,
                                                   .cols = h->width,
                                                   .row_axis = { b->vocab_range, 1 },
                                                   .col_axis = axis_none() });
    return emit(b, in, "embedding", h->width, axis_none());
}

static int build_layer(struct builder *b, int x, int inputs)
{
    bool attention = b->h.layers[b->layer].kv_heads > 0;
    int normed = emit_norm(b, x, "attn_norm.weight", 0, "attn_norm");
    int branch = attention ? build_attention(b, normed) : build_short_conv(b, normed);
    if (has_tensor(b, "post_attention_norm.weight"))
        branch = emit_norm(b, branch, "post_attention_norm.weight", 0, "post_attention");
    x = emit_binary(b, OP_ADD, x, branch, "residual");
    normed = emit_norm(b, x, "ffn_norm.weight", 0, "ffn_norm");
    branch = has_tensor(b, "ffn_gate_inp.weight") ? build_experts(b, normed) : build_ffn(b, normed);
    if (has_tensor(b, "post_ffw_norm.weight"))
        branch = emit_norm(b, branch, "post_ffw_norm.weight", 0, "post_ffn");
    x = emit_binary(b, OP_ADD, x, branch, "residual");
    if (inputs != PROGRAM_NONE)
        x = build_layer_input_branch(b, x, inputs);
    return build_output_scale(b, x);
}

static int build_output(struct builder *b, int x)
{
    const struct hparams *h = &b->h;
    const char *norm = h->family->final_norm ? h->family->final_norm : "output_norm.weight";
    b->layer = h->n_layers;
    struct instr rows = instr_init(OP_ROWS, b->layer);
    rows.in[0] = x;
    x = emit(b, rows, "wanted", h->width, axis_none());
    x = emit_norm(b, x, norm, 0, "output_norm");
    const char *output = has_tensor(b, "output.weight") ? "output.weight" : "token_embd.weight";
    x = emit_matmul(b, x,
                    &(struct matrix){ .name = output,
                                      .rows = h->vocab,
                                      .cols = h->width,
                                      .row_axis = { b->vocab_range, 1 },
                                      .col_axis = axis_none() },
                    "logits");
    if (!(h->logit_softcap > 0) || b->result)
        return x;
    struct instr cap = instr_init(OP_SOFTCAP, b->layer);
    cap.in[0] = x;
    cap.scale = h->logit_softcap;
    return emit(b, cap, "capped", h->vocab, b->p->values[x].axis);
}

/* A whole program that may be trusted, or why the file makes none. */
static int check_program(struct builder *b)
{
    struct error inner = { 0 };
    int r = program_validate(b->p, &inner);
    if (r && r != FAIL_NOMEM)
        return gguf_refuse(b->g, "general.architecture", b->error, r, "no program of %s: %s",
                           b->p->family, inner.text);
    return r ? fail(b->error, r, "%s", inner.text) : 0;
}

int model_build(const struct gguf *g, const struct model_options *options, struct arena *arena,
                struct program **ret, struct error *e)
{
    struct error local = { 0 };
    struct builder b = { .g = g, .error = e ? e : &local, .p = program_new(arena) };
    if (!b.p)
        return fail(e, FAIL_NOMEM, "a program");
    if (options)
        b.options = *options;
    if ((b.result = hparams_read(&b.h, g, b.p, b.error)))
        return b.result;
    struct program *p = b.p;
    p->family = b.h.family->name;
    p->n_layers = p->end_layer = b.h.n_layers;
    p->width = b.h.width;
    p->vocab = b.h.vocab;
    p->context = b.h.context;
    p->stage_first = 1;
    model_ranges(&b);
    int x = build_embedding(&b);
    int inputs = b.h.layer_input && !b.result ? build_layer_inputs(&b, x) : PROGRAM_NONE;
    for (b.layer = 0; b.layer < b.h.n_layers && !b.result; b.layer++)
        x = build_layer(&b, x, inputs);
    int logits = b.result ? PROGRAM_NONE : build_output(&b, x);
    p->inputs = arena_array(arena, int, 1);
    p->outputs = arena_array(arena, int, 1);
    if (!b.result && (!p->inputs || !p->outputs))
        b.result = fail(b.error, FAIL_NOMEM, "a program");
    if (b.result)
        return b.result;
    p->logits = p->outputs[0] = logits;
    p->n_outputs = 1;
    int r = check_program(&b);
    if (!r)
        *ret = p;
    return r;
}

/* From the file's keys to a recipe, from the recipe to a program: one decoder for all. */
#include "model/model.h"

#include "model/blocks/blocks.h"
#include "model/family.h"
#include "model/known_keys.h"
#include "model/unread.h"

static int build_embedding(struct builder *b)
{
    const struct recipe *m = b->recipe;
    struct instr in = instr_init(OP_EMBED, -1);
    in.embed.scale = m->embedding_scale;
    in.weight[0] = add_matrix(b, &(struct matrix){ .name = "token_embd",
                                                   .rows = m->vocab,
                                                   .cols = m->width,
                                                   .row_axis = { vocab_range(b), 1 },
                                                   .col_axis = axis_none() });
    return emit(b, in, "embedding", m->width, axis_none());
}

static int build_mixer(struct builder *b, const struct mixer_recipe *mixer, int x)
{
    switch (mixer->kind) {
    case MIXER_ATTENTION:
        return build_attention(b, &mixer->attention, x);
    case MIXER_SHORT_CONV:
        return build_short_conv(b, &mixer->short_conv, x);
    }
    return PROGRAM_NONE;
}

static int build_ffn(struct builder *b, const struct ffn_recipe *ffn, int x)
{
    switch (ffn->kind) {
    case FFN_GATED:
        return build_gated(b, &ffn->gated, x);
    case FFN_EXPERTS:
        return build_experts(b, &ffn->experts, x);
    }
    return PROGRAM_NONE;
}

/* The factor stands in the file as a tensor of one element. */
static int build_layer_scale(struct builder *b, const char *name, int x)
{
    char full[128];
    float factor;
    if (!name || b->result)
        return x;
    tensor_name(b, name, full);
    const struct gguf_tensor *t = find_tensor(b, name);
    if (!t || t->elements != 1 || t->type != QUANT_F32) {
        b->result = gguf_refuse(b->g, full, b->error, t ? FAIL_FORMAT : FAIL_NOT_FOUND,
                                "tensor %s is %s", full, t ? "not one f32" : "missing");
        return PROGRAM_NONE;
    }
    memcpy(&factor, t->data, sizeof(factor));
    return emit_scale(b, x, (double)factor, "scaled");
}

static int build_layer(struct builder *b, int x, int inputs)
{
    const struct layer_recipe *l = &b->recipe->layers[b->layer];
    int normed = emit_norm(b, x, &l->before_mixer, 0, "attn_norm");
    int branch = build_mixer(b, &l->mixer, normed);
    branch = emit_norm(b, branch, &l->after_mixer, 0, "post_attention");
    x = emit_binary(b, OP_ADD, x, branch, "residual");
    normed = emit_norm(b, x, &l->before_ffn, 0, "ffn_norm");
    branch = build_ffn(b, &l->ffn, normed);
    branch = emit_norm(b, branch, &l->after_ffn, 0, "post_ffn");
    x = emit_binary(b, OP_ADD, x, branch, "residual");
    if (inputs != PROGRAM_NONE)
        x = build_layer_input_branch(b, &b->recipe->layer_inputs, x, inputs);
    return build_layer_scale(b, l->scale, x);
}

/* Logits of the rows that want them, by a matrix of their own or the embedding's. */
static int build_output(struct builder *b, int x)
{
    const struct recipe *m = b->recipe;
    b->layer = m->n_layers;
    struct instr rows = instr_init(OP_ROWS, b->layer);
    rows.in[0] = x;
    x = emit(b, rows, "wanted", m->width, axis_none());
    x = emit_norm(b, x, &m->output_norm, 0, "output_norm");
    b->p->hidden = b->result ? PROGRAM_NONE : x;
    x = emit_matmul(b, x,
                    &(struct matrix){ .name = has_matrix(b, "output") ? "output" : "token_embd",
                                      .beside = "output",
                                      .rows = m->vocab,
                                      .cols = m->width,
                                      .row_axis = { vocab_range(b), 1 },
                                      .col_axis = axis_none() },
                    "logits");
    if (!(m->logit_softcap > 0) || b->result)
        return x;
    struct instr cap = instr_init(OP_SOFTCAP, b->layer);
    cap.in[0] = x;
    cap.softcap.cap = m->logit_softcap;
    return emit(b, cap, "capped", m->vocab, b->p->values[x].axis);
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

/* Fills the recipe; the program takes the tables of angles. */
static int read_recipe(const struct gguf *g, struct buffer *notes, struct program *p,
                       struct recipe *m, struct error *e)
{
    struct bytes name;
    int r = gguf_get_text(g, "general.architecture", "", &name, e);
    if (r)
        return r;
    const struct family *f = family_find(name);
    if (!f)
        return gguf_refuse(g, "general.architecture", e, FAIL_UNSUPPORTED,
                           "the model family \"%.*s\" is not supported", BYTES_ARG(name));
    struct reading reading = { .keys = { .g = g, .family = f->name, .notes = notes, .error = e },
                               .family = f,
                               .recipe = m,
                               .program = p,
                               .arena = p->arena };
    m->family = f->name;
    refuse_unhonoured_keys(&reading.keys);
    if (reading_ok(&reading))
        f->read(&reading);
    return reading.keys.result;
}

static int begin(struct builder *b, const struct recipe *m)
{
    struct program *p = b->p;
    p->family = m->family;
    p->n_layers = p->end_layer = m->n_layers;
    p->width = m->width;
    p->vocab = m->vocab;
    p->context = m->context;
    p->stage_first = 1;
    p->inputs = arena_array(p->arena, int, 1);
    p->outputs = arena_array(p->arena, int, 1);
    b->layer_state = arena_array(p->arena, int, m->n_layers);
    if (!p->inputs || !p->outputs || !b->layer_state)
        return fail(b->error, FAIL_NOMEM, "a program");
    int r = map_init(&b->read, p->arena, (size_t)gguf_n_tensors(b->g), gguf_seed(b->g), b->error);
    for (int i = 0; i < p->n_ropes && !r; i++)
        if (p->ropes[i].factors != PROGRAM_NONE)
            r = map_put(&b->read, bytes_text(p->weights[p->ropes[i].factors].tensor), 1);
    return r;
}

int model_build(const struct gguf *g, const struct model_options *options, struct arena *arena,
                struct program **ret, struct error *e)
{
    struct error local = { 0 };
    struct recipe recipe = { 0 };
    struct builder b = { .g = g,
                         .error = e ? e : &local,
                         .p = program_new(arena),
                         .recipe = &recipe,
                         .expert_columns = options && options->expert_columns,
                         .layer = -1 };
    if (!b.p)
        return fail(e, FAIL_NOMEM, "a program");
    b.result = read_recipe(g, options ? options->notes : NULL, b.p, &recipe, b.error);
    if (b.result || (b.result = begin(&b, &recipe)))
        return b.result;
    int x = build_embedding(&b);
    int inputs = recipe.layer_inputs.width && !b.result
                     ? build_layer_inputs(&b, &recipe.layer_inputs, x)
                     : PROGRAM_NONE;
    for (b.layer = 0; b.layer < recipe.n_layers && !b.result; b.layer++)
        x = build_layer(&b, x, inputs);
    int logits = b.result ? PROGRAM_NONE : build_output(&b, x);
    if (b.result)
        return b.result;
    b.p->logits = b.p->outputs[0] = logits;
    b.p->n_outputs = 1;
    int r = refuse_unread_tensors(g, &b.read, recipe.family, b.error);
    r = r ? r : check_program(&b);
    if (!r)
        *ret = b.p;
    return r;
}

/* See rope.h. */
#include "model/rope.h"

#include <math.h>

/* YaRN's attention factor as transformers computes it (arXiv:2309.00071, equation 22). */
static float yarn_magnitude(double factor)
{
    return factor > 1 ? (float)(0.1 * log(factor) + 1.0) : 1.0f;
}

/* Rotations over the original context, from which a frequency is kept or stretched. */
static float yarn_beta(struct keys *k, const char *suffix, double missing)
{
    float beta = (float)key_float(k, suffix, missing);
    if (!(beta > 0))
        key_refuse(k, suffix, FAIL_FORMAT, "it is not above 0");
    return beta;
}

static void read_yarn(struct reading *r, struct rope *rope)
{
    struct keys *k = &r->keys;
    rope->scaling = ROPE_SCALING_YARN;
    int original = key_int(k, "rope.scaling.original_context_length", 0, 0, INT32_MAX);
    rope->original_context = (float)(original ? original : r->recipe->context);
    rope->yarn_beta_fast = yarn_beta(k, "rope.scaling.yarn_beta_fast", 32.0);
    rope->yarn_beta_slow = yarn_beta(k, "rope.scaling.yarn_beta_slow", 1.0);
    if (!(rope->base > 1))
        key_refuse(k, "rope.freq_base", FAIL_FORMAT, "YaRN needs one above 1");
    rope->magnitude *= yarn_magnitude((double)rope->factor);
}

/* By what positions are stretched: the older key counts where the newer one is absent, 0 means not
 * at all (so llama.cpp's saver writes it), and a factor without a type is linear. */
static void read_scaling(struct reading *r, struct rope *rope)
{
    struct keys *k = &r->keys;
    struct bytes type = key_text(k, "rope.scaling.type", "linear");
    double older = key_float(k, "rope.scale_linear", 0.0);
    rope->factor = (float)key_float(k, "rope.scaling.factor", older);
    rope->magnitude = (float)key_float(k, "rope.scaling.attn_factor", 1.0);
    if (!reading_ok(r))
        return;
    if (rope->factor < 0)
        key_refuse(k,
                   key_find(k, "rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear",
                   FAIL_FORMAT, "it is below 0");
    if (!(rope->magnitude > 0))
        key_refuse(k, "rope.scaling.attn_factor", FAIL_FORMAT, "it is not above 0");
    if (rope->factor == 0)
        rope->factor = 1;
    if (bytes_equal_text(type, "none"))
        rope->factor = 1;
    else if (bytes_equal_text(type, "linear"))
        rope->scaling = rope->factor != 1 ? ROPE_SCALING_LINEAR : ROPE_SCALING_NONE;
    else if (bytes_equal_text(type, "yarn"))
        read_yarn(r, rope);
    else
        key_refuse(k, "rope.scaling.type", FAIL_UNSUPPORTED, "\"%.*s\" is not supported yet",
                   BYTES_ARG(type));
}

/* Divisors of the frequencies, where the file has them. */
static void read_factors(struct reading *r, struct rope *rope)
{
    static const char name[] = "rope_freqs.weight";
    struct keys *k = &r->keys;
    const struct gguf_tensor *t = gguf_tensor(k->g, name);
    if (!t || !reading_ok(r))
        return;
    if (t->elements != (uint64_t)rope->dims / 2 || t->dims[0] != t->elements ||
        t->type != QUANT_F32) {
        k->result = gguf_refuse(k->g, name, k->error, FAIL_FORMAT,
                                "tensor %s does not hold %d f32 factors", name, rope->dims / 2);
        return;
    }
    rope->factors = program_add_weight(r->program, &(struct weight){ .tensor = name,
                                                                     .byte = gguf_byte(k->g, name),
                                                                     .type = QUANT_F32,
                                                                     .mats = 1,
                                                                     .mat_count = 1,
                                                                     .tensor_rows = 1,
                                                                     .row_count = 1,
                                                                     .tensor_cols = rope->dims / 2,
                                                                     .col_count = rope->dims / 2,
                                                                     .mat_axis = axis_none(),
                                                                     .row_axis = axis_none(),
                                                                     .col_axis = axis_none() });
    if (rope->factors == PROGRAM_NONE)
        k->result = fail(k->error, FAIL_NOMEM, "rope tables");
}

static int add_rope(struct reading *r, const struct rope *rope)
{
    if (!reading_ok(r))
        return PROGRAM_NONE;
    int index = program_add_rope(r->program, rope);
    if (index == PROGRAM_NONE)
        r->keys.result = fail(r->keys.error, FAIL_NOMEM, "rope tables");
    return index;
}

int read_rope(struct reading *r, int head_dim, bool interleaved)
{
    struct keys *k = &r->keys;
    struct rope rope = { .factors = PROGRAM_NONE, .interleaved = interleaved };
    rope.dims = key_int(k, "rope.dimension_count", head_dim, 2, head_dim);
    rope.base = (float)key_float_published(k, "rope.freq_base", r->family->rope_base);
    read_scaling(r, &rope);
    if (rope.dims % 2)
        key_refuse(k, "rope.dimension_count", FAIL_FORMAT, "an odd number of dimensions");
    read_factors(r, &rope);
    return add_rope(r, &rope);
}

int read_window_rope(struct reading *r, int global, int global_head_dim, int head_dim)
{
    struct keys *k = &r->keys;
    if (!reading_ok(r))
        return PROGRAM_NONE;
    const struct rope *from = &r->program->ropes[global];
    struct rope rope = { .factors = PROGRAM_NONE,
                         .interleaved = from->interleaved,
                         .factor = 1,
                         .magnitude = (float)key_float(k, "rope.scaling.attn_factor", 1.0) };
    int same = head_dim == global_head_dim ? from->dims : head_dim;
    rope.dims = key_int(k, "rope.dimension_count_swa", same, 2, head_dim);
    rope.base = (float)key_float_published(k, "rope.freq_base_swa", r->family->window_rope_base);
    if (rope.dims % 2)
        key_refuse(k, "rope.dimension_count_swa", FAIL_FORMAT, "an odd number of dimensions");
    return add_rope(r, &rope);
}

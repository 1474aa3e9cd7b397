/* Keys of a GGUF file to numbers, each checked. */
#include "model/hparams.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* Reads keys "<family>.<suffix>"; the first failure stays. */
struct reader {
    const struct gguf *g;
    const char *family;
    struct error *error;
    int result;
};

static void key_name(const struct reader *r, const char *suffix, char out[static 256])
{
    snprintf(out, 256, "%s.%s", r->family, suffix);
}

/* A refusal about the key "<family>.<suffix>". */
static void refuse(struct reader *r, const char *suffix, int code, const char *what)
{
    char key[256];
    key_name(r, suffix, key);
    if (!r->result)
        r->result = gguf_refuse(r->g, key, r->error, code, "key %s: %s", key, what);
}

/* An integer in [low, high]; missing < 0 means that the key must be there. */
static int read_int(struct reader *r, const char *suffix, int64_t missing, int64_t low,
                    int64_t high)
{
    char key[256];
    int64_t value = 0;
    if (r->result)
        return 0;
    key_name(r, suffix, key);
    if (missing < 0 && !gguf_find(r->g, key)) {
        refuse(r, suffix, FAIL_FORMAT, "it is missing");
        return 0;
    }
    r->result = gguf_get_int(r->g, key, missing, &value, r->error);
    if (!r->result && (value < low || value > high))
        r->result = gguf_refuse(r->g, key, r->error, FAIL_FORMAT,
                                "key %s is %" PRId64 ", outside %" PRId64 " to %" PRId64, key,
                                value, low, high);
    return (int)value;
}

static double read_float(struct reader *r, const char *suffix, double missing)
{
    char key[256];
    double value = missing;
    if (r->result)
        return 0;
    key_name(r, suffix, key);
    r->result = gguf_get_float(r->g, key, missing, &value, r->error);
    if (!r->result && !isfinite(value))
        refuse(r, suffix, FAIL_FORMAT, "it is not a finite number");
    return value;
}

/* A number for each layer: one for all, or an array. */
static void read_per_layer(struct reader *r, const char *suffix, int n_layers, int64_t missing,
                           int *out, size_t stride)
{
    char key[256];
    key_name(r, suffix, key);
    const struct gguf_value *v = r->result ? NULL : gguf_find(r->g, key);
    bool array = v && v->type == GGUF_ARRAY;
    if (array && (v->count < (uint64_t)n_layers || !gguf_type_is_int(v->element))) {
        r->result =
            gguf_refuse(r->g, key, r->error, FAIL_FORMAT,
                        "key %s holds %" PRIu64 " values for %d layers", key, v->count, n_layers);
        return;
    }
    int64_t one = array ? 0 : read_int(r, suffix, missing, 0, 65536);
    for (int i = 0; i < n_layers && !r->result; i++) {
        int64_t value = array ? gguf_array_int(v, (uint64_t)i) : one;
        if (value < 0 || value > 65536)
            r->result = gguf_refuse(r->g, key, r->error, FAIL_FORMAT,
                                    "key %s is %" PRId64 " in layer %d", key, value, i);
        *(int *)((char *)out + (size_t)i * stride) = (int)value;
    }
}

/* YaRN's attention factor as transformers computes it (arXiv:2309.00071, equation 22). */
static float yarn_magnitude(double factor)
{
    return factor > 1 ? (float)(0.1 * log(factor) + 1.0) : 1.0f;
}

static void read_scaling(struct reader *r, struct rope *rope)
{
    char key[256];
    struct bytes type;
    if (r->result)
        return;
    key_name(r, "rope.scaling.type", key);
    r->result = gguf_get_text(r->g, key, "none", &type, r->error);
    rope->factor = (float)read_float(r, "rope.scaling.factor", 1.0);
    if (r->result || bytes_equal_text(type, "none"))
        return;
    if (rope->factor <= 0) {
        refuse(r, "rope.scaling.factor", FAIL_FORMAT, "it is not above 0");
    } else if (bytes_equal_text(type, "linear")) {
        rope->scaling = ROPE_SCALING_LINEAR;
    } else if (bytes_equal_text(type, "yarn")) {
        rope->scaling = ROPE_SCALING_YARN;
        rope->original_context =
            (float)read_int(r, "rope.scaling.original_context_length", -1, 1, INT32_MAX);
        rope->yarn_beta_fast = (float)read_float(r, "rope.scaling.yarn_beta_fast", 32.0);
        rope->yarn_beta_slow = (float)read_float(r, "rope.scaling.yarn_beta_slow", 1.0);
        rope->magnitude = (float)read_float(r, "rope.scaling.attn_factor", 1.0) *
                          yarn_magnitude((double)rope->factor);
    } else {
        r->result = gguf_refuse(r->g, key, r->error, FAIL_UNSUPPORTED,
                                "rope scaling \"%.*s\" is not supported", BYTES_ARG(type));
    }
}

/* The tables of angles: one for global layers and, where a family has windows, one for those. */
static void read_ropes(struct reader *r, struct hparams *h, struct program *p,
                       struct layer_params *global, struct layer_params *local)
{
    struct rope rope = { .factors = PROGRAM_NONE, .interleaved = h->family->rope_interleaved };
    rope.dims = read_int(r, "rope.dimension_count", global->head_dim, 2, global->head_dim);
    rope.base = (float)read_float(r, "rope.freq_base", 10000.0);
    struct rope window = rope;
    int same = local->head_dim == global->head_dim ? rope.dims : local->head_dim;
    window.dims = read_int(r, "rope.dimension_count_swa", same, 2, local->head_dim);
    window.base = (float)read_float(r, "rope.freq_base_swa",
                                    h->family->window_rope_base > 0 ? h->family->window_rope_base
                                                                    : (double)rope.base);
    read_scaling(r, &rope);
    if (rope.dims % 2)
        refuse(r, "rope.dimension_count", FAIL_FORMAT, "rope over an odd number of dimensions");
    if (!(rope.base > 0))
        refuse(r, "rope.freq_base", FAIL_FORMAT, "it is not above 0");
    if (!(window.base > 0))
        refuse(r, "rope.freq_base_swa", FAIL_FORMAT, "it is not above 0");
    const struct gguf_tensor *factors = gguf_tensor(r->g, "rope_freqs.weight");
    if (r->result)
        return;
    if (factors) {
        if (factors->dims[0] != (uint64_t)rope.dims / 2 || factors->type != QUANT_F32) {
            r->result =
                gguf_refuse(r->g, "rope_freqs.weight", r->error, FAIL_FORMAT,
                            "rope_freqs.weight does not hold %d f32 factors", rope.dims / 2);
            return;
        }
        rope.factors = program_add_weight(p, &(struct weight){ .tensor = "rope_freqs.weight",
                                                               .type = factors->type,
                                                               .mats = 1,
                                                               .mat_count = 1,
                                                               .tensor_rows = 1,
                                                               .row_count = 1,
                                                               .tensor_cols = rope.dims / 2,
                                                               .col_count = rope.dims / 2,
                                                               .mat_axis = { PROGRAM_NONE, 0 },
                                                               .row_axis = { PROGRAM_NONE, 0 },
                                                               .col_axis = { PROGRAM_NONE, 0 } });
    }
    global->rope = program_add_rope(p, &rope);
    local->rope = h->family->window_pattern ? program_add_rope(p, &window) : global->rope;
    if (global->rope == PROGRAM_NONE || local->rope == PROGRAM_NONE)
        r->result = fail(r->error, FAIL_NOMEM, "rope tables");
}

/* Which layers see only a window: the file's pattern, else the family's. */
static bool layer_is_local(struct reader *r, const struct hparams *h, int layer)
{
    char key[256];
    key_name(r, "attention.sliding_window_pattern", key);
    const struct gguf_value *v = gguf_find(r->g, key);
    if (v && v->type == GGUF_ARRAY && gguf_type_is_int(v->element) && v->count > (uint64_t)layer)
        return gguf_array_int(v, (uint64_t)layer) != 0;
    return (layer + 1) % h->family->window_pattern != 0;
}

/* The last layers may attend to what the last earlier layer of their kind stored. */
static void share_kv(struct reader *r, struct hparams *h)
{
    int shared = read_int(r, "attention.shared_kv_layers", 0, 0, h->n_layers - 1);
    for (int i = 0; i < h->n_layers; i++)
        h->layers[i].kv_layer = i;
    for (int i = h->n_layers - shared; i < h->n_layers && !r->result; i++) {
        int from = h->n_layers - shared - 1;
        while (from >= 0 && h->layers[from].window != h->layers[i].window)
            from--;
        if (from < 0 || h->layers[from].kv_heads != h->layers[i].kv_heads)
            refuse(r, "attention.shared_kv_layers", FAIL_FORMAT,
                   "a layer shares no earlier layer's KV");
        h->layers[i].kv_layer = from;
    }
}

static void read_heads(struct reader *r, struct hparams *h)
{
    read_per_layer(r, "attention.head_count", h->n_layers, -1, &h->layers[0].heads,
                   sizeof(h->layers[0]));
    int heads = r->result ? 1 : h->layers[0].heads;
    read_per_layer(r, "attention.head_count_kv", h->n_layers, heads, &h->layers[0].kv_heads,
                   sizeof(h->layers[0]));
    for (int i = 0; i < h->n_layers; i++)
        if (h->layers[i].heads < 1 ||
            (h->layers[i].kv_heads && h->layers[i].heads % h->layers[i].kv_heads))
            refuse(r, "attention.head_count", FAIL_FORMAT,
                   "it is not a multiple of attention.head_count_kv");
}

static void read_layers(struct reader *r, struct hparams *h, struct program *p)
{
    const struct family *f = h->family;
    h->layers = arena_array(p->arena, struct layer_params, h->n_layers);
    if (!h->layers) {
        r->result = fail(r->error, FAIL_NOMEM, "%d layers", h->n_layers);
        return;
    }
    read_heads(r, h);
    if (r->result)
        return;
    struct layer_params global = { 0 }, local = { 0 };
    global.head_dim = read_int(r, "attention.key_length", h->width / h->layers[0].heads, 1, 65536);
    global.value_dim = read_int(r, "attention.value_length", global.head_dim, 1, 65536);
    local.head_dim = read_int(r, "attention.key_length_swa", global.head_dim, 1, 65536);
    local.value_dim = read_int(r, "attention.value_length_swa", global.value_dim, 1, 65536);
    int window = f->window_pattern ? read_int(r, "attention.sliding_window", 0, 0, INT32_MAX) : 0;
    read_ropes(r, h, p, &global, &local);
    for (int i = 0; i < h->n_layers && !r->result; i++) {
        struct layer_params *l = &h->layers[i];
        bool is_local = window && layer_is_local(r, h, i);
        const struct layer_params *kind = is_local ? &local : &global;
        l->window = is_local ? window : 0;
        l->rope =
            f->no_rope_pattern && (i + 1) % f->no_rope_pattern == 0 ? PROGRAM_NONE : kind->rope;
        l->head_dim = kind->head_dim;
        l->value_dim = kind->value_dim;
    }
    share_kv(r, h);
}

static void check_layers(struct reader *r, const struct hparams *h)
{
    if (h->experts && (h->experts_used < 1 || h->experts_used > h->experts))
        refuse(r, "expert_used_count", FAIL_FORMAT, "it is not within 1 to expert_count");
    if (h->experts && h->expert_ffn < 1)
        refuse(r, "expert_feed_forward_length", FAIL_FORMAT, "it is 0");
    for (int i = 0; i < h->n_layers && !r->result; i++)
        if (h->layers[i].kv_heads == 0 && h->conv_kernel < 2)
            refuse(r, "attention.head_count_kv", FAIL_FORMAT,
                   "a layer has neither KV heads nor a convolution");
}

int hparams_read(struct hparams *h, const struct gguf *g, struct program *p, struct error *e)
{
    struct bytes name;
    int result = gguf_get_text(g, "general.architecture", "", &name, e);
    if (result)
        return result;
    h->family = family_find(name);
    if (!h->family)
        return gguf_refuse(g, "general.architecture", e, FAIL_UNSUPPORTED,
                           "the model family \"%.*s\" is not supported", BYTES_ARG(name));
    struct reader r = { .g = g, .family = h->family->name, .error = e };
    h->n_layers = read_int(&r, "block_count", -1, 1, PROGRAM_MAX_LAYERS);
    h->width = read_int(&r, "embedding_length", -1, 1, 1 << 20);
    h->ffn = read_int(&r, "feed_forward_length", 0, 0, 1 << 24);
    h->context = read_int(&r, "context_length", 2048, 1, INT32_MAX);
    h->eps = (float)read_float(&r, "attention.layer_norm_rms_epsilon", 1e-5);
    h->experts = read_int(&r, "expert_count", 0, 0, 65536);
    h->experts_used = read_int(&r, "expert_used_count", 0, 0, 1024);
    h->expert_ffn = read_int(&r, "expert_feed_forward_length", h->ffn, 0, 1 << 24);
    h->route_normalize = true;
    h->logit_softcap = (float)read_float(&r, "final_logit_softcapping", 0.0);
    h->layer_input = read_int(&r, "embedding_length_per_layer_input", 0, 0, 65536);
    h->conv_kernel = read_int(&r, "shortconv.l_cache", 0, 0, 64);
    if (!r.result)
        read_layers(&r, h, p);
    check_layers(&r, h);
    const struct gguf_tensor *t = gguf_tensor(g, "token_embd.weight");
    if (!r.result && !t)
        r.result = gguf_refuse(g, "token_embd.weight", e, FAIL_NOT_FOUND,
                               "tensor token_embd.weight is missing");
    if (!r.result)
        h->vocab = (int)t->dims[1];
    return r.result;
}

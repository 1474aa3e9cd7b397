/* Shapes, keys and tensor names of synthetic models: see synth.h. The names and keys are those
 * that llama.cpp's converter gives each family (facts of the format). */
#include "tools/synth/internal.h"

#include "base/attributes.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* What sets one family's file apart from another's. */
struct family {
    const char *name, *arch;
    bool qkv_bias, qk_norm, post_norms, experts, short_conv;
    bool usually_tied;
    bool key_length_key; /* always written; else only when it isn't width / heads */
    bool vocab_size_key, rope_dimension_key;
    float rope_base;
};

static const struct family families[] = {
    { .name = "llama",
      .arch = "llama",
      .key_length_key = true,
      .vocab_size_key = true,
      .rope_dimension_key = true,
      .rope_base = 10000 },
    { .name = "mixtral",
      .arch = "llama",
      .experts = true,
      .key_length_key = true,
      .vocab_size_key = true,
      .rope_dimension_key = true,
      .rope_base = 10000 },
    { .name = "qwen2", .arch = "qwen2", .qkv_bias = true, .rope_base = 10000 },
    { .name = "qwen3",
      .arch = "qwen3",
      .qk_norm = true,
      .key_length_key = true,
      .rope_base = 10000 },
    { .name = "qwen3moe",
      .arch = "qwen3moe",
      .qk_norm = true,
      .experts = true,
      .key_length_key = true,
      .rope_base = 10000 },
    { .name = "gemma3",
      .arch = "gemma3",
      .qk_norm = true,
      .post_norms = true,
      .usually_tied = true,
      .key_length_key = true,
      .rope_base = 1e6f },
    { .name = "lfm2",
      .arch = "lfm2",
      .qk_norm = true,
      .short_conv = true,
      .usually_tied = true,
      .vocab_size_key = true,
      .rope_base = 10000 },
    { .name = "smollm3",
      .arch = "smollm3",
      .vocab_size_key = true,
      .rope_dimension_key = true,
      .rope_base = 10000 },
};

#define MAX_LAYERS 1000  /* the largest real model has 126 */
#define LAYER_TENSORS 24 /* most tensors of one layer in any family */
#define CONV_KERNEL 3    /* LFM2 */
#define GEMMA3_SWA_BASE 10000.0f

struct builder {
    const struct synth_spec *spec;
    const struct family *family;
    struct gguf_writer *w;
    struct synth_tensor *tensors;
    int n;
};

static const struct family *family_find(const char *name)
{
    for (size_t i = 0; name && i < ARRAY_LEN(families); i++)
        if (strcmp(families[i].name, name) == 0)
            return &families[i];
    return NULL;
}

static const struct {
    const char *name, *family;
    struct synth_spec spec;
} presets[] = {
    { "tiny",
      "llama",
      { .layers = 2,
        .width = 64,
        .heads = 4,
        .kv_heads = 2,
        .head_dim = 16,
        .ffn = 96,
        .vocab = 288,
        .context = 1024,
        .experts = 8,
        .experts_used = 2,
        .expert_ffn = 32,
        .window = 16 } },
    { "wide",
      "llama",
      { .layers = 8,
        .width = 512,
        .heads = 16,
        .kv_heads = 8,
        .head_dim = 32,
        .ffn = 768,
        .vocab = 2003,
        .context = 4096,
        .experts = 16,
        .experts_used = 4,
        .expert_ffn = 256,
        .window = 64 } },
    { "1b",
      "llama",
      { .layers = 16,
        .width = 2048,
        .heads = 32,
        .kv_heads = 8,
        .head_dim = 64,
        .ffn = 8192,
        .vocab = 128256,
        .context = 8192,
        .experts = 8,
        .experts_used = 2,
        .expert_ffn = 8192,
        .window = 512,
        .pooled = true,
        .tied = 1 } },
    /* Layers of Qwen3-30B-A3B with half of its experts. */
    { "moe",
      "qwen3moe",
      { .layers = 12,
        .width = 2048,
        .heads = 32,
        .kv_heads = 4,
        .head_dim = 128,
        .ffn = 6144,
        .vocab = 65536,
        .context = 8192,
        .experts = 64,
        .experts_used = 8,
        .expert_ffn = 768,
        .window = 512,
        .pooled = true,
        .tied = 1 } },
};

int synth_preset(struct synth_spec *ret, const char *preset, const char *family, struct error *e)
{
    for (size_t i = 0; i < ARRAY_LEN(presets); i++) {
        if (strcmp(presets[i].name, preset) != 0)
            continue;
        struct synth_spec s = presets[i].spec;
        const struct family *f = family_find(family ? family : presets[i].family);
        if (!f)
            return fail(e, FAIL_NOT_FOUND, "no family %s for synthetic models", family);
        s.family = f->name;
        if (!s.pooled)
            s.tied = -1;
        /* Mixtral's experts are whole FFNs, two of eight at a time. */
        if (strcmp(f->name, "mixtral") == 0) {
            s.experts = 8;
            s.experts_used = 2;
            s.expert_ffn = s.ffn;
        }
        *ret = s;
        return 0;
    }
    return fail(e, FAIL_NOT_FOUND, "no preset %s: tiny, wide, 1b and moe are known", preset);
}

int synth_set_type(struct synth_spec *spec, const char *name, struct error *e)
{
    bool mixture = strcasecmp(name, "Q4_K_M") == 0;
    enum quant_type type = mixture ? QUANT_Q4_K : quant_from_name(name);
    if (type == QUANT_COUNT || !quant_can_dequantize(type))
        return fail(e, FAIL_UNSUPPORTED, "no synthetic models of type %s", name);
    spec->type = type;
    spec->mixture = mixture;
    return 0;
}

enum quant_type synth_fallback(enum quant_type type, uint64_t row)
{
    static const enum quant_type next[QUANT_COUNT] = {
        [QUANT_Q2_K] = QUANT_IQ4_NL, [QUANT_Q3_K] = QUANT_IQ4_NL, [QUANT_Q4_K] = QUANT_Q5_0,
        [QUANT_Q5_K] = QUANT_Q5_1,   [QUANT_Q6_K] = QUANT_Q8_0,   [QUANT_IQ4_XS] = QUANT_IQ4_NL,
    };
    if (row % quant_format(type)->block && next[type])
        type = next[type];
    return row % quant_format(type)->block ? QUANT_F16 : type;
}

static struct synth_tensor *add(struct builder *b, int layer, const char *name)
{
    struct synth_tensor *t = &b->tensors[b->n++];
    *t = (struct synth_tensor){ .type = QUANT_F32, .n_dims = 1, .dims = { 1, 1, 1, 1 } };
    if (layer < 0)
        snprintf(t->name, sizeof(t->name), "%s", name);
    else
        snprintf(t->name, sizeof(t->name), "blk.%d.%s", layer, name);
    return t;
}

/* A norm's gains, about 1. */
static void add_norm(struct builder *b, int layer, const char *name, int n)
{
    struct synth_tensor *t = add(b, layer, name);
    t->dims[0] = (uint64_t)n;
    t->mean = 1;
    t->sigma = 0.1f;
}

static void add_bias(struct builder *b, int layer, const char *name, int n)
{
    struct synth_tensor *t = add(b, layer, name);
    t->dims[0] = (uint64_t)n;
    t->sigma = 0.2f;
}

/* A matrix (out, in) whose product with a vector of unit variance has variance gain^2. */
static struct synth_tensor *add_matrix(struct builder *b, int layer, const char *name, int in,
                                       int out)
{
    struct synth_tensor *t = add(b, layer, name);
    t->n_dims = 2;
    t->dims[0] = (uint64_t)in;
    t->dims[1] = (uint64_t)out;
    t->type = synth_fallback(b->spec->type, t->dims[0]);
    t->sigma = 1 / sqrtf((float)in);
    return t;
}

static void set_type(struct synth_tensor *t, enum quant_type type)
{
    t->type = synth_fallback(type, t->dims[0]);
}

/* The layers whose value and down projections Q4_K_M keeps in 6 bits: the first and last eighth
 * and every third between. */
static bool more_bits(int layer, int layers)
{
    return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

/* LFM2: which layers attend (the others convolve). For 8 layers: 2, 5 and 7. */
static bool layer_attends(const struct builder *b, int layer)
{
    return !b->family->short_conv || layer % 3 == 2 || (layer == 7 && b->spec->layers == 8);
}

static void add_attention(struct builder *b, int layer)
{
    const struct synth_spec *s = b->spec;
    int q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    bool bias = b->family->qkv_bias || s->bias;
    add_matrix(b, layer, "attn_q.weight", s->width, q);
    struct synth_tensor *k = add_matrix(b, layer, "attn_k.weight", s->width, kv);
    struct synth_tensor *v = add_matrix(b, layer, "attn_v.weight", s->width, kv);
    if (s->mixture && more_bits(layer, s->layers))
        set_type(v, QUANT_Q6_K);
    if (s->mixture && b->family->experts && s->experts == 8) {
        set_type(k, QUANT_Q8_0);
        set_type(v, QUANT_Q8_0);
    }
    add_matrix(b, layer, "attn_output.weight", q, s->width);
    if (bias) {
        add_bias(b, layer, "attn_q.bias", q);
        add_bias(b, layer, "attn_k.bias", kv);
        add_bias(b, layer, "attn_v.bias", kv);
    }
    if (s->bias)
        add_bias(b, layer, "attn_output.bias", s->width);
    if (b->family->qk_norm) {
        add_norm(b, layer, "attn_q_norm.weight", s->head_dim);
        add_norm(b, layer, "attn_k_norm.weight", s->head_dim);
    }
}

static void add_short_conv(struct builder *b, int layer)
{
    int width = b->spec->width;
    struct synth_tensor *t = add_matrix(b, layer, "shortconv.conv.weight", CONV_KERNEL, width);
    t->type = QUANT_F32;
    add_matrix(b, layer, "shortconv.in_proj.weight", width, 3 * width);
    add_matrix(b, layer, "shortconv.out_proj.weight", width, width);
}

static void add_experts(struct builder *b, int layer)
{
    static const char *const names[] = { "ffn_gate_exps.weight", "ffn_up_exps.weight",
                                         "ffn_down_exps.weight" };
    const struct synth_spec *s = b->spec;
    add_matrix(b, layer, "ffn_gate_inp.weight", s->width, s->experts)->type = QUANT_F32;
    for (int i = 0; i < 3; i++) {
        struct synth_tensor *t = add_matrix(b, layer, names[i], i < 2 ? s->width : s->expert_ffn,
                                            i < 2 ? s->expert_ffn : s->width);
        t->n_dims = 3;
        t->dims[2] = (uint64_t)s->experts;
        if (i == 2 && s->mixture && more_bits(layer, s->layers))
            set_type(t, QUANT_Q6_K);
    }
}

static void add_ffn(struct builder *b, int layer)
{
    const struct synth_spec *s = b->spec;
    add_matrix(b, layer, "ffn_gate.weight", s->width, s->ffn);
    add_matrix(b, layer, "ffn_up.weight", s->width, s->ffn);
    struct synth_tensor *down = add_matrix(b, layer, "ffn_down.weight", s->ffn, s->width);
    if (s->mixture && more_bits(layer, s->layers))
        set_type(down, QUANT_Q6_K);
    if (s->bias) {
        add_bias(b, layer, "ffn_gate.bias", s->ffn);
        add_bias(b, layer, "ffn_up.bias", s->ffn);
        add_bias(b, layer, "ffn_down.bias", s->width);
    }
}

static void add_tensors(struct builder *b, bool tied)
{
    const struct synth_spec *s = b->spec;
    float logit_std = s->logit_std > 0 ? s->logit_std : 2;
    /* The 4 to 6 bit types keep the matrix of the logits in 6 bits, as llama.cpp does. */
    bool small = quant_format(s->type)->bytes * 8 < quant_format(s->type)->block * 8;
    enum quant_type head = small && !s->pure ? QUANT_Q6_K : s->type;
    struct synth_tensor *embed = add_matrix(b, -1, "token_embd.weight", s->width, s->vocab);
    struct synth_tensor *out = embed;
    if (!tied) {
        out = add_matrix(b, -1, "output.weight", s->width, s->vocab);
        embed->sigma = 0.5f;
    }
    set_type(out, head);
    out->sigma *= logit_std;
    for (int i = 0; i < s->layers; i++) {
        add_norm(b, i, "attn_norm.weight", s->width);
        if (layer_attends(b, i))
            add_attention(b, i);
        else
            add_short_conv(b, i);
        if (b->family->post_norms)
            add_norm(b, i, "post_attention_norm.weight", s->width);
        add_norm(b, i, "ffn_norm.weight", s->width);
        if (b->family->experts)
            add_experts(b, i);
        else
            add_ffn(b, i);
        if (b->family->post_norms)
            add_norm(b, i, "post_ffw_norm.weight", s->width);
    }
    add_norm(b, -1, b->family->short_conv ? "token_embd_norm.weight" : "output_norm.weight",
             s->width);
}

/* "arch.rest". Borrowed until the next call with the same text. */
static const char *arch_key(const struct builder *b, char text[static 96], const char *rest)
{
    snprintf(text, 96, "%s.%s", b->family->arch, rest);
    return text;
}

static void put_u32(struct builder *b, const char *rest, int value)
{
    char key[96];
    gguf_writer_u32(b->w, arch_key(b, key, rest), (uint32_t)value);
}

static void put_f32(struct builder *b, const char *rest, float value)
{
    char key[96];
    gguf_writer_f32(b->w, arch_key(b, key, rest), value);
}

static void put_kv_heads(struct builder *b)
{
    char key[96];
    int32_t heads[MAX_LAYERS];
    if (!b->family->short_conv) {
        put_u32(b, "attention.head_count_kv", b->spec->kv_heads);
        return;
    }
    for (int i = 0; i < b->spec->layers; i++)
        heads[i] = layer_attends(b, i) ? b->spec->kv_heads : 0;
    gguf_writer_i32_array(b->w, arch_key(b, key, "attention.head_count_kv"), heads,
                          (size_t)b->spec->layers);
}

static int file_type(const struct synth_spec *s)
{
    /* llama.cpp's numbers of whole-file types (facts). */
    static const int numbers[QUANT_COUNT] = {
        [QUANT_F16] = 1,   [QUANT_Q4_0] = 2,    [QUANT_Q4_1] = 3,   [QUANT_Q8_0] = 7,
        [QUANT_Q5_0] = 8,  [QUANT_Q5_1] = 9,    [QUANT_Q2_K] = 10,  [QUANT_Q3_K] = 12,
        [QUANT_Q4_K] = 14, [QUANT_Q5_K] = 16,   [QUANT_Q6_K] = 18,  [QUANT_IQ4_NL] = 25,
        [QUANT_BF16] = 32, [QUANT_IQ4_XS] = 30, [QUANT_MXFP4] = 38,
    };
    return s->mixture ? 15 : numbers[s->type];
}

static void put_keys(struct builder *b)
{
    const struct synth_spec *s = b->spec;
    const struct family *f = b->family;
    char name[96];
    snprintf(name, sizeof(name), "synthetic %s %dx%d seed %" PRIu64, f->name, s->layers, s->width,
             s->seed);
    gguf_writer_text(b->w, "general.architecture", bytes_text(f->arch));
    gguf_writer_text(b->w, "general.type", bytes_text("model"));
    gguf_writer_text(b->w, "general.name", bytes_text(name));
    put_u32(b, "block_count", s->layers);
    put_u32(b, "context_length", s->context);
    put_u32(b, "embedding_length", s->width);
    put_u32(b, "feed_forward_length", f->experts && !f->qk_norm ? s->expert_ffn : s->ffn);
    put_u32(b, "attention.head_count", s->heads);
    put_kv_heads(b);
    put_f32(b, "rope.freq_base", f->rope_base);
    put_f32(b, "attention.layer_norm_rms_epsilon", 1e-5f);
    if (f->experts) {
        put_u32(b, "expert_count", s->experts);
        put_u32(b, "expert_used_count", s->experts_used);
        if (f->qk_norm)
            put_u32(b, "expert_feed_forward_length", s->expert_ffn);
    }
    if (f->key_length_key || s->head_dim * s->heads != s->width) {
        put_u32(b, "attention.key_length", s->head_dim);
        put_u32(b, "attention.value_length", s->head_dim);
    }
    if (f->vocab_size_key)
        put_u32(b, "vocab_size", s->vocab);
    if (f->rope_dimension_key)
        put_u32(b, "rope.dimension_count", s->head_dim);
    if (f->post_norms) {
        put_f32(b, "rope.freq_base_swa", GEMMA3_SWA_BASE);
        put_u32(b, "attention.sliding_window", s->window);
    }
    if (f->short_conv)
        put_u32(b, "shortconv.l_cache", CONV_KERNEL);
    gguf_writer_u32(b->w, "general.file_type", (uint32_t)file_type(s));
    gguf_writer_u32(b->w, "general.quantization_version", 2);
}

static int check(const struct synth_spec *s, const struct family *f, struct error *e)
{
    const struct {
        const char *name;
        int value, lo, hi;
    } ranges[] = {
        { "layers", s->layers, 1, MAX_LAYERS },
        { "width", s->width, 1, 1 << 20 },
        { "heads", s->heads, 1, 65536 },
        { "KV heads", s->kv_heads, 1, s->heads },
        { "head size", s->head_dim, 2, 65536 },
        { "FFN width", s->ffn, 1, 1 << 24 },
        { "vocabulary", s->vocab, SYNTH_MIN_VOCAB, 1 << 24 },
        { "context", s->context, 1, 1 << 30 },
        { "experts", f->experts ? s->experts : 1, 1, 65536 },
        { "experts used", f->experts ? s->experts_used : 1, 1, f->experts ? s->experts : 1 },
        { "expert FFN width", f->experts ? s->expert_ffn : 1, 1, 1 << 24 },
        { "window", f->post_norms ? s->window : 1, 1, 1 << 30 },
    };
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
        if (ranges[i].value < ranges[i].lo || ranges[i].value > ranges[i].hi)
            return fail(e, FAIL_ARG, "%s of %d: %d to %d make a model", ranges[i].name,
                        ranges[i].value, ranges[i].lo, ranges[i].hi);
    if (s->heads % s->kv_heads || s->head_dim % 2)
        return fail(e, FAIL_ARG, "%d heads of size %d in %d KV groups", s->heads, s->head_dim,
                    s->kv_heads);
    if (s->bias && strcmp(f->name, "llama") != 0)
        return fail(e, FAIL_ARG, "biases on every product are only for llama, not for %s", f->name);
    return 0;
}

int synth_write(struct gguf_writer *w, const struct synth_spec *spec, struct error *e)
{
    const struct family *f = family_find(spec->family);
    if (!f)
        return fail(e, FAIL_NOT_FOUND, "no family %s for synthetic models",
                    spec->family ? spec->family : "(none)");
    int r = check(spec, f, e);
    if (r)
        return r;
    size_t most = (size_t)spec->layers * LAYER_TENSORS + 3;
    struct builder b = {
        .spec = spec, .family = f, .w = w, .tensors = calloc(most, sizeof(struct synth_tensor))
    };
    if (!b.tensors)
        return fail(e, FAIL_NOMEM, "%zu tensors", most);
    put_keys(&b);
    r = synth_vocab_write(w, spec->vocab, e);
    add_tensors(&b, spec->tied < 0 ? f->usually_tied : spec->tied != 0);
    for (int i = 0; i < b.n && !r; i++)
        r = gguf_writer_tensor(w, b.tensors[i].name, b.tensors[i].type, b.tensors[i].n_dims,
                               b.tensors[i].dims, e);
    if (!r)
        r = synth_fill(w, b.tensors, b.n, spec, e);
    free(b.tensors);
    return r ? r : gguf_writer_finish(w, e);
}

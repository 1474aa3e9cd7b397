/* See decoder.h. */
#include "model/decoder.h"

#include "model/rope.h"

#include <math.h>
#include <stdio.h>

/* Limits far above real models. */
#define MAX_HEADS 65536
#define MAX_HEAD_DIM 65536
#define MAX_WIDTH (1 << 20)
#define MAX_FFN (1 << 24)
/* Positions of a model that does not say how many it was made for: the first llama's. */
#define CONTEXT_MISSING 2048

const struct gguf_tensor *layer_tensor(const struct reading *r, int layer, const char *name)
{
    char full[128];
    snprintf(full, sizeof(full), "blk.%d.%s", layer, name);
    return gguf_tensor(r->keys.g, full);
}

struct norm_recipe rms_norm(const struct reading *r, const char *tensor)
{
    return (struct norm_recipe){ NORM_RMS, tensor, r->recipe->eps };
}

static void read_sizes(struct reading *r)
{
    struct keys *k = &r->keys;
    struct recipe *m = r->recipe;
    const struct gguf_tensor *t = gguf_tensor(k->g, "token_embd.weight");
    m->n_layers = key_int(k, "block_count", KEY_REQUIRED, 1, PROGRAM_MAX_LAYERS);
    m->width = key_int(k, "embedding_length", KEY_REQUIRED, 1, MAX_WIDTH);
    m->context = key_int(k, "context_length", CONTEXT_MISSING, 1, INT32_MAX);
    if (!key_find(k, "context_length"))
        key_note(k, "key %s.context_length is missing: %d tokens stand in", k->family,
                 CONTEXT_MISSING);
    m->eps = (float)key_float_published(k, "attention.layer_norm_rms_epsilon", r->family->eps);
    int out = key_int(k, "embedding_length_out", m->width, 0, MAX_WIDTH);
    if (reading_ok(r) && out && out != m->width)
        key_refuse(k, "embedding_length_out", FAIL_UNSUPPORTED,
                   "an output of another width is not supported yet");
    m->embedding_scale = 1;
    if (reading_ok(r) && !t)
        k->result = gguf_refuse(k->g, "token_embd.weight", k->error, FAIL_NOT_FOUND,
                                "tensor token_embd.weight is missing");
    if (reading_ok(r) && (t->dims[1] < 1 || t->dims[1] > INT32_MAX))
        k->result = gguf_refuse(k->g, "token_embd.weight", k->error, FAIL_FORMAT,
                                "tensor token_embd.weight has no row for each token");
    if (!reading_ok(r))
        return;
    m->vocab = (int)t->dims[1];
    m->layers = arena_array(r->arena, struct layer_recipe, m->n_layers);
    if (!m->layers)
        k->result = fail(k->error, FAIL_NOMEM, "%d layers", m->n_layers);
}

/* Heads of every layer, and the most of any: what a head's width follows from when it isn't said.
 * Layers without KV heads may leave their other count at 0. */
static int read_heads(struct reading *r, const struct decoder_traits *t, int *heads, int *kv)
{
    struct keys *k = &r->keys;
    int n = r->recipe->n_layers, most = 0;
    key_layers(k, "attention.head_count", KEY_REQUIRED, MAX_HEADS, n, heads);
    for (int i = 0; i < n; i++)
        most = heads[i] > most ? heads[i] : most;
    if (reading_ok(r) && most < 1)
        key_refuse(k, "attention.head_count", FAIL_FORMAT, "no layer has heads");
    key_layers(k, "attention.head_count_kv", most, MAX_HEADS, n, kv);
    for (int i = 0; i < n && reading_ok(r); i++) {
        if (kv[i] == 0 && !t->other_mixers)
            key_refuse(k, "attention.head_count_kv", FAIL_FORMAT, "layer %d has no KV heads", i);
        else if (kv[i] && (heads[i] < 1 || heads[i] % kv[i]))
            key_refuse(k, "attention.head_count", FAIL_FORMAT,
                       "in layer %d it is not a multiple of attention.head_count_kv", i);
    }
    return most;
}

static struct attention_recipe attention(int heads, int kv_heads)
{
    return (struct attention_recipe){ .heads = heads,
                                      .kv_heads = kv_heads,
                                      .q = "attn_q",
                                      .k = "attn_k",
                                      .v = "attn_v",
                                      .out = "attn_output" };
}

static float head_scale(double head_dim)
{
    return (float)(1.0 / sqrt(head_dim));
}

static void read_attention(struct reading *r, const struct decoder_traits *t)
{
    struct keys *k = &r->keys;
    struct recipe *m = r->recipe;
    int *heads = arena_array(r->arena, int, m->n_layers);
    int *kv = arena_array(r->arena, int, m->n_layers);
    if (!heads || !kv) {
        k->result = fail(k->error, FAIL_NOMEM, "%d layers", m->n_layers);
        return;
    }
    int most = read_heads(r, t, heads, kv);
    if (!reading_ok(r))
        return;
    int head_dim = key_int(k, "attention.key_length", m->width / most, 1, MAX_HEAD_DIM);
    int value_dim = key_int(k, "attention.value_length", head_dim, 1, MAX_HEAD_DIM);
    int rope = read_rope(r, head_dim, t->rope_interleaved);
    for (int i = 0; i < m->n_layers && reading_ok(r); i++) {
        struct attention_recipe *a = &m->layers[i].mixer.attention;
        if (kv[i] == 0)
            continue;
        m->layers[i].mixer.kind = MIXER_ATTENTION;
        *a = attention(heads[i], kv[i]);
        a->head_dim = head_dim;
        a->value_dim = value_dim;
        a->rope = rope;
        a->scale = head_scale((double)head_dim);
        a->kv_layer = i;
    }
}

static void read_ffn(struct reading *r, enum activation_kind act)
{
    struct keys *k = &r->keys;
    struct recipe *m = r->recipe;
    int *widths = arena_array(r->arena, int, m->n_layers);
    if (!widths) {
        k->result = fail(k->error, FAIL_NOMEM, "%d layers", m->n_layers);
        return;
    }
    key_layers(k, "feed_forward_length", 0, MAX_FFN, m->n_layers, widths);
    for (int i = 0; i < m->n_layers && reading_ok(r); i++) {
        m->layers[i].ffn.kind = FFN_GATED;
        m->layers[i].ffn.gated =
            (struct gated_recipe){ widths[i], act, "ffn_gate", "ffn_up", "ffn_down" };
    }
}

void read_decoder(struct reading *r, const struct decoder_traits *t)
{
    struct recipe *m = r->recipe;
    read_sizes(r);
    if (!reading_ok(r))
        return;
    read_attention(r, t);
    read_ffn(r, t->act);
    for (int i = 0; i < m->n_layers && reading_ok(r); i++) {
        if (m->layers[i].ffn.gated.width < 1 && layer_tensor(r, i, "ffn_gate.weight"))
            key_refuse(&r->keys, "feed_forward_length", FAIL_FORMAT, "layer %d has none", i);
        m->layers[i].before_mixer = rms_norm(r, "attn_norm.weight");
        m->layers[i].before_ffn = rms_norm(r, "ffn_norm.weight");
    }
    m->output_norm = rms_norm(r, "output_norm.weight");
}

void read_qk_norms(struct reading *r)
{
    for (int i = 0; i < r->recipe->n_layers && reading_ok(r); i++) {
        struct mixer_recipe *mixer = &r->recipe->layers[i].mixer;
        if (mixer->kind != MIXER_ATTENTION)
            continue;
        mixer->attention.q_norm = rms_norm(r, "attn_q_norm.weight");
        mixer->attention.k_norm = rms_norm(r, "attn_k_norm.weight");
    }
}

void read_post_norms(struct reading *r)
{
    for (int i = 0; i < r->recipe->n_layers && reading_ok(r); i++) {
        r->recipe->layers[i].after_mixer = rms_norm(r, "post_attention_norm.weight");
        r->recipe->layers[i].after_ffn = rms_norm(r, "post_ffw_norm.weight");
    }
}

/* Which layers see only a window: a flag for each layer, or a number n: the last of each n sees
 * everything (0: none does). */
static void read_pattern(struct reading *r, int period, bool required, int *local)
{
    static const char suffix[] = "attention.sliding_window_pattern";
    struct keys *k = &r->keys;
    int n = r->recipe->n_layers;
    const struct gguf_value *v = key_find(k, suffix);
    if (v && v->type == GGUF_ARRAY) {
        key_layers(k, suffix, 0, 1, n, local);
        return;
    }
    period = key_int(k, suffix, required ? KEY_REQUIRED : period, 0, INT32_MAX);
    for (int i = 0; i < n; i++)
        local[i] = period == 0 || i % period < period - 1;
}

void read_windows(struct reading *r, int period, bool required)
{
    struct keys *k = &r->keys;
    struct recipe *m = r->recipe;
    int window = key_int(k, "attention.sliding_window", required ? KEY_REQUIRED : 0,
                         required ? 1 : 0, INT32_MAX);
    int *local = reading_ok(r) ? arena_array(r->arena, int, m->n_layers) : NULL;
    /* Relatives of Gemma 3 without windows say so by leaving the key out. */
    if (period && !key_find(k, "attention.sliding_window"))
        key_note(k, "key %s.attention.sliding_window is missing: every layer sees everything",
                 k->family);
    if (!window || !local)
        return;
    for (int i = 0; i < m->n_layers; i++)
        local[i] = 1;
    if (period)
        read_pattern(r, period, required, local);
    int head_dim = 0, value_dim = 0, rope = PROGRAM_NONE;
    for (int i = 0; i < m->n_layers && reading_ok(r); i++) {
        struct attention_recipe *a = &m->layers[i].mixer.attention;
        if (m->layers[i].mixer.kind != MIXER_ATTENTION || !local[i])
            continue;
        if (!head_dim) {
            head_dim = key_int(k, "attention.key_length_swa", a->head_dim, 1, MAX_HEAD_DIM);
            value_dim = key_int(k, "attention.value_length_swa", a->value_dim, 1, MAX_HEAD_DIM);
            rope = r->family->window_rope_base > 0
                       ? read_window_rope(r, a->rope, a->head_dim, head_dim)
                       : a->rope;
        }
        a->window = window;
        a->rope = rope;
        a->scale = head_dim != a->head_dim ? head_scale((double)head_dim) : a->scale;
        a->head_dim = head_dim;
        a->value_dim = value_dim;
    }
}

void read_experts(struct reading *r, enum expert_width width)
{
    struct keys *k = &r->keys;
    struct recipe *m = r->recipe;
    int *used = reading_ok(r) ? arena_array(r->arena, int, m->n_layers) : NULL;
    int *own = reading_ok(r) ? arena_array(r->arena, int, m->n_layers) : NULL;
    bool must = width == EXPERT_WIDTH_OWN;
    int count = key_int(k, "expert_count", must ? KEY_REQUIRED : 0, must ? 1 : 0, MAX_HEADS);
    if (!used || !own || !count)
        return;
    key_layers(k, "expert_used_count", KEY_REQUIRED, 1024, m->n_layers, used);
    if (must)
        key_layers(k, "expert_feed_forward_length", 0, MAX_FFN, m->n_layers, own);
    for (int i = 0; i < m->n_layers && reading_ok(r); i++) {
        struct gated_recipe dense = m->layers[i].ffn.gated;
        if (used[i] < 1 || used[i] > count)
            key_refuse(k, "expert_used_count", FAIL_FORMAT, "in layer %d it is not within 1 to %d",
                       i, count);
        if (layer_tensor(r, i, "ffn_gate.weight"))
            continue;
        /* Left out, the FFN's whole width is meant, or where a family has a key for it, the width
         * that the chosen ones share. */
        int each = own[i] ? own[i] : must ? dense.width / used[i] : dense.width;
        m->layers[i].ffn.kind = FFN_EXPERTS;
        m->layers[i].ffn.experts = (struct experts_recipe){ .count = count,
                                                            .used = used[i],
                                                            .width = each,
                                                            .act = dense.act,
                                                            .normalize = true,
                                                            .router = "ffn_gate_inp",
                                                            .gate = "ffn_gate_exps",
                                                            .up = "ffn_up_exps",
                                                            .out = "ffn_down_exps" };
    }
}

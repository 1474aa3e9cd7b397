/* Parameters and memory of a model: see summary.h. */
#include "model/summary.h"

#include "base/attributes.h"
#include "base/buffer.h"
#include "model/model.h"

#include <inttypes.h>
#include <stdio.h>

/* Limits on what keys may say, far above real models, so that products stay in 64 bits. */
#define MAX_LAYERS 65536
#define MAX_HEADS 65536
#define MAX_HEAD_SIZE (1 << 20)
#define MAX_SIZE INT32_MAX

/* Families that make no program yet and whose sliding layers follow a period that the file doesn't
 * name: every period-th layer sees everything. Source: the families' reference implementations. */
static const struct {
    const char *architecture;
    int64_t period;
} known_periods[] = {
    { "gemma2", 2 },  { "gemma3n", 5 }, { "gpt-oss", 2 },
    { "cohere2", 4 }, { "olmo2", 4 },   { "exaone4", 4 },
};

/* Reads keys of one architecture. */
struct reader {
    const struct gguf *g;
    char architecture[64];
    struct error *e;
    int r; /* the first failure */
};

static const struct gguf_value *find(const struct reader *k, const char *rest, char key[static 160])
{
    snprintf(key, 160, "%s.%s", k->architecture, rest);
    return gguf_find(k->g, key);
}

/* An integer key, or element `layer` of an array key. */
static int64_t number(struct reader *k, const char *rest, int64_t layer, int64_t missing,
                      int64_t most)
{
    char key[160];
    const struct gguf_value *v = find(k, rest, key);
    int64_t n = missing;
    if (k->r || !v)
        return missing;
    if (v->type == GGUF_ARRAY && gguf_type_is_int(v->element)) {
        if ((uint64_t)layer >= v->count) {
            k->r = gguf_refuse(k->g, key, k->e, FAIL_FORMAT,
                               "key %s has %" PRIu64 " elements, none for layer %" PRId64, key,
                               v->count, layer);
            return missing;
        }
        n = gguf_array_int(v, (uint64_t)layer);
    } else {
        k->r = gguf_get_int(k->g, key, missing, &n, k->e);
    }
    if (!k->r && (n < 0 || n > most))
        k->r = gguf_refuse(k->g, key, k->e, FAIL_FORMAT,
                           "key %s is %" PRId64 ", not in 0 to %" PRId64, key, n, most);
    return k->r ? missing : n;
}

static uint64_t product(uint64_t a, uint64_t b)
{
    uint64_t n;
    return size_mul_overflow(a, b, &n) ? UINT64_MAX : n;
}

static uint64_t sum(uint64_t a, uint64_t b)
{
    uint64_t n;
    return size_add_overflow(a, b, &n) ? UINT64_MAX : n;
}

/* True for layers that only see a window of positions. */
static bool layer_slides(struct reader *k, int64_t layer)
{
    char key[160];
    const struct gguf_value *v = find(k, "attention.sliding_window_pattern", key);
    int64_t period = 0;
    if (v && v->type == GGUF_ARRAY)
        return number(k, "attention.sliding_window_pattern", layer, 0, 1) != 0;
    for (size_t i = 0; i < ARRAY_LEN(known_periods); i++)
        if (strcmp(known_periods[i].architecture, k->architecture) == 0)
            period = known_periods[i].period;
    period = number(k, "attention.sliding_window_pattern", 0, period, MAX_LAYERS);
    return period > 0 && layer % period < period - 1;
}

/* Bytes a sequence of a layer that keeps a state instead of a KV cache: a short convolution's
 * window, or a state space with its convolution; f32. 0 when the keys name neither. */
static uint64_t layer_state(struct reader *k, int64_t width)
{
    uint64_t short_conv = (uint64_t)number(k, "shortconv.l_cache", 0, 0, MAX_SIZE);
    if (short_conv)
        return product((short_conv - 1) * sizeof(float), (uint64_t)width);
    uint64_t inner = (uint64_t)number(k, "ssm.inner_size", 0, 0, MAX_SIZE);
    uint64_t size = (uint64_t)number(k, "ssm.state_size", 0, 0, MAX_HEADS);
    uint64_t conv = (uint64_t)number(k, "ssm.conv_kernel", 0, 1, MAX_HEADS);
    uint64_t groups = (uint64_t)number(k, "ssm.group_count", 0, 0, MAX_HEADS);
    uint64_t window = product(conv ? conv - 1 : 0, inner + 2 * groups * size);
    return product(sum(product(inner, size), window), sizeof(float));
}

static void add_layer(struct reader *k, struct model_summary *s, int64_t layer)
{
    int64_t heads = number(k, "attention.head_count", layer, 0, MAX_HEADS);
    int64_t kv_heads = number(k, "attention.head_count_kv", layer, heads, MAX_HEADS);
    int64_t size = heads > 0 ? s->width / heads : 0;
    int64_t key = number(k, "attention.key_length", layer, size, MAX_HEAD_SIZE);
    int64_t value = number(k, "attention.value_length", layer, size, MAX_HEAD_SIZE);
    int64_t latent = number(k, "attention.kv_lora_rank", 0, 0, MAX_HEAD_SIZE);
    int64_t rope = number(k, "rope.dimension_count", 0, 0, MAX_HEAD_SIZE);
    int64_t shared = number(k, "attention.shared_kv_layers", 0, 0, MAX_LAYERS);
    uint64_t state = layer_state(k, s->width);
    if (kv_heads == 0) {
        s->stateful_layers += state > 0;
        s->state = sum(s->state, state);
        return;
    }
    if (layer >= s->layers - shared)
        return; /* reads an earlier layer's KV cache */
    bool slides = s->window > 0 && layer_slides(k, layer);
    if (slides) {
        key = number(k, "attention.key_length_swa", layer, key, MAX_HEAD_SIZE);
        value = number(k, "attention.value_length_swa", layer, value, MAX_HEAD_SIZE);
    }
    uint64_t numbers =
        latent ? (uint64_t)(latent + rope) : (uint64_t)kv_heads * ((uint64_t)key + (uint64_t)value);
    s->latent = latent > 0;
    *(slides ? &s->sliding_layers : &s->full_layers) += 1;
    uint64_t *kv = slides ? &s->sliding_kv : &s->full_kv;
    *kv = sum(*kv, product(numbers, SUMMARY_KV_BYTES));
}

static void add_tensors(const struct gguf *g, struct model_summary *s)
{
    for (int i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        struct model_type_total *total = &s->types[t->type];
        total->tensors++;
        total->elements += t->elements;
        total->bytes += t->bytes;
        s->parameters += t->elements;
        s->tensor_bytes += t->bytes;
    }
}

/* The vocabulary: by the tokens that stand in the file, else by its key. */
static int64_t vocabulary(struct reader *k)
{
    const struct gguf_value *v = gguf_find(k->g, "tokenizer.ggml.tokens");
    if (v && v->type == GGUF_ARRAY)
        return (int64_t)v->count;
    return number(k, "vocab_size", 0, 0, MAX_SIZE);
}

/* What the states of the model's program keep; false when it makes none, and why. */
static bool add_program(const struct gguf *g, struct model_summary *s)
{
    struct arena arena = { 0 };
    struct error why = { 0 };
    struct buffer notes;
    struct program *p;
    buffer_init(&notes, sizeof(s->notes));
    const struct model_options options = { .notes = &notes };
    bool built = s->layers > 0 && model_build(g, &options, &arena, &p, &why) == 0;
    snprintf(s->refused, sizeof(s->refused), "%s", built ? "" : why.text);
    snprintf(s->notes, sizeof(s->notes), "%s", buffer_cstr(&notes));
    buffer_done(&notes);
    for (int i = 0; built && i < p->n_states; i++) {
        const struct state *state = &p->states[i];
        uint64_t token = state_token_numbers(state);
        uint64_t fixed = state_fixed_numbers(state);
        bool slides = state->window > 0;
        s->stateful_layers += fixed > 0;
        s->state = sum(s->state, product(fixed, sizeof(float)));
        if (!token)
            continue;
        *(slides ? &s->sliding_layers : &s->full_layers) += 1;
        uint64_t *kv = slides ? &s->sliding_kv : &s->full_kv;
        *kv = sum(*kv, product(token, SUMMARY_KV_BYTES));
    }
    arena_done(&arena);
    return built;
}

int model_summarize(const struct gguf *g, struct model_summary *ret, struct error *e)
{
    struct model_summary s = { 0 };
    struct reader k = { .g = g, .e = e };
    int r = gguf_get_text(g, "general.architecture", "", &s.architecture, e);
    r = r ? r : gguf_get_text(g, "general.name", "", &s.name, e);
    if (r)
        return r;
    if (s.architecture.size >= sizeof(k.architecture))
        return gguf_refuse(g, "general.architecture", e, FAIL_FORMAT,
                           "key general.architecture: a name of %zu bytes", s.architecture.size);
    if (s.architecture.size)
        memcpy(k.architecture, s.architecture.data, s.architecture.size);
    add_tensors(g, &s);
    s.layers = number(&k, "block_count", 0, 0, MAX_LAYERS);
    s.width = number(&k, "embedding_length", 0, 0, MAX_SIZE);
    s.heads = number(&k, "attention.head_count", 0, 0, MAX_HEADS);
    s.ffn = number(&k, "feed_forward_length", 0, 0, MAX_SIZE);
    s.context = number(&k, "context_length", 0, 0, MAX_SIZE);
    s.experts = number(&k, "expert_count", 0, 0, MAX_SIZE);
    s.experts_used = number(&k, "expert_used_count", 0, 0, MAX_SIZE);
    s.window = number(&k, "attention.sliding_window", 0, 0, MAX_SIZE);
    s.vocab = vocabulary(&k);
    if (!k.r && !add_program(g, &s))
        for (int64_t i = 0; i < s.layers && !k.r; i++)
            add_layer(&k, &s, i);
    if (k.r)
        return k.r;
    if (!s.sliding_layers)
        s.window = 0;
    *ret = s;
    return 0;
}

uint64_t model_summary_kv(const struct model_summary *s, int64_t context)
{
    int64_t seen = s->window && s->window < context ? s->window : context;
    uint64_t full = product(s->full_kv, (uint64_t)context);
    return sum(sum(full, product(s->sliding_kv, (uint64_t)seen)), s->state);
}

struct model_memory model_summary_memory(const struct model_summary *s, int64_t context)
{
    /* A row's residual, its norm, its queries, keys, values and the attention's result are about
     * six widths; the FFN keeps gate and up; then one row of logits. */
    uint64_t row = sum(product((uint64_t)s->width, 6), product((uint64_t)s->ffn, 2));
    uint64_t buffers = product(row, SUMMARY_CHUNK * sizeof(float));
    struct model_memory m = {
        .context = context,
        .weights = s->tensor_bytes,
        .kv = model_summary_kv(s, context),
        .buffers = sum(buffers, product((uint64_t)s->vocab, sizeof(float))),
    };
    m.total = sum(sum(m.weights, m.kv), m.buffers);
    return m;
}

/* Synthetic models: random weights in the shape, keys and tensor names of a real family, so that
 * splits, kernels and the API can be tried on any size without a download. Deterministic: the
 * same spec and seed give the same bytes on every machine. */
#ifndef SHOAL_TOOLS_SYNTH_H
#define SHOAL_TOOLS_SYNTH_H

#include "base/error.h"
#include "gguf/writer.h"
#include "quant/quants.h"

#include <stdbool.h>
#include <stdint.h>

/* Fewer tokens than the bytes and the special tokens is no vocabulary. */
#define SYNTH_MIN_VOCAB 261

struct synth_spec {
    const char *family; /* llama mixtral qwen2 qwen3 qwen3moe gemma3 lfm2 smollm3 */
    int layers, width, heads, kv_heads, head_dim, ffn, vocab, context;
    int experts, experts_used, expert_ffn; /* families with experts */
    int window;                            /* gemma3: positions a sliding layer sees */
    int tied;                              /* 1, 0, or -1: as the family usually is */
    bool bias;                             /* llama: biases on every product, as llama-bias */
    enum quant_type type;                  /* of the matrices */
    bool mixture; /* Q4_K_M: type is Q4_K, attn_v and ffn_down partly Q6_K */
    bool pure;    /* the output matrix too is of `type`; else Q6_K where type is below 8 bits */
    bool pooled;  /* matrices repeat a pool of quantized pieces: gigabytes in seconds */
    uint64_t seed;
    float logit_std; /* about the logits' standard deviation; 0 means 2 */
};

/* Presets: "tiny" (2 layers, width 64), "wide" (8 layers, width 512, for splits), "1b" (1.2 B
 * llama) and "moe" (qwen3moe of 4 B, of which a token uses 0.8 B). Fields that the caller sets
 * afterwards win. family may be NULL for the preset's own. FAIL_NOT_FOUND for an unknown preset or
 * family. */
int synth_preset(struct synth_spec *ret, const char *preset, const char *family, struct error *e);

/* Sets type, mixture from a name such as "Q4_0" or "Q4_K_M". FAIL_UNSUPPORTED. */
int synth_set_type(struct synth_spec *spec, const char *name, struct error *e);

/* The type that llama.cpp's quantizer takes instead where rows of `row` weights are not whole
 * blocks of `type`: Q4_K falls to Q5_0, Q6_K to Q8_0, and so on; F16 when nothing fits. */
enum quant_type synth_fallback(enum quant_type type, uint64_t row);

/* Writes the whole model. FAIL_ARG says which number of the spec makes no model. */
int synth_write(struct gguf_writer *w, const struct synth_spec *spec, struct error *e);

#endif

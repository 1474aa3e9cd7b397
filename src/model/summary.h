/* What a GGUF file holds and what running it needs: the calculator behind `shoal inspect`. For a
 * family that we serve the program says what a sequence keeps, for others their keys do. Nothing is
 * loaded. */
#ifndef SHOAL_MODEL_SUMMARY_H
#define SHOAL_MODEL_SUMMARY_H

#include "gguf/gguf.h"

#include <stdbool.h>
#include <stdint.h>

/* Rows computed at once in prefill; the work buffers are sized for them. */
#define SUMMARY_CHUNK 512
/* Bytes of one number of the KV cache (f16). */
#define SUMMARY_KV_BYTES 2

struct model_type_total {
    uint64_t tensors, elements, bytes;
};

/* All counts in bytes unless named otherwise. Numbers that no key gives are 0. */
struct model_summary {
    struct bytes architecture, name; /* borrowed from the file; empty when absent */
    uint64_t parameters;             /* elements of all tensors */
    uint64_t tensor_bytes;
    struct model_type_total types[QUANT_COUNT];

    int64_t layers, width, heads, ffn, vocab;
    int64_t context; /* native, in tokens */
    int64_t experts, experts_used;

    int full_layers;     /* whose KV cache grows with the context */
    int sliding_layers;  /* whose KV cache stops growing at `window` tokens */
    int stateful_layers; /* with a state of fixed size instead */
    uint64_t full_kv;    /* a token, all full layers */
    uint64_t sliding_kv; /* a token, all sliding layers */
    int64_t window;      /* tokens; 0 without sliding layers */
    bool latent;         /* the KV cache holds MLA's compressed latent */
    uint64_t state;      /* a sequence, all stateful layers */

    char refused[ERROR_TEXT]; /* why the model can't be served; empty when it can */
    char notes[ERROR_TEXT];   /* what stands in for what the file lacks, parted by "; " */
};

/* Bytes needed to run one sequence of `context` tokens. */
struct model_memory {
    int64_t context;
    uint64_t weights, kv, buffers, total;
};

/* Fills *ret, which borrows from g. A model that makes no program is counted by its keys; a
 * vocabulary without tensors gives zeros. FAIL_FORMAT for a key
 * of a wrong type or an impossible number. */
int model_summarize(const struct gguf *g, struct model_summary *ret, struct error *e);

/* KV cache and states of one sequence of `context` tokens. Saturates instead of overflowing. */
uint64_t model_summary_kv(const struct model_summary *s, int64_t context);

/* Weights as they lie in the file, KV cache in f16, and work buffers for SUMMARY_CHUNK rows. */
struct model_memory model_summary_memory(const struct model_summary *s, int64_t context);

#endif

/* A model's numbers, read once; for this folder only. */
#ifndef SHOAL_MODEL_HPARAMS_H
#define SHOAL_MODEL_HPARAMS_H

#include "model/family.h"

#include "base/arena.h"

/* What differs from layer to layer. */
struct layer_params {
    int heads, kv_heads; /* kv_heads 0: no attention in this layer */
    int window;          /* 0: sees everything */
    int rope;            /* index of the program's table, or PROGRAM_NONE */
    int head_dim, value_dim;
    int kv_layer; /* whose keys and values it attends to: its own, or an earlier one's */
    int state;    /* of the program, set as the layers are built */
};

struct hparams {
    const struct family *family;
    int n_layers, width, ffn, context, vocab;
    float eps;
    float logit_softcap; /* 0: none */
    int layer_input;     /* gemma4: width of each layer's own input, 0 without */
    int experts, experts_used, expert_ffn;
    bool route_normalize;
    int conv_kernel;             /* lfm2: 0 without */
    struct layer_params *layers; /* (n_layers), arena */
};

/* Reads and checks everything; adds the rope tables to the program. */
int hparams_read(struct hparams *h, const struct gguf *g, struct program *p, struct error *e);

#endif

/* What a model is made of, as plain data: a family's reader fills it from the file's keys, the
 * blocks turn it into a program. Nothing in it names a family. What one kind of layer needs stands
 * in that kind's own struct, so that a new kind adds a struct and no flag to the others. */
#ifndef SHOAL_MODEL_RECIPE_H
#define SHOAL_MODEL_RECIPE_H

#include "base/arena.h"
#include "graph/program.h"

/* Tensors are named without "blk.N." and, for matrices, without ".weight": a matrix brings its
 * ".bias" and ".scale" along where the file has them. All names are literals. */

enum norm_kind { NORM_NONE, NORM_RMS, NORM_RMS_PLAIN }; /* plain: without a weight */

struct norm_recipe {
    enum norm_kind kind;
    const char *tensor; /* required, unless plain */
    float eps;
};

/* Softmax attention over a KV cache. */
struct attention_recipe {
    int heads, kv_heads; /* heads is a multiple of kv_heads */
    int head_dim, value_dim;
    int window;  /* 0: sees everything */
    int rope;    /* index of the program's table, or PROGRAM_NONE */
    float scale; /* factor of q . k */
    const char *q, *k, *v, *out;
    bool value_from_key; /* the file has no v: k's product, before its norm, stands in */
    struct norm_recipe q_norm, k_norm, v_norm; /* a head at a time */
    int kv_layer; /* whose keys and values it attends to: its own, or an earlier one's */
};

/* A gated short convolution over positions. */
struct short_conv_recipe {
    int kernel;
    const char *in, *conv, *out;
};

enum mixer_kind { MIXER_ATTENTION, MIXER_SHORT_CONV };

struct mixer_recipe {
    enum mixer_kind kind;
    union {
        struct attention_recipe attention;
        struct short_conv_recipe short_conv;
    };
};

/* out(act(gate(x)) * up(x)). */
struct gated_recipe {
    int width;
    enum activation_kind act;
    const char *gate, *up, *out;
};

/* Gated FFNs of which a router's softmax chooses `used` for each row. */
struct experts_recipe {
    int count, used;
    int width; /* of one expert */
    enum activation_kind act;
    bool normalize; /* the chosen weights are scaled to sum 1 */
    const char *router, *gate, *up, *out;
};

enum ffn_kind { FFN_GATED, FFN_EXPERTS };

struct ffn_recipe {
    enum ffn_kind kind;
    union {
        struct gated_recipe gated;
        struct experts_recipe experts;
    };
};

/* x += after(half(before(x))), first the mixer, then the FFN. */
struct layer_recipe {
    struct mixer_recipe mixer;
    struct ffn_recipe ffn;
    struct norm_recipe before_mixer, after_mixer, before_ffn, after_ffn;
    const char *scale; /* a tensor of one factor of the layer's result; NULL: 1 */
};

/* Each layer's own small input beside the residual stream: a second embedding of the ids, and a
 * projection of the first one. width 0: none. */
struct layer_inputs_recipe {
    int width;
    const char *embedding, *projection;
    struct norm_recipe norm;
    const char *gate, *out; /* of a layer */
    struct norm_recipe after;
    enum activation_kind act;
};

struct recipe {
    const char *family; /* for people: nothing may depend on it */
    int n_layers, width, vocab, context;
    float eps;             /* of the family's norms */
    float embedding_scale; /* 1: none */
    struct layer_inputs_recipe layer_inputs;
    struct layer_recipe *layers; /* (n_layers), arena */
    struct norm_recipe output_norm;
    float logit_softcap; /* 0: none */
};

#endif

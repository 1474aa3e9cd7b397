/* The parts of a layer, each from its own recipe: they never name a family. */
#ifndef SHOAL_MODEL_BLOCKS_H
#define SHOAL_MODEL_BLOCKS_H

#include "model/builder.h"

/* A layer's halves: each takes the normed input and returns the branch's output. */
int build_attention(struct builder *b, const struct attention_recipe *a, int x);
int build_short_conv(struct builder *b, const struct short_conv_recipe *s, int x);
int build_gated(struct builder *b, const struct gated_recipe *f, int x);
int build_experts(struct builder *b, const struct experts_recipe *f, int x);

/* Inputs of all layers side by side, live across every cut; then in each layer its own one gates a
 * branch of the residual stream. x: the embedding; then the residual. */
int build_layer_inputs(struct builder *b, const struct layer_inputs_recipe *l, int x);
int build_layer_input_branch(struct builder *b, const struct layer_inputs_recipe *l, int x,
                             int inputs);

#endif

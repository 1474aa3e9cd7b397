/* Each layer's own small input. */
#include "model/blocks/blocks.h"

#include <math.h>

int build_layer_inputs(struct builder *b, const struct layer_inputs_recipe *l, int x)
{
    int width = b->recipe->n_layers * l->width;
    struct instr in = instr_init(OP_EMBED, -1);
    in.embed.scale = sqrtf((float)l->width);
    in.weight[0] = add_matrix(b, &(struct matrix){ .name = l->embedding,
                                                   .rows = b->recipe->vocab,
                                                   .cols = width,
                                                   .row_axis = { vocab_range(b), 1 },
                                                   .col_axis = axis_none() });
    int ids = emit(b, in, "layer_embedding", width, axis_none());
    int projected = emit_matmul(b, x,
                                &(struct matrix){ .name = l->projection,
                                                  .rows = width,
                                                  .cols = b->recipe->width,
                                                  .row_axis = axis_none(),
                                                  .col_axis = axis_none() },
                                "layer_projection");
    projected = emit_scale(b, projected, 1.0 / sqrt((double)b->recipe->width), "layer_projection");
    projected = emit_norm(b, projected, &l->norm, l->width, "layer_projection_norm");
    return emit_scale(b, emit_binary(b, OP_ADD, projected, ids, "layer_sum"), sqrt(0.5),
                      "layer_inputs");
}

int build_layer_input_branch(struct builder *b, const struct layer_inputs_recipe *l, int x,
                             int inputs)
{
    struct instr slice = instr_init(OP_SLICE, b->layer);
    slice.in[0] = inputs;
    slice.slice.offset = b->layer * l->width;
    int own = emit(b, slice, "layer_input", l->width, axis_none());
    int gate = emit_matmul(b, x,
                           &(struct matrix){ .name = l->gate,
                                             .rows = l->width,
                                             .cols = b->recipe->width,
                                             .row_axis = axis_none(),
                                             .col_axis = axis_none() },
                           "input_gate");
    int branch = emit_matmul(b, emit_act(b, l->act, gate, own, "input_act"),
                             &(struct matrix){ .name = l->out,
                                               .rows = b->recipe->width,
                                               .cols = l->width,
                                               .row_axis = axis_none(),
                                               .col_axis = axis_none() },
                             "input_out");
    branch = emit_norm(b, branch, &l->after, 0, "post_input");
    return emit_binary(b, OP_ADD, x, branch, "residual");
}

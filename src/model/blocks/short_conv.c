/* A gated short convolution: the input projection holds three ranges of rows (b, c, x); the
 * convolution runs over b * x, and c gates its result. */
#include "model/blocks/blocks.h"

/* The one input projection as its three parts. */
static void project(struct builder *b, const struct short_conv_recipe *s, int x, struct axis axis,
                    int parts[static 3])
{
    static const char *const names[] = { "conv_b", "conv_c", "conv_x" };
    int width = b->recipe->width;
    for (int i = 0; i < 3; i++)
        parts[i] = emit_matmul(b, x,
                               &(struct matrix){ .name = s->in,
                                                 .first_row = i * width,
                                                 .rows = width,
                                                 .tensor_rows = 3 * width,
                                                 .cols = width,
                                                 .row_axis = axis,
                                                 .col_axis = axis_none() },
                               names[i]);
}

int build_short_conv(struct builder *b, const struct short_conv_recipe *s, int x)
{
    int width = b->recipe->width, parts[3];
    int channels = add_range(
        b, &(struct range){
               .name = "channels", .count = width, .granule = 32, .parent = PROGRAM_NONE });
    const struct axis axis = { channels, 1 }, none = axis_none();
    project(b, s, x, axis, parts);
    struct instr in = instr_init(OP_CONV, b->layer);
    in.in[0] = emit_binary(b, OP_MUL, parts[0], parts[2], "conv_in");
    in.weight[0] = add_matrix(b, &(struct matrix){ .name = s->conv,
                                                   .rows = width,
                                                   .cols = s->kernel,
                                                   .row_axis = axis,
                                                   .col_axis = none });
    in.state = program_add_state(b->p, &(struct state){ .kind = STATE_CONV,
                                                        .layer = b->layer,
                                                        .heads = 1,
                                                        .key_dim = width,
                                                        .value_dim = s->kernel - 1,
                                                        .axis = axis });
    if (in.state == PROGRAM_NONE && !b->result)
        b->result = fail(b->error, FAIL_NOMEM, "the program of %s", b->recipe->family);
    int conv = emit(b, in, "conv", width, axis);
    int out = emit_binary(b, OP_MUL, parts[1], conv, "conv_gated");
    return emit_matmul(
        b, out,
        &(struct matrix){
            .name = s->out, .rows = width, .cols = width, .row_axis = none, .col_axis = axis },
        "conv_out");
}

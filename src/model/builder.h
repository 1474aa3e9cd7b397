/* Adding weights, values and instructions with the checks that every family needs; for this
 * folder only. The first failure stays, so that a decoder reads without an if on every line. */
#ifndef SHOAL_MODEL_BUILDER_H
#define SHOAL_MODEL_BUILDER_H

#include "model/hparams.h"
#include "model/model.h"

struct builder {
    const struct gguf *g;
    struct program *p;
    struct hparams h;
    struct model_options options;
    struct error *error;
    int result;
    int layer; /* of what is added now; -1 before the first */
    int vocab_range, ffn_range, expert_range, expert_ffn_range;
};

static inline struct axis axis_none(void)
{
    return (struct axis){ PROGRAM_NONE, 0 };
}

/* "blk.<layer>.<name>" for a layer, else name itself. */
void tensor_name(const struct builder *b, const char *name, char out[static 128]);
bool has_tensor(const struct builder *b, const char *name);

/* A rectangle of a matrix: rows [first, first + rows) of the tensor, all columns. */
struct matrix {
    const char *name;
    int mats; /* 0 or 1: not a stack */
    int first_row, rows;
    int tensor_rows; /* 0: rows */
    int cols;
    struct axis row_axis, col_axis, mat_axis;
};

/* The weight's index; a missing tensor or another shape ends the build by name. */
int add_matrix(struct builder *b, const struct matrix *m);
/* A vector of n; PROGRAM_NONE when the tensor is absent and may be. axis: what its elements
 * carry. */
int add_vector(struct builder *b, const char *name, int n, struct axis axis, bool required);

/* Ranges are made once for each (name, count). */
int add_range(struct builder *b, const struct range *r);

/* A new value (rows, width) f32; the name is for printing. Returns its index. */
int add_value(struct builder *b, const char *name, int width, struct axis axis);
/* Adds an instruction whose output is a new value like `like` (width, rows), or of its own. */
int emit(struct builder *b, struct instr in, const char *name, int width, struct axis axis);

/* y = W x (+ bias where the file has NAME.bias). */
int emit_matmul(struct builder *b, int x, const struct matrix *m, const char *value);
int emit_norm(struct builder *b, int x, const char *weight, int group, const char *value);
int emit_binary(struct builder *b, enum op op, int x, int y, const char *value);

/* One layer's halves: each takes the normed input and returns the branch's output. */
int build_attention(struct builder *b, int x);
int build_short_conv(struct builder *b, int x);
int build_ffn(struct builder *b, int x);
int build_experts(struct builder *b, int x);
int build_layer_inputs(struct builder *b, int x);
int build_layer_input_branch(struct builder *b, int x, int inputs);
int build_output_scale(struct builder *b, int x);

#endif

/* Adding weights, values and instructions with the checks that every family needs; for this
 * folder only. The first failure stays, so that a block reads without an if on every line. */
#ifndef SHOAL_MODEL_BUILDER_H
#define SHOAL_MODEL_BUILDER_H

#include "base/map.h"
#include "gguf/gguf.h"
#include "model/recipe.h"

struct builder {
    const struct gguf *g;
    struct program *p;
    const struct recipe *recipe;
    bool expert_columns; /* see struct model_options */
    struct error *error;
    int result;
    int layer;        /* of what is added now; -1 before the first */
    struct map read;  /* names of the tensors that the program reads or may pass over */
    int *layer_state; /* (n_layers) the state that each layer's keys and values go to */
};

/* "blk.<layer>.<name>" for a layer, else name itself. */
void tensor_name(const struct builder *b, const char *name, char out[static 128]);
/* A tensor that the program reads; NULL when absent. */
const struct gguf_tensor *find_tensor(struct builder *b, const char *name);
/* A matrix's ".weight". */
bool has_matrix(const struct builder *b, const char *name);
/* The matrix, its bias and its scale may be there and are not read. */
void pass_over(struct builder *b, const char *name);

/* A rectangle of a matrix: rows [first, first + rows) of the tensor, all columns. */
struct matrix {
    const char *name;   /* without ".weight" */
    const char *beside; /* what ".bias" and ".scale" follow; NULL: name */
    int mats;           /* 0 or 1: not a stack */
    int first_row, rows;
    int tensor_rows; /* 0: rows */
    int cols;
    struct axis row_axis, col_axis, mat_axis;
};

/* The weight's index; a missing tensor or another shape ends the build by name. */
int add_matrix(struct builder *b, const struct matrix *m);

/* Elements [first, first + n) of a vector of `length`; axis: what they carry. */
struct vector {
    const char *name;
    int first, n, length;
    struct axis axis;
    bool required;
};

/* PROGRAM_NONE when the tensor is absent and may be. */
int add_vector(struct builder *b, const struct vector *v);

/* Equal ranges are one. */
int add_range(struct builder *b, const struct range *r);
int vocab_range(struct builder *b);

/* A new value (rows, width) f32; the name is for printing. Returns its index. */
int add_value(struct builder *b, const char *name, int width, struct axis axis);
/* Adds an instruction whose output is a new value. */
int emit(struct builder *b, struct instr in, const char *name, int width, struct axis axis);

/* y = W x, times BESIDE.scale and plus BESIDE.bias where the file has them. */
int emit_matmul(struct builder *b, int x, const struct matrix *m, const char *value);
/* x itself for NORM_NONE. group: elements that are normed together; 0: the width. */
int emit_norm(struct builder *b, int x, const struct norm_recipe *norm, int group,
              const char *value);
int emit_binary(struct builder *b, enum op op, int x, int y, const char *value);
int emit_act(struct builder *b, enum activation_kind act, int gate, int up, const char *value);
int emit_scale(struct builder *b, int x, double factor, const char *value);

#endif

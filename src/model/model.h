/* From a GGUF file to a program. */
#ifndef SHOAL_MODEL_MODEL_H
#define SHOAL_MODEL_MODEL_H

#include "gguf/gguf.h"
#include "graph/program.h"

struct model_options {
    bool expert_columns; /* a tensor split deals columns of every expert; else whole experts */
};

/* Builds the whole model's program in the arena and validates it. FAIL_UNSUPPORTED names an unknown
 * family; FAIL_NOT_FOUND a missing tensor; FAIL_FORMAT keys or shapes that don't fit. */
int model_build(const struct gguf *g, const struct model_options *options, struct arena *arena,
                struct program **ret, struct error *e);

#endif

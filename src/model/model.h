/* From a GGUF file to a program. */
#ifndef SHOAL_MODEL_MODEL_H
#define SHOAL_MODEL_MODEL_H

#include "base/buffer.h"
#include "gguf/gguf.h"
#include "graph/program.h"

struct model_options {
    bool expert_columns; /* a tensor split deals columns of every expert; else whole experts */
    /* May be NULL: takes a text for each thing that the file leaves out and something stands in
     * for, parted by "; ". */
    struct buffer *notes;
};

/* Builds the whole model's program in the arena and validates it. FAIL_UNSUPPORTED names an unknown
 * family, a key that would change the answers and isn't honoured, a tensor that nothing reads;
 * FAIL_NOT_FOUND a missing tensor; FAIL_FORMAT keys or shapes that don't fit. */
int model_build(const struct gguf *g, const struct model_options *options, struct arena *arena,
                struct program **ret, struct error *e);

#endif

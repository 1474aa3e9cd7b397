/* Model families as table rows: what the metadata leaves unsaid. */
#ifndef SHOAL_MODEL_FAMILY_H
#define SHOAL_MODEL_FAMILY_H

#include "gguf/gguf.h"
#include "graph/program.h"

/* One row a family. Everything else follows from the file's keys and from which tensors it
 * holds: biases, q/k norms, post norms, experts, a tied output. */
struct family {
    const char *name;         /* general.architecture */
    bool rope_interleaved;    /* rotates pairs (2i, 2i+1); else halves */
    enum activation_kind act; /* of the gated FFN */
    bool embedding_scaled;    /* embeddings times sqrt(width) */
    int window_pattern;       /* n: layers with (i + 1) % n == 0 are global, the others see the
                               * window; 0: all alike */
    double window_rope_base;  /* rope base of window layers where the file does not say */
    int no_rope_pattern;      /* n: layers with (i + 1) % n == 0 do not rotate; 0: all do */
    bool value_norm;          /* values are RMS-normed by head, without a weight */
    float attention_scale;    /* factor of q . k; 0: 1 / sqrt(head_dim) */
    const char *final_norm;   /* NULL: "output_norm.weight" */
};

/* NULL when unknown. */
const struct family *family_find(struct bytes name);
/* All rows; count in *n. */
const struct family *family_all(int *n);

#endif

/* For the synthetic models only: the plan of tensors between spec and bytes. */
#ifndef SHOAL_TOOLS_SYNTH_INTERNAL_H
#define SHOAL_TOOLS_SYNTH_INTERNAL_H

#include "tools/synth/synth.h"

struct synth_tensor {
    char name[64];
    enum quant_type type;
    int n_dims;
    uint64_t dims[4];
    float mean, sigma;
};

/* vocab.c: a byte-level BPE vocabulary of n tokens with a ChatML template. */
int synth_vocab_write(struct gguf_writer *w, int n, struct error *e);

/* fill.c: the bytes of all tensors, in order. */
int synth_fill(struct gguf_writer *w, const struct synth_tensor *tensors, int n,
               const struct synth_spec *spec, struct error *e);

#endif

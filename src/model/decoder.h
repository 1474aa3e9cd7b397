/* What readers of families share: each call fills or changes a part of the recipe. */
#ifndef SHOAL_MODEL_DECODER_H
#define SHOAL_MODEL_DECODER_H

#include "model/family.h"

struct decoder_traits {
    enum activation_kind act;
    bool rope_interleaved;
    bool other_mixers; /* layers without KV heads are the family's own */
};

/* A whole decoder of attention and gated FFNs, each behind an RMS norm: sizes, heads, the table of
 * angles, one window for none. Other calls come after it. */
void read_decoder(struct reading *r, const struct decoder_traits *traits);

/* RMS norms of the family's epsilon: required tensors, by their whole name within a layer. */
struct norm_recipe rms_norm(const struct reading *r, const char *tensor);
/* Queries and keys are normed by head in each layer of attention. */
void read_qk_norms(struct reading *r);
/* Norms behind both halves. */
void read_post_norms(struct reading *r);

/* Windows where the file has them: of each `period` layers the last sees everything, unless the
 * file has a pattern of its own; period 0: always all layers have the window. Window layers have
 * head sizes and a table of angles of their own. `required`: every model of the family has windows.
 */
void read_windows(struct reading *r, int period, bool required);

/* Experts instead of gated FFNs in all layers whose FFN the file doesn't have whole.
 * published_width: of a file that doesn't say the width of one expert. */
enum expert_width { EXPERT_WIDTH_FFN, EXPERT_WIDTH_OWN };
void read_experts(struct reading *r, enum expert_width width);

/* The tensor "blk.<layer>.<name>", or NULL. */
const struct gguf_tensor *layer_tensor(const struct reading *r, int layer, const char *name);

#endif

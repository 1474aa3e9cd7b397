/* Driving an executor from token ids, for `shoal eval`. */
#ifndef SHOAL_NODE_EVAL_H
#define SHOAL_NODE_EVAL_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Which model, and how it is run. Texts are borrowed until eval_open returns. */
struct eval_options {
    const char *model;     /* path of a GGUF file */
    const char *split;     /* SPEC, NULL: one rank */
    const char *isa;       /* one name, or names by rank: "avx2,scalar", from the first again when
                            * there are more ranks; NULL: the best */
    const char *transport; /* between the ranks, a name of transport_pair; NULL: memory */
    bool exact;
    bool expert_columns; /* a tensor split deals columns of every expert, else whole experts */
    int64_t threads, chunk, beside;
};

struct gguf;
struct eval; /* a model opened on an executor in this process */

/* Opens the model for sequences of at most max_tokens. Errors: those of the file, of the SPEC, of
 * loading, of the transport. */
int eval_open(struct eval **ret, const struct eval_options *o, int max_tokens, struct error *e);
/* Ends the ranks and frees. NULL is fine. */
void eval_close(struct eval *v);
/* The model's file; borrowed until eval_close. */
const struct gguf *eval_gguf(const struct eval *v);
/* Width of a logits row. */
int eval_vocab(const struct eval *v);

/* Feeds n ids as one fresh sequence in prefill chunks, others beside it when asked for, and gives
 * every row's logits (vocab) in order to fn, which may end the run by a negative code. */
int eval_sequence(struct eval *v, const int32_t *ids, int n,
                  int (*fn)(void *arg, int position, const float *logits, struct error *e),
                  void *arg, struct error *e);

#endif

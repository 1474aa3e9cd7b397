/* What the head of a model needs beside its numbers: the vocabulary, the tokens that end a
 * generation, the chat template. */
#ifndef SHOAL_CHAT_MODEL_H
#define SHOAL_CHAT_MODEL_H

#include "base/error.h"

#include <stdint.h>

struct chat_template;
struct gguf;
struct chat_model;
struct vocab;

/* Reads a file's vocabulary and template; keeps nothing of g. n_vocab: rows of the logits. A file
 * without a vocabulary is fine: it is served by token ids only. FAIL_NOMEM; errors of a malformed
 * vocabulary name the key. */
int chat_model_open(struct chat_model **ret, const struct gguf *g, int n_vocab, struct error *e);
/* The same from parts, which it takes over; any may be NULL. eog then ends nothing. */
int chat_model_of(struct chat_model **ret, struct vocab *vocab, struct chat_template *template,
                  struct error *e);
/* One owner more: a request that outlives its model's placement. Any thread. */
struct chat_model *chat_model_acquire(struct chat_model *t);
/* One owner less; the last one frees it. NULL is fine. Any thread. */
void chat_model_release(struct chat_model *t);

/* (n_vocab) 1 where a token ends a generation. Borrowed until chat_model_release, like the rest;
 * NULL of one that was made from parts. */
const uint8_t *chat_model_eog(const struct chat_model *t);
/* NULL when the file has none. */
const struct vocab *chat_model_vocab(const struct chat_model *t);
/* Tokens of the vocabulary for which the model has no weights (n_vocab is smaller): they are never
 * sampled, and a prompt can't have them. */
int chat_model_extra(const struct chat_model *t);
/* The chat template, parsed; NULL when the file has none. */
const struct chat_template *chat_model_template(const struct chat_model *t);

#endif

/* What the head of a model needs beside its numbers: the vocabulary, the tokens that end a
 * generation, the chat template. */
#ifndef SHOAL_ENGINE_SERVED_TEXT_H
#define SHOAL_ENGINE_SERVED_TEXT_H

#include "base/error.h"

#include <stdint.h>

struct chat_template;
struct gguf;
struct served_text;
struct vocab;

/* Reads a file's vocabulary and template; keeps nothing of g. n_vocab: rows of the logits. A file
 * without a vocabulary is fine: it is served by token ids only. FAIL_NOMEM; errors of a malformed
 * vocabulary name the key. */
int served_text_open(struct served_text **ret, const struct gguf *g, int n_vocab, struct error *e);
/* NULL is fine. */
void served_text_close(struct served_text *t);

/* (n_vocab) 1 where a token ends a generation. Borrowed until served_text_close, like the rest. */
const uint8_t *served_text_eog(const struct served_text *t);
/* NULL when the file has none. */
const struct vocab *served_text_vocab(const struct served_text *t);
/* The chat template, parsed; NULL when the file has none. */
const struct chat_template *served_text_template(const struct served_text *t);

#endif

/* The vocabulary of a GGUF file. */
#ifndef SHOAL_CHAT_VOCAB_LOAD_H
#define SHOAL_CHAT_VOCAB_LOAD_H

#include "base/error.h"

struct gguf;
struct vocab;

/* Reads the tokenizer.ggml.* keys (works on a file without tensors). The vocabulary keeps
 * nothing of g. FAIL_NOT_FOUND when the file has no vocabulary,
 * FAIL_FORMAT for keys of a wrong type or length, and vocab_open's errors. */
int vocab_load(struct vocab **ret, const struct gguf *g, struct error *e);

#endif

/* The vocabulary of a GGUF file. */
#ifndef SHOAL_CHAT_VOCAB_LOAD_H
#define SHOAL_CHAT_VOCAB_LOAD_H

#include "base/error.h"

#include <stdint.h>

struct gguf;
struct vocab;

/* Reads the tokenizer.ggml.* keys (works on a file without tensors). seed is that of the hash
 * tables. The vocabulary keeps nothing of g. FAIL_NOT_FOUND when the file has no vocabulary,
 * FAIL_FORMAT for keys of a wrong type or length, and vocab_open's errors. */
int vocab_load(struct vocab **ret, const struct gguf *g, uint64_t seed, struct error *e);

#endif

/* Writer of GGUF files, version 3: keys, then tensor declarations, then their bytes as a stream.
 * Source: the GGUF specification (ggml). */
#ifndef SHOAL_GGUF_WRITER_H
#define SHOAL_GGUF_WRITER_H

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/error.h"
#include "gguf/gguf.h"

#include <stdbool.h>
#include <stdint.h>

/* Most bytes of keys and tensor names; a vocabulary of 2^19 texts takes about 20 MB. */
#define GGUF_WRITER_MAX_HEADER (256u << 20)

struct gguf_writer;

/* Begins a file at path. It is written beside it and takes its name in gguf_writer_finish(), so
 * that a failed run leaves no half file. FAIL_NOMEM. */
int gguf_writer_open(struct gguf_writer **ret, const char *path, struct error *e);
/* The same into a buffer, which is borrowed until the writer is closed. */
int gguf_writer_open_memory(struct gguf_writer **ret, struct buffer *out, struct error *e);
/* Frees everything; an unfinished file is removed. Accepts NULL. */
void gguf_writer_close(struct gguf_writer *w);

/* One key each. Call them before the first tensor's bytes. A failure (too large, out of memory) is
 * remembered and reported by gguf_writer_data() or gguf_writer_finish(). Doubled keys are not
 * looked for: the reader refuses such a file. general.alignment takes effect when it is set before
 * the first tensor is declared. */
void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t value);
void gguf_writer_u64(struct gguf_writer *w, const char *key, uint64_t value);
void gguf_writer_f32(struct gguf_writer *w, const char *key, float value);
void gguf_writer_bool(struct gguf_writer *w, const char *key, bool value);
void gguf_writer_text(struct gguf_writer *w, const char *key, struct bytes value);
void gguf_writer_i32_array(struct gguf_writer *w, const char *key, const int32_t *values, size_t n);
void gguf_writer_f32_array(struct gguf_writer *w, const char *key, const float *values, size_t n);
void gguf_writer_text_array(struct gguf_writer *w, const char *key, const struct bytes *values,
                            size_t n);
/* Any key as a reader gave it. */
void gguf_writer_value(struct gguf_writer *w, const struct gguf_value *value);

/* Declares the next tensor: name, type, dims (n_dims, dims[0] innermost). Its data's place follows
 * the previous tensor's, aligned. FAIL_ARG for what no reader would accept. */
int gguf_writer_tensor(struct gguf_writer *w, const char *name, enum quant_type type, int n_dims,
                       const uint64_t *dims, struct error *e);

/* The next bytes of tensor data, in the order of declaration, in pieces of any size; padding
 * between tensors is put in by itself. FAIL_ARG when more bytes come than were declared. */
int gguf_writer_data(struct gguf_writer *w, struct bytes data, struct error *e);

/* Writes what is left and gives the file its name. FAIL_STATE when tensor bytes are missing. */
int gguf_writer_finish(struct gguf_writer *w, struct error *e);

#endif

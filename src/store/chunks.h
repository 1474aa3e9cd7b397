/* The bytes of a model's tensors as chunks of 1 MiB with their SHA-256: what identifies a model,
 * and the pieces in which weights travel between devices.
 *
 * A chunk lies within one tensor: it begins at a multiple of CHUNK_BYTES from the tensor's first
 * byte, so that the last one of a tensor is shorter. A digest of a tensor covers its name, type and
 * shape and the digests of its chunks, or of some of them (a selection); the root covers the file's
 * header and all tensors. */
#ifndef SHOAL_STORE_CHUNKS_H
#define SHOAL_STORE_CHUNKS_H

#include "base/buffer.h"
#include "base/error.h"
#include "store/digest.h"

#include <stdbool.h>
#include <stdint.h>

#define CHUNK_BYTES (UINT32_C(1) << 20)

struct chunks;
struct file_identity;
struct gguf;

/* What tells a model's files from others and from their own later versions without reading them:
 * over size, time of change and inode of each of n parts. FAIL_NOMEM. */
int chunks_stamp(const struct file_identity *parts, int n, uint8_t ret[static DIGEST_BYTES],
                 struct error *e);
/* Of the files as they are now, from the first one's path. Errors of looking at them. */
int chunks_stamp_now(const char *first, int n, uint8_t ret[static DIGEST_BYTES], struct error *e);

/* The list of an open model, without any digest yet. Keeps nothing of g. FAIL_NOMEM. */
int chunks_open(struct chunks **ret, const struct gguf *g, struct error *e);
void chunks_close(struct chunks *c);

/* Set once at opening; any thread. */
const char *chunks_path(const struct chunks *c); /* of the first part */
const uint8_t *chunks_stamp_of(const struct chunks *c);
int chunks_tensors(const struct chunks *c);
const char *chunks_tensor_name(const struct chunks *c, int tensor);
/* By name, or -1. */
int chunks_find(const struct chunks *c, const char *name);
/* The first chunk of a tensor; of tensor chunks_tensors(): the number of all chunks. */
uint64_t chunks_first(const struct chunks *c, int tensor);
uint64_t chunks_count(const struct chunks *c);

/* How many have a digest; whether one has. Any thread. */
uint64_t chunks_done(const struct chunks *c);
bool chunks_have(const struct chunks *c, uint64_t chunk);
bool chunks_complete(const struct chunks *c);

/* Reads a chunk from the file and makes its digest, unless that is there. buffer: CHUNK_BYTES of
 * the caller's. FAIL_IO when the file is no longer the one that was opened. Any thread. */
int chunks_make(struct chunks *c, uint64_t chunk, uint8_t *buffer, struct error *e);

/* Selections are bitmaps of chunks_count() bits, lowest bit first. Bytes of one: */
size_t chunks_selection_bytes(const struct chunks *c);
static inline bool chunks_selected(const uint8_t *selection, uint64_t chunk)
{
    return (selection[chunk / 8] >> chunk % 8 & 1) != 0;
}
static inline void chunks_select(uint8_t *selection, uint64_t chunk)
{
    selection[chunk / 8] |= (uint8_t)(1u << chunk % 8);
}
/* One chunk of every tensor that has bytes, a function of the seed alone; also as a list into order
 * (chunks_tensors()), of which the count is returned. Pure. */
uint64_t chunks_draw(const struct chunks *c, uint64_t seed, uint8_t *ret, uint64_t *order);
/* Selects the chunks that bytes [offset, offset + size) of a tensor lie in; what lies outside the
 * tensor is cut off. */
void chunks_select_bytes(const struct chunks *c, int tensor, uint64_t offset, uint64_t size,
                         uint8_t *ret);

/* The digest of each tensor over its selected chunks (NULL: all) into ret (tensors, DIGEST_BYTES).
 * FAIL_STATE when one has no digest yet; ret is then undefined. */
int chunks_tensor_digests(const struct chunks *c, const uint8_t *selection, uint8_t *ret,
                          struct error *e);
/* Of the whole model, from the digests of its tensors over all their chunks. FAIL_NOMEM. */
int chunks_root(const struct chunks *c, const uint8_t *tensors, uint8_t ret[static DIGEST_BYTES],
                struct error *e);

/* The digests made so far as bytes for a file, and back into the list of the same model (the stamp
 * must be the same). FAIL_FORMAT for other bytes; the list is untouched then. */
int chunks_encode(const struct chunks *c, struct buffer *out, struct error *e);
int chunks_decode(struct chunks *c, struct bytes text, struct error *e);

#endif

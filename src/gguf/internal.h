/* For this folder only. */
#ifndef SHOAL_GGUF_INTERNAL_H
#define SHOAL_GGUF_INTERNAL_H

#include "gguf/gguf.h"

#include "base/arena.h"
#include "base/cursor.h"
#include "base/map.h"
#include "os/file.h"

struct gguf_part {
    struct file_map map; /* data NULL when opened from memory */
    const char *path;    /* of map; in the arena */
    struct bytes file;
    uint64_t data_start;
    uint64_t header_end; /* of the last tensor's description */
};

struct gguf {
    struct arena arena;
    struct gguf_part *parts;
    int n_parts;
    uint32_t version, alignment;
    uint64_t seed; /* of the maps */
    struct gguf_value *values;
    int n_values;
    struct map value_map;
    struct gguf_tensor *tensors;
    int n_tensors;
    struct map tensor_map;
    int reading;           /* part whose keys stand in values */
    int split_count;       /* parts, as the first one says; 1 when it says nothing */
    int64_t split_tensors; /* of all parts; -1 when the first one says nothing */
    uint64_t split_byte;   /* where it says so */
};

#define GGUF_MAGIC 0x46554747u /* "GGUF" */
#define GGUF_DEFAULT_ALIGNMENT 32
#define GGUF_MAX_ALIGNMENT (1 << 20) /* beyond a huge page it can only waste */

/* Bytes of a scalar; 0 for texts and arrays. */
size_t gguf_type_size(enum gguf_type t);

/* read_value.c: one value of the given type at the cursor. */
void gguf_read_value(struct gguf *g, struct cursor *c, enum gguf_type type, struct gguf_value *v);

#endif

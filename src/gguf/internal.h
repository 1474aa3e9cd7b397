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
    struct bytes file;
    uint64_t data_start;
};

struct gguf {
    struct arena arena;
    struct gguf_part *parts;
    int n_parts;
    uint32_t version, alignment;
    struct gguf_value *values;
    int n_values;
    struct map value_map;
    struct gguf_tensor *tensors;
    int n_tensors, cap_tensors;
    struct map tensor_map;
};

#define GGUF_MAGIC 0x46554747u /* "GGUF" */
#define GGUF_DEFAULT_ALIGNMENT 32

/* Bytes of a scalar; 0 for texts and arrays. */
size_t gguf_type_size(enum gguf_type t);

/* read_value.c: one value of the given type at the cursor. */
void gguf_read_value(struct gguf *g, struct cursor *c, enum gguf_type type, struct gguf_value *v);

#endif

/* Reader of GGUF files, version 2 and 3. Nothing in a file is believed: every count, length,
 * offset and dimension is checked against the real size before it is used, and a refusal says
 * what was wrong and at which byte. Source: the GGUF specification (ggml). */
#ifndef SHOAL_GGUF_GGUF_H
#define SHOAL_GGUF_GGUF_H

#include "base/bytes.h"
#include "base/error.h"
#include "quant/quants.h"

#include <stdbool.h>
#include <stdint.h>

/* Limits, each far above what real files hold. */
#define GGUF_MAX_KEYS 65536       /* real files have below 100 */
#define GGUF_MAX_TENSORS 1048576  /* 1,000 layers of 1,000 tensors */
#define GGUF_MAX_NAME 1024        /* the specification allows 64 for tensors, 65535 for keys */
#define GGUF_MAX_DIMS 4           /* specification */
#define GGUF_MAX_ARRAY (1u << 26) /* elements; vocabularies have below 2^19 */
#define GGUF_MAX_PARTS 999        /* of a split model */

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_TEXT,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPE_COUNT
};

/* One metadata value. Scalars are widened: unsigned and signed integers and booleans in u (two's
 * complement), floats in f. */
struct gguf_value {
    struct bytes key;
    enum gguf_type type;
    uint64_t u;
    double f;
    struct bytes text;      /* GGUF_TEXT */
    enum gguf_type element; /* GGUF_ARRAY */
    uint64_t count;
    struct bytes raw;       /* the array's elements as in the file */
    const uint64_t *starts; /* text arrays: (count) offsets of each text's length in raw */
};

struct gguf_tensor {
    struct bytes name;
    enum quant_type type;
    int n_dims;
    uint64_t dims[GGUF_MAX_DIMS]; /* dims[0] is innermost; 1 beyond n_dims */
    uint64_t elements;
    uint64_t bytes;
    uint64_t offset;     /* of its part's start */
    int part;            /* of a split model, from 0 */
    const uint8_t *data; /* borrowed until gguf_close */
};

struct gguf;
struct file_identity;

/* Opens path; the other parts of a split model (NAME-00001-of-00003.gguf) are opened with the
 * first. FAIL_NOT_FOUND, FAIL_IO, FAIL_FORMAT, FAIL_UNSUPPORTED (big-endian, version), FAIL_LIMIT.
 */
int gguf_open(struct gguf **ret, const char *path, struct error *e);
/* From memory, which is borrowed until gguf_close. One part only. */
int gguf_open_bytes(struct gguf **ret, struct bytes file, struct error *e);
void gguf_close(struct gguf *g);

/* Lets go of the tensors' bytes, whose data is NULL from then on; keys, names and shapes stay. From
 * then on nothing that happens to the files matters. Called when the tensors have been loaded. */
void gguf_drop_tensors(struct gguf *g);

/* FAIL_IO, naming the file, when one was cut short or written to since it was opened: what was read
 * of its tensors can't be trusted. Keys, names and shapes can: they are copied on opening. */
int gguf_check(const struct gguf *g, struct error *e);

/* Where part i (below gguf_parts()) was read from, and what that file was then. Borrowed; "" and
 * zeros when it was opened from memory. */
const char *gguf_part_path(const struct gguf *g, int i);
const struct file_identity *gguf_part_identity(const struct gguf *g, int i);

/* 2 or 3; and the alignment of tensor data in bytes, a power of two. */
uint32_t gguf_version(const struct gguf *g);
uint32_t gguf_alignment(const struct gguf *g);
/* Bytes of all parts. */
uint64_t gguf_file_bytes(const struct gguf *g);
/* The first part's bytes before the tensor data: what identifies a model beside its size. */
struct bytes gguf_header(const struct gguf *g);
int gguf_parts(const struct gguf *g);

/* Metadata in the order of the file; i must be in range. Borrowed until gguf_close(). */
int gguf_n_keys(const struct gguf *g);
const struct gguf_value *gguf_value_at(const struct gguf *g, int i);
/* NULL when absent. */
const struct gguf_value *gguf_find(const struct gguf *g, const char *key);

/* A number that the file can't know: the seed of hash tables of its names. */
uint64_t gguf_seed(const struct gguf *g);

/* Tensors of all parts in order; i must be in range. By name: NULL when absent. Borrowed. */
int gguf_n_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, int i);
const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name);

/* Typed readers. An absent key leaves *ret at `missing`; a value of another kind or out of range
 * is FAIL_FORMAT and names the key. Any integer width is accepted, and integers as floats. */
int gguf_get_int(const struct gguf *g, const char *key, int64_t missing, int64_t *ret,
                 struct error *e);
int gguf_get_float(const struct gguf *g, const char *key, double missing, double *ret,
                   struct error *e);
int gguf_get_bool(const struct gguf *g, const char *key, bool missing, bool *ret, struct error *e);
int gguf_get_text(const struct gguf *g, const char *key, const char *missing, struct bytes *ret,
                  struct error *e);

/* Byte of its part where the key or else the tensor `name` is described, or, when there is neither,
 * where the descriptions end. */
uint64_t gguf_byte(const struct gguf *g, const char *name);
/* fail() for what was read from the file: the text ends with gguf_byte(name). */
int gguf_refuse(const struct gguf *g, const char *name, struct error *e, int code,
                const char *format, ...) PRINTF_LIKE(5, 6);

/* Element i of an array; the caller has checked i < count and the element type's kind. */
struct bytes gguf_array_text(const struct gguf_value *v, uint64_t i);
int64_t gguf_array_int(const struct gguf_value *v, uint64_t i);
double gguf_array_float(const struct gguf_value *v, uint64_t i);
bool gguf_type_is_int(enum gguf_type t);

/* Of a metadata type, "u32"; static. */
const char *gguf_type_name(enum gguf_type t);
/* A scalar or array as text for people, cut after `most` array elements. */
struct buffer;
void gguf_value_print(const struct gguf_value *v, uint64_t most, struct buffer *out);

#endif

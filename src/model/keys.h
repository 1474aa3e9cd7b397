/* Keys of one family's namespace to checked numbers. The first failure stays, so that a family's
 * reader needs no if on every line; a refusal names the key and its byte. */
#ifndef SHOAL_MODEL_KEYS_H
#define SHOAL_MODEL_KEYS_H

#include "base/attributes.h"
#include "base/buffer.h"
#include "gguf/gguf.h"

/* As `missing`: the key must be there. */
#define KEY_REQUIRED INT64_MIN

struct keys {
    const struct gguf *g;
    const char *family;   /* the namespace */
    struct buffer *notes; /* may be NULL: what people should know, parted by "; " */
    struct error *error;
    int result;
};

/* "<family>.<suffix>". */
void key_name(const struct keys *k, const char *suffix, char out[static 256]);
/* NULL when the file has no such key. */
const struct gguf_value *key_find(const struct keys *k, const char *suffix);

/* An integer in [low, high], or `missing`. 0 after a failure. */
int key_int(struct keys *k, const char *suffix, int64_t missing, int64_t low, int64_t high);
/* A number that f32 holds, or `missing`. */
double key_float(struct keys *k, const char *suffix, double missing);
/* As key_float for what every file of a family should say: that `published`, the family's own
 * value, stands in is noted; a published value of 0 means that there is none, and the file is
 * refused. Always above 0. */
double key_float_published(struct keys *k, const char *suffix, double published);
bool key_bool(struct keys *k, const char *suffix, bool missing);
struct bytes key_text(struct keys *k, const char *suffix, const char *missing);
/* A number in [0, high] for each of n layers: one for all, or an array. */
void key_layers(struct keys *k, const char *suffix, int64_t missing, int64_t high, int n, int *out);

/* "key F.S: what". Keeps an earlier failure. */
void key_refuse(struct keys *k, const char *suffix, int code, const char *format, ...)
    PRINTF_LIKE(4, 5);
/* Adds to the notes. */
void key_note(struct keys *k, const char *format, ...) PRINTF_LIKE(2, 3);

#endif

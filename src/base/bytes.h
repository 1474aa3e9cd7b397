/* Borrowed byte ranges and checked size arithmetic. */
#ifndef SHOAL_BASE_BYTES_H
#define SHOAL_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Pointer and length together. Borrowed: whoever made it owns the memory. data may be NULL only
 * when size is 0. Text is not NUL-terminated. */
struct bytes {
    const uint8_t *data;
    size_t size;
};

static inline struct bytes bytes_of(const void *data, size_t size)
{
    return (struct bytes){ .data = data, .size = size };
}

/* Of a NUL-terminated text; NULL counts as empty. */
static inline struct bytes bytes_text(const char *text)
{
    return (struct bytes){ .data = (const uint8_t *)text, .size = text ? strlen(text) : 0 };
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool bytes_equal_text(struct bytes a, const char *text)
{
    return bytes_equal(a, bytes_text(text));
}

static inline bool bytes_starts_with(struct bytes a, const char *prefix)
{
    size_t n = strlen(prefix);
    return a.size >= n && memcmp(a.data, prefix, n) == 0;
}

/* Where `byte` stands last; NULL: nowhere. (memrchr is glibc's alone.) */
static inline const uint8_t *bytes_find_last(struct bytes a, uint8_t byte)
{
    for (size_t i = a.size; i > 0; i--)
        if (a.data[i - 1] == byte)
            return a.data + i - 1;
    return NULL;
}

/* True on overflow; *ret is then not meaningful. */
static inline bool size_mul_overflow(uint64_t a, uint64_t b, uint64_t *ret)
{
    *ret = a * b;
    return a != 0 && *ret / a != b;
}

static inline bool size_add_overflow(uint64_t a, uint64_t b, uint64_t *ret)
{
    *ret = a + b;
    return *ret < a;
}

static inline size_t size_round_up(size_t n, size_t granule)
{
    return (n + granule - 1) / granule * granule;
}

/* printf helper: printf("%.*s", BYTES_ARG(b)). */
#define BYTES_ARG(b) (int)((b).size > 2048 ? 2048 : (b).size), (const char *)(b).data

#endif

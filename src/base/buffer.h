/* A growable byte buffer with a maximum from birth. */
#ifndef SHOAL_BASE_BUFFER_H
#define SHOAL_BASE_BUFFER_H

#include "base/bytes.h"
#include "base/error.h"

/* Caller's struct. The first failed append is remembered in failed, later ones do nothing, so a
 * writer may check once at the end. data is owned; always followed by one NUL that size does not
 * count (data is NULL while nothing was appended). */
struct buffer {
    uint8_t *data;
    size_t size;
    size_t capacity;
    size_t limit; /* most bytes it may hold */
    bool failed;
};

/* init: an empty buffer that holds at most limit bytes. done: frees its memory. */
void buffer_init(struct buffer *b, size_t limit);
void buffer_done(struct buffer *b);

/* Forgets the content and the failure, keeps the memory. */
void buffer_clear(struct buffer *b);

/* 0, FAIL_LIMIT or FAIL_NOMEM; the content is untouched on failure. */
int buffer_append(struct buffer *b, struct bytes more);
int buffer_text(struct buffer *b, const char *text);
int buffer_printf(struct buffer *b, const char *format, ...) PRINTF_LIKE(2, 3);

/* Little-endian integers. */
int buffer_u8(struct buffer *b, uint8_t value);
int buffer_u16(struct buffer *b, uint16_t value);
int buffer_u32(struct buffer *b, uint32_t value);
int buffer_u64(struct buffer *b, uint64_t value);
int buffer_f32(struct buffer *b, float value);

/* Room for n more bytes at the end, to be filled by the caller; NULL on failure. size grows. */
uint8_t *buffer_extend(struct buffer *b, size_t n);

static inline struct bytes buffer_bytes(const struct buffer *b)
{
    return bytes_of(b->data, b->size);
}

/* The content as text, "" when empty. Borrowed until the next change. */
const char *buffer_cstr(const struct buffer *b);

#endif

/* Growable buffer: see buffer.h. */
#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void buffer_init(struct buffer *b, size_t limit)
{
    *b = (struct buffer){ .limit = limit };
}

void buffer_done(struct buffer *b)
{
    free(b->data);
    *b = (struct buffer){ .limit = b->limit };
}

void buffer_clear(struct buffer *b)
{
    b->size = 0;
    b->failed = false;
    if (b->data)
        b->data[0] = '\0';
}

uint8_t *buffer_extend(struct buffer *b, size_t n)
{
    if (b->failed || n > b->limit || b->size > b->limit - n) {
        b->failed = true;
        return NULL;
    }
    size_t need = b->size + n + 1;
    if (need > b->capacity) {
        size_t capacity = b->capacity ? b->capacity : 64;
        while (capacity < need)
            capacity *= 2;
        uint8_t *grown = realloc(b->data, capacity);
        if (!grown) {
            b->failed = true;
            return NULL;
        }
        b->data = grown;
        b->capacity = capacity;
    }
    uint8_t *at = b->data + b->size;
    b->size += n;
    b->data[b->size] = '\0';
    return at;
}

int buffer_append(struct buffer *b, struct bytes more)
{
    bool over = more.size > b->limit || b->size > b->limit - more.size;
    uint8_t *at = buffer_extend(b, more.size);
    if (!at)
        return over ? FAIL_LIMIT : FAIL_NOMEM;
    if (more.size)
        memcpy(at, more.data, more.size);
    return 0;
}

int buffer_text(struct buffer *b, const char *text)
{
    return buffer_append(b, bytes_text(text));
}

int buffer_printf(struct buffer *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    int r = FAIL_FORMAT;
    if (n >= 0) {
        uint8_t *at = buffer_extend(b, (size_t)n);
        r = at ? 0 : FAIL_LIMIT;
        if (at)
            vsnprintf((char *)at, (size_t)n + 1, format, again);
    }
    va_end(again);
    return r;
}

static int put(struct buffer *b, uint64_t value, size_t n)
{
    uint8_t raw[8];
    for (size_t i = 0; i < n; i++)
        raw[i] = (uint8_t)(value >> (8 * i));
    return buffer_append(b, bytes_of(raw, n));
}

int buffer_u8(struct buffer *b, uint8_t value)
{
    return put(b, value, 1);
}

int buffer_u16(struct buffer *b, uint16_t value)
{
    return put(b, value, 2);
}

int buffer_u32(struct buffer *b, uint32_t value)
{
    return put(b, value, 4);
}

int buffer_u64(struct buffer *b, uint64_t value)
{
    return put(b, value, 8);
}

int buffer_f32(struct buffer *b, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return put(b, bits, 4);
}

const char *buffer_cstr(const struct buffer *b)
{
    return b->data ? (const char *)b->data : "";
}

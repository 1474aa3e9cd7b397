/* Bounded reader: see cursor.h. Values are assembled byte by byte, so any alignment and any
 * host byte order works. */
#include "base/cursor.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

void cursor_init(struct cursor *c, struct bytes input, struct error *e)
{
    *c = (struct cursor){ .base = input.data, .size = input.size, .error = e };
}

int cursor_fail(struct cursor *c, int code, const char *format, ...)
{
    if (c->failed)
        return c->error ? c->error->code : code;
    c->failed = true;
    char text[ERROR_TEXT / 2];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return fail(c->error, code, "%s at byte %" PRIu64, text, c->position);
}

bool cursor_need(struct cursor *c, uint64_t n, const char *what)
{
    if (c->failed)
        return false;
    if (n > c->size - c->position) {
        cursor_fail(c, FAIL_FORMAT,
                    "truncated: %s needs %" PRIu64 " bytes, only %" PRIu64 " are left", what, n,
                    c->size - c->position);
        return false;
    }
    return true;
}

static uint64_t take(struct cursor *c, int n, const char *what)
{
    if (!cursor_need(c, (uint64_t)n, what))
        return 0;
    uint64_t value = 0;
    for (int i = 0; i < n; i++)
        value |= (uint64_t)c->base[c->position + (uint64_t)i] << (8 * i);
    c->position += (uint64_t)n;
    return value;
}

uint8_t cursor_u8(struct cursor *c, const char *what)
{
    return (uint8_t)take(c, 1, what);
}

uint16_t cursor_u16(struct cursor *c, const char *what)
{
    return (uint16_t)take(c, 2, what);
}

uint32_t cursor_u32(struct cursor *c, const char *what)
{
    return (uint32_t)take(c, 4, what);
}

uint64_t cursor_u64(struct cursor *c, const char *what)
{
    return take(c, 8, what);
}

float cursor_f32(struct cursor *c, const char *what)
{
    uint32_t bits = cursor_u32(c, what);
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

double cursor_f64(struct cursor *c, const char *what)
{
    uint64_t bits = cursor_u64(c, what);
    double value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

struct bytes cursor_bytes(struct cursor *c, uint64_t n, const char *what)
{
    if (!cursor_need(c, n, what))
        return (struct bytes){ 0 };
    struct bytes out = bytes_of(c->base + c->position, (size_t)n);
    c->position += n;
    return out;
}

/* A bounded reader of little-endian bytes. The first failure wins, carries its byte offset, and
 * makes every later read return zero, so that a decoder may check once at the end. */
#ifndef SHOAL_BASE_CURSOR_H
#define SHOAL_BASE_CURSOR_H

#include "base/bytes.h"
#include "base/error.h"

/* Caller's memory; the bytes are borrowed. */
struct cursor {
    const uint8_t *base;
    uint64_t size;
    uint64_t position; /* of the next unread byte; stays at the failed read after a failure */
    struct error *error;
    bool failed;
};

/* e may be NULL. */
void cursor_init(struct cursor *c, struct bytes input, struct error *e);

/* True when n more bytes are there; records "truncated" otherwise. */
bool cursor_need(struct cursor *c, uint64_t n, const char *what);

/* Records a failure at the present offset: "what ... at byte N". Returns the code. */
int cursor_fail(struct cursor *c, int code, const char *format, ...) PRINTF_LIKE(3, 4);

/* The next little-endian number; 0 on failure. `what` names it in the error. */
uint8_t cursor_u8(struct cursor *c, const char *what);
uint16_t cursor_u16(struct cursor *c, const char *what);
uint32_t cursor_u32(struct cursor *c, const char *what);
uint64_t cursor_u64(struct cursor *c, const char *what);
float cursor_f32(struct cursor *c, const char *what);
double cursor_f64(struct cursor *c, const char *what);

/* n borrowed bytes; empty on failure. */
struct bytes cursor_bytes(struct cursor *c, uint64_t n, const char *what);

static inline uint64_t cursor_left(const struct cursor *c)
{
    return c->size - c->position;
}

#endif

/* Bytes as base64url text. */
#ifndef SHOAL_SECURE_TEXT_H
#define SHOAL_SECURE_TEXT_H

#include "base/bytes.h"

/* Without padding (RFC 4648 section 5). out: base64url_size(size) + 1 bytes. */
static inline size_t base64url_size(size_t size)
{
    return (size * 4 + 2) / 3;
}
void base64url_format(char *out, const uint8_t *data, size_t size);

/* At most capacity bytes; *size of them. False for foreign characters, an impossible length, bits
 * left over that aren't zero (one text for one value), or too many. */
bool base64url_parse(uint8_t *out, size_t capacity, size_t *size, struct bytes text);

#endif

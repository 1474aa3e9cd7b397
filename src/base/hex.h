/* Bytes as hexadecimal text. */
#ifndef SHOAL_BASE_HEX_H
#define SHOAL_BASE_HEX_H

#include "base/bytes.h"

/* Small letters and a NUL. out: 2 * size + 1 bytes. */
void hex_format(char *out, const uint8_t *data, size_t size);

/* Exactly size bytes from 2 * size digits of either case. False otherwise; out is then not
 * meaningful. */
bool hex_parse(uint8_t *out, size_t size, struct bytes text);

#endif

/* UTF-8, one character at a time. */
#ifndef SHOAL_BASE_UTF8_H
#define SHOAL_BASE_UTF8_H

#include "base/bytes.h"

#define UTF8_MAX 4 /* bytes of a character */
#define UTF8_REPLACEMENT 0xfffdu

/* Reads the character at the start of text (not empty) into *ret and returns its bytes, 1 to 4.
 * 0 for what no more bytes can make valid: overlong forms, surrogates, beyond U+10FFFF, stray
 * bytes. -n when the text ends inside a character whose n bytes are right so far. Source: The
 * Unicode Standard, table 3-7. */
int utf8_read(struct bytes text, uint32_t *ret);

/* Writes a character (below 0x110000) and returns its bytes. */
int utf8_write(uint32_t c, uint8_t ret[static UTF8_MAX]);

/* Bytes of the character that starts with `lead`, going by that byte alone; 1 for stray bytes. */
int utf8_length(uint8_t lead);

/* The most bytes, `max` at most, of which a text can be cut off without halving a character. What
 * is not UTF-8 is cut anywhere. */
size_t utf8_cut(struct bytes text, size_t max);

/* Makes a NUL-terminated text UTF-8, in place: each byte that is none becomes '?', a character that
 * the text's end cuts goes. For what was cut by its buffer or came from file names and the like:
 * JSON takes nothing else. */
void utf8_repair(char *text);

#endif

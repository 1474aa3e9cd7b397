/* The Unicode properties that WordPiece needs; utf8proc gives them where it is installed. */
#ifndef SHOAL_TOKEN_UNICODE_H
#define SHOAL_TOKEN_UNICODE_H

#include <stdbool.h>
#include <stdint.h>

#define UNICODE_MAX_PARTS 8 /* characters of one canonical decomposition; the longest has 4 */

enum unicode_class {
    UNICODE_OTHER,
    UNICODE_SPACE,
    UNICODE_CONTROL, /* Cc, Cf, Cs, Co */
    UNICODE_MARK,    /* Mn, Mc, Me */
    UNICODE_PUNCTUATION
};

/* False in a build without utf8proc: WordPiece vocabularies are then refused. */
bool unicode_available(void);
enum unicode_class unicode_class(uint32_t c);
/* Simple lower case. */
uint32_t unicode_lower(uint32_t c);
/* NFD of one character into ret; returns how many. */
int unicode_decompose(uint32_t c, uint32_t ret[static UNICODE_MAX_PARTS]);

#endif

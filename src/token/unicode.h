/* What tokenizers need of Unicode; utf8proc gives it where it is installed. */
#ifndef SHOAL_TOKEN_UNICODE_H
#define SHOAL_TOKEN_UNICODE_H

#include "base/buffer.h"

#include <stdbool.h>
#include <stdint.h>

#define UNICODE_MAX_PARTS 8 /* characters of one canonical decomposition; the longest has 4 */

enum unicode_class {
    UNICODE_OTHER,
    UNICODE_SPACE,   /* White_Space but for Cc, of which tab, line feed and return are spaces */
    UNICODE_CONTROL, /* Cc (but those three), Cf, Cs, Co */
    UNICODE_ACCENT,  /* Mn: marks that take no room of their own */
    UNICODE_PUNCTUATION
};

/* False in a build without utf8proc: vocabularies that need it are then refused. */
bool unicode_available(void);
/* As BERT's basic tokenizer sorts characters. */
enum unicode_class unicode_class(uint32_t c);
/* Simple lower case. */
uint32_t unicode_lower(uint32_t c);
/* NFD of one character into ret; returns how many. */
int unicode_decompose(uint32_t c, uint32_t ret[static UNICODE_MAX_PARTS]);

/* Appends text, which is valid UTF-8, in normalization form C. Time is linear, however many marks
 * stand on a letter. FAIL_NOMEM, FAIL_LIMIT by out's bound; FAIL_UNSUPPORTED without utf8proc.
 * Source: Unicode Standard Annex 15. */
int unicode_compose(struct bytes text, struct buffer *out, struct error *e);

#endif

/* Bytes of tokens, and of errors that quote them, as text. */
#ifndef SHOAL_API_TEXT_H
#define SHOAL_API_TEXT_H

#include "base/bytes.h"

#include <jansson.h>

/* Bytes as a JSON string; what isn't UTF-8 becomes U+FFFD. NULL without memory. */
json_t *text_json(struct bytes text);
/* Code points, counted as text_json writes them. */
size_t text_length(struct bytes text);

#endif

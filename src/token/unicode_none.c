/* A build without utf8proc: see unicode.h. */
#include "token/unicode.h"

bool unicode_available(void)
{
    return false;
}

enum unicode_class unicode_class(uint32_t c)
{
    (void)c;
    return UNICODE_OTHER;
}

uint32_t unicode_lower(uint32_t c)
{
    return c;
}

int unicode_decompose(uint32_t c, uint32_t ret[static UNICODE_MAX_PARTS])
{
    ret[0] = c;
    return 1;
}

int unicode_compose(struct bytes text, struct buffer *out, struct error *e)
{
    (void)text;
    (void)out;
    return fail(e, FAIL_UNSUPPORTED, "normalizing text needs a build with utf8proc");
}

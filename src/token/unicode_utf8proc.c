/* Unicode properties from utf8proc: see unicode.h. */
#include "token/unicode.h"

#include <utf8proc.h>

bool unicode_available(void)
{
    return true;
}

/* The characters of the property White_Space; the separators of utf8proc are a subset. */
static bool is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

enum unicode_class unicode_class(uint32_t c)
{
    if (is_space(c))
        return UNICODE_SPACE;
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
        return UNICODE_CONTROL;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return UNICODE_MARK;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
        return UNICODE_PUNCTUATION;
    default:
        return UNICODE_OTHER;
    }
}

uint32_t unicode_lower(uint32_t c)
{
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
}

int unicode_decompose(uint32_t c, uint32_t ret[static UNICODE_MAX_PARTS])
{
    utf8proc_int32_t parts[UNICODE_MAX_PARTS];
    int boundary = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)c, parts, UNICODE_MAX_PARTS,
                                                 UTF8PROC_DECOMPOSE, &boundary);
    if (n < 1 || n > UNICODE_MAX_PARTS) {
        ret[0] = c;
        return 1;
    }
    for (int i = 0; i < n; i++)
        ret[i] = (uint32_t)parts[i];
    return (int)n;
}

/* UTF-8 as the interpreter walks over it. */
#include "jinja/internal.h"

size_t utf8_encode(uint32_t c, char out[static 4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

uint32_t utf8_next(const char *text, size_t size, size_t *i)
{
    const uint8_t *s = (const uint8_t *)text;
    uint32_t c = s[(*i)++];
    if (c < 0x80)
        return c;
    int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    c &= 0x3fu >> more;
    while (more-- && *i < size)
        c = c << 6 | (s[(*i)++] & 0x3f);
    return c;
}

size_t utf8_back(const char *text, size_t i)
{
    while (i > 0 && ((uint8_t)text[--i] & 0xc0) == 0x80)
        ;
    return i;
}

bool utf8_check(struct bytes text, size_t *points)
{
    const uint8_t *s = text.data;
    size_t n = 0;
    for (size_t i = 0; i < text.size; n++) {
        uint8_t c = s[i];
        if (c < 0x80) {
            i++;
            continue;
        }
        size_t more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
        if (c < 0xc2 || c > 0xf4 || text.size - i <= more)
            return false;
        for (size_t k = 1; k <= more; k++)
            if ((s[i + k] & 0xc0) != 0x80)
                return false;
        uint8_t d = s[i + 1];
        /* Overlong forms, surrogates, and what is above U+10FFFF. */
        if ((c == 0xe0 && d < 0xa0) || (c == 0xed && d > 0x9f) || (c == 0xf0 && d < 0x90) ||
            (c == 0xf4 && d > 0x8f))
            return false;
        i += more + 1;
    }
    if (points)
        *points = n;
    return true;
}

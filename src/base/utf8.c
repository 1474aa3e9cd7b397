/* UTF-8: see utf8.h. */
#include "base/utf8.h"

int utf8_length(uint8_t lead)
{
    return lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

int utf8_read(struct bytes text, uint32_t *ret)
{
    uint8_t lead = text.data[0];
    if (lead < 0x80) {
        *ret = lead;
        return 1;
    }
    if (lead < 0xc2 || lead > 0xf4)
        return 0;
    int n = utf8_length(lead);
    uint32_t c = lead & (0x7fu >> n);
    for (int i = 1; i < n; i++) {
        if ((size_t)i >= text.size)
            return -i;
        uint8_t b = text.data[i];
        uint8_t low = 0x80, high = 0xbf;
        if (i == 1) {
            low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
            high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        }
        if (b < low || b > high)
            return 0;
        c = c << 6 | (b & 0x3f);
    }
    *ret = c;
    return n;
}

int utf8_write(uint32_t c, uint8_t ret[static UTF8_MAX])
{
    if (c < 0x80) {
        ret[0] = (uint8_t)c;
        return 1;
    }
    int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--) {
        ret[i] = (uint8_t)(0x80 | (c & 0x3f));
        c >>= 6;
    }
    ret[0] = (uint8_t)((0xf00u >> n & 0xff) | c);
    return n;
}

void utf8_repair(char *text)
{
    struct bytes left = bytes_text(text);
    while (left.size > 0) {
        uint32_t c;
        int n = utf8_read(left, &c);
        char *at = text + (left.data - (const uint8_t *)text);
        if (n < 0) {
            *at = '\0';
            return;
        }
        if (n == 0)
            *at = '?';
        n = n > 0 ? n : 1;
        left = bytes_of(left.data + n, left.size - (size_t)n);
    }
}

size_t utf8_cut(struct bytes text, size_t max)
{
    if (text.size <= max)
        return text.size;
    /* The last character that begins before the cut; it is whole, or the cut lies before it. */
    for (size_t back = 1; back <= UTF8_MAX && back <= max; back++) {
        size_t at = max - back;
        uint32_t c;
        if ((text.data[at] & 0xc0) != 0x80) {
            int n = utf8_read(bytes_of(text.data + at, text.size - at), &c);
            return n > 0 && (size_t)n > back ? at : max;
        }
    }
    return max;
}

/* Properties and case forms of code points, as Python's str methods have them. */
#include "jinja/internal.h"

struct range {
    uint32_t first, last;
};

struct mapping {
    uint32_t first, last;
    int32_t stride; /* every one, or every other one */
    int32_t delta;
};

struct special {
    uint32_t point;
    int count;
    uint32_t to[3];
};

#include "jinja/unicode.inc"

static bool in_ranges(const struct range *table, size_t n, uint32_t c)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (c > table[mid].last)
            low = mid + 1;
        else
            high = mid;
    }
    return low < n && c >= table[low].first;
}

static uint32_t map_point(const struct mapping *table, size_t n, uint32_t c)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (c > table[mid].last)
            low = mid + 1;
        else
            high = mid;
    }
    if (low < n && c >= table[low].first &&
        (c - table[low].first) % (uint32_t)table[low].stride == 0)
        return (uint32_t)((int32_t)c + table[low].delta);
    return c;
}

#define IN(table, c) in_ranges(table, ARRAY_LEN(table), c)

bool unicode_is_space(uint32_t c)
{
    return c < 0x80 ? c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f) : IN(space, c);
}

bool unicode_is_alpha(uint32_t c)
{
    return c < 0x80 ? (c | 32) >= 'a' && (c | 32) <= 'z' : IN(alpha, c);
}

bool unicode_is_digit(uint32_t c)
{
    return IN(digit, c);
}

bool unicode_is_decimal(uint32_t c)
{
    return IN(decimal, c);
}

bool unicode_is_numeric(uint32_t c)
{
    return c < 0x80 ? c >= '0' && c <= '9' : IN(numeric, c);
}

bool unicode_is_printable(uint32_t c)
{
    return c < 0x7f ? c >= 0x20 : !IN(unprintable, c);
}

bool unicode_is_upper(uint32_t c)
{
    return c < 0x80 ? c >= 'A' && c <= 'Z' : IN(upper, c);
}

bool unicode_is_lower(uint32_t c)
{
    return c < 0x80 ? c >= 'a' && c <= 'z' : IN(lower, c);
}

bool unicode_is_title(uint32_t c)
{
    return IN(titled, c);
}

#undef IN

int unicode_case(uint32_t c, enum text_case to, uint32_t out[static 3])
{
    static const struct {
        const struct mapping *mappings;
        size_t n;
        const struct special *specials;
        size_t n_specials;
    } tables[] = {
        [CASE_LOWER] = { to_lower, ARRAY_LEN(to_lower), special_lower, ARRAY_LEN(special_lower) },
        [CASE_UPPER] = { to_upper, ARRAY_LEN(to_upper), special_upper, ARRAY_LEN(special_upper) },
        [CASE_TITLE] = { to_title, ARRAY_LEN(to_title), special_title, ARRAY_LEN(special_title) },
        [CASE_FOLD] = { to_fold, ARRAY_LEN(to_fold), special_fold, ARRAY_LEN(special_fold) },
    };
    if (c < 0x80) {
        bool change =
            to == CASE_LOWER || to == CASE_FOLD ? unicode_is_upper(c) : unicode_is_lower(c);
        out[0] = change ? c ^ 0x20 : c;
        return 1;
    }
    for (size_t i = 0; i < tables[to].n_specials; i++) {
        const struct special *s = &tables[to].specials[i];
        if (s->point == c) {
            memcpy(out, s->to, sizeof(s->to));
            return s->count;
        }
    }
    out[0] = map_point(tables[to].mappings, tables[to].n, c);
    return 1;
}

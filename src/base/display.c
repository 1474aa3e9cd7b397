/* Text fit to be shown: see display.h. */
#include "base/display.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

struct range {
    uint32_t first, last;
};

static bool in_ranges(const struct range *ranges, size_t n, uint32_t c)
{
    for (size_t i = 0; i < n; i++)
        if (c >= ranges[i].first && c <= ranges[i].last)
            return true;
    return false;
}

bool display_is_safe(uint32_t c)
{
    static const struct range unsafe[] = {
        { 0x00, 0x1f },       /* C0 */
        { 0x7f, 0x9f },       /* DEL, C1: U+009B begins a sequence as ESC [ does */
        { 0x061c, 0x061c },   /* Arabic letter mark */
        { 0x200e, 0x200f },   /* left-to-right and right-to-left mark */
        { 0x2028, 0x202e },   /* separators of lines; embeddings and overrides */
        { 0x2066, 0x206f },   /* isolates; deprecated format characters */
        { 0xfeff, 0xfeff },   /* a byte order mark */
        { 0xfff9, 0xfffb },   /* interlinear annotation */
        { 0xe0000, 0xe0fff }, /* tags: invisible text */
        { 0x110000, ~0u },    /* no character */
    };
    return !in_ranges(unsafe, sizeof unsafe / sizeof unsafe[0], c);
}

/* Source: Unicode 15, EastAsianWidth.txt (W and F) and the blocks of combining marks; unassigned
 * places within the blocks count as the block. */
int display_columns(uint32_t c)
{
    static const struct range combining[] = {
        { 0x0300, 0x036f }, { 0x0483, 0x0489 }, { 0x0591, 0x05bd }, { 0x064b, 0x065f },
        { 0x1ab0, 0x1aff }, { 0x1dc0, 0x1dff }, { 0x200b, 0x200f }, { 0x20d0, 0x20ff },
        { 0xfe00, 0xfe0f }, { 0xfe20, 0xfe2f },
    };
    static const struct range wide[] = {
        { 0x1100, 0x115f },   { 0x2e80, 0x303e },   { 0x3041, 0xa4cf },   { 0xa960, 0xa97f },
        { 0xac00, 0xd7a3 },   { 0xf900, 0xfaff },   { 0xfe30, 0xfe6f },   { 0xff00, 0xff60 },
        { 0xffe0, 0xffe6 },   { 0x1f300, 0x1f64f }, { 0x1f680, 0x1f6ff }, { 0x1f900, 0x1f9ff },
        { 0x20000, 0x3fffd },
    };
    if (c < combining[0].first)
        return 1;
    if (in_ranges(combining, sizeof combining / sizeof combining[0], c))
        return 0;
    return 1 + in_ranges(wide, sizeof wide / sizeof wide[0], c);
}

/* The next character of text from *i on, which moves behind it; false for a byte that is none. */
static bool next(struct bytes text, size_t *i, uint32_t *c)
{
    int n = utf8_read(bytes_of(text.data + *i, text.size - *i), c);
    /* A character that the text's end cuts is one fault, not one a byte. */
    *i += n > 0 ? (size_t)n : n < 0 ? text.size - *i : 1;
    return n > 0;
}

size_t display_width(struct bytes text)
{
    size_t width = 0;
    uint32_t c;
    for (size_t i = 0; i < text.size;)
        width += next(text, &i, &c) ? (size_t)display_columns(c) : 1;
    return width;
}

int display_append(struct buffer *b, struct bytes text, enum display_kind kind)
{
    int r = 0;
    for (size_t i = 0; i < text.size && !r;) {
        size_t from = i;
        uint32_t c;
        bool is_text = next(text, &i, &c);
        bool keep =
            is_text && (display_is_safe(c) || (kind == DISPLAY_TEXT && (c == '\n' || c == '\t')));
        if (keep)
            r = buffer_append(b, bytes_of(text.data + from, i - from));
        else if (!is_text || kind == DISPLAY_LINE)
            r = buffer_u8(b, '?');
    }
    return r;
}

char *display_copy(char *ret, size_t size, struct bytes text)
{
    size_t n = 0;
    assert(size > 0);
    for (size_t i = 0; i < text.size;) {
        size_t from = i;
        uint32_t c;
        bool keep = next(text, &i, &c) && display_is_safe(c);
        size_t more = keep ? i - from : 1;
        if (n + more >= size)
            break;
        memcpy(ret + n, keep ? (const char *)text.data + from : "?", more);
        n += more;
    }
    ret[n] = '\0';
    return ret;
}

/* --- as printf --- */

/* One conversion of a format. */
struct conversion {
    char flags[8];
    int width;     /* -1: none */
    int precision; /* -1: none */
    char length;   /* 0, 'h', 'l', 'L' (long long), 'z', 'j' or 't' */
    char kind;
};

/* va_list may be an array type, which a pointer to a parameter of it would not be. */
struct arguments {
    va_list list;
};

static int take_number(const char **format, struct arguments *a)
{
    if (**format == '*') {
        ++*format;
        return va_arg(a->list, int);
    }
    int n = 0;
    for (; **format >= '0' && **format <= '9' && n < 100000; ++*format)
        n = n * 10 + (**format - '0');
    return n;
}

/* Reads what stands after '%' and moves behind it. */
static struct conversion take_conversion(const char **format, struct arguments *a)
{
    struct conversion c = { .width = -1, .precision = -1 };
    size_t n = 0;
    for (; **format && strchr("-+ #0", **format) && n < sizeof c.flags - 2; ++*format)
        c.flags[n++] = **format;
    if (**format == '*' || (**format >= '1' && **format <= '9'))
        c.width = take_number(format, a);
    if (c.width < -1) { /* as printf has it: a flag and a width */
        c.width = -c.width;
        c.flags[n++] = '-';
    }
    if (**format == '.') {
        ++*format;
        c.precision = take_number(format, a);
    }
    for (; **format && strchr("hlzjt", **format); ++*format)
        c.length = c.length == 'l' ? 'L' : **format;
    c.kind = *(*format)++;
    return c;
}

static long long take_signed(const struct conversion *c, struct arguments *a)
{
    switch (c->length) {
    case 'l':
        return va_arg(a->list, long);
    case 'L':
        return va_arg(a->list, long long);
    case 'z':
    case 't':
        return va_arg(a->list, ptrdiff_t);
    case 'j':
        return va_arg(a->list, intmax_t);
    default:
        return va_arg(a->list, int);
    }
}

static unsigned long long take_unsigned(const struct conversion *c, struct arguments *a)
{
    switch (c->length) {
    case 'l':
        return va_arg(a->list, unsigned long);
    case 'L':
        return va_arg(a->list, unsigned long long);
    case 'z':
    case 't':
        return va_arg(a->list, size_t);
    case 'j':
        return va_arg(a->list, uintmax_t);
    default:
        return va_arg(a->list, unsigned);
    }
}

/* A text of at most `precision` bytes, padded to `width` columns. */
static int put_text(struct buffer *b, const struct conversion *c, const char *text)
{
    struct bytes all;
    if (!text || c->precision < 0) {
        all = bytes_text(text ? text : c->precision == 0 ? "" : "(none)");
    } else {
        const char *end = memchr(text, '\0', (size_t)c->precision);
        size_t seen = end ? (size_t)(end - text) : (size_t)c->precision;
        size_t cut = 0;
        /* Whatever comes behind may not be read: the last character is whole or is left out. */
        for (size_t i = 0; i < seen; cut = i) {
            uint32_t point;
            int n = utf8_read(bytes_of(text + i, seen - i), &point);
            if (n < 0)
                break;
            i += n > 0 ? (size_t)n : 1;
        }
        all = bytes_of(text, cut);
    }
    struct buffer shown;
    buffer_init(&shown, SIZE_MAX);
    int r = display_append(&shown, all, DISPLAY_LINE);
    bool left = strchr(c->flags, '-') != NULL;
    if (!r && left)
        r = buffer_append(b, buffer_bytes(&shown));
    for (size_t i = display_width(buffer_bytes(&shown)); !r && (int)i < c->width; i++)
        r = buffer_u8(b, ' ');
    if (!r && !left)
        r = buffer_append(b, buffer_bytes(&shown));
    buffer_done(&shown);
    return r;
}

/* The C library prints numbers; their texts hold nothing but ASCII. */
static int put_number(struct buffer *b, const struct conversion *c, struct arguments *a)
{
    char spec[32];
    bool real = strchr("feEgGF", c->kind) != NULL, letter = c->kind == 'c';
    int width = c->width < 0 ? 0 : c->width;
    /* A precision of -1 counts as none: C11 7.21.6.1. */
    snprintf(spec, sizeof spec, letter ? "%%%s*%s%c" : "%%%s*.*%s%c", c->flags,
             real || letter ? "" : "ll", c->kind);
    if (letter)
        return buffer_printf(b, spec, width, va_arg(a->list, int));
    if (real)
        return buffer_printf(b, spec, width, c->precision, va_arg(a->list, double));
    if (strchr("di", c->kind))
        return buffer_printf(b, spec, width, c->precision, take_signed(c, a));
    return buffer_printf(b, spec, width, c->precision, take_unsigned(c, a));
}

int display_vprintf(struct buffer *b, const char *format, va_list args)
{
    struct arguments a;
    int r = 0;
    va_copy(a.list, args);
    while (*format && !r) {
        size_t plain = strcspn(format, "%");
        r = buffer_append(b, bytes_of(format, plain));
        format += plain;
        if (r || !*format)
            break;
        format++;
        struct conversion c = take_conversion(&format, &a);
        assert(c.kind && strchr("%diuxXocsfeEgGF", c.kind));
        if (c.kind == '%')
            r = buffer_u8(b, '%');
        else if (c.kind == 's')
            r = put_text(b, &c, va_arg(a.list, const char *));
        else
            r = put_number(b, &c, &a);
    }
    va_end(a.list);
    return r;
}

int display_printf(struct buffer *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int r = display_vprintf(b, format, args);
    va_end(args);
    return r;
}

int display_json(struct buffer *b, struct bytes json)
{
    int r = 0;
    for (size_t i = 0; i < json.size && !r;) {
        size_t from = i;
        uint32_t c = 0;
        bool is_text = next(json, &i, &c);
        bool layout = c == '\n' || c == '\t' || c == '\r';
        if (!is_text)
            r = buffer_u8(b, '?');
        else if (display_is_safe(c) || layout)
            r = buffer_append(b, bytes_of(json.data + from, i - from));
        else if (c < 0x10000)
            r = buffer_printf(b, "\\u%04x", (unsigned)c);
        else
            r = buffer_printf(b, "\\u%04x\\u%04x", 0xd7c0u + (unsigned)(c >> 10),
                              0xdc00u + (unsigned)(c & 0x3ff));
    }
    return r;
}

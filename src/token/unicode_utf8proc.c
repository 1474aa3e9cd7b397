/* Unicode from utf8proc: see unicode.h. */
#include "token/unicode.h"

#include <stdlib.h>
#include <utf8proc.h>

#include "base/array.h"
#include "base/utf8.h"

#define CLASSES 256 /* of canonical combining: one byte */

bool unicode_available(void)
{
    return true;
}

static bool is_space(uint32_t c)
{
    return c == '\t' || c == '\n' || c == '\r' || c == ' ' || c == 0xa0 || c == 0x1680 ||
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
        return UNICODE_ACCENT;
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

/* Characters of one segment: from one that composition never looks behind to the next. */
struct segment {
    utf8proc_int32_t *chars; /* owned */
    size_t count, capacity;
};

/* Stays as it is, and never joins the character before it: everything below the combining marks,
 * and the ideographs, so that most texts are copied and segments are short. */
static bool is_plain(uint32_t c)
{
    return c < 0x300 || (c >= 0x3400 && c <= 0x9fff);
}

static int combining_class(utf8proc_int32_t c)
{
    return utf8proc_get_property(c)->combining_class;
}

static int segment_add(struct segment *s, uint32_t c, struct error *e)
{
    uint32_t parts[UNICODE_MAX_PARTS];
    int n = unicode_decompose(c, parts);
    utf8proc_int32_t *grown =
        array_grow(s->chars, &s->capacity, s->count + UNICODE_MAX_PARTS, sizeof(*grown), SIZE_MAX);
    if (!grown)
        return fail(e, FAIL_NOMEM, "normalizing %zu characters", s->count);
    s->chars = grown;
    for (int i = 0; i < n; i++)
        s->chars[s->count++] = (utf8proc_int32_t)parts[i];
    return 0;
}

/* Sorts n marks by their class and keeps the order of equals: by counting, since a text may put a
 * million marks on one letter and utf8proc's own sorting is quadratic. */
static int sort_marks(utf8proc_int32_t *marks, size_t n, struct error *e)
{
    size_t at[CLASSES + 1] = { 0 };
    bool sorted = true;
    for (size_t i = 0; i < n; i++) {
        at[combining_class(marks[i]) + 1]++;
        sorted = sorted && (i == 0 || combining_class(marks[i - 1]) <= combining_class(marks[i]));
    }
    if (sorted)
        return 0;
    for (int c = 0; c < CLASSES; c++)
        at[c + 1] += at[c];
    utf8proc_int32_t *copy = malloc(n * sizeof(*copy));
    if (!copy)
        return fail(e, FAIL_NOMEM, "%zu combining marks", n);
    memcpy(copy, marks, n * sizeof(*copy));
    for (size_t i = 0; i < n; i++)
        marks[at[combining_class(copy[i])]++] = copy[i];
    free(copy);
    return 0;
}

/* Orders and composes the segment, appends it and leaves it empty. */
static int segment_end(struct segment *s, struct buffer *out, struct error *e)
{
    for (size_t i = 0, end; i < s->count; i = end) {
        end = i + 1;
        if (combining_class(s->chars[i]) == 0)
            continue;
        while (end < s->count && combining_class(s->chars[end]) != 0)
            end++;
        int r = end - i > 1 ? sort_marks(s->chars + i, end - i, e) : 0;
        if (r)
            return r;
    }
    utf8proc_ssize_t n = utf8proc_normalize_utf32(s->chars, (utf8proc_ssize_t)s->count,
                                                  UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        uint8_t text[UTF8_MAX];
        buffer_append(out, bytes_of(text, (size_t)utf8_write((uint32_t)s->chars[i], text)));
    }
    s->count = 0;
    return out->failed ? fail(e, FAIL_NOMEM, "a normalized text") : 0;
}

int unicode_compose(struct bytes text, struct buffer *out, struct error *e)
{
    struct segment s = { 0 };
    size_t done = 0, last = 0; /* copied so far; where the plain character before stands */
    int r = 0;
    for (size_t i = 0; i < text.size && r == 0;) {
        uint32_t c = UTF8_REPLACEMENT;
        int n = utf8_read(bytes_of(text.data + i, text.size - i), &c);
        if (is_plain(c)) {
            if (s.count) {
                r = segment_end(&s, out, e);
                done = i;
            }
            last = i;
        } else {
            if (s.count == 0) {
                uint32_t before;
                buffer_append(out, bytes_of(text.data + done, last - done));
                if (i > 0 && utf8_read(bytes_of(text.data + last, text.size - last), &before) > 0)
                    r = segment_add(&s, before, e);
            }
            r = r ? r : segment_add(&s, c, e);
        }
        i += n > 0 ? (size_t)n : 1;
    }
    if (r == 0 && s.count)
        r = segment_end(&s, out, e);
    else if (r == 0)
        buffer_append(out, bytes_of(text.data + done, text.size - done));
    free(s.chars);
    return r || !out->failed ? r : fail(e, FAIL_NOMEM, "a normalized text");
}

/* Text on its way to a terminal: what comes out is UTF-8 that may be shown, and stays as it is when
 * it goes through again; JSON keeps its meaning; nothing is cut inside a character. */
#include "fuzz/fuzz.h"

#include <assert.h>
#include <jansson.h>

#include "base/display.h"
#include "base/model_name.h"
#include "base/utf8.h"

#define LIMIT ((size_t)1 << 20)

/* Of UTF-8 that may be shown; lines: with line ends and tabs. */
static bool is_fit(struct bytes text, bool lines)
{
    for (size_t i = 0; i < text.size;) {
        uint32_t c = 0;
        int n = utf8_read(bytes_of(text.data + i, text.size - i), &c);
        if (n <= 0 || !(display_is_safe(c) || (lines && (c == '\n' || c == '\t'))))
            return false;
        i += (size_t)n;
    }
    return true;
}

static bool is_utf8(struct bytes text)
{
    uint32_t c;
    for (size_t i = 0; i < text.size;) {
        int n = utf8_read(bytes_of(text.data + i, text.size - i), &c);
        if (n <= 0)
            return false;
        i += (size_t)n;
    }
    return true;
}

static void check_append(struct bytes text, enum display_kind kind)
{
    struct buffer once, twice;
    buffer_init(&once, LIMIT);
    buffer_init(&twice, LIMIT);
    assert(display_append(&once, text, kind) == 0);
    assert(is_fit(buffer_bytes(&once), kind == DISPLAY_TEXT));
    assert(display_append(&twice, buffer_bytes(&once), kind) == 0);
    assert(bytes_equal(buffer_bytes(&once), buffer_bytes(&twice)));
    buffer_done(&once);
    buffer_done(&twice);
}

static void check_cuts(struct bytes text)
{
    for (size_t max = 0; max < 16; max++) {
        char copy[16];
        size_t n = utf8_cut(text, max);
        assert(n <= max && n <= text.size && (n + UTF8_MAX > max || n == text.size));
        assert(!is_utf8(text) || is_utf8(bytes_of(text.data, n)));
        display_copy(copy, max + (max == 0), text);
        assert(strlen(copy) < (max ? max : 1) && is_fit(bytes_text(copy), false));
    }
}

static void check_json(struct bytes text)
{
    const size_t flags = JSON_ALLOW_NUL | JSON_DECODE_ANY;
    struct buffer shown;
    buffer_init(&shown, LIMIT);
    assert(display_json(&shown, text) == 0);
    json_t *before = json_loadb((const char *)text.data, text.size, flags, NULL);
    json_t *after = json_loadb(buffer_cstr(&shown), shown.size, flags, NULL);
    /* A NUL ends jansson's input early: what it takes then is no JSON. */
    assert(!before || memchr(text.data, 0, text.size) || json_equal(before, after));
    json_decref(before);
    json_decref(after);
    buffer_done(&shown);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    struct bytes text = bytes_of(data, size);
    check_append(text, DISPLAY_LINE);
    check_append(text, DISPLAY_TEXT);
    check_cuts(text);
    if (size > 0)
        check_json(text);
    struct model_name name = model_name_parse(text);
    assert(name.stem <= size && name.part <= name.parts && (name.stem > 0 || size == 0));
}

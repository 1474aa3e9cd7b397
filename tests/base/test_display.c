/* Text from outside on a terminal: what passes, what doesn't, and that nothing else changes. */
#include "tests/test.h"

#include <stdio.h>

#include "base/display.h"
#include "base/utf8.h"

static void expect(const char *text, const char *line, const char *lines)
{
    struct buffer b;
    buffer_init(&b, 1 << 20);
    assert_int_equal(display_append(&b, bytes_text(text), DISPLAY_LINE), 0);
    assert_string_equal(buffer_cstr(&b), line);
    buffer_clear(&b);
    assert_int_equal(display_append(&b, bytes_text(text), DISPLAY_TEXT), 0);
    assert_string_equal(buffer_cstr(&b), lines);
    buffer_done(&b);
}

static void makes_text_fit(void **state)
{
    (void)state;
    expect("plain \xc3\xa4 \xe4\xb8\xad \xf0\x9f\x98\x80",
           "plain \xc3\xa4 \xe4\xb8\xad \xf0\x9f\x98\x80",
           "plain \xc3\xa4 \xe4\xb8\xad \xf0\x9f\x98\x80");
    expect("a\x1b[31mb\x1b]0;t\x07", "a?[31mb?]0;t?", "a[31mb]0;t");
    expect("a\nb\tc\rd\x7f", "a?b?c?d?", "a\nb\tcd");
    expect("a\xc2\x9b"
           "31mb",
           "a?31mb", "a31mb"); /* U+009B: CSI in one character */
    expect("a\xe2\x80\xae"
           "b\xe2\x81\xa6"
           "c\xd8\x9c"
           "d",
           "a?b?c?d", "abcd"); /* bidirectional */
    expect("a\xe2\x80\xa8"
           "b\xef\xbb\xbf",
           "a?b?", "ab");
    expect("a\xf3\xa0\x81\x81", "a?", "a"); /* a tag */
    expect("gr\xfc\xdf"
           "e",
           "gr??e", "gr??e");
    expect("cut \xe4\xb8", "cut ?", "cut ?");
    expect("\xc0\x80 \xed\xa0\x80", "?? ???", "?? ???"); /* overlong, a surrogate */
}

/* Every character there is: what comes out is UTF-8 of safe characters only, and text stays. */
static void leaves_nothing_unsafe(void **state)
{
    (void)state;
    struct buffer b;
    buffer_init(&b, 64);
    for (uint32_t c = 0; c < 0x110000; c++) {
        uint8_t raw[UTF8_MAX];
        uint32_t got = 0;
        size_t n = (size_t)utf8_write(c, raw);
        buffer_clear(&b);
        assert_int_equal(display_append(&b, bytes_of(raw, n), DISPLAY_LINE), 0);
        if (c >= 0xd800 && c < 0xe000) { /* no characters */
            assert_string_equal(buffer_cstr(&b), "???");
            continue;
        }
        assert_true(b.size > 0 && utf8_read(buffer_bytes(&b), &got) == (int)b.size);
        if (display_is_safe(c))
            assert_int_equal(got, c);
        else
            assert_int_equal(got, '?');
        if (c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c <= 0x202e) ||
            (c >= 0x2066 && c <= 0x2069) || c == 0x200e || c == 0x200f || c == 0x61c)
            assert_false(display_is_safe(c));
    }
    for (uint32_t c = 0x20; c < 0x7f; c++)
        assert_true(display_is_safe(c));
    buffer_done(&b);
}

static void copies_whole_characters(void **state)
{
    (void)state;
    char text[6];
    assert_string_equal(display_copy(text, sizeof text, bytes_text("abcdefgh")), "abcde");
    assert_string_equal(display_copy(text, sizeof text, bytes_text("abcd\xc3\xa4")), "abcd");
    assert_string_equal(display_copy(text, sizeof text, bytes_text("a\nb")), "a?b");
    assert_string_equal(display_copy(text, 1, bytes_text("abc")), "");
}

static void cuts_between_characters(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t max, cut;
    } cases[] = {
        { "abc", 5, 3 },
        { "abc", 2, 2 },
        { "a\xc3\xa4", 2, 1 },
        { "a\xc3\xa4", 3, 3 },
        { "\xe4\xb8\xad!", 2, 0 },
        { "\xe4\xb8\xad!", 3, 3 },
        { "\xf0\x9f\x98\x80", 3, 0 },
        { "\x80\x80\x80\x80\x80\x80", 5, 5 }, /* no text: anywhere */
        { "\xff\xff\xff", 2, 2 },
        { "", 0, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(utf8_cut(bytes_text(cases[i].text), cases[i].max), cases[i].cut);
}

#define PRINTS(expected, ...)                                                                      \
    do {                                                                                           \
        struct buffer b_;                                                                          \
        buffer_init(&b_, 1 << 16);                                                                 \
        assert_int_equal(display_printf(&b_, __VA_ARGS__), 0);                                     \
        assert_string_equal(buffer_cstr(&b_), expected);                                           \
        buffer_done(&b_);                                                                          \
    } while (0)

static void prints_as_printf(void **state)
{
    (void)state;
    PRINTS("plain", "plain");
    PRINTS("", "%s", "");
    PRINTS("100 %", "%d %%", 100);
    PRINTS("   -7|-7   |007", "%5d|%-5d|%03d", -7, -7, 7);
    PRINTS("18446744073709551615 -9223372036854775808", "%llu %lld", ~0ull,
           -9223372036854775807ll - 1);
    PRINTS("12 0x1f 1F", "%zu %#x %X", (size_t)12, 31u, 31u);
    PRINTS("3.14  2.5 1e+30", "%.2f %4.1f %g", 3.14159, 2.5, 1e30);
    PRINTS("  ab|ab  |a", "%4s|%-4s|%.1s", "ab", "ab", "ab");
    PRINTS("  ab|ab  |a", "%*s|%-*s|%.*s", 4, "ab", 4, "ab", 1, "ab");
    PRINTS("ab  |", "%*s|", -4, "ab");
    PRINTS("xc", "x%c", 'c');
}

static void prints_arguments_fit(void **state)
{
    (void)state;
    PRINTS("name ?[2J?end\n", "name %s\n", "\x1b[2J\nend");
    PRINTS("\xc3\xa4  |", "%-3s|", "\xc3\xa4");                   /* columns, not bytes */
    PRINTS(" \xe4\xb8\xad|", "%3s|", "\xe4\xb8\xad");             /* a wide one has two */
    PRINTS("a|", "%.2s|", "a\xc3\xa4");                           /* no half character */
    PRINTS("a?b", "%.*s", 3, (const char[]){ 'a', '\xff', 'b' }); /* no NUL: never read beyond */
}

static void json_stays_json(void **state)
{
    (void)state;
    struct buffer b;
    buffer_init(&b, 4096);
    const char *json = "{\"n\xc3\xa4me\": \"a\xc2\x9b"
                       "b\xe2\x80\xae\x7f\\u001b\xf3\xa0\x81\x81\"}\n";
    assert_int_equal(display_json(&b, bytes_text(json)), 0);
    assert_string_equal(buffer_cstr(&b),
                        "{\"n\xc3\xa4me\": \"a\\u009bb\\u202e\\u007f\\u001b\\udb40\\udc41\"}\n");
    buffer_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(makes_text_fit),          cmocka_unit_test(leaves_nothing_unsafe),
        cmocka_unit_test(copies_whole_characters), cmocka_unit_test(cuts_between_characters),
        cmocka_unit_test(prints_as_printf),        cmocka_unit_test(prints_arguments_fit),
        cmocka_unit_test(json_stays_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

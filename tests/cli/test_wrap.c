/* Words at a terminal's margin, seen on a small terminal of our own. */
#include "tests/test.h"

#include <stdio.h>

#include "base/random.h"
#include "cli/wrap.h"

#define COLUMNS 20
#define SCREEN (1 << 16)

/* Obeys what wrap_add sends: characters of one column, line ends, "back N columns" and "clear to
 * the end of the line". The lines stay in `to`, joined by '\n'. */
static void show(const char *sent, char *to)
{
    size_t n = 0;
    for (const char *p = sent; *p; p++) {
        if (*p != '\033') {
            to[n++] = *p;
            continue;
        }
        size_t back = strtoul(p + 2, (char **)&p, 10);
        assert_int_equal(*p, 'D');
        assert_memory_equal(p + 1, "\033[K", 3);
        assert_true(back <= n && !memchr(to + n - back, '\n', back));
        n -= back;
        p += 3;
    }
    to[n] = '\0';
}

/* Sends text in pieces of the given size. */
static void send_text(const char *text, size_t piece, char *screen)
{
    struct wrap w = { 0 };
    struct buffer out;
    buffer_init(&out, SCREEN);
    for (size_t i = 0, n = strlen(text); i < n; i += piece)
        assert_int_equal(
            wrap_add(&w, bytes_of(text + i, n - i < piece ? n - i : piece), COLUMNS, &out), 0);
    show(buffer_cstr(&out), screen);
    buffer_done(&out);
}

static void expect(const char *text, const char *lines)
{
    static char screen[SCREEN];
    send_text(text, 1, screen);
    assert_string_equal(screen, lines);
    send_text(text, 1000, screen);
    assert_string_equal(screen, lines);
}

static void words_stay_whole(void **state)
{
    (void)state;
    expect("short", "short");
    expect("one two three four five", "one two three four \nfive");
    expect("exactly nineteen ab c", "exactly nineteen ab\nc");
    expect("a\n\n  indented text that breaks", "a\n\n  indented text \nthat breaks");
    expect("see averyveryverylongwordthatfitsnowhere end",
           "see \naveryveryverylongwordthatfitsnowhere \nend"); /* it ends in column 18 */
    expect("```\nint x = 1; /* no break in code */\n```\nint x = 1; /* but here */",
           "```\nint x = 1; /* no break in code */\n```\nint x = 1; /* but \nhere */");
}

/* Whatever comes: each word is whole on its line, no line is too long, no word is lost. */
static void any_text_of_short_words(void **state)
{
    (void)state;
    static char text[4096], screen[SCREEN];
    struct random r = { 5 };
    for (int round = 0; round < 300; round++) {
        size_t n = 0;
        for (int i = 0; i < 100; i++) {
            size_t letters = 1 + random_below(&r, COLUMNS - 1);
            memset(text + n, 'a' + i % 26, letters);
            n += letters;
            text[n++] = random_below(&r, 12) ? ' ' : '\n';
        }
        text[n] = '\0';
        send_text(text, 1 + random_below(&r, 9), screen);
        const char *a = text, *b = screen;
        while (*(a += strspn(a, " \n"))) {
            b += strspn(b, " \n");
            size_t word = strcspn(a, " \n");
            assert_int_equal(strcspn(b, " \n"), word);
            assert_memory_equal(a, b, word);
            a += word;
            b += word;
        }
        for (char *line = screen, *end; *line; line = *end ? end + 1 : end) {
            end = line + strcspn(line, "\n");
            assert_true(end - line < COLUMNS);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_stay_whole),
        cmocka_unit_test(any_text_of_short_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

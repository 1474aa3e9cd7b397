/* Messages of several lines, and the file of what was said. */
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "cli/history.h"
#include "cli/prompt.h"
#include "os/file.h"

static void expect_ok(int result, const struct error *e)
{
    if (result)
        fail_test("%d: %s", result, e->text);
}

/* Types lines until the message is whole; tells how many it took and what it says. */
static void expect_message(const char *const *lines, int used, const char *says)
{
    struct buffer message;
    bool more = true;
    int n = 0;
    buffer_init(&message, 1000);
    while (more) {
        assert_non_null(lines[n]);
        assert_int_equal(prompt_add_line(&message, bytes_text(lines[n]), n == 0, &more), 0);
        n++;
    }
    assert_int_equal(n, used);
    char *text = strdup(buffer_cstr(&message));
    assert_string_equal(prompt_unquote(text), says);
    free(text);
    buffer_done(&message);
}

static void lines_make_messages(void **state)
{
    (void)state;
    expect_message((const char *[]){ "one", "two", NULL }, 1, "one");
    expect_message((const char *[]){ "", NULL }, 1, "");
    expect_message((const char *[]){ "a\\", "", NULL }, 2, "a");
    expect_message((const char *[]){ "\\", "b\\", "c", NULL }, 3, "\nb\nc");
    expect_message((const char *[]){ "\"\"\"", "x", "", " y \\", "\"\"\"  ", NULL }, 5,
                   "x\n\n y \\");
    expect_message((const char *[]){ "\"\"\"one\"\"\"", NULL }, 1, "one");
    expect_message((const char *[]){ "\"\"\"\"", "\"\"\"", NULL }, 2, "\"");
    expect_message((const char *[]){ "say \"\"\"", NULL }, 1, "say \"\"\"");
    expect_message((const char *[]){ "pasted\nlines\n", NULL }, 1, "pasted\nlines");
}

static void a_message_has_a_bound(void **state)
{
    (void)state;
    struct buffer message;
    bool more = true;
    buffer_init(&message, 4);
    assert_int_equal(prompt_add_line(&message, bytes_text("abc\\"), true, &more), 0);
    assert_int_equal(prompt_add_line(&message, bytes_text("d"), false, &more), FAIL_LIMIT);
    buffer_done(&message);
}

static char folder[] = "/tmp/shoal-history-XXXXXX";
static char path[sizeof folder + 16];

static void collect(void *arg, const char *text)
{
    buffer_printf(arg, "[%s]", text);
}

static void expect_history(const char *all)
{
    struct buffer got;
    struct error e = { 0 };
    buffer_init(&got, HISTORY_KEEP * 2);
    expect_ok(history_load(path, collect, &got, &e), &e);
    assert_string_equal(buffer_cstr(&got), all);
    buffer_done(&got);
}

static void history_comes_back(void **state)
{
    (void)state;
    struct error e = { 0 };
    struct stat s;
    expect_history("");
    expect_ok(history_add(path, "one", &e), &e);
    expect_ok(history_add(path, "two\nlines \"\xc3\xa4\"", &e), &e);
    expect_ok(history_add(path, "no \xff UTF-8", &e), &e); /* left out */
    expect_history("[one][two\nlines \"\xc3\xa4\"]");
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0600);
    expect_ok(file_append(path, bytes_text("nonsense\n17\n\"cut"), 0600, &e), &e);
    expect_history("[one][two\nlines \"\xc3\xa4\"]");
}

static void history_stays_small(void **state)
{
    (void)state;
    struct error e = { 0 };
    struct stat s;
    char *text = malloc(HISTORY_MAX_TEXT + 2);
    memset(text, 'x', HISTORY_MAX_TEXT + 1);
    text[HISTORY_MAX_TEXT + 1] = '\0';
    expect_ok(history_add(path, text, &e), &e);
    assert_int_equal(stat(path, &s), -1); /* too long: not even a file */
    text[HISTORY_MAX_TEXT] = '\0';
    size_t largest = 0;
    for (int i = 0; i < 100; i++) {
        snprintf(text, 8, "%07d", i);
        text[7] = 'x';
        expect_ok(history_add(path, text, &e), &e);
        assert_int_equal(stat(path, &s), 0);
        largest = (size_t)s.st_size > largest ? (size_t)s.st_size : largest;
    }
    assert_in_range(largest, HISTORY_KEEP, 2 * HISTORY_KEEP);
    struct buffer got;
    buffer_init(&got, HISTORY_KEEP * 2);
    expect_ok(history_load(path, collect, &got, &e), &e);
    char last[16];
    memcpy(last, buffer_cstr(&got) + got.size - HISTORY_MAX_TEXT - 1, 7);
    last[7] = '\0';
    assert_string_equal(last, "0000099");
    buffer_done(&got);
    free(text);
}

static void history_may_have_no_place(void **state)
{
    (void)state;
    struct error e = { 0 };
    expect_ok(file_append(path, bytes_text("x"), 0600, &e), &e);
    char below[sizeof path + 8];
    snprintf(below, sizeof below, "%s/history", path);
    assert_int_not_equal(history_add(below, "text", &e), 0);
    assert_non_null(strstr(e.text, path));
}

static int make_place(void **state)
{
    (void)state;
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    bool made = mkdtemp(folder) != NULL;
    snprintf(path, sizeof path, "%s/history", folder);
    return made ? 0 : -1;
}

static int remove_place(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_make_messages),
        cmocka_unit_test(a_message_has_a_bound),
        cmocka_unit_test_setup_teardown(history_comes_back, make_place, remove_place),
        cmocka_unit_test_setup_teardown(history_stays_small, make_place, remove_place),
        cmocka_unit_test_setup_teardown(history_may_have_no_place, make_place, remove_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

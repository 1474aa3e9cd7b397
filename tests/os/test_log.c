/* Log lines as they leave the process. */
#include "tests/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "os/log.h"

static char path[] = "/tmp/shoal-log-XXXXXX";
static char content[1 << 16];
static int saved = -1, file = -1;

/* Everything on standard error goes into a file until end(). */
static void begin(void)
{
    memcpy(path + sizeof path - 7, "XXXXXX", 6);
    file = mkstemp(path);
    assert_true(file >= 0);
    saved = dup(STDERR_FILENO);
    assert_true(dup2(file, STDERR_FILENO) >= 0);
}

static const char *end(void)
{
    dup2(saved, STDERR_FILENO);
    close(saved);
    ssize_t n = pread(file, content, sizeof content - 1, 0);
    close(file);
    unlink(path);
    assert_true(n >= 0);
    content[n] = '\0';
    return content;
}

static int count_lines(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static void a_line_is_one_line(void **state)
{
    (void)state;
    begin();
    log_info("test", "from %s",
             "a\x1b[31m\nb\xc2\x9b"
             "c\xe2\x80\xae\xff");
    const char *got = end();
    assert_int_equal(count_lines(got), 1);
    assert_non_null(strstr(got, " info  test: from a?[31m?b?c??\n"));
}

static void a_long_line_is_cut_between_characters(void **state)
{
    (void)state;
    char text[4000];
    for (size_t i = 0; i + 2 < sizeof text; i += 2)
        memcpy(text + i, "\xc3\xa4", 3);
    for (int shift = 0; shift < 2; shift++) {
        begin();
        log_info(shift ? "odd" : "even", "%s", text);
        const char *got = end();
        size_t n = strlen(got);
        assert_in_range(n, 1000, 1024);
        assert_memory_equal(got + n - 3, "\xc3\xa4\n", 3);
    }
}

static void a_flood_is_counted(void **state)
{
    (void)state;
    begin();
    for (int i = 0; i < 5315; i++)
        log_limited(LOG_WARN, "test", "data connection refused",
                    i % 2 ? "10.0.0.7:1" : "10.0.0.7:2", "no ticket from %s", "10.0.0.7");
    log_limited(LOG_DEBUG, "test", "not said at this level", "x", "nothing");
    log_flush(true);
    const char *got = end();
    assert_int_equal(count_lines(got), 4);
    assert_non_null(strstr(got, "warn  test: no ticket from 10.0.0.7\n"));
    assert_non_null(
        strstr(got, "warn  log: data connection refused, 10.0.0.7: and 5,312 more in 0 s\n"));
}

static void libevent_s_words_are_ours(void **state)
{
    (void)state;
    begin();
    for (int i = 0; i < 1234003; i++)
        log_libevent(2, "Error from accept() call: Too many open files");
    log_libevent(0, "debugging");
    log_libevent(99, "unknown");
    log_flush(true);
    const char *got = end();
    assert_int_equal(count_lines(got), 5);
    assert_non_null(strstr(got, "warn  libevent: Error from accept() call: Too many open files\n"));
    assert_non_null(strstr(got, "and 1,234,000 more in "));
    assert_non_null(strstr(got, "warn  libevent: unknown\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_one_line),
        cmocka_unit_test(a_long_line_is_cut_between_characters),
        cmocka_unit_test(a_flood_is_counted),
        cmocka_unit_test(libevent_s_words_are_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

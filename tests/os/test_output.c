/* Files that grow: locks, names, room. */
#include "tests/test.h"

#include "os/output.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static char folder[64], path[80], other[80];

static int make_folder(void **state)
{
    snprintf(folder, sizeof folder, "/tmp/shoal-output-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/f", folder);
    snprintf(other, sizeof other, "%s/g", folder);
    return 0;
}

static int remove_folder(void **state)
{
    remove(path);
    remove(other);
    return remove(folder);
}

static void expect_content(const char *name, const char *text)
{
    struct buffer b;
    buffer_init(&b, 100);
    assert_int_equal(file_read_all(name, &b, NULL), 0);
    assert_string_equal(buffer_cstr(&b), text);
    buffer_done(&b);
}

static void bytes_are_added_and_cut(void **state)
{
    struct file_output f;
    struct error e = { 0 };
    size_t n = 0;
    assert_int_equal(file_output_open(&f, path, &e), 0);
    assert_int_equal(file_output_append(&f, bytes_text("hello"), &n, &e), 0);
    assert_int_equal(n, 5);
    assert_int_equal(file_output_truncate(&f, 4, &e), 0);
    file_output_close(&f);
    assert_int_equal(file_output_open(&f, path, &e), 0);
    assert_int_equal(file_output_append(&f, bytes_text(" there"), &n, &e), 0);
    assert_int_equal(file_output_sync(&f, &e), 0);
    file_output_close(&f);
    expect_content(path, "hell there");
}

static void one_writer_at_a_time(void **state)
{
    struct file_output f, g;
    struct error e = { 0 };
    assert_int_equal(file_output_open(&f, path, &e), 0);
    assert_int_equal(file_output_open(&g, path, &e), FAIL_BUSY);
    /* Under its final name it is nobody's part any more: the old name is a new file. */
    assert_int_equal(file_rename(path, other, &e), 0);
    assert_int_equal(file_output_open(&g, path, &e), 0);
    file_output_close(&g);
    file_output_close(&f);
    assert_true(file_remove(path) && file_remove(path));
}

static void links_are_not_followed_when_written(void **state)
{
    struct file_output f;
    struct error e = { 0 };
    struct file_identity a, b;
    assert_int_equal(file_write_atomic(other, bytes_text("x"), 0600, &e), 0);
    assert_int_equal(symlink(other, path), 0);
    assert_int_not_equal(file_output_open(&f, path, &e), 0);
    expect_content(other, "x");
    /* A second name is one of the target. */
    char third[80];
    snprintf(third, sizeof third, "%s/h", folder);
    assert_int_equal(file_link(path, third, &e), 0);
    assert_int_equal(file_identify(third, &a, &e), 0);
    assert_int_equal(file_identify(other, &b, &e), 0);
    assert_true(a.inode == b.inode && a.device == b.device && a.size == 1);
    remove(third);
    assert_int_equal(file_identify(third, &a, &e), FAIL_NOT_FOUND);
}

static void a_full_disk_has_its_own_error(void **state)
{
    struct file_output f;
    struct error e = { 0 };
    struct rlimit before, small;
    size_t n = 0;
    uint64_t room = 0;
    assert_int_equal(file_free_space(folder, &room, &e), 0);
    assert_true(room > 0);
    assert_int_equal(file_free_space("/nowhere", &room, &e), FAIL_NOT_FOUND);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 3;
    assert_int_equal(file_output_open(&f, path, &e), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int code = file_output_append(&f, bytes_text("hello"), &n, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(code, FAIL_LIMIT);
    assert_int_equal(n, 3);
    file_output_close(&f);
    expect_content(path, "hel");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bytes_are_added_and_cut),
        TEST(one_writer_at_a_time),
        TEST(links_are_not_followed_when_written),
        TEST(a_full_disk_has_its_own_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

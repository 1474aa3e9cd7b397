/* Files: mappings, ranges, replacement. */
#include "tests/test.h"

#include "os/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/output.h"

static char folder[] = "/tmp/shoal-file-XXXXXX", path[64];

static int make_folder(void **state)
{
    snprintf(path, sizeof(path), "%s/f", mkdtemp(folder));
    return 0;
}

static int remove_folder(void **state)
{
    remove(path);
    return remove(folder);
}

static void maps_and_tells_changes(void **state)
{
    struct error e = { 0 };
    struct file_map m = { 0 };
    assert_int_equal(file_map_open(&m, path, &e), FAIL_NOT_FOUND);
    assert_int_equal(file_write_atomic(path, bytes_text("first"), 0600, &e), 0);
    assert_int_equal(file_map_open(&m, path, &e), 0);
    assert_int_equal(m.size, 5);
    assert_memory_equal(m.data, "first", 5);
    assert_true(file_map_unchanged(&m, path));
    for (int a = 0; a < FILE_ADVICE_COUNT; a++)
        file_map_advise(&m, 3, UINT64_MAX, (enum file_advice)a);
    file_map_advise(&m, 100, 1, FILE_ADVICE_NEEDED);
    assert_int_equal(file_write_atomic(path, bytes_text("second"), 0600, &e), 0);
    assert_false(file_map_unchanged(&m, path));
    /* The mapping still shows the file that it was made of. */
    assert_memory_equal(m.data, "first", 5);
    file_map_close(&m);
}

/* A file of `pages` pages, page i full of bytes 'a' + i. */
static void write_pages(int pages, size_t page)
{
    struct error e = { 0 };
    struct buffer b;
    buffer_init(&b, (size_t)pages * page);
    for (size_t i = 0; i < (size_t)pages * page; i++) {
        char c = (char)('a' + (int)(i / page));
        assert_int_equal(buffer_append(&b, bytes_of(&c, 1)), 0);
    }
    assert_int_equal(file_write_atomic(path, buffer_bytes(&b), 0600, &e), 0);
    buffer_done(&b);
}

/* Nothing waits for the other end of a FIFO: each call says that it is no regular file, at once. */
static void what_is_no_regular_file_is_refused(void **state)
{
    struct error e = { 0 };
    struct file_map m = { 0 };
    struct file_output out = { .fd = -1 };
    struct buffer b;
    char byte;
    int fd = -1;
    static const char *const others[] = { "/dev/zero", "/tmp" };
    buffer_init(&b, 16);
    remove(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    alarm(20); /* a call that waits ends the test */
    assert_int_equal(file_open(path, &fd, &e), FAIL_IO);
    assert_non_null(strstr(e.text, "not a regular file"));
    assert_int_equal(file_map_open(&m, path, &e), FAIL_IO);
    assert_int_equal(file_read_all(path, &b, &e), FAIL_IO);
    assert_int_equal(file_read_range(path, 0, &byte, 1, &e), FAIL_IO);
    assert_int_equal(file_append(path, bytes_text("x"), 0600, &e), FAIL_IO);
    assert_non_null(strstr(e.text, "not a regular file"));
    assert_true(file_output_open(&out, path, &e) < 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK); /* and with an other end */
    assert_true(reader >= 0);
    assert_int_equal(file_append(path, bytes_text("x"), 0600, &e), FAIL_IO);
    assert_int_equal(file_output_open(&out, path, &e), FAIL_IO);
    close(reader);
    alarm(0);
    remove(path);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(file_map_open(&m, others[i], &e), FAIL_IO);
        assert_int_equal(file_read_all(others[i], &b, &e), FAIL_IO);
    }
    assert_int_equal(b.size, 0);
    buffer_done(&b);
}

static void a_file_cut_short_reads_as_zeros(void **state)
{
    struct error e = { 0 };
    struct file_map m = { 0 };
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    write_pages(4, page);
    assert_int_equal(file_map_open(&m, path, &e), 0);
    assert_false(file_map_changed(&m, path));
    assert_int_equal(file_map_keep(&m, page + 1, &e), 0);
    assert_int_equal(truncate(path, (off_t)page), 0);
    /* Two pages are ours, the others went with the file. */
    assert_int_equal(m.data[page], 'b');
    assert_int_equal(m.data[2 * page - 1], 'b');
    assert_int_equal(((const volatile uint8_t *)m.data)[3 * page], 0);
    assert_true(file_map_changed(&m, path));
    assert_int_equal(remove(path), 0);
    assert_true(file_map_changed(&m, path));
    file_map_close(&m);
    /* The next mapping starts afresh. */
    write_pages(1, page);
    assert_int_equal(file_map_open(&m, path, &e), 0);
    assert_false(file_map_changed(&m, path));
    file_map_close(&m);
}

static void a_file_written_to_has_changed_and_a_deleted_one_has_not(void **state)
{
    struct error e = { 0 };
    struct file_map m = { 0 };
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    write_pages(3, page);
    assert_int_equal(file_map_open(&m, path, &e), 0);
    assert_int_equal(remove(path), 0);
    assert_false(file_map_changed(&m, path));
    assert_int_equal(m.data[2 * page], 'c');
    file_map_drop(&m, 1);
    assert_int_equal(m.data[page - 1], 'a');
    file_map_close(&m);
    write_pages(3, page);
    assert_int_equal(file_map_open(&m, path, &e), 0);
    FILE *f = fopen(path, "a");
    assert_non_null(f);
    assert_int_equal(fputc('x', f), 'x');
    assert_int_equal(fclose(f), 0);
    assert_true(file_map_changed(&m, path));
    file_map_close(&m);
}

static void reads_ranges(void **state)
{
    struct error e = { 0 };
    char part[4] = { 0 };
    assert_int_equal(file_write_atomic(path, bytes_text("0123456789"), 0600, &e), 0);
    assert_int_equal(file_read_range(path, 7, part, 3, &e), 0);
    assert_memory_equal(part, "789", 3);
    assert_int_equal(file_read_range(path, 8, part, 3, &e), FAIL_FORMAT);
    assert_int_equal(file_read_range(path, UINT64_MAX, part, 1, &e), FAIL_FORMAT);
    assert_int_equal(file_read_range("/no/such/file", 0, part, 1, &e), FAIL_NOT_FOUND);
}

static void reads_whole_files_up_to_a_limit(void **state)
{
    struct error e = { 0 };
    struct buffer b;
    assert_int_equal(file_write_atomic(path, bytes_text("0123456789"), 0600, &e), 0);
    buffer_init(&b, 10);
    assert_int_equal(file_read_all(path, &b, &e), 0);
    assert_true(bytes_equal_text(buffer_bytes(&b), "0123456789"));
    buffer_done(&b);
    buffer_init(&b, 9);
    assert_int_equal(file_read_all(path, &b, &e), FAIL_LIMIT);
    buffer_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_and_tells_changes),
        cmocka_unit_test(what_is_no_regular_file_is_refused),
        cmocka_unit_test(a_file_cut_short_reads_as_zeros),
        cmocka_unit_test(a_file_written_to_has_changed_and_a_deleted_one_has_not),
        cmocka_unit_test(reads_ranges),
        cmocka_unit_test(reads_whole_files_up_to_a_limit),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

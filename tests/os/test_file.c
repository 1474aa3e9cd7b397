/* Files: mappings, ranges, replacement. */
#include "tests/test.h"

#include "os/file.h"

#include <stdio.h>

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
    assert_int_equal(file_map_open(&m, path, &e), ERR_NOT_FOUND);
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

static void reads_ranges(void **state)
{
    struct error e = { 0 };
    char part[4] = { 0 };
    assert_int_equal(file_write_atomic(path, bytes_text("0123456789"), 0600, &e), 0);
    assert_int_equal(file_read_range(path, 7, part, 3, &e), 0);
    assert_memory_equal(part, "789", 3);
    assert_int_equal(file_read_range(path, 8, part, 3, &e), ERR_FORMAT);
    assert_int_equal(file_read_range(path, UINT64_MAX, part, 1, &e), ERR_FORMAT);
    assert_int_equal(file_read_range("/no/such/file", 0, part, 1, &e), ERR_NOT_FOUND);
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
    assert_int_equal(file_read_all(path, &b, &e), ERR_LIMIT);
    buffer_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_and_tells_changes),
        cmocka_unit_test(reads_ranges),
        cmocka_unit_test(reads_whole_files_up_to_a_limit),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

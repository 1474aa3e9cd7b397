/* The models folder: what is seen of it, when a file is looked at again, and a look in a thread of
 * its own. */
#include "tests/test.h"

#include "base/bytes.h"
#include "cluster/models.h"
#include "gguf/writer.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/log.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH 320
#define WAIT_NS (20 * CLOCK_NS_PER_S)

struct fixture {
    char folder[64];
    struct model_list list;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    snprintf(f->folder, sizeof f->folder, "/tmp/shoal-models-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    log_set_level(LOG_ERROR);
    *state = f;
    return 0;
}

static bool remove_entry(void *arg, const char *name)
{
    char path[PATH];
    snprintf(path, sizeof path, "%s/%s", (const char *)arg, name);
    remove(path);
    return true;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    models_done(&f->list);
    file_list(f->folder, remove_entry, f->folder, NULL);
    rmdir(f->folder);
    free(f);
    return 0;
}

/* A file with one tensor of a byte value; part i of n (n 0: no split). */
static void write_file(const struct fixture *f, const char *name, int value, int i, int n)
{
    char path[PATH], tensor[16];
    struct gguf_writer *w = NULL;
    struct error e = { 0 };
    const uint64_t elements = 64;
    uint8_t data[256];
    snprintf(path, sizeof path, "%s/%s", f->folder, name);
    snprintf(tensor, sizeof tensor, "t%d", i);
    memset(data, value, sizeof data);
    assert_int_equal(gguf_writer_open(&w, path, &e), 0);
    if (n > 0) {
        gguf_writer_u32(w, "split.no", (uint32_t)i);
        gguf_writer_u32(w, "split.count", (uint32_t)n);
        gguf_writer_u32(w, "split.tensors.count", (uint32_t)n);
    }
    assert_int_equal(gguf_writer_tensor(w, tensor, QUANT_F32, 1, &elements, &e), 0);
    assert_int_equal(gguf_writer_data(w, bytes_of(data, sizeof data), &e), 0);
    assert_int_equal(gguf_writer_finish(w, &e), 0);
    gguf_writer_close(w);
}

static bool scan(struct fixture *f)
{
    bool changed = false;
    struct error e = { 0 };
    assert_int_equal(models_scan(&f->list, f->folder, &changed, &e), 0);
    return changed;
}

static void files_of_one_header_are_all_listed(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.gguf", 1, 0, 0);
    write_file(f, "b.gguf", 2, 0, 0);
    assert_true(scan(f));
    assert_int_equal(f->list.n, 2);
    const struct model_file *a = models_by_name(&f->list, "a"), *b = models_by_name(&f->list, "b");
    assert_string_equal(a->sha256, b->sha256);
    assert_true(a->size == b->size && memcmp(a->stamp, b->stamp, DIGEST_BYTES) != 0);
    int first = models_like(&f->list, 0, a->size, a->sha256);
    assert_int_equal(first, 0);
    assert_int_equal(models_like(&f->list, first + 1, a->size, a->sha256), 1);
    assert_int_equal(models_like(&f->list, 2, a->size, a->sha256), -1);
    assert_int_equal(models_like(&f->list, 0, a->size + 1, a->sha256), -1);
    assert_false(scan(f));
}

/* Each part counts: written to, missing, come later. */
static void a_split_model_is_all_its_parts(void **state)
{
    struct fixture *f = *state;
    char path[PATH];
    write_file(f, "m-00001-of-00002.gguf", 1, 0, 2);
    assert_true(scan(f));
    assert_int_equal(f->list.n, 1);
    assert_true(f->list.files[0].bad);
    assert_false(scan(f));
    write_file(f, "m-00002-of-00002.gguf", 1, 1, 2);
    assert_true(scan(f));
    assert_int_equal(f->list.n, 1);
    assert_false(f->list.files[0].bad);
    assert_int_equal(f->list.files[0].parts, 2);
    assert_string_equal(f->list.files[0].id, "m");
    assert_false(scan(f));

    uint8_t before[DIGEST_BYTES];
    memcpy(before, f->list.files[0].stamp, sizeof before);
    write_file(f, "m-00002-of-00002.gguf", 2, 1, 2);
    assert_true(scan(f));
    assert_memory_not_equal(f->list.files[0].stamp, before, DIGEST_BYTES);
    snprintf(path, sizeof path, "%s/m-00002-of-00002.gguf", f->folder);
    assert_int_equal(remove(path), 0);
    assert_true(scan(f));
    assert_true(f->list.files[0].bad);
}

/* A FIFO has no end to wait for: neither as a model nor as part of one, and a folder is no model.
 */
static void what_is_no_file_stops_nobody(void **state)
{
    struct fixture *f = *state;
    static const char *const fifos[] = { "pipe.gguf", "m-00002-of-00002.gguf",
                                         "n-00001-of-00002.gguf" };
    char path[PATH];
    write_file(f, "a.gguf", 1, 0, 0);
    write_file(f, "m-00001-of-00002.gguf", 1, 0, 2);
    for (size_t i = 0; i < sizeof fifos / sizeof fifos[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", f->folder, fifos[i]);
        assert_int_equal(mkfifo(path, 0600), 0);
    }
    snprintf(path, sizeof path, "%s/folder.gguf", f->folder);
    assert_int_equal(mkdir(path, 0700), 0);
    alarm(20); /* a look that waits ends the test */
    assert_true(scan(f));
    assert_false(scan(f));
    alarm(0);
    int good = 0;
    for (int i = 0; i < f->list.n; i++) {
        good += !f->list.files[i].bad;
    }
    assert_int_equal(good, 1);
    assert_non_null(models_by_name(&f->list, "a"));
}

static void wake(void *arg)
{
    atomic_store((atomic_bool *)arg, true);
}

static void a_look_in_a_thread_changes_nothing_before_its_end(void **state)
{
    struct fixture *f = *state;
    struct models_scan *s = NULL;
    struct error e = { 0 };
    atomic_bool woken = false;
    bool changed = false;
    write_file(f, "a.gguf", 1, 0, 0);
    scan(f);
    write_file(f, "b.gguf", 1, 0, 0);
    assert_int_equal(models_scan_begin(&s, &f->list, f->folder, wake, &woken, &e), 0);
    uint64_t until = clock_deadline(WAIT_NS);
    while (!atomic_load(&woken) && clock_now_ns() < until) {
        assert_int_equal(f->list.n, 1);
        clock_sleep(CLOCK_NS_PER_MS);
    }
    assert_true(atomic_load(&woken));
    assert_true(models_scan_end(&s, &f->list, &changed));
    assert_true(changed && s == NULL);
    assert_int_equal(f->list.n, 2);
    assert_int_equal(models_scan_begin(&s, &f->list, f->folder, wake, &woken, &e), 0);
    models_scan_drop(s);
    models_scan_drop(NULL);
    assert_int_equal(f->list.n, 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(files_of_one_header_are_all_listed),
        TEST(a_split_model_is_all_its_parts),
        TEST(what_is_no_file_stops_nobody),
        TEST(a_look_in_a_thread_changes_nothing_before_its_end),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}

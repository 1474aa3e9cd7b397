/* Lists of chunks and the hasher, on small files made here: layout, digests against the system's
 * own SHA-256 of the same bytes, selections, lists kept on disk, files that change. */
#include "tests/test.h"

#include "gguf/gguf.h"
#include "gguf/writer.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/thread.h"
#include "store/chunks.h"
#include "store/hasher.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH 320
#define TENSORS 4
#define WAIT_NS (20 * CLOCK_NS_PER_S)

/* F32 elements: less than a chunk, two and a half, exactly two, one byte row more than one. */
static const uint64_t elements[TENSORS] = { 25, 655360, 524288, 262145 };
static const uint64_t first_chunks[TENSORS + 1] = { 0, 1, 4, 6, 8 };

struct fixture {
    char root[64], model[PATH], folder[PATH];
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    snprintf(f->root, sizeof f->root, "/tmp/shoal-chunks-XXXXXX");
    assert_non_null(mkdtemp(f->root));
    snprintf(f->model, sizeof f->model, "%s/m.gguf", f->root);
    snprintf(f->folder, sizeof f->folder, "%s/lists", f->root);
    *state = f;
    return 0;
}

static bool remove_entry(void *arg, const char *name)
{
    char path[PATH + 300];
    snprintf(path, sizeof path, "%s/%s", (const char *)arg, name);
    remove(path);
    return true;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    file_list(f->folder, remove_entry, f->folder, NULL);
    file_list(f->root, remove_entry, f->root, NULL);
    rmdir(f->root);
    free(f);
    return 0;
}

/* The bytes of tensor t in its file; `odd` changes one byte of chunk 1 of tensor 1. */
static uint8_t *tensor_bytes(int t, int odd)
{
    size_t n = (size_t)elements[t] * 4;
    uint8_t *data = malloc(n);
    for (size_t i = 0; i < n; i++) {
        data[i] = (uint8_t)(i * 7 + i / 4096 + (size_t)t);
    }
    if (odd && t == 1) {
        data[CHUNK_BYTES + 1234] ^= 1;
    }
    return data;
}

static void write_model(const char *path, int odd)
{
    struct gguf_writer *w = NULL;
    struct error e = { 0 };
    assert_int_equal(gguf_writer_open(&w, path, &e), 0);
    gguf_writer_text(w, "general.architecture", bytes_text("none"));
    for (int t = 0; t < TENSORS; t++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", t);
        assert_int_equal(gguf_writer_tensor(w, name, QUANT_F32, 1, &elements[t], &e), 0);
    }
    for (int t = 0; t < TENSORS; t++) {
        uint8_t *data = tensor_bytes(t, odd);
        assert_int_equal(gguf_writer_data(w, bytes_of(data, (size_t)elements[t] * 4), &e), 0);
        free(data);
    }
    assert_int_equal(gguf_writer_finish(w, &e), 0);
    gguf_writer_close(w);
}

static struct gguf *open_model(const char *path)
{
    struct gguf *g = NULL;
    struct error e = { 0 };
    assert_int_equal(gguf_open(&g, path, &e), 0);
    return g;
}

static struct chunks *open_list(const char *path)
{
    struct gguf *g = open_model(path);
    struct chunks *c = NULL;
    struct error e = { 0 };
    assert_int_equal(chunks_open(&c, g, &e), 0);
    gguf_close(g);
    return c;
}

static void make_all(struct chunks *c)
{
    struct error e = { 0 };
    uint8_t *buffer = malloc(CHUNK_BYTES);
    for (uint64_t i = 0; i < chunks_count(c); i++) {
        assert_int_equal(chunks_make(c, i, buffer, &e), 0);
    }
    free(buffer);
    assert_true(chunks_complete(c));
}

static void tensors_are_cut_at_each_mebibyte(void **state)
{
    struct fixture *f = *state;
    write_model(f->model, 0);
    struct chunks *c = open_list(f->model);
    assert_int_equal(chunks_tensors(c), TENSORS);
    for (int t = 0; t <= TENSORS; t++) {
        assert_true(chunks_first(c, t) == first_chunks[t]);
    }
    assert_true(chunks_count(c) == first_chunks[TENSORS]);
    assert_true(chunks_done(c) == 0 && !chunks_have(c, 3));
    assert_int_equal(chunks_find(c, "t2"), 2);
    assert_int_equal(chunks_find(c, "t9"), -1);

    uint8_t selection[8] = { 0 };
    assert_true(chunks_selection_bytes(c) <= sizeof selection);
    chunks_select_bytes(c, 1, CHUNK_BYTES - 1, 2, selection); /* across a border */
    assert_int_equal(selection[0], 1u << 1 | 1u << 2);
    chunks_select_bytes(c, 2, 5 * CHUNK_BYTES, 1, selection); /* behind the end */
    chunks_select_bytes(c, 3, 0, UINT64_MAX, selection);
    assert_int_equal(selection[0], 1u << 1 | 1u << 2 | 1u << 6 | 1u << 7);
    chunks_close(c);
}

/* What the digests are over, written down a second time. */
static void digests_are_those_of_the_bytes(void **state)
{
    struct fixture *f = *state;
    struct error e = { 0 };
    uint8_t mine[TENSORS][DIGEST_BYTES], got[TENSORS][DIGEST_BYTES], root[DIGEST_BYTES];
    write_model(f->model, 0);
    struct chunks *c = open_list(f->model);
    assert_int_equal(chunks_tensor_digests(c, NULL, &got[0][0], &e), FAIL_STATE);
    make_all(c);
    struct gguf *g = open_model(f->model);
    for (int t = 0; t < TENSORS; t++) {
        uint8_t *data = tensor_bytes(t, 0);
        uint8_t text[7 * 8 + 2] = { 0 }, all[DIGEST_BYTES * 8];
        const uint64_t numbers[7] = { 2, QUANT_F32, 1, elements[t], 1, 1, 1 };
        for (int i = 0; i < 7 * 8; i++) {
            text[i] = (uint8_t)(numbers[i / 8] >> (8 * (i % 8)));
        }
        text[56] = 't';
        text[57] = (uint8_t)('0' + t);
        assert_int_equal(digest_once(bytes_of(text, sizeof text), all, &e), 0);
        size_t n = 1, size = (size_t)elements[t] * 4;
        for (size_t at = 0; at < size; at += CHUNK_BYTES, n++) {
            size_t piece = size - at < CHUNK_BYTES ? size - at : CHUNK_BYTES;
            assert_int_equal(digest_once(bytes_of(data + at, piece), all + n * DIGEST_BYTES, &e),
                             0);
        }
        assert_int_equal(digest_once(bytes_of(all, n * DIGEST_BYTES), mine[t], &e), 0);
        free(data);
    }
    assert_int_equal(chunks_tensor_digests(c, NULL, &got[0][0], &e), 0);
    assert_memory_equal(got, mine, sizeof mine);
    uint8_t both[2 * DIGEST_BYTES], right[DIGEST_BYTES];
    assert_int_equal(digest_once(gguf_header(g), both, &e), 0);
    assert_int_equal(digest_once(bytes_of(mine, sizeof mine), both + DIGEST_BYTES, &e), 0);
    assert_int_equal(digest_once(bytes_of(both, sizeof both), right, &e), 0);
    assert_int_equal(chunks_root(c, &got[0][0], root, &e), 0);
    assert_memory_equal(root, right, DIGEST_BYTES);
    gguf_close(g);
    chunks_close(c);
}

/* A byte of one chunk shows in its tensor, in any selection with that chunk, and in no other. */
static void one_byte_shows_where_it_is(void **state)
{
    struct fixture *f = *state;
    struct error e = { 0 };
    char other[PATH];
    snprintf(other, sizeof other, "%s/other.gguf", f->root);
    write_model(f->model, 0);
    write_model(other, 1);
    struct chunks *lists[2] = { open_list(f->model), open_list(other) };
    uint8_t all[2][TENSORS][DIGEST_BYTES];
    make_all(lists[0]);
    make_all(lists[1]);
    int drawn = 0, missed = 0;
    for (uint64_t seed = 0; seed < 64; seed++) {
        uint8_t selection[8];
        uint64_t order[TENSORS];
        assert_true(chunks_draw(lists[0], seed, selection, order) == TENSORS);
        int n = 0;
        for (uint64_t i = 0; i < chunks_count(lists[0]); i++) {
            n += chunks_selected(selection, i);
        }
        assert_int_equal(n, TENSORS);
        for (int t = 0; t < TENSORS; t++) {
            assert_true(chunks_selected(selection, order[t]) && order[t] >= first_chunks[t] &&
                        order[t] < first_chunks[t + 1]);
        }
        for (int k = 0; k < 2; k++) {
            assert_int_equal(chunks_tensor_digests(lists[k], selection, &all[k][0][0], &e), 0);
        }
        bool hit = chunks_selected(selection, 2);
        for (int t = 0; t < TENSORS; t++) {
            bool same = memcmp(all[0][t], all[1][t], DIGEST_BYTES) == 0;
            assert_true(same == !(t == 1 && hit));
        }
        drawn += hit;
        missed += !hit;
    }
    assert_true(drawn > 8 && missed > 8); /* a third of the draws hit one chunk of three */
    for (int k = 0; k < 2; k++) {
        chunks_close(lists[k]);
    }
}

static void lists_come_back_from_bytes(void **state)
{
    struct fixture *f = *state;
    struct error e = { 0 };
    struct buffer text;
    uint8_t *buffer = malloc(CHUNK_BYTES);
    buffer_init(&text, 1 << 20);
    write_model(f->model, 0);
    struct chunks *c = open_list(f->model), *again = open_list(f->model);
    for (uint64_t i = 0; i < 8; i += 3) {
        assert_int_equal(chunks_make(c, i, buffer, &e), 0);
    }
    assert_int_equal(chunks_encode(c, &text, &e), 0);
    /* Cut or changed anywhere it is refused, and nothing of it is taken. */
    for (size_t i = 0; i < text.size; i++) {
        assert_int_equal(chunks_decode(again, bytes_of(text.data, i), &e), FAIL_FORMAT);
        text.data[i] ^= 4;
        assert_int_equal(chunks_decode(again, buffer_bytes(&text), &e), FAIL_FORMAT);
        text.data[i] ^= 4;
        assert_true(chunks_done(again) == 0);
    }
    assert_int_equal(chunks_decode(again, buffer_bytes(&text), &e), 0);
    assert_true(chunks_done(again) == 3 && chunks_have(again, 6) && !chunks_have(again, 7));
    uint8_t all[2][TENSORS][DIGEST_BYTES];
    make_all(again);
    make_all(c);
    assert_int_equal(chunks_tensor_digests(c, NULL, &all[0][0][0], &e), 0);
    assert_int_equal(chunks_tensor_digests(again, NULL, &all[1][0][0], &e), 0);
    assert_memory_equal(all[0], all[1], sizeof all[0]);

    /* A later version of the file has another stamp. */
    const struct timespec times[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
    assert_int_equal(utimensat(AT_FDCWD, f->model, times, 0), 0);
    struct chunks *later = open_list(f->model);
    assert_int_equal(chunks_decode(later, buffer_bytes(&text), &e), FAIL_FORMAT);
    chunks_close(later);
    chunks_close(again);
    chunks_close(c);
    buffer_done(&text);
    free(buffer);
}

static void a_changed_file_gives_no_digests(void **state)
{
    struct fixture *f = *state;
    struct error e = { 0 };
    uint8_t *buffer = malloc(CHUNK_BYTES), before[DIGEST_BYTES], now[DIGEST_BYTES];
    char other[PATH];
    snprintf(other, sizeof other, "%s/other.gguf", f->root);
    write_model(f->model, 0);
    struct chunks *c = open_list(f->model);
    assert_int_equal(chunks_make(c, 0, buffer, &e), 0);
    memcpy(before, chunks_stamp_of(c), DIGEST_BYTES);
    assert_int_equal(chunks_stamp_now(f->model, 1, now, &e), 0);
    assert_memory_equal(now, before, DIGEST_BYTES);

    write_model(other, 1);
    assert_int_equal(rename(other, f->model), 0); /* another file of the same header and size */
    assert_int_equal(chunks_make(c, 1, buffer, &e), FAIL_IO);
    assert_non_null(strstr(e.text, "changed"));
    assert_false(chunks_have(c, 1));
    assert_int_equal(chunks_stamp_now(f->model, 1, now, &e), 0);
    assert_memory_not_equal(now, before, DIGEST_BYTES);
    assert_int_equal(remove(f->model), 0);
    assert_int_equal(chunks_make(c, 1, buffer, &e), FAIL_NOT_FOUND);
    chunks_close(c);
    free(buffer);
}

/* --- the hasher --- */

struct told {
    struct mutex lock;
    struct condition changed;
    int n;
};

static void on_done(void *arg)
{
    struct told *t = arg;
    mutex_lock(&t->lock);
    t->n++;
    condition_signal(&t->changed);
    mutex_unlock(&t->lock);
}

static void wait_told(struct told *t, int n)
{
    uint64_t until = clock_deadline(WAIT_NS);
    mutex_lock(&t->lock);
    while (t->n < n && clock_now_ns() < until) {
        condition_wait(&t->changed, &t->lock, WAIT_NS);
    }
    assert_int_equal(t->n, n);
    mutex_unlock(&t->lock);
}

static struct hasher *open_hasher(const struct fixture *f, struct told *t)
{
    struct hasher *h = NULL;
    struct error e = { 0 };
    mutex_init(&t->lock);
    condition_init(&t->changed);
    t->n = 0;
    assert_int_equal(hasher_open(&h, &(struct hasher_options){ f->folder, on_done, t }, &e), 0);
    return h;
}

static void close_hasher(struct hasher *h, struct told *t)
{
    hasher_close(h);
    mutex_done(&t->lock);
    condition_done(&t->changed);
}

static struct chunks *take(struct hasher *h, const char *path)
{
    struct gguf *g = open_model(path);
    struct chunks *c = NULL;
    struct error e = { 0 };
    assert_int_equal(hasher_take(h, g, &c, &e), 0);
    gguf_close(g);
    return c;
}

static void a_list_is_made_once_and_kept(void **state)
{
    struct fixture *f = *state;
    struct told t;
    write_model(f->model, 0);
    struct hasher *h = open_hasher(f, &t);
    struct chunks *c = take(h, f->model), *same = take(h, f->model);
    assert_ptr_equal(c, same);
    hasher_defer(h, true); /* slower, and still all of it */
    uint64_t begin = clock_now_ns();
    hasher_complete(h, c);
    wait_told(&t, 1);
    assert_true(clock_now_ns() - begin > 300 * CLOCK_NS_PER_MS); /* of 8 chunks, 50 ms apart */
    assert_true(chunks_complete(c));
    hasher_complete(h, c); /* nothing to do */
    hasher_release(h, same);
    hasher_release(h, c);
    close_hasher(h, &t);

    h = open_hasher(f, &t);
    c = take(h, f->model);
    assert_true(chunks_complete(c));
    hasher_release(h, c);
    close_hasher(h, &t);
}

/* What several threads made for a load is kept, and the rest is made in the background. */
static void shares_are_made_first(void **state)
{
    struct fixture *f = *state;
    struct told t;
    struct error e = { 0 };
    atomic_bool stop = false;
    atomic_ullong bytes = 0;
    const uint64_t order[] = { 7, 2, 3, 1, 2 };
    write_model(f->model, 0);
    struct hasher *h = open_hasher(f, &t);
    struct chunks *c = take(h, f->model);
    struct hasher_work work = { .list = c,
                                .order = order,
                                .n = ARRAY_LEN(order),
                                .threads = 3,
                                .stop = &stop,
                                .bytes = &bytes };
    assert_int_equal(hasher_run(h, &work, &e), 0);
    assert_true(chunks_done(c) == 4 && chunks_have(c, 7) && !chunks_have(c, 0));
    assert_true(atomic_load(&bytes) == ARRAY_LEN(order) * CHUNK_BYTES);
    atomic_store(&stop, true);
    assert_int_equal(hasher_run(h, &work, &e), FAIL_CANCELLED);
    hasher_release(h, c);
    close_hasher(h, &t);

    h = open_hasher(f, &t);
    c = take(h, f->model);
    assert_true(chunks_done(c) == 4);
    hasher_complete(h, c);
    wait_told(&t, 1);
    assert_true(chunks_complete(c));
    hasher_release(h, c);
    close_hasher(h, &t);
}

static void a_file_that_changes_ends_its_list(void **state)
{
    struct fixture *f = *state;
    struct told t;
    struct error e = { 0 };
    atomic_bool stop = false;
    const uint64_t order[] = { 0, 1, 2, 3 };
    write_model(f->model, 0);
    struct hasher *h = open_hasher(f, &t);
    struct chunks *c = take(h, f->model);
    write_model(f->model, 1); /* renames a new file over it */
    assert_int_equal(hasher_run(h, &(struct hasher_work){ c, order, 4, 2, &stop, NULL }, &e),
                     FAIL_IO);
    hasher_complete(h, c);
    wait_told(&t, 1);
    assert_false(chunks_complete(c));
    struct chunks *new = take(h, f->model);
    assert_ptr_not_equal(c, new);
    hasher_complete(h, new);
    wait_told(&t, 2);
    assert_true(chunks_complete(new));
    hasher_release(h, c);
    hasher_release(h, new);
    close_hasher(h, &t);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(tensors_are_cut_at_each_mebibyte),
        TEST(digests_are_those_of_the_bytes),
        TEST(one_byte_shows_where_it_is),
        TEST(lists_come_back_from_bytes),
        TEST(a_changed_file_gives_no_digests),
        TEST(a_list_is_made_once_and_kept),
        TEST(shares_are_made_first),
        TEST(a_file_that_changes_ends_its_list),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}

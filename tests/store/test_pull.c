/* Models into their folder, from every kind of source. */
#include "tests/test.h"

#include "gguf/gguf.h"
#include "gguf/writer.h"
#include "os/output.h"
#include "store/pull.h"
#include "tests/store/server.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODEL_MAX (1u << 20)

struct world {
    char root[64], models[96], elsewhere[96];
    struct buffer model;    /* in one file */
    struct buffer parts[2]; /* another one in two */
    struct server s;
    char origin[SERVER_TEXT];
    int cut;         /* a request that breaks off, or -1 */
    bool swapped;    /* part 2 is sent for part 1 too */
    bool short_file; /* the model ends early, and the server says so */
    char paths[8][SERVER_TEXT];
};

/* One tensor, and for number >= 0 the keys of a part. */
static void write_model(struct buffer *out, int number)
{
    struct gguf_writer *w = NULL;
    struct error e = { 0 };
    static float values[2048];
    buffer_init(out, MODEL_MAX);
    assert_int_equal(gguf_writer_open_memory(&w, out, &e), 0);
    gguf_writer_text(w, "general.architecture", bytes_text("llama"));
    if (number >= 0) {
        gguf_writer_u32(w, "split.no", (uint32_t)number);
        gguf_writer_u32(w, "split.count", 2);
        gguf_writer_u32(w, "split.tensors.count", 2);
    }
    const char *name = number == 1 ? "b.weight" : "a.weight";
    assert_int_equal(gguf_writer_tensor(w, name, QUANT_F32, 2, (uint64_t[]){ 1024, 2 }, &e), 0);
    for (size_t i = 0; i < 2048; i++) {
        values[i] = (float)i + (float)number;
    }
    assert_int_equal(gguf_writer_data(w, bytes_of(values, sizeof values), &e), 0);
    assert_int_equal(gguf_writer_finish(w, &e), 0);
    gguf_writer_close(w);
}

static void decide(void *arg, const struct asked *q, struct answer *a)
{
    struct world *w = arg;
    if (q->index < 8) {
        memcpy(w->paths[q->index], q->path, SERVER_TEXT);
    }
    int part = strstr(q->path, "-00001-of-") ? 0 : strstr(q->path, "-00002-of-") ? 1 : -1;
    part = w->swapped && part == 0 ? 1 : part;
    struct bytes content = buffer_bytes(part < 0 ? &w->model : &w->parts[part]);
    if (w->short_file) {
        content.size -= 100;
    }
    a->content = content;
    a->status = 200;
    a->from = 0;
    a->send = content.size;
    a->length = (int64_t)content.size;
    a->range[0] = '\0';
    if (q->index == w->cut) {
        a->status = 404;
    }
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    snprintf(w->root, sizeof w->root, "/tmp/shoal-pull-XXXXXX");
    if (mkdtemp(w->root) == NULL) {
        return -1;
    }
    snprintf(w->models, sizeof w->models, "%s/models", w->root);
    snprintf(w->elsewhere, sizeof w->elsewhere, "%s/elsewhere", w->root);
    write_model(&w->model, -1);
    write_model(&w->parts[0], 0);
    write_model(&w->parts[1], 1);
    w->cut = -1;
    server_start(&w->s, (struct bytes){ 0 }, decide, w);
    server_url(&w->s, "", w->origin);
    *state = w;
    return file_make_directory(w->elsewhere, 0755, NULL);
}

static bool remove_entry(void *arg, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", (const char *)arg, name);
    unlink(path);
    return true;
}

static int teardown(void **state)
{
    struct world *w = *state;
    server_stop(&w->s);
    file_list(w->models, remove_entry, w->models, NULL);
    file_list(w->elsewhere, remove_entry, w->elsewhere, NULL);
    rmdir(w->models);
    rmdir(w->elsewhere);
    rmdir(w->root);
    buffer_done(&w->model);
    buffer_done(&w->parts[0]);
    buffer_done(&w->parts[1]);
    free(w);
    return 0;
}

static int get(struct world *w, const char *spec, const char *sha256, struct pull_result *r,
               struct error *e)
{
    e->text[0] = '\0';
    return pull(&(struct pull_options){ .spec = spec,
                                        .folder = w->models,
                                        .sha256 = sha256,
                                        .hub = w->origin,
                                        .stall_s = 1,
                                        .retry_wait_ns = 1 },
                r, e);
}

static bool count_entry(void *arg, const char *name)
{
    (void)name;
    (*(int *)arg)++;
    return true;
}

static int count_models(struct world *w)
{
    int n = 0;
    file_list(w->models, count_entry, &n, NULL);
    return n;
}

static void expect_model(const char *path, int tensors)
{
    struct gguf *g = NULL;
    struct error e = { 0 };
    if (gguf_open(&g, path, &e) != 0) {
        fail_test("%s", e.text);
    }
    assert_int_equal(gguf_n_tensors(g), tensors);
    gguf_close(g);
}

static void expect_text(const struct error *e, const char *text)
{
    if (strstr(e->text, text) == NULL) {
        fail_test("no \"%s\" in: %s", text, e->text);
    }
}

static void put(struct world *w, const char *name, const struct buffer *content,
                char ret[static 256])
{
    struct error e = { 0 };
    snprintf(ret, 256, "%s/%s", w->elsewhere, name);
    assert_int_equal(file_write_atomic(ret, buffer_bytes(content), 0644, &e), 0);
}

static void a_file_of_the_hub_comes(void **state)
{
    struct world *w = *state;
    struct pull_result r;
    struct error e = { 0 };
    char expected[256];
    if (get(w, "hf:o/r/sub/m.gguf@v1", NULL, &r, &e) != 0) {
        fail_test("%s", e.text);
    }
    snprintf(expected, sizeof expected, "%s/m.gguf", w->models);
    assert_string_equal(r.path, expected);
    assert_int_equal(r.bytes, w->model.size);
    expect_model(r.path, 1);
    assert_int_equal(count_models(w), 1);
    assert_string_equal(w->paths[0], "/o/r/resolve/v1/sub/m.gguf");
}

static void names_from_servers_stay_in_the_folder(void **state)
{
    struct world *w = *state;
    struct pull_result r;
    struct error e = { 0 };
    char url[SERVER_TEXT];
    server_url(&w->s, "/a/..%2f..%2fm?x=/../y", url);
    assert_int_equal(get(w, url, NULL, &r, &e), 0);
    assert_int_equal(strncmp(r.path, w->models, strlen(w->models)), 0);
    assert_null(strchr(r.path + strlen(w->models) + 1, '/'));
    assert_int_equal(count_models(w), 1);
}

static void split_models_come_whole(void **state)
{
    struct world *w = *state;
    struct pull_result r;
    struct error e = { 0 };
    w->cut = 0;
    assert_int_equal(get(w, "hf:o/r/m-00001-of-00002.gguf", NULL, &r, &e), FAIL_NOT_FOUND);
    expect_text(&e, "part 2 of 2");
    assert_int_equal(count_models(w), 0);
    assert_int_equal(get(w, "hf:o/r/m-00002-of-00002.gguf", NULL, &r, &e), 0);
    assert_int_equal(r.parts, 2);
    assert_false(r.present);
    assert_int_equal(r.bytes, w->parts[0].size + w->parts[1].size);
    assert_non_null(strstr(r.path, "/m-00001-of-00002.gguf"));
    expect_model(r.path, 2);
    assert_int_equal(count_models(w), 2);
    assert_string_equal(w->paths[1], "/o/r/resolve/main/m-00002-of-00002.gguf");
    assert_string_equal(w->paths[2], "/o/r/resolve/main/m-00001-of-00002.gguf");
    assert_int_equal(get(w, "hf:o/r/m-00001-of-00002.gguf", NULL, &r, &e), 0);
    assert_true(r.present);
    char zeros[65];
    memset(zeros, '0', 64);
    zeros[64] = '\0';
    assert_int_equal(get(w, "hf:o/r/m-00001-of-00002.gguf", zeros, &r, &e), FAIL_ARG);
}

static void parts_that_do_not_fit_are_not_offered(void **state)
{
    struct world *w = *state;
    struct pull_result r;
    struct error e = { 0 };
    char first[256];
    w->swapped = true;
    assert_int_equal(get(w, "hf:o/r/m-00001-of-00002.gguf", NULL, &r, &e), FAIL_FORMAT);
    expect_text(&e, "don't make a model");
    snprintf(first, sizeof first, "%s/m-00001-of-00002.gguf", w->models);
    assert_false(file_exists(first));
}

static void a_broken_model_does_not_stay(void **state)
{
    struct world *w = *state;
    struct pull_result r;
    struct error e = { 0 };
    w->short_file = true;
    assert_int_equal(get(w, "hf:o/r/m.gguf", NULL, &r, &e), FAIL_FORMAT);
    expect_text(&e, "no model that can be used");
    expect_text(&e, "byte");
    assert_int_equal(count_models(w), 0);
    w->short_file = false;
    assert_int_equal(get(w, "hf:o/r/m.gguf", NULL, &r, &e), 0);
}

static void files_from_here_are_linked(void **state)
{
    struct world *w = *state;
    struct pull_result r;
    struct error e = { 0 };
    char path[256], link[256];
    struct file_identity from, to;
    put(w, "m.gguf", &w->model, path);
    assert_int_equal(get(w, path, NULL, &r, &e), 0);
    assert_true(r.linked && r.local && !r.present);
    assert_int_equal(file_identify(path, &from, &e), 0);
    assert_int_equal(file_identify(r.path, &to, &e), 0);
    assert_int_equal(from.inode, to.inode);
    assert_int_equal(get(w, path, NULL, &r, &e), 0);
    assert_true(r.present);
    assert_int_equal(count_models(w), 1);
    /* A link's target, not the link; another file of this name gives way. */
    put(w, "other.gguf", &w->model, path);
    snprintf(link, sizeof link, "%s/m.gguf", w->elsewhere);
    unlink(link);
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(get(w, link, NULL, &r, &e), 0);
    struct stat s;
    assert_int_equal(lstat(r.path, &s), 0);
    assert_true(S_ISREG(s.st_mode));
    assert_int_equal(file_identify(path, &from, &e), 0);
    assert_int_equal(from.inode, (uint64_t)s.st_ino);
    /* Parts from here. */
    put(w, "p-00001-of-00002.gguf", &w->parts[0], link);
    put(w, "p-00002-of-00002.gguf", &w->parts[1], path);
    assert_int_equal(get(w, path, NULL, &r, &e), 0);
    expect_model(r.path, 2);
    assert_int_equal(count_models(w), 3);
}

static void files_of_another_disk_are_copied(void **state)
{
    struct world *w = *state;
    struct pull_result r;
    struct error e = { 0 };
    char path[64] = "/dev/shm/shoal-pull-XXXXXX", file[96];
    struct file_identity here, there;
    if (mkdtemp(path) == NULL || file_identify(path, &there, &e) != 0 ||
        file_identify(w->root, &here, &e) != 0 || here.device == there.device) {
        rmdir(path);
        print_message("skipped: /dev/shm is no disk of its own\n");
        skip();
    }
    snprintf(file, sizeof file, "%s/m.gguf", path);
    assert_int_equal(file_write_atomic(file, buffer_bytes(&w->model), 0644, &e), 0);
    int code = get(w, file, NULL, &r, &e);
    unlink(file);
    rmdir(path);
    if (code != 0) {
        fail_test("%s", e.text);
    }
    assert_false(r.linked);
    expect_model(r.path, 1);
    assert_int_equal(count_models(w), 1);
}

static void what_is_no_model_stays_where_it_is(void **state)
{
    struct world *w = *state;
    struct pull_result r;
    struct error e = { 0 };
    char path[256], zeros[65];
    struct buffer text;
    buffer_init(&text, 100);
    buffer_text(&text, "not a model");
    put(w, "m.gguf", &text, path);
    buffer_done(&text);
    assert_int_equal(get(w, path, NULL, &r, &e), FAIL_FORMAT);
    assert_int_equal(count_models(w), 0);
    put(w, "m.gguf", &w->model, path);
    memset(zeros, '0', 64);
    zeros[64] = '\0';
    assert_int_equal(get(w, path, zeros, &r, &e), FAIL_FORMAT);
    expect_text(&e, "its sha256 is");
    assert_int_equal(get(w, path, "short", &r, &e), FAIL_ARG);
    assert_int_equal(get(w, "/nowhere/m.gguf", NULL, &r, &e), FAIL_NOT_FOUND);
    expect_text(&e, "shoal pull hf:");
    assert_int_equal(count_models(w), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_of_the_hub_comes),          TEST(names_from_servers_stay_in_the_folder),
        TEST(split_models_come_whole),          TEST(parts_that_do_not_fit_are_not_offered),
        TEST(a_broken_model_does_not_stay),     TEST(files_from_here_are_linked),
        TEST(files_of_another_disk_are_copied), TEST(what_is_no_model_stays_where_it_is),
    };
    setenv("no_proxy", "*", 1); /* loopback needs none, whatever this machine is set to */
    return cmocka_run_group_tests(tests, NULL, NULL);
}

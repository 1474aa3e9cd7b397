/* The GGUF writer, split files, synthetic models and the memory calculator, through the reader. */
#include "tests/test.h"

#include "base/random.h"
#include "gguf/gguf.h"
#include "tools/synth/synth.h"
#include "gguf/writer.h"
#include "os/env.h"
#include "os/file.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define MAX_FILE (64u << 20)

static void write_all_keys(struct gguf_writer *w)
{
    struct bytes texts[] = { bytes_text("one"), bytes_text(""), bytes_text("drei") };
    gguf_writer_u32(w, "general.alignment", 64);
    gguf_writer_u64(w, "u64", UINT64_MAX);
    gguf_writer_f32(w, "f32", 0.1f);
    gguf_writer_bool(w, "bool", true);
    gguf_writer_text(w, "text", bytes_of("a\0b", 3));
    gguf_writer_i32_array(w, "ints", (int32_t[]){ -1, 0, 7 }, 3);
    gguf_writer_f32_array(w, "floats", (float[]){ 0.5f, -2 }, 2);
    gguf_writer_text_array(w, "texts", texts, 3);
    gguf_writer_text_array(w, "none", texts, 0);
}

static void check_all_keys(const struct gguf *g)
{
    struct error e = { 0 };
    double f;
    bool yes;
    struct bytes text;
    assert_int_equal(gguf_n_keys(g), 9);
    assert_int_equal(gguf_alignment(g), 64);
    assert_true(gguf_find(g, "u64")->u == UINT64_MAX);
    assert_int_equal(gguf_get_float(g, "f32", 0, &f, &e), 0);
    assert_true(f == (double)0.1f);
    assert_int_equal(gguf_get_bool(g, "bool", false, &yes, &e), 0);
    assert_true(yes);
    assert_int_equal(gguf_get_text(g, "text", "", &text, &e), 0);
    assert_true(bytes_equal(text, bytes_of("a\0b", 3)));
    assert_true(gguf_array_int(gguf_find(g, "ints"), 0) == -1);
    assert_true(gguf_array_int(gguf_find(g, "ints"), 2) == 7);
    assert_true(gguf_array_float(gguf_find(g, "floats"), 1) == -2);
    assert_true(bytes_equal_text(gguf_array_text(gguf_find(g, "texts"), 2), "drei"));
    assert_true(gguf_find(g, "none")->count == 0);
    assert_null(gguf_find(g, "no such key"));
}

/* Two tensors in odd pieces; then the same keys copied by a reader into a second file. */
static void round_trip(void **state)
{
    struct buffer file, again;
    struct gguf_writer *w = NULL;
    struct gguf *g = NULL;
    struct error e = { 0 };
    uint8_t data[3 * 34 + 40];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7);
    buffer_init(&file, MAX_FILE);
    buffer_init(&again, MAX_FILE);
    assert_int_equal(gguf_writer_open_memory(&w, &file, &e), 0);
    write_all_keys(w);
    assert_int_equal(gguf_writer_tensor(w, "q", QUANT_Q8_0, 2, (uint64_t[]){ 32, 3 }, &e), 0);
    assert_int_equal(gguf_writer_tensor(w, "f", QUANT_F32, 1, (uint64_t[]){ 10 }, &e), 0);
    assert_int_equal(gguf_writer_tensor(w, "bad", QUANT_Q8_0, 1, (uint64_t[]){ 33 }, &e), FAIL_ARG);
    assert_int_equal(gguf_writer_finish(w, &e), FAIL_STATE);
    for (size_t at = 0; at < sizeof(data); at += 29) {
        size_t n = sizeof(data) - at < 29 ? sizeof(data) - at : 29;
        assert_int_equal(gguf_writer_data(w, bytes_of(data + at, n), &e), 0);
    }
    assert_int_equal(gguf_writer_data(w, bytes_of(data, 1), &e), FAIL_ARG);
    assert_int_equal(gguf_writer_tensor(w, "late", QUANT_F32, 1, (uint64_t[]){ 1 }, &e),
                     FAIL_STATE);
    assert_int_equal(gguf_writer_finish(w, &e), 0);
    gguf_writer_close(w);

    assert_int_equal(gguf_open_bytes(&g, buffer_bytes(&file), &e), 0);
    check_all_keys(g);
    assert_int_equal(gguf_n_tensors(g), 2);
    const struct gguf_tensor *q = gguf_tensor(g, "q"), *f = gguf_tensor(g, "f");
    assert_true(q->bytes == 102 && q->elements == 96 && q->offset % 64 == 0);
    assert_true(q->n_dims == 2 && q->dims[0] == 32 && q->dims[1] == 3 && q->dims[2] == 1);
    assert_memory_equal(q->data, data, 102);
    assert_memory_equal(f->data, data + 102, 40);
    assert_true(gguf_header(g).size == q->offset);

    assert_int_equal(gguf_writer_open_memory(&w, &again, &e), 0);
    for (int i = 0; i < gguf_n_keys(g); i++)
        gguf_writer_value(w, gguf_value_at(g, i));
    assert_int_equal(gguf_writer_finish(w, &e), 0);
    gguf_writer_close(w);
    gguf_close(g);
    assert_int_equal(gguf_open_bytes(&g, buffer_bytes(&again), &e), 0);
    check_all_keys(g);
    gguf_close(g);
    buffer_done(&file);
    buffer_done(&again);
}

/* Part `number` of `count` with one tensor named by the part. */
static void write_part(const char *path, uint64_t number, uint32_t count, uint32_t tensors)
{
    struct gguf_writer *w = NULL;
    struct error e = { 0 };
    char name[32];
    float value = (float)number;
    snprintf(name, sizeof(name), "t%" PRIu64, number);
    assert_int_equal(gguf_writer_open(&w, path, &e), 0);
    gguf_writer_u64(w, "split.no", number);
    gguf_writer_u32(w, "split.count", count);
    gguf_writer_u32(w, "split.tensors.count", tensors);
    assert_int_equal(gguf_writer_tensor(w, name, QUANT_F32, 1, (uint64_t[]){ 1 }, &e), 0);
    assert_int_equal(gguf_writer_data(w, bytes_of(&value, sizeof(value)), &e), 0);
    assert_int_equal(gguf_writer_finish(w, &e), 0);
    gguf_writer_close(w);
}

static void expect_open(const char *path, int code, const char *words)
{
    struct error e = { 0 };
    struct gguf *g = NULL;
    int r = gguf_open(&g, path, &e);
    if (r != code || !strstr(e.text, words))
        fail_test("code %d, \"%s\"; expected %d with \"%s\"", r, e.text, code, words);
    gguf_close(g);
}

static void split_files(void **state)
{
    char folder[] = "/tmp/shoal-split-XXXXXX", path[3][64];
    assert_non_null(mkdtemp(folder));
    for (uint32_t i = 0; i < 3; i++) {
        snprintf(path[i], sizeof(path[i]), "%s/m-%05u-of-00003.gguf", folder, i + 1);
        write_part(path[i], i, 3, 3);
    }
    struct gguf *g = NULL;
    struct error e = { 0 };
    assert_int_equal(gguf_open(&g, path[0], &e), 0);
    assert_int_equal(gguf_parts(g), 3);
    assert_int_equal(gguf_n_tensors(g), 3);
    assert_int_equal(gguf_tensor(g, "t2")->part, 2);
    float value;
    memcpy(&value, gguf_tensor(g, "t2")->data, sizeof(value));
    assert_true(value == 2);
    gguf_close(g);

    expect_open(path[1], FAIL_FORMAT, "opened by its first part");
    write_part(path[2], 1, 3, 3);
    expect_open(path[0], FAIL_FORMAT, "split.no 1 of split.count 3 where part 3 of 3");
    write_part(path[2], 2, 4, 3);
    expect_open(path[0], FAIL_FORMAT, "split.no 2 of split.count 4 where part 3 of 3");
    write_part(path[2], INT64_MAX, 3, 3);
    expect_open(path[0], FAIL_FORMAT, "split.no 9223372036854775807 of");
    remove(path[2]);
    expect_open(path[0], FAIL_NOT_FOUND, "m-00003-of-00003.gguf");
    write_part(path[2], 2, 3, 3);
    write_part(path[0], 0, 3, 4);
    expect_open(path[0], FAIL_FORMAT, "split.tensors.count");
    for (int i = 0; i < 3; i++)
        remove(path[i]);
    remove(folder);
}

/* The unfinished file never takes the name. */
static void unfinished_files_vanish(void **state)
{
    char folder[] = "/tmp/shoal-write-XXXXXX", path[64], part[80];
    struct gguf_writer *w = NULL;
    struct error e = { 0 };
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/m.gguf", folder);
    snprintf(part, sizeof(part), "%s.part", path);
    assert_int_equal(gguf_writer_open(&w, path, &e), 0);
    assert_int_equal(gguf_writer_tensor(w, "t", QUANT_F32, 1, (uint64_t[]){ 2 }, &e), 0);
    assert_int_equal(gguf_writer_data(w, bytes_of("1234", 4), &e), 0);
    assert_true(file_exists(part));
    gguf_writer_close(w);
    assert_false(file_exists(part));
    assert_false(file_exists(path));
    remove(folder);
}

static struct gguf *make(struct buffer *b, const char *preset, const char *family, const char *type)
{
    struct synth_spec spec;
    struct gguf_writer *w = NULL;
    struct gguf *g = NULL;
    struct error e = { 0 };
    buffer_init(b, MAX_FILE);
    if (synth_preset(&spec, preset, family, &e) || synth_set_type(&spec, type, &e) ||
        gguf_writer_open_memory(&w, b, &e) || synth_write(w, &spec, &e) ||
        gguf_open_bytes(&g, buffer_bytes(b), &e))
        fail_test("%s %s %s: %s", preset, family, type, e.text);
    gguf_writer_close(w);
    return g;
}

/* Every family in every type opens, and the same spec gives the same bytes. */
static void synthetic_models(void **state)
{
    static const char *const families[] = { "llama",    "mixtral", "qwen2", "qwen3",
                                            "qwen3moe", "gemma3",  "lfm2",  "smollm3" };
    struct buffer a, b;
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
        for (int t = 0; t < QUANT_COUNT; t++) {
            if (!quant_can_dequantize((enum quant_type)t))
                continue;
            struct gguf *g = make(&a, "tiny", families[i], quant_format((enum quant_type)t)->name);
            assert_non_null(gguf_tensor(g, "token_embd.weight"));
            gguf_close(g);
            buffer_done(&a);
        }
        gguf_close(make(&a, "tiny", families[i], "Q4_K_M"));
        gguf_close(make(&b, "tiny", families[i], "Q4_K_M"));
        assert_true(bytes_equal(buffer_bytes(&a), buffer_bytes(&b)));
        buffer_done(&a);
        buffer_done(&b);
    }
}

/* Types of the wide llama's mixture: 8 layers, the first and last and every third between. */
static void mixture_types(void **state)
{
    struct buffer b;
    struct gguf *g = make(&b, "wide", "llama", "Q4_K_M");
    static const int more[] = { 0, 3, 6, 7 };
    for (int i = 0, k = 0; i < 8; i++) {
        char name[32];
        snprintf(name, sizeof(name), "blk.%d.ffn_down.weight", i);
        bool six = k < 4 && more[k] == i;
        k += six;
        assert_int_equal(gguf_tensor(g, name)->type, six ? QUANT_Q6_K : QUANT_Q4_K);
    }
    assert_int_equal(gguf_tensor(g, "output.weight")->type, QUANT_Q6_K);
    assert_int_equal(gguf_tensor(g, "token_embd.weight")->type, QUANT_Q4_K);
    gguf_close(g);
    buffer_done(&b);
    assert_int_equal(synth_fallback(QUANT_Q4_K, 640), QUANT_Q5_0);
    assert_int_equal(synth_fallback(QUANT_Q6_K, 640), QUANT_Q8_0);
    assert_int_equal(synth_fallback(QUANT_Q4_K, 1024), QUANT_Q4_K);
    assert_int_equal(synth_fallback(QUANT_Q4_0, 48), QUANT_F16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),       cmocka_unit_test(split_files),
        cmocka_unit_test(synthetic_models), cmocka_unit_test(unfinished_files_vanish),
        cmocka_unit_test(mixture_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

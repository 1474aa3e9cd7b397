/* The GGUF reader on what it must refuse and on what it must read. */
#include "tests/test.h"

#include "gguf/gguf.h"
#include "os/env.h"
#include "os/file.h"

#include <stdio.h>
#include <time.h>

#define MAX_FILE (8u << 20)

/* Every tensor readable to its last byte, every key findable. */
static uint64_t walk(const struct gguf *g)
{
    uint64_t sum = 0;
    for (int i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        sum += (uint64_t)t->data[0] + t->data[t->bytes - 1];
    }
    for (int i = 0; i < gguf_n_keys(g); i++) {
        const struct gguf_value *v = gguf_value_at(g, i);
        if (v->type == GGUF_ARRAY && v->element == GGUF_TEXT)
            for (uint64_t k = 0; k < v->count; k++)
                sum += gguf_array_text(v, k).size;
        else if (v->type == GGUF_ARRAY && v->count)
            sum += (uint64_t)gguf_array_int(v, v->count - 1);
    }
    return sum;
}

static int open_copy(const uint8_t *data, size_t size, struct error *e)
{
    /* An exact copy, so that an address sanitizer sees the first byte beyond the end. */
    uint8_t *copy = malloc(size ? size : 1);
    struct gguf *g = NULL;
    if (size)
        memcpy(copy, data, size);
    int r = gguf_open_bytes(&g, bytes_of(copy, size), e);
    if (!r) {
        walk(g);
    }
    gguf_close(g);
    free(copy);
    return r;
}

static void put_text(struct buffer *b, const char *text)
{
    buffer_u64(b, strlen(text));
    buffer_text(b, text);
}

static void begin(struct buffer *b, uint32_t version, uint64_t tensors, uint64_t keys)
{
    buffer_init(b, MAX_FILE);
    buffer_text(b, "GGUF");
    buffer_u32(b, version);
    buffer_u64(b, tensors);
    buffer_u64(b, keys);
}

static void put_key_u32(struct buffer *b, const char *key, uint32_t value)
{
    put_text(b, key);
    buffer_u32(b, GGUF_U32);
    buffer_u32(b, value);
}

static void put_tensor(struct buffer *b, const char *name, uint64_t n, uint32_t type, uint64_t at)
{
    put_text(b, name);
    buffer_u32(b, 1);
    buffer_u64(b, n);
    buffer_u32(b, type);
    buffer_u64(b, at);
}

/* Consumes b. */
static void refuses(struct buffer *b, int code, const char *words)
{
    struct error e = { 0 };
    int r = open_copy(b->data, b->size, &e);
    if (r != code || !strstr(e.text, words) || !strstr(e.text, "byte"))
        fail_test("code %d, text \"%s\"; expected %d with \"%s\"", r, e.text, code, words);
    buffer_done(b);
}

static void refuses_bad_headers(void **state)
{
    struct buffer b;
    buffer_init(&b, 100);
    refuses(&b, FAIL_FORMAT, "truncated");
    buffer_init(&b, 100);
    buffer_text(&b, "GGML with some bytes behind it");
    refuses(&b, FAIL_FORMAT, "not a GGUF file");
    begin(&b, 1, 0, 0);
    refuses(&b, FAIL_UNSUPPORTED, "version 1");
    begin(&b, 0x03000000, 0, 0);
    refuses(&b, FAIL_UNSUPPORTED, "big-endian");
    begin(&b, 3, 0, UINT64_MAX);
    refuses(&b, FAIL_FORMAT, "metadata keys");
    begin(&b, 3, 1u << 21, 0);
    refuses(&b, FAIL_FORMAT, "tensors");
    begin(&b, 3, 0, 1);
    put_text(&b, "");
    buffer_u64(&b, 0);
    refuses(&b, FAIL_FORMAT, "key");
}

static void refuses_bad_keys(void **state)
{
    struct buffer b;
    begin(&b, 3, 0, 2);
    put_key_u32(&b, "a.b", 1);
    put_key_u32(&b, "a.b", 1);
    refuses(&b, FAIL_FORMAT, "a.b stands twice");
    begin(&b, 3, 0, 1);
    put_text(&b, "odd");
    buffer_u32(&b, 13);
    buffer_u64(&b, 0);
    refuses(&b, FAIL_FORMAT, "unknown value type 13");
    begin(&b, 3, 0, 1);
    put_text(&b, "yes");
    buffer_u32(&b, GGUF_BOOL);
    buffer_u8(&b, 2);
    buffer_u64(&b, 0);
    refuses(&b, FAIL_FORMAT, "boolean of 2");
    begin(&b, 3, 0, 1);
    put_text(&b, "nested");
    buffer_u32(&b, GGUF_ARRAY);
    buffer_u32(&b, GGUF_ARRAY);
    buffer_u64(&b, 1);
    refuses(&b, FAIL_FORMAT, "arrays in arrays");
    begin(&b, 3, 0, 1);
    put_text(&b, "long");
    buffer_u32(&b, GGUF_ARRAY);
    buffer_u32(&b, GGUF_U64);
    buffer_u64(&b, UINT64_MAX / 8 + 2);
    refuses(&b, FAIL_LIMIT, "elements");
    begin(&b, 3, 0, 1);
    put_text(&b, "texts");
    buffer_u32(&b, GGUF_ARRAY);
    buffer_u32(&b, GGUF_TEXT);
    buffer_u64(&b, 1000000);
    refuses(&b, FAIL_FORMAT, "1000000 strings");
    begin(&b, 3, 0, 1);
    put_key_u32(&b, "general.alignment", 24);
    refuses(&b, FAIL_FORMAT, "power of two");
    begin(&b, 3, 0, 1);
    put_key_u32(&b, "general.alignment", 0);
    refuses(&b, FAIL_FORMAT, "power of two");
}

static void pad(struct buffer *b, size_t more)
{
    uint8_t *zeros = buffer_extend(b, size_round_up(b->size, 32) - b->size + more);
    memset(zeros, 0, b->size - (size_t)(zeros - b->data));
}

static void refuses_bad_tensors(void **state)
{
    static const struct {
        uint64_t n;
        uint32_t type;
        uint64_t at;
        int code;
        const char *words;
    } cases[] = {
        { 0, 0, 0, FAIL_FORMAT, "dimension 0 is 0" },
        { UINT64_MAX, 0, 0, FAIL_FORMAT, "dimension 0" },
        { 8, 4, 0, FAIL_UNSUPPORTED, "unknown type 4" },
        { 33, 2, 0, FAIL_FORMAT, "not whole blocks of Q4_0" },
        { 8, 0, 1, FAIL_FORMAT, "multiple of the alignment" },
        { 8, 0, 1 << 20, FAIL_FORMAT, "beyond the file" },
        { 8, 0, UINT64_MAX - 31, FAIL_FORMAT, "beyond the file" },
        { 65, 0, 0, FAIL_FORMAT, "beyond the file" },
    };
    struct buffer b;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        begin(&b, 3, 1, 0);
        put_tensor(&b, "t", cases[i].n, cases[i].type, cases[i].at);
        pad(&b, 256);
        refuses(&b, cases[i].code, cases[i].words);
    }
    begin(&b, 3, 2, 0);
    put_tensor(&b, "a", 16, 0, 0);
    put_tensor(&b, "b", 8, 0, 32);
    pad(&b, 256);
    refuses(&b, FAIL_FORMAT, "overlap");
    begin(&b, 3, 2, 0);
    put_tensor(&b, "a", 8, 0, 0);
    put_tensor(&b, "a", 8, 0, 32);
    pad(&b, 256);
    refuses(&b, FAIL_FORMAT, "stands twice");
    begin(&b, 3, 1, 0);
    put_text(&b, "five");
    buffer_u32(&b, 5);
    pad(&b, 256);
    refuses(&b, FAIL_FORMAT, "5 dimensions");
}

static void getters_check_types(void **state)
{
    struct buffer b;
    struct gguf *g = NULL;
    struct error e = { 0 };
    begin(&b, 2, 0, 3);
    put_key_u32(&b, "n", 7);
    put_text(&b, "small");
    buffer_u32(&b, GGUF_I8);
    buffer_u8(&b, 0xfe);
    put_text(&b, "big");
    buffer_u32(&b, GGUF_U64);
    buffer_u64(&b, UINT64_MAX);
    assert_int_equal(gguf_open_bytes(&g, buffer_bytes(&b), &e), 0);
    assert_int_equal(gguf_version(g), 2);
    assert_int_equal(gguf_n_tensors(g), 0);
    int64_t n;
    double f;
    bool yes;
    struct bytes text;
    assert_int_equal(gguf_get_int(g, "n", 1, &n, &e), 0);
    assert_int_equal(n, 7);
    assert_int_equal(gguf_get_int(g, "small", 1, &n, &e), 0);
    assert_int_equal(n, -2);
    assert_int_equal(gguf_get_int(g, "absent", 5, &n, &e), 0);
    assert_int_equal(n, 5);
    assert_int_equal(gguf_get_float(g, "n", 0, &f, &e), 0);
    assert_true(f == 7);
    assert_int_equal(gguf_get_int(g, "big", 0, &n, &e), FAIL_FORMAT);
    assert_int_equal(gguf_get_bool(g, "n", false, &yes, &e), FAIL_FORMAT);
    assert_int_equal(gguf_get_text(g, "n", "", &text, &e), FAIL_FORMAT);
    assert_non_null(strstr(e.text, "key n is of type u32, a string is needed"));
    gguf_close(g);
    buffer_done(&b);
}

static int opened;
static char folder[3000];

static bool open_listed(void *arg, const char *name)
{
    char path[4096];
    struct gguf *g = NULL;
    struct error e = { 0 };
    size_t n = strlen(name);
    if (n < 5 || strcmp(name + n - 5, ".gguf") != 0)
        return true;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (gguf_open(&g, path, &e))
        fail_test("%s", e.text);
    walk(g);
    gguf_close(g);
    opened++;
    return true;
}

static void reads_our_golden_models(void **state)
{
    snprintf(folder, sizeof(folder), "%s/golden", TEST_DATA);
    opened = 0;
    assert_int_equal(file_list(folder, open_listed, NULL, NULL), 0);
    assert_true(opened >= 20);
}

static void reads_the_conformance_models(void **state)
{
    static const char *const folders[] = { "golden", "vocab" };
    const char *root = env_get("SHOAL_CONFORMANCE", NULL);
    if (!root) {
        print_message("SHOAL_CONFORMANCE is not set\n");
        skip();
    }
    opened = 0;
    for (int i = 0; i < 2; i++) {
        snprintf(folder, sizeof(folder), "%s/%s", root, folders[i]);
        assert_int_equal(file_list(folder, open_listed, NULL, NULL), 0);
    }
    assert_true(opened > 100);
}

/* Sixty thousand names cost as much as they are long, and the table's seed is drawn for each file,
 * so that names chosen to share a slot in one share none in the next. */
static void many_names_are_linear(void **state)
{
    enum { TENSORS = 60000 };
    struct buffer b;
    struct error e = { 0 };
    struct gguf *g = NULL, *again = NULL;
    char name[32];
    begin(&b, 3, TENSORS, 0);
    for (int i = 0; i < TENSORS; i++) {
        snprintf(name, sizeof(name), "blk.%d.attn_q.weight", i);
        put_tensor(&b, name, 8, 0, (uint64_t)i * 32);
    }
    while (b.size % 32)
        buffer_u8(&b, 0);
    assert_non_null(buffer_extend(&b, (size_t)TENSORS * 32));
    clock_t start = clock();
    assert_int_equal(gguf_open_bytes(&g, buffer_bytes(&b), &e), 0);
    for (int i = 0; i < TENSORS; i++) {
        snprintf(name, sizeof(name), "blk.%d.attn_q.weight", i);
        assert_ptr_equal(gguf_tensor(g, name), gguf_tensor_at(g, i));
    }
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 5);
    assert_int_equal(gguf_open_bytes(&again, buffer_bytes(&b), &e), 0);
    assert_true(gguf_seed(g) != gguf_seed(again));
    gguf_close(g);
    gguf_close(again);
    buffer_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_names_are_linear),
        cmocka_unit_test(refuses_bad_headers),
        cmocka_unit_test(refuses_bad_keys),
        cmocka_unit_test(refuses_bad_tensors),
        cmocka_unit_test(getters_check_types),
        cmocka_unit_test(reads_our_golden_models),
        cmocka_unit_test(reads_the_conformance_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* base: errors, cursors, arenas, buffers, maps. */
#include "tests/test.h"

#include "base/arena.h"
#include "base/buffer.h"
#include "base/cursor.h"
#include "base/array.h"
#include "base/hash.h"
#include "base/hex.h"
#include "base/map.h"
#include "base/random.h"
#include "base/utf8.h"
#include "base/size_text.h"
#include "base/spans.h"

#include <stdio.h>

static void error_wrap_puts_context_first(void **state)
{
    (void)state;
    struct error e = { 0 };
    assert_int_equal(fail(&e, FAIL_RANGE, "layer %d of %d", 7, 4), FAIL_RANGE);
    assert_int_equal(wrap(&e, "model %s", "x.gguf"), FAIL_RANGE);
    assert_string_equal(e.text, "model x.gguf: layer 7 of 4");
}

static void error_wrap_cuts_long_texts(void **state)
{
    (void)state;
    struct error e = { 0 };
    char long_text[2 * ERROR_TEXT];
    memset(long_text, 'x', sizeof(long_text));
    long_text[sizeof(long_text) - 1] = '\0';
    fail(&e, FAIL_IO, "%s", long_text);
    for (int i = 0; i < 3; i++)
        assert_int_equal(wrap(&e, "%s", long_text), FAIL_IO);
    assert_true(strlen(e.text) < ERROR_TEXT);
}

/* File names and cuts: an error's text goes into JSON and messages. */
static void error_texts_are_utf8(void **state)
{
    (void)state;
    struct error e = { 0 };
    char path[2 * ERROR_TEXT];
    for (int shift = 0; shift < 2; shift++) {
        for (size_t i = 0; i + 2 < sizeof path; i += 2)
            memcpy(path + i, "\xc3\xa4", 3);
        fail(&e, FAIL_IO, "%s%s", shift ? "x" : "", path);
        assert_in_range(strlen(e.text), ERROR_TEXT - 2, ERROR_TEXT - 1);
        assert_string_equal(e.text + strlen(e.text) - 2, "\xc3\xa4");
        wrap(&e, "%s", path);
        for (struct bytes left = bytes_text(e.text); left.size > 0;) {
            uint32_t c;
            int n = utf8_read(left, &c);
            assert_true(n > 0);
            left = bytes_of(left.data + n, left.size - (size_t)n);
        }
    }
    fail(&e, FAIL_IO, "gr\xfc\xdf.gguf: \xf0\x9f\x98");
    assert_string_equal(e.text, "gr??.gguf: ");
}

static void cursor_says_where_it_ended(void **state)
{
    (void)state;
    static const uint8_t raw[] = { 1, 2, 0, 3, 0, 0, 0, 9 };
    struct error e = { 0 };
    struct cursor c;
    cursor_init(&c, bytes_of(raw, sizeof(raw)), &e);
    assert_int_equal(cursor_u8(&c, "a"), 1);
    assert_int_equal(cursor_u16(&c, "b"), 2);
    assert_int_equal(cursor_u32(&c, "c"), 3);
    assert_int_equal(cursor_u32(&c, "the count"), 0);
    assert_true(c.failed);
    assert_int_equal(e.code, FAIL_FORMAT);
    assert_string_equal(e.text, "truncated: the count needs 4 bytes, only 1 are left at byte 7");
    assert_int_equal(cursor_bytes(&c, UINT64_MAX, "later").size, 0);
    assert_non_null(strstr(e.text, "the count"));
}

static void arena_aligns_limits_and_resets(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 1 << 16);
    for (int i = 1; i < 200; i++) {
        uint8_t *p = arena_alloc(&a, (size_t)i);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % (i >= 64 ? 64 : 16), 0);
        for (int j = 0; j < i; j++)
            assert_int_equal(p[j], 0);
        memset(p, 0xee, (size_t)i);
    }
    assert_null(arena_alloc(&a, 1 << 16));
    assert_null(arena_array(&a, double, SIZE_MAX / 4));
    arena_reset(&a);
    uint8_t *p = arena_alloc(&a, 64);
    assert_int_equal(p[0], 0);
    arena_done(&a);
}

static void buffer_keeps_its_limit(void **state)
{
    (void)state;
    struct buffer b;
    buffer_init(&b, 8);
    assert_int_equal(buffer_u32(&b, 0x64636261), 0);
    assert_int_equal(buffer_text(&b, "efgh"), 0);
    assert_string_equal(buffer_cstr(&b), "abcdefgh");
    assert_int_equal(buffer_text(&b, "i"), FAIL_LIMIT);
    assert_true(b.failed);
    assert_int_equal(b.size, 8);
    buffer_clear(&b);
    assert_int_equal(buffer_printf(&b, "%d-%s", 42, "x"), 0);
    assert_string_equal(buffer_cstr(&b), "42-x");
    buffer_done(&b);
}

static void map_finds_what_was_put(void **state)
{
    (void)state;
    struct arena a = { 0 };
    struct map m;
    assert_int_equal(map_init(&m, &a, 1000, 7, NULL), 0);
    char *keys[1000];
    for (int i = 0; i < 1000; i++) {
        keys[i] = arena_alloc(&a, 8);
        keys[i][0] = (char)(i & 255);
        keys[i][1] = (char)(i >> 8);
        assert_int_equal(map_put(&m, bytes_of(keys[i], 2), i), 0);
    }
    for (int i = 0; i < 1000; i++)
        assert_int_equal(map_get(&m, bytes_of(keys[i], 2), -1), i);
    assert_int_equal(map_get(&m, bytes_text("none"), -1), -1);
    arena_done(&a);
}

/* SipHash-1-3 by another implementation (Python's own), with the key 00 01 .. 0f. */
static void hashes_are_siphash(void **state)
{
    static const struct {
        size_t size;
        uint64_t hash;
    } cases[] = { { 0, 0xabac0158050fc4dcu },
                  { 1, 0xc9f49bf37d57ca93u },
                  { 8, 0x369095118d299a8eu },
                  { 15, 0xd320d86d2a519956u },
                  { 63, 0x9d199062b7bbb3a8u } };
    uint8_t data[64];
    for (int i = 0; i < 64; i++)
        data[i] = (uint8_t)i;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_true(hash_sip(bytes_of(data, cases[i].size), 0x0706050403020100u,
                             0x0f0e0d0c0b0a0908u) == cases[i].hash);
}

/* Names that share a slot under one seed are scattered under others. */
static void collisions_end_with_the_seed(void **state)
{
    enum { NAMES = 256, SLOTS = 4096 };
    static char names[NAMES][16];
    int n = 0;
    for (int i = 0; n < NAMES; i++) {
        snprintf(names[n], sizeof(names[n]), "blk.%d", i);
        n += hash_sip(bytes_text(names[n]), 1, 2) % SLOTS == 0;
    }
    for (uint64_t seed = 2; seed < 10; seed++) {
        static bool used[SLOTS];
        int distinct = 0;
        memset(used, 0, sizeof(used));
        for (int i = 0; i < NAMES; i++) {
            bool *slot = &used[hash_sip(bytes_text(names[i]), seed, 2) % SLOTS];
            distinct += !*slot;
            *slot = true;
        }
        assert_true(distinct > NAMES * 9 / 10);
    }
}

static void arrays_grow_to_their_limit(void **state)
{
    (void)state;
    size_t capacity = 0;
    int *items = array_grow(NULL, &capacity, 1, sizeof(*items), 100);
    assert_non_null(items);
    assert_int_equal(capacity, 16);
    assert_ptr_equal(array_grow(items, &capacity, 16, sizeof(*items), 100), items);
    assert_int_equal(capacity, 16);
    items[15] = 7;
    items = array_grow(items, &capacity, 17, sizeof(*items), 100);
    assert_int_equal(capacity, 32);
    assert_int_equal(items[15], 7);
    items = array_grow(items, &capacity, 90, sizeof(*items), 100);
    assert_int_equal(capacity, 90);
    items = array_grow(items, &capacity, 100, sizeof(*items), 100);
    assert_int_equal(capacity, 100);
    assert_null(array_grow(items, &capacity, 101, sizeof(*items), 100));
    assert_int_equal(capacity, 100);
    assert_null(array_grow(items, &capacity, SIZE_MAX, 8, SIZE_MAX));
    free(items);
}

static void hex_both_ways(void **state)
{
    (void)state;
    char text[5];
    uint8_t back[2];
    hex_format(text, (const uint8_t[]){ 0x0a, 0xff }, 2);
    assert_string_equal(text, "0aff");
    assert_true(hex_parse(back, 2, bytes_text("0AfF")));
    assert_int_equal(back[0] << 8 | back[1], 0x0aff);
    assert_false(hex_parse(back, 2, bytes_text("0af")));
    assert_false(hex_parse(back, 2, bytes_text("0afg")));
    assert_false(hex_parse(back, 2, bytes_text("0aff0")));
}

static void sizes_for_people(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *decimal, *binary;
    } cases[] = { { 0, "0 B", "0 bytes" },
                  { 999, "999 B", "999 bytes" },
                  { 1000, "1.0 kB", "1000 bytes" },
                  { 1536, "1.5 kB", "1.50 KiB" },
                  { 1234567890, "1.2 GB", "1.15 GiB" },
                  { UINT64_MAX, "18.4 EB", "16.00 EiB" } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[SIZE_TEXT];
        assert_string_equal(size_text(cases[i].bytes, text), cases[i].decimal);
        assert_string_equal(size_text_binary(cases[i].bytes, text), cases[i].binary);
    }
}

static void spans_stay_apart_and_ascending(void **state)
{
    (void)state;
    struct spans s = { 0 };
    struct error e = { 0 };
    assert_int_equal(spans_add(&s, 1, 3, &e), 0);
    assert_int_equal(spans_add(&s, 3, 5, &e), 0); /* touches: one */
    assert_int_equal(spans_add(&s, 7, 7, &e), 0); /* empty: none */
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(spans_add(&s, 10 + 2 * i, 11 + 2 * i, &e), 0);
    assert_int_equal(s.count, 101);
    assert_int_equal(s.items[0].start, 1);
    assert_int_equal(s.items[0].end, 5);
    assert_int_equal(s.items[100].end, 209);
    spans_clear(&s);
    for (size_t i = 0; i < SPANS_MAX; i++)
        assert_int_equal(spans_add(&s, 2 * i, 2 * i + 1, &e), 0);
    assert_int_equal(spans_add(&s, 2 * SPANS_MAX, 2 * SPANS_MAX + 1, &e), FAIL_LIMIT);
    assert_int_equal(s.count, SPANS_MAX);
    spans_done(&s);
    spans_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_wrap_puts_context_first),
        cmocka_unit_test(error_wrap_cuts_long_texts),
        cmocka_unit_test(error_texts_are_utf8),
        cmocka_unit_test(cursor_says_where_it_ended),
        cmocka_unit_test(arena_aligns_limits_and_resets),
        cmocka_unit_test(buffer_keeps_its_limit),
        cmocka_unit_test(map_finds_what_was_put),
        cmocka_unit_test(hashes_are_siphash),
        cmocka_unit_test(arrays_grow_to_their_limit),
        cmocka_unit_test(hex_both_ways),
        cmocka_unit_test(sizes_for_people),
        cmocka_unit_test(collisions_end_with_the_seed),
        cmocka_unit_test(spans_stay_apart_and_ascending),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

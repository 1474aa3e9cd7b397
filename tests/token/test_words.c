/* Words and normalization against the Python package tokenizers: tests/data/tokens/cases.json,
 * which tools/token_golden.py writes. */
#include "tests/test.h"

#include "token/pretokenize.h"
#include "token/unicode.h"

#include <jansson.h>
#include <time.h>

struct expected {
    const json_t *words;
    size_t at;
    bool wrong;
};

static int on_word(void *arg, struct bytes word, struct error *e)
{
    struct expected *x = arg;
    const json_t *want = json_array_get(x->words, x->at++);
    x->wrong = x->wrong || !want ||
               !bytes_equal(word, bytes_of(json_string_value(want), json_string_length(want)));
    return 0;
}

/* Normalizes and cuts as a BPE vocabulary with this pre-tokenizer does. */
static bool cut_is_right(const char *pre, struct bytes text, const json_t *words)
{
    struct pretokenizer *p = NULL;
    struct pretokenizer_state *state = NULL;
    struct expected x = { .words = words };
    struct error e = { 0 };
    struct buffer composed;
    int flags = 0;
    buffer_init(&composed, 1 << 16);
    assert_int_equal(pretokenizer_open(&p, bytes_text(pre), &flags, &e), 0);
    assert_int_equal(pretokenizer_state_open(&state, p, &e), 0);
    if (flags & PRE_COMPOSE) {
        assert_int_equal(unicode_compose(text, &composed, &e), 0);
        text = buffer_bytes(&composed);
    }
    assert_int_equal(pretokenizer_run(state, text, on_word, &x, &e), 0);
    pretokenizer_state_close(state);
    pretokenizer_close(p);
    buffer_done(&composed);
    return !x.wrong && x.at == json_array_size(words);
}

static void words_are_the_reference(void **state)
{
    json_error_t why;
    json_t *root = json_load_file(TEST_TOKENS "/cases.json", JSON_ALLOW_NUL, &why);
    const char *pre;
    json_t *cases, *one;
    size_t i;
    int wrong = 0, names = 0;
    assert_non_null(root);
    json_object_foreach(json_object_get(root, "words"), pre, cases)
    {
        names++;
        assert_true(json_array_size(cases) > 30);
        json_array_foreach(cases, i, one)
        {
            const json_t *text = json_array_get(one, 0);
            struct bytes t = bytes_of(json_string_value(text), json_string_length(text));
            if (!cut_is_right(pre, t, json_array_get(one, 1))) {
                print_message("%s cuts '%.*s' otherwise\n", pre, BYTES_ARG(t));
                wrong++;
            }
        }
    }
    json_decref(root);
    assert_int_equal(wrong, 0);
    assert_int_equal(names, 8);
}

static void check_compose(const char *text, const char *want)
{
    struct buffer out;
    struct error e = { 0 };
    buffer_init(&out, 1024);
    assert_int_equal(unicode_compose(bytes_text(text), &out, &e), 0);
    assert_string_equal(buffer_cstr(&out), want);
    buffer_done(&out);
}

/* The examples of Unicode Standard Annex 15, and the edges of our own segments. */
static void composition(void **state)
{
    check_compose("", "");
    check_compose("plain", "plain");
    check_compose("\u0301", "\u0301");
    check_compose("x\u0301", "x\u0301");
    check_compose("\u00c5", "\u00c5");
    check_compose("\u212b", "\u00c5");
    check_compose("A\u030a", "\u00c5");
    check_compose("\u00c5\u0301", "\u01fa");
    check_compose("\u1e69", "\u1e69");
    check_compose("s\u0307\u0323", "\u1e69");
    check_compose("\u1e0b\u0323", "\u1e0d\u0307");
    check_compose("q\u0307\u0323", "q\u0323\u0307");
    check_compose("\u0958", "\u0915\u093c"); /* excluded from composition */
    check_compose("\u1100\u1161\u11a8", "\uac01");
    check_compose("\uac00\u11a8", "\uac01");
    check_compose("\u4f60\u0301\u597d", "\u4f60\u0301\u597d");
    check_compose("e\u0301 \u4f60 e\u0301", "\u00e9 \u4f60 \u00e9");
    check_compose("\ufb01", "\ufb01"); /* compatibility characters stay */
}

/* A million marks of changing classes on one letter: quadratic sorting would take an hour. */
static void composition_is_linear(void **state)
{
    enum { PAIRS = 1 << 19 };
    static const char pair[] = "\u0301\u0323"; /* above, then below: in the wrong order */
    struct buffer text, out;
    struct error e = { 0 };
    buffer_init(&text, 4 * PAIRS + 1);
    buffer_init(&out, 16 * PAIRS);
    buffer_text(&text, "x");
    for (int i = 0; i < PAIRS; i++)
        buffer_text(&text, pair);
    clock_t start = clock();
    assert_int_equal(unicode_compose(buffer_bytes(&text), &out, &e), 0);
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 10);
    assert_int_equal(out.size, text.size);
    assert_memory_equal(out.data, "x\u0323\u0323", 5);
    assert_memory_equal(out.data + out.size - 4, "\u0301\u0301", 4);
    buffer_done(&text);
    buffer_done(&out);
}

int main(void)
{
    if (!unicode_available()) {
        print_message("skipped: built without utf8proc\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_the_reference),
        cmocka_unit_test(composition),
        cmocka_unit_test(composition_is_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

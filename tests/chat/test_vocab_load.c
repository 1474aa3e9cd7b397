/* Vocabularies of real files against llama.cpp's ids: conformance/vocab and real/tokens.json. */
#include "tests/test.h"

#include "chat/vocab_load.h"
#include "gguf/gguf.h"
#include "os/env.h"
#include "token/vocab.h"

#include <jansson.h>
#include <stdio.h>

#define SEPARATOR "\n__ggml_vocab_test__\n"

static struct vocab *load(const char *path)
{
    struct error e = { 0 };
    struct gguf *g = NULL;
    struct vocab *v = NULL;
    if (gguf_open(&g, path, &e) || vocab_load(&v, g, &e))
        print_message("%s: %s\n", path, e.text);
    gguf_close(g);
    return v;
}

static char *read_text(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    size_t limit = 1 << 20;
    char *text = malloc(limit);
    assert_non_null(text);
    size_t n = fread(text, 1, limit - 1, f);
    text[n] = 0;
    fclose(f);
    return text;
}

static int check(const struct vocab *v, struct bytes text, bool special, const int32_t *expected,
                 size_t n)
{
    struct token_list ids;
    struct error e = { 0 };
    token_list_init(&ids, 1 << 20);
    struct vocab_encode_options o = { .parse_special = special };
    assert_int_equal(vocab_encode(v, text, &o, &ids, &e), 0);
    int wrong = ids.count != n || (n && memcmp(ids.ids, expected, n * sizeof(*expected)));
    if (wrong)
        print_message("wrong ids for '%.*s'\n", BYTES_ARG(text));
    token_list_done(&ids);
    return wrong;
}

/* One vocabulary: texts in .inp, a line of ids for each in .out. */
static void check_cases(const char *folder, const char *name)
{
    char path[1024];
    snprintf(path, sizeof(path), "%s/vocab/ggml-vocab-%s.gguf", folder, name);
    struct vocab *v = load(path);
    assert_non_null(v);
    snprintf(path, sizeof(path), "%s/vocab/ggml-vocab-%s.gguf.inp", folder, name);
    char *texts = read_text(path);
    snprintf(path, sizeof(path), "%s/vocab/ggml-vocab-%s.gguf.out", folder, name);
    char *lines = read_text(path);
    assert_true(texts && lines);
    int wrong = 0, cases = 0;
    char *line = lines;
    for (char *text = texts, *end; text; text = end ? end + strlen(SEPARATOR) : NULL) {
        int32_t ids[4096];
        size_t n = 0;
        end = strstr(text, SEPARATOR);
        size_t size = end ? (size_t)(end - text) : strlen(text);
        while (*line && *line != '\n') {
            char *next;
            long id = strtol(line, &next, 10);
            if (next == line) {
                line++;
                continue;
            }
            ids[n++] = (int32_t)id;
            line = next;
        }
        line += *line == '\n';
        wrong += check(v, bytes_of(text, size), false, ids, n);
        cases++;
    }
    print_message("%s: %d cases, %d wrong\n", name, cases, wrong);
    assert_int_equal(wrong, 0);
    assert_true(cases > 40);
    free(texts);
    free(lines);
    vocab_close(v);
}

static void conformance_vocabularies(void **state)
{
    static const char *const names[] = { "gpt-2",          "starcoder", "llama-bpe", "qwen2",
                                         "falcon",         "phi-3",     "llama-spm", "bert-bge",
                                         "deepseek-coder", "gemma-4" };
    const char *folder = env_get("SHOAL_CONFORMANCE", NULL);
    if (!folder) {
        print_message("skipped: SHOAL_CONFORMANCE is not set\n");
        skip();
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        check_cases(folder, names[i]);
}

static size_t ids_of(const json_t *list, int32_t *ids, size_t limit)
{
    size_t n = json_array_size(list);
    assert_true(n <= limit);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return n;
}

static int check_round_trip(const struct vocab *v, struct bytes text, const int32_t *ids, size_t n)
{
    struct error e = { 0 };
    struct buffer whole, streamed;
    struct detokenizer d;
    buffer_init(&whole, 1 << 20);
    buffer_init(&streamed, 1 << 20);
    detokenizer_init(&d, v, false);
    assert_int_equal(vocab_decode(v, ids, n, false, &whole, &e), 0);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(detokenizer_push(&d, ids[i], &streamed, &e), 0);
    assert_int_equal(detokenizer_finish(&d, &streamed, &e), 0);
    int wrong =
        !bytes_equal(buffer_bytes(&whole), text) || !bytes_equal(buffer_bytes(&streamed), text);
    if (wrong)
        print_message("decoded '%s', streamed '%s', expected '%.*s'\n", buffer_cstr(&whole),
                      buffer_cstr(&streamed), BYTES_ARG(text));
    buffer_done(&whole);
    buffer_done(&streamed);
    return wrong;
}

static void check_model(const char *folder, const char *file, const char *key)
{
    char path[1024];
    const char *models = env_get("SHOAL_MODELS", NULL);
    if (!models) {
        print_message("skipped: SHOAL_MODELS is not set\n");
        skip();
    }
    snprintf(path, sizeof(path), "%s/%s", models, file);
    struct vocab *v = load(path);
    if (!v) {
        print_message("skipped: no %s in SHOAL_MODELS\n", file);
        skip();
    }
    snprintf(path, sizeof(path), "%s/real/tokens.json", folder);
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, NULL);
    assert_non_null(root);
    int wrong = 0;
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(root, "strings"), i, row)
    {
        static int32_t ids[65536];
        const json_t *text_value = json_object_get(row, "text");
        const json_t *of_model = json_object_get(row, key);
        struct bytes text = bytes_of(json_string_value(text_value), json_string_length(text_value));
        size_t n = ids_of(json_object_get(of_model, "llama_parse_special"), ids, 65536);
        wrong += check(v, text, true, ids, n);
        if (json_is_true(json_object_get(of_model, "roundtrip")))
            wrong += check_round_trip(v, text, ids, n);
        /* llama.cpp takes Gemma's HTML tag for a control token: html_is_no_end has what is right.
         */
        if (strstr(json_string_value(text_value), "</s>"))
            continue;
        n = ids_of(json_object_get(of_model, "llama_no_special"), ids, 65536);
        wrong += check(v, text, false, ids, n);
    }
    json_decref(root);
    vocab_close(v);
    assert_int_equal(wrong, 0);
}

static const char *conformance(void)
{
    const char *folder = env_get("SHOAL_CONFORMANCE", NULL);
    if (!folder) {
        print_message("skipped: SHOAL_CONFORMANCE is not set\n");
        skip();
    }
    return folder;
}

static void smollm2_strings(void **state)
{
    check_model(conformance(), "SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2");
}

static void gemma3_strings(void **state)
{
    check_model(conformance(), "gemma-3-270m-q4_k_m.gguf", "gemma3");
}

/* What transformers' tokenizers make of texts with other normal forms, marks, long words and
 * spellings of special tokens: tests/data/tokens/cases.json. */
static void reference_ids(void **state)
{
    const char *folder = conformance();
    json_error_t why;
    json_t *root = json_load_file(TEST_TOKENS "/cases.json", JSON_ALLOW_NUL, &why), *cases, *one;
    const char *name;
    size_t i;
    int wrong = 0;
    assert_non_null(root);
    assert_int_equal(json_object_size(json_object_get(root, "ids")), 3);
    json_object_foreach(json_object_get(root, "ids"), name, cases)
    {
        char path[1024];
        snprintf(path, sizeof(path), "%s/vocab/ggml-vocab-%s.gguf", folder, name);
        struct vocab *v = load(path);
        assert_non_null(v);
        json_array_foreach(cases, i, one)
        {
            int32_t ids[512];
            const json_t *text = json_array_get(one, 0);
            size_t n = ids_of(json_array_get(one, 1), ids, 512);
            wrong += check(v, bytes_of(json_string_value(text), json_string_length(text)), false,
                           ids, n);
        }
        vocab_close(v);
    }
    json_decref(root);
    assert_int_equal(wrong, 0);
}

/* HTML's tags are pieces of Qwen's and Gemma's vocabularies, whatever is parsed. */
static void html_is_no_end(void **state)
{
    char path[1024];
    snprintf(path, sizeof(path), "%s/vocab/ggml-vocab-qwen2.gguf", conformance());
    struct vocab *v = load(path);
    assert_non_null(v);
    static const int32_t ids[] = { 64, 522, 82, 51407 };
    assert_int_equal(check(v, bytes_text("a</s>b"), true, ids, 4), 0);
    assert_false(vocab_is_eog(v, 128247) || vocab_is_control(v, 128247)); /* </s> */
    assert_true(vocab_is_eog(v, 151645) && vocab_is_control(v, 151645));  /* <|im_end|> */
    vocab_close(v);
    snprintf(path, sizeof(path), "%s/vocab/ggml-vocab-gemma-4.gguf", conformance());
    v = load(path);
    assert_non_null(v);
    assert_false(vocab_is_eog(v, 212) || vocab_is_control(v, 212)); /* </s> */
    assert_true(vocab_is_eog(v, 1) && vocab_is_eog(v, 106));        /* <eos>, <turn|> */
    vocab_close(v);
    const char *models = env_get("SHOAL_MODELS", NULL);
    if (!models) {
        print_message("skipped in part: SHOAL_MODELS is not set\n");
        return;
    }
    snprintf(path, sizeof(path), "%s/gemma-3-270m-q4_k_m.gguf", models);
    v = load(path);
    assert_non_null(v);
    static const int32_t html[] = { 203, 236781, 212 };
    assert_int_equal(check(v, bytes_text("<s>x</s>"), true, html, 3), 0);
    assert_int_equal(check(v, bytes_text("<s>x</s>"), false, html, 3), 0);
    assert_false(vocab_is_eog(v, 212) || vocab_is_control(v, 212));
    assert_true(vocab_is_eog(v, 1) && vocab_is_eog(v, 106)); /* <eos>, <end_of_turn> */
    vocab_close(v);
}

static size_t encoded(const struct vocab *v, const char *text, struct vocab_encode_options o)
{
    struct token_list ids;
    struct error e = { 0 };
    token_list_init(&ids, 1000);
    assert_int_equal(vocab_encode(v, bytes_text(text), &o, &ids, &e), 0);
    size_t n = ids.count;
    token_list_done(&ids);
    return n;
}

/* Files made after public bug reports. */
static void reported_files(void **state)
{
    static const struct {
        const char *name;
        int32_t size, bos, eos;
    } cases[] = { { "no-eos-key", 288, 1, -1 },
                  { "no-bos-key", 288, -1, 2 },
                  { "add-eos", 288, 1, 2 },
                  { "more-tokens-than-rows", 291, 1, 2 } };
    const char *folder = conformance();
    char path[1024];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(path, sizeof(path), "%s/reports/%s.gguf", folder, cases[i].name);
        struct vocab *v = load(path);
        assert_non_null(v);
        assert_int_equal(vocab_size(v), cases[i].size);
        assert_int_equal(vocab_bos(v), cases[i].bos);
        assert_int_equal(vocab_eos(v), cases[i].eos);
        assert_true(vocab_is_eog(v, 2)); /* </s>, a control token here */
        if (vocab_adds_eos(v)) {
            struct vocab_encode_options o = { .add_special = true, .parse_special = true };
            static const char chat[] = "<s>[user]hi[assistant]";
            assert_int_equal(encoded(v, chat, o), 17);
            o.open_end = true;
            assert_int_equal(encoded(v, chat, o), 16);
        }
        vocab_close(v);
    }
    struct gguf *g = NULL;
    struct vocab *v = NULL;
    struct error e = { 0 };
    snprintf(path, sizeof(path), "%s/reports/bpe-without-merges.gguf", folder);
    assert_int_equal(gguf_open(&g, path, &e), 0);
    assert_int_equal(vocab_load(&v, g, &e), FAIL_FORMAT);
    assert_non_null(strstr(e.text, "tokenizer.ggml.merges"));
    gguf_close(g);
}

static void end_of_generation_sets(void **state)
{
    char path[1024];
    const char *folder = conformance();
    snprintf(path, sizeof(path), "%s/vocab/ggml-vocab-phi-3.gguf", folder);
    struct vocab *v = load(path);
    assert_non_null(v);
    /* <|endoftext|> and <|end|>; </s> is user-defined here, and BOS no end. */
    assert_true(vocab_is_eog(v, 32000) && vocab_is_eog(v, 32007));
    assert_false(vocab_is_eog(v, 2));
    assert_false(vocab_is_eog(v, vocab_bos(v)));
    assert_int_equal(vocab_eos(v), 32000);
    assert_true(vocab_adds_bos(v));
    vocab_close(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conformance_vocabularies),
        cmocka_unit_test(smollm2_strings),
        cmocka_unit_test(gemma3_strings),
        cmocka_unit_test(end_of_generation_sets),
        cmocka_unit_test(reference_ids),
        cmocka_unit_test(reported_files),
        cmocka_unit_test(html_is_no_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

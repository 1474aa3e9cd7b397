/* Vocabularies made by hand: what no file of the conformance data shows. */
#include "tests/test.h"

#include "base/random.h"
#include "token/vocab.h"

#include <stdio.h>

/* A description from lists that end with NULL. */
struct lists {
    const char *const *tokens;
    const char *const *merges;
    const int32_t *types;
    const float *scores;
};

static struct bytes token_at(void *arg, int32_t i)
{
    return bytes_text(((const struct lists *)arg)->tokens[i]);
}

static struct bytes merge_at(void *arg, int32_t i)
{
    return bytes_text(((const struct lists *)arg)->merges[i]);
}

static int32_t type_at(void *arg, int32_t i)
{
    return ((const struct lists *)arg)->types[i];
}

static float score_at(void *arg, int32_t i)
{
    return ((const struct lists *)arg)->scores[i];
}

static struct vocab_source source_of(const char *model, struct lists *l)
{
    struct vocab_source s = { .model = bytes_text(model),
                              .token_text = token_at,
                              .merge_text = merge_at,
                              .score = l->scores ? score_at : NULL,
                              .type = l->types ? type_at : NULL,
                              .arg = l };
    while (l->tokens[s.n_tokens])
        s.n_tokens++;
    while (l->merges && l->merges[s.n_merges])
        s.n_merges++;
    return s;
}

static struct vocab *open_or_fail(const struct vocab_source *s)
{
    struct error e = { 0 };
    struct vocab *v = NULL;
    if (vocab_open(&v, s, &e))
        print_message("%s\n", e.text);
    assert_non_null(v);
    return v;
}

/* The ids as text: "1 2 3". */
static const char *encoded(const struct vocab *v, const char *text,
                           const struct vocab_encode_options *o)
{
    static char out[1024];
    struct error e = { 0 };
    struct token_list ids;
    size_t n = 0;
    token_list_init(&ids, 200);
    assert_int_equal(vocab_encode(v, bytes_text(text), o, &ids, &e), 0);
    out[0] = 0;
    for (size_t i = 0; i < ids.count; i++)
        n += (size_t)snprintf(out + n, sizeof(out) - n, i ? " %d" : "%d", ids.ids[i]);
    token_list_done(&ids);
    return out;
}

static const char *ids_of(const struct vocab *v, const char *text, bool special)
{
    return encoded(v, text, &(struct vocab_encode_options){ .parse_special = special });
}

static void bpe_merges_by_rank(void **state)
{
    const char *tokens[] = { "a", "b", "c", "ab", "bc", "abc", "Ġ", "Ġa", NULL };
    const char *merges[] = { "b c", "a b", "a bc", "Ġ a", NULL };
    struct lists l = { tokens, merges, NULL, NULL };
    struct vocab_source s = source_of("gpt2", &l);
    s.pre = bytes_text("gpt-2");
    struct vocab *v = open_or_fail(&s);
    assert_string_equal(ids_of(v, "abc", false), "5");
    assert_string_equal(ids_of(v, "ab", false), "3");
    assert_string_equal(ids_of(v, " a", false), "7");
    assert_string_equal(ids_of(v, "", false), "");
    vocab_close(v);
}

/* The longest special token first, wherever it stands, then the shorter ones. */
static void special_tokens_longest_first(void **state)
{
    const char *tokens[] = { "a", "b", "c", "d", "ab", "bcd", "<x>", "aa", "aaa", NULL };
    const int32_t types[] = { 1, 1, 1, 1, 4, 4, 3, 4, 4 };
    struct lists l = { tokens, NULL, types, NULL };
    struct vocab_source s = source_of("gpt2", &l);
    struct vocab *v = open_or_fail(&s);
    assert_string_equal(ids_of(v, "abcd", false), "0 5");
    assert_string_equal(ids_of(v, "abc", false), "4 2");
    assert_string_equal(ids_of(v, "aaaaa", false), "8 7");
    assert_string_equal(ids_of(v, "aaaa", false), "8 0");
    assert_string_equal(ids_of(v, "<x>d", true), "6 3");
    assert_string_equal(ids_of(v, "<x>d", false), "3");
    vocab_close(v);
}

/* A control token may have no byte of a user's; user-defined ones are words, but for those that the
 * file calls control. */
static void users_text_is_no_control_token(void **state)
{
    const char *tokens[] = { "<",           "x", ">", "u", "a", "<x>", "<u>", "<x>a",
                             "<|message|>", "|", "m", "e", "s", "g",   NULL };
    const int32_t types[] = { 1, 1, 1, 1, 1, 3, 4, 3, 3, 1, 1, 1, 1, 1 };
    static const struct {
        const char *text;
        struct span user[2];
        const char *ids;
    } cases[] = {
        { "<x><u>", { { 0, 0 } }, "5 6" },
        { "<x><u>", { { 0, 6 } }, "0 1 2 6" },
        { "<x><x>", { { 0, 3 } }, "0 1 2 5" },
        { "<x><x>", { { 3, 6 } }, "5 0 1 2" },
        { "<x><x><x>", { { 0, 3 }, { 6, 9 } }, "0 1 2 5 0 1 2" },
        { "<x><x>", { { 2, 3 } }, "0 1 2 5" }, /* one byte is enough */
        { "<x><x>", { { 0, 1 }, { 5, 6 } }, "0 1 2 0 1 2" },
        { "<x>a", { { 0, 0 } }, "7" },
        { "<x>a", { { 3, 4 } }, "5 4" }, /* the shorter one, which has none of it */
        { "<x>aa", { { 4, 5 } }, "7 4" },
        { "<|message|>", { { 0, 0 } }, "8" },
        { "<|message|>", { { 0, 11 } }, "0 9 10 11 12 12 4 13 11 9 2" },
    };
    struct lists l = { tokens, NULL, types, NULL };
    struct vocab_source s = source_of("gpt2", &l);
    struct vocab *v = open_or_fail(&s);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct spans user = { 0 };
        for (int k = 0; k < 2; k++)
            assert_int_equal(spans_add(&user, cases[i].user[k].start, cases[i].user[k].end, NULL),
                             0);
        const struct vocab_encode_options o = { .parse_special = true, .user = &user };
        assert_string_equal(encoded(v, cases[i].text, &o), cases[i].ids);
        spans_done(&user);
    }
    vocab_close(v);
}

static void spm_scores_and_bytes(void **state)
{
    const char *tokens[] = { "<unk>", "<s>", "</s>", "<0xC3>", "<0xA9>", "▁",
                             "h",     "i",   "hi",   "▁h",     NULL };
    const int32_t types[] = { 2, 3, 3, 6, 6, 1, 1, 1, 1, 1 };
    const float scores[] = { 0, 0, 0, 0, 0, -5, -6, -7, -2, -1 };
    struct lists l = { tokens, NULL, types, scores };
    struct vocab_source s = source_of("llama", &l);
    struct vocab *v = open_or_fail(&s);
    assert_string_equal(ids_of(v, "hi", false), "9 7");
    assert_string_equal(ids_of(v, "é", false), "5 3 4");
    assert_string_equal(ids_of(v, "</s>hi", true), "2 9 7");
    assert_string_equal(ids_of(v, "z", false), "5 0");
    assert_true(vocab_is_eog(v, 2) && vocab_is_control(v, 2));
    vocab_close(v);
    s.add_space_prefix = VOCAB_NO;
    v = open_or_fail(&s);
    assert_string_equal(ids_of(v, "hi", false), "8");
    vocab_close(v);
}

static void text_comes_out_whole(void **state)
{
    const char *tokens[] = { "<unk>", "<s>", "</s>", "<0xC3>", "<0xA9>", "<0xFF>", "▁x", NULL };
    const int32_t types[] = { 2, 3, 3, 6, 6, 6, 1 };
    struct lists l = { tokens, NULL, types, NULL };
    struct vocab_source s = source_of("llama", &l);
    struct vocab *v = open_or_fail(&s);
    struct error e = { 0 };
    struct buffer out;
    struct detokenizer d;
    buffer_init(&out, 100);
    detokenizer_init(&d, v, true);
    assert_int_equal(detokenizer_push(&d, 3, &out, &e), 0);
    assert_int_equal(out.size, 0);
    assert_int_equal(detokenizer_push(&d, 4, &out, &e), 0);
    assert_string_equal(buffer_cstr(&out), "é");
    assert_int_equal(detokenizer_push(&d, 3, &out, &e), 0);
    assert_int_equal(detokenizer_push(&d, 6, &out, &e), 0);
    assert_string_equal(buffer_cstr(&out), "é\xef\xbf\xbd x");
    assert_int_equal(detokenizer_push(&d, 5, &out, &e), 0);
    assert_int_equal(detokenizer_push(&d, 2, &out, &e), 0);
    assert_int_equal(detokenizer_push(&d, 3, &out, &e), 0);
    assert_int_equal(detokenizer_finish(&d, &out, &e), 0);
    assert_string_equal(buffer_cstr(&out), "é\xef\xbf\xbd x\xef\xbf\xbd\xef\xbf\xbd");
    assert_int_equal(detokenizer_push(&d, 7, &out, &e), FAIL_RANGE);
    buffer_done(&out);
    vocab_close(v);
}

static void refusals_name_the_cause(void **state)
{
    const char *tokens[] = { "a", NULL };
    struct lists l = { tokens, NULL, NULL, NULL };
    struct vocab_source s = source_of("rwkv", &l);
    struct vocab *v = NULL;
    struct error e = { 0 };
    assert_int_equal(vocab_open(&v, &s, &e), FAIL_UNSUPPORTED);
    assert_non_null(strstr(e.text, "rwkv"));
    s.model = bytes_text("gpt2");
    s.pre = bytes_text("nobody-knows");
    assert_int_equal(vocab_open(&v, &s, &e), FAIL_UNSUPPORTED);
    assert_non_null(strstr(e.text, "nobody-knows"));
    s.pre = bytes_text("gpt-2");
    s.n_tokens = 0;
    assert_int_equal(vocab_open(&v, &s, &e), FAIL_LIMIT);
    assert_null(v);
}

/* What ends a generation by its spelling, by the token's type: spellings that text has for other
 * reasons count only where the file calls them control tokens. */
static void ends_by_spelling_and_type(void **state)
{
    static const struct {
        const char *text;
        bool doubtful;
    } cases[] = {
        { "<|im_end|>", false },
        { "<|eot_id|>", false },
        { "<end_of_turn>", false },
        { "<|endoftext|>", false },
        { "<|end|>", false },
        { "<｜end▁of▁sentence｜>", false },
        { "<end_of_utterance>", false },
        { "</s>", true },
        { "<eos>", true },
        { "[EOS]", true },
        { "[EOT]", true },
        { "<EOT>", true },
        { "▁<EOT>", true },
        { "<PAD>", true },
        { "[PAD]", true },
        { "<REPO>", true },
    };
    static const int32_t type_list[] = { 1, 3, 4 };
    static const char *const models[] = { "gpt2", "llama" };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int k = 0; k < 6; k++) {
            const char *tokens[] = { "a", "b", cases[i].text, "<", NULL };
            const char *merges[] = { "a b", NULL };
            const int32_t types[] = { 1, 1, type_list[k % 3], 1 };
            struct lists l = { tokens, merges, types, NULL };
            struct vocab_source s = source_of(models[k / 3], &l);
            struct vocab *v = open_or_fail(&s);
            bool want = !cases[i].doubtful || types[2] == VOCAB_TOKEN_CONTROL;
            if (vocab_is_eog(v, 2) != want || vocab_is_control(v, 2) != want)
                print_message("%s of type %d in %s\n", cases[i].text, types[2], models[k / 3]);
            assert_int_equal(vocab_is_eog(v, 2), want);
            assert_int_equal(vocab_is_control(v, 2), want);
            vocab_close(v);
        }
    }
}

static int64_t end_at(void *arg, int32_t i)
{
    static const int64_t ends[] = { 0, 4, 99, -1, 0xffffffff };
    return ends[i];
}

/* What the file names is an end, however it is spelt: by EOS, and by a list of several. */
static void ends_by_name(void **state)
{
    const char *tokens[] = { "a", "b", "</s>", "c", "d", NULL };
    const int32_t types[] = { 1, 1, 1, 1, 1 };
    struct lists l = { tokens, NULL, types, NULL };
    struct vocab_source s = source_of("gpt2", &l);
    const char *merges[] = { "a b", NULL };
    l.merges = merges;
    s.n_merges = 1;
    s.role_given[VOCAB_EOS] = true;
    s.role[VOCAB_EOS] = 2;
    s.n_ends = 5;
    s.end = end_at;
    struct vocab *v = open_or_fail(&s);
    static const bool want[] = { true, false, true, false, true };
    for (int32_t id = 0; id < 5; id++)
        assert_int_equal(vocab_is_eog(v, id), want[id]);
    vocab_close(v);
}

/* A role that the file leaves open, or gives to no token, by the vocabulary's kind. */
static void roles_that_are_missing(void **state)
{
    enum { ABSENT = -2 };
    static const char *const bpe[] = { "a", "b", "c", "d", "e",   "f",    "g", "h",
                                       "i", "j", "k", ",", "<s>", "</s>", NULL };
    static const int32_t bpe_types[] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3 };
    static const char *const spm[] = { "<unk>", "<s>", "</s>", "a", NULL };
    static const char *const gemma[] = { "<pad>", "<eos>", "<bos>", "<unk>", NULL };
    static const char *const pieces[] = { "a", "<s>", "</s>", "b", NULL };
    static const char *const wpm[] = { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "▁a", NULL };
    static const int32_t spm_types[] = { 2, 3, 3, 1 }, gemma_types[] = { 3, 3, 3, 2 };
    static const int32_t plain[] = { 1, 1, 1, 1 }, wpm_types[] = { 3, 1, 1, 1, 1, 1 };
    static const struct {
        const char *model;
        const char *const *tokens;
        const int32_t *types;
        int64_t given;
        int32_t bos, eos, unk;
    } cases[] = {
        { "gpt2", bpe, bpe_types, ABSENT, -1, -1, -1 },
        { "gpt2", bpe, NULL, ABSENT, -1, -1, -1 },
        { "gpt2", bpe, bpe_types, 0xffffffff, -1, -1, -1 },
        { "gpt2", bpe, bpe_types, -1, -1, -1, -1 },
        { "gpt2", bpe, bpe_types, 11, 11, 11, 11 },
        { "llama", spm, spm_types, ABSENT, 1, 2, 0 },
        { "llama", spm, NULL, ABSENT, 1, 2, 0 },
        { "llama", spm, spm_types, 0xffffffff, -1, -1, -1 },
        { "llama", spm, spm_types, 3, 3, 3, 3 },
        { "llama", gemma, gemma_types, ABSENT, -1, -1, 3 },
        { "llama", pieces, plain, ABSENT, -1, -1, -1 },
        { "bert", wpm, wpm_types, ABSENT, 2, -1, 1 },
        { "bert", wpm, wpm_types, 0xffffffff, -1, -1, -1 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct lists l = { cases[i].tokens, NULL, cases[i].types, NULL };
        struct vocab_source s = source_of(cases[i].model, &l);
        const char *merges[] = { "a b", NULL };
        l.merges = merges;
        s.n_merges = strcmp(cases[i].model, "gpt2") ? 0 : 1;
        for (int role = VOCAB_BOS; role <= VOCAB_UNK; role++) {
            s.role_given[role] = cases[i].given != ABSENT;
            s.role[role] = cases[i].given;
        }
        struct error e = { 0 };
        struct vocab *v = NULL;
        if (vocab_open(&v, &s, &e) == FAIL_UNSUPPORTED && strcmp(cases[i].model, "bert") == 0) {
            print_message("skipped in part: built without utf8proc\n");
            continue;
        }
        assert_non_null(v);
        assert_int_equal(vocab_bos(v), cases[i].bos);
        assert_int_equal(vocab_eos(v), cases[i].eos);
        assert_int_equal(vocab_role(v, VOCAB_UNK), cases[i].unk);
        vocab_close(v);
    }
}

/* A conversation goes on behind its text: no EOS and no separator, whatever the file wants. */
static void an_open_end_stays_open(void **state)
{
    const char *tokens[] = { "a", "<s>", "</s>", "<sep>", NULL };
    const int32_t types[] = { 1, 3, 3, 3 };
    static const enum vocab_role roles[] = { VOCAB_BOS, VOCAB_EOS, VOCAB_SEP };
    struct lists l = { tokens, NULL, types, NULL };
    struct vocab_source s = source_of("gpt2", &l);
    s.add_bos = s.add_eos = s.add_sep = VOCAB_YES;
    for (int i = 0; i < 3; i++) {
        s.role_given[roles[i]] = true;
        s.role[roles[i]] = i + 1;
    }
    struct vocab *v = open_or_fail(&s);
    for (int open = 0; open < 2; open++) {
        static const int32_t want[] = { 1, 0, 3, 2 };
        struct vocab_encode_options o = { .add_special = true, .open_end = open };
        struct token_list ids;
        struct error e = { 0 };
        token_list_init(&ids, 10);
        assert_int_equal(vocab_encode(v, bytes_text("a"), &o, &ids, &e), 0);
        assert_int_equal(ids.count, open ? 2 : 4);
        assert_memory_equal(ids.ids, want, ids.count * sizeof(*want));
        token_list_done(&ids);
    }
    vocab_close(v);
}

/* The markers of gpt-oss are part of an answer's text, and yet no text of a user makes one. */
static void markers_are_shown_control_tokens(void **state)
{
    const char *tokens[] = { "<|channel|>", "<|end|>", "<|return|>", "<|call|>", "<", "|", NULL };
    const char *merges[] = { "< |", NULL };
    const int32_t types[] = { 3, 3, 3, 3, 1, 1 };
    struct lists l = { tokens, merges, types, NULL };
    struct vocab_source s = source_of("gpt2", &l);
    struct vocab *v = open_or_fail(&s);
    static const int32_t ids[] = { 0, 1, 2 };
    struct buffer out;
    struct error e = { 0 };
    buffer_init(&out, 100);
    assert_string_equal(ids_of(v, "<|channel|><|end|>", true), "0 1");
    assert_string_equal(ids_of(v, "<|end|>", false), "4 5 5");
    assert_false(vocab_is_eog(v, 0) || vocab_is_eog(v, 1));
    assert_true(vocab_is_eog(v, 2) && vocab_is_eog(v, 3));
    assert_int_equal(vocab_decode(v, ids, 3, true, &out, &e), 0);
    assert_string_equal(buffer_cstr(&out), "<|channel|><|end|>");
    buffer_done(&out);
    vocab_close(v);
}

/* Without merges nothing leads to a token of several characters; single ones need none. */
static void bpe_without_merges(void **state)
{
    const char *tokens[] = { "a", "é", "<|im_end|>", "th", NULL };
    const int32_t types[] = { 1, 1, 3, 1 };
    struct lists l = { tokens, NULL, types, NULL };
    struct error e = { 0 };
    struct vocab *v = NULL;
    struct vocab_source s = source_of("gpt2", &l);
    assert_int_equal(vocab_open(&v, &s, &e), FAIL_FORMAT);
    assert_non_null(strstr(e.text, "without merges"));
    s.n_tokens = 3;
    v = open_or_fail(&s);
    vocab_close(v);
}

/* One word, one run of spaces and one run of special tokens of a megabyte each: a quadratic step
 * anywhere would take minutes. */
static void long_texts_stay_linear(void **state)
{
    const char *tokens[] = {
        "a", "aa", "aaaa", "aaaaaaaa", "Ġ", "\n", "\n\n", "\n\n\n", "b", NULL
    };
    const int32_t types[] = { 1, 1, 1, 1, 1, 4, 4, 4, 1 };
    const char *merges[] = { "a a", "aa aa", "aaaa aaaa", NULL };
    static const char *const pres[] = { "gpt-2",   "llama-bpe", "deepseek-llm",
                                        "default", "gpt-4o",    "smollm" };
    struct lists l = { tokens, merges, types, NULL };
    size_t size = 1 << 20;
    char *text = malloc(size);
    assert_non_null(text);
    for (size_t p = 0; p < sizeof(pres) / sizeof(pres[0]); p++) {
        struct vocab_source s = source_of("gpt2", &l);
        s.pre = bytes_text(pres[p]);
        struct vocab *v = open_or_fail(&s);
        for (int k = 0; k < 3; k++) {
            struct error e = { 0 };
            struct token_list ids;
            struct vocab_encode_options o = { 0 };
            token_list_init(&ids, 2 * size);
            memset(text, "a \n"[k], size);
            text[size - 1] = 'b';
            assert_int_equal(vocab_encode(v, bytes_of(text, size), &o, &ids, &e), 0);
            assert_int_equal(ids.ids[ids.count - 1], 8);
            token_list_done(&ids);
        }
        vocab_close(v);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bpe_merges_by_rank),
        cmocka_unit_test(special_tokens_longest_first),
        cmocka_unit_test(spm_scores_and_bytes),
        cmocka_unit_test(text_comes_out_whole),
        cmocka_unit_test(refusals_name_the_cause),
        cmocka_unit_test(long_texts_stay_linear),
        cmocka_unit_test(users_text_is_no_control_token),
        cmocka_unit_test(ends_by_spelling_and_type),
        cmocka_unit_test(ends_by_name),
        cmocka_unit_test(roles_that_are_missing),
        cmocka_unit_test(bpe_without_merges),
        cmocka_unit_test(an_open_end_stays_open),
        cmocka_unit_test(markers_are_shown_control_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

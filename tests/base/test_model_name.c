/* What models are called, and what people call them. */
#include "tests/test.h"

#include "base/model_name.h"

static void takes_names_apart(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t stem;
        int part, parts;
        bool is_file;
    } cases[] = {
        { "tiny.gguf", 4, 0, 0, true },
        { "tiny.GGUF", 4, 0, 0, true },
        { "tiny", 4, 0, 0, false },
        { "Qwen2.5-7B.Q4_K_M.gguf", 17, 0, 0, true },
        { "big-00002-of-00003.gguf", 3, 2, 3, true },
        { "big-00002-of-00003", 3, 2, 3, false },
        { "big-00004-of-00003.gguf", 18, 0, 0, true }, /* no such part */
        { "big-00000-of-00003.gguf", 18, 0, 0, true },
        { "big-0002-of-0003.gguf", 16, 0, 0, true },
        { "-00001-of-00001.gguf", 15, 0, 0, true }, /* nothing would be left */
        { ".gguf", 5, 0, 0, false },
        { "tiny.gguf.part", 14, 0, 0, false },
        { "", 0, 0, 0, false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model_name n = model_name_parse(bytes_text(cases[i].text));
        if (n.stem != cases[i].stem || n.part != cases[i].part || n.parts != cases[i].parts ||
            n.is_file != cases[i].is_file)
            fail_test("%s: stem %zu, part %d of %d", cases[i].text, n.stem, n.part, n.parts);
    }
}

static void finds_what_is_meant(void **state)
{
    (void)state;
    assert_int_equal(model_name_compare("Tiny", "Tiny"), MODEL_NAME_SAME);
    assert_int_equal(model_name_compare("Tiny", "tiny"), MODEL_NAME_ALIKE);
    assert_int_equal(model_name_compare("Tiny", "Tiny.gguf"), MODEL_NAME_ALIKE);
    assert_int_equal(model_name_compare("Big", "big-00001-of-00002.gguf"), MODEL_NAME_ALIKE);
    assert_int_equal(model_name_compare("Tiny", "Tin"), MODEL_NAME_OTHER);
    assert_int_equal(model_name_compare("Tiny", "Tiny2"), MODEL_NAME_OTHER);
    assert_int_equal(model_name_compare("Tiny", ""), MODEL_NAME_OTHER);
    assert_true(model_name_is_path("./a") && !model_name_is_path("a.gguf"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_names_apart),
        cmocka_unit_test(finds_what_is_meant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

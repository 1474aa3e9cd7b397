/* The output parser: what a model writes, in the parts that it is told on in. */
#include "tests/test.h"

#include "chat/parser.h"

static const char *const kinds = "STRBAFE"; /* of enum chat_event_kind */

/* "R(...)T(...)": parts, those of one kind joined. */
struct parts {
    struct buffer text;
    int last;
};

static void on_part(void *arg, enum chat_event_kind kind, struct bytes text)
{
    struct parts *p = arg;
    assert_true(text.size > 0);
    if (p->last != (int)kind) {
        buffer_printf(&p->text, p->last >= 0 ? ")%c(" : "%c(", kinds[kind]);
    }
    p->last = (int)kind;
    buffer_append(&p->text, text);
}

static void check(enum chat_reasoning reasoning, bool inside, const char *text, const char *want)
{
    struct bytes all = bytes_text(text);
    for (size_t step = 1; step <= all.size + 1; step++) {
        struct parts p = { .last = -1 };
        struct chat_parser *parser = NULL;
        struct error e = { 0 };
        buffer_init(&p.text, 1000);
        assert_int_equal(chat_parser_open(&parser, reasoning, inside, &e), 0);
        for (size_t i = 0; i < all.size; i += step) {
            size_t n = all.size - i < step ? all.size - i : step;
            assert_int_equal(chat_parser_push(parser, bytes_of(all.data + i, n), on_part, &p), 0);
        }
        chat_parser_finish(parser, on_part, &p);
        buffer_text(&p.text, p.last >= 0 ? ")" : "");
        assert_string_equal(buffer_cstr(&p.text), want);
        chat_parser_close(parser);
        buffer_done(&p.text);
    }
}

static void text_stays_as_it_is(void **state)
{
    (void)state;
    check(CHAT_REASONING_TEXT, false, "", "");
    check(CHAT_REASONING_TEXT, false, " <think>a</think> b", "T( <think>a</think> b)");
}

static void reasoning_comes_apart(void **state)
{
    (void)state;
    static const struct {
        bool inside;
        const char *text, *want;
    } cases[] = {
        { false, "", "" },
        { false, "Hi", "T(Hi)" },
        { false, "  Hi", "T(  Hi)" },
        { false, "<think>a b</think>\n\nc", "R(a b)T(c)" },
        { false, " \n<think>\na\n</think>c", "R(a\n)T(c)" },
        { false, "<think></think>c", "T(c)" },
        { false, "<think>a</thin</think>c</think>", "R(a</thin)T(c</think>)" },
        { false, "<think>cut off </th", "R(cut off </th)" },
        { false, "<thin", "T(<thin)" },
        { false, "<thinking>a", "T(<thinking>a)" },
        { false, "a <think>b</think>", "T(a <think>b</think>)" }, /* only the beginning opens it */
        { true, "a</think>b", "R(a)T(b)" },
        { true, "\na", "R(a)" },
        { true, "</think>b", "T(b)" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        check(CHAT_REASONING_APART, cases[i].inside, cases[i].text, cases[i].want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_stays_as_it_is),
        cmocka_unit_test(reasoning_comes_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

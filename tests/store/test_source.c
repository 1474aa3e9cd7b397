#include "tests/test.h"

#include "store/source.h"

#include <stdio.h>

static void expect(const char *spec, enum source_kind kind, const char *from, const char *name)
{
    struct source s;
    struct error e = { 0 };
    if (source_parse(spec, SOURCE_HUB_ENDPOINT, &s, &e) != 0) {
        fail_test("%s: %s", spec, e.text);
    }
    assert_int_equal(s.kind, kind);
    assert_string_equal(s.from, from);
    assert_string_equal(s.name, name);
}

static void the_three_forms_are_told_apart(void **state)
{
    expect("model.gguf", SOURCE_FILE, "model.gguf", "model.gguf");
    expect("/a/b/model.gguf", SOURCE_FILE, "/a/b/model.gguf", "model.gguf");
    expect("https://h.example/a/m.gguf?download=true", SOURCE_URL,
           "https://h.example/a/m.gguf?download=true", "m.gguf");
    expect("http://h.example:80/m%20x.gguf", SOURCE_URL, "http://h.example:80/m%20x.gguf",
           "m x.gguf");
    expect("https://h.example/file?id=3", SOURCE_URL, "https://h.example/file?id=3", "file.gguf");
    expect("hf:o/r/m.gguf", SOURCE_HUB, "https://huggingface.co/o/r/resolve/main/m.gguf", "m.gguf");
    expect("hf:o/r/sub/m@2.gguf@refs/pr/3", SOURCE_HUB,
           "https://huggingface.co/o/r/resolve/refs%2Fpr%2F3/sub/m%402.gguf", "m@2.gguf");
    expect("https://huggingface.co/o/r/blob/main/m.gguf", SOURCE_HUB,
           "https://huggingface.co/o/r/resolve/main/m.gguf", "m.gguf");
    expect("https://huggingface.co/o/r/resolve/main/m.gguf", SOURCE_URL,
           "https://huggingface.co/o/r/resolve/main/m.gguf", "m.gguf");
    expect("https://other.example/o/r/blob/main/m.gguf", SOURCE_URL,
           "https://other.example/o/r/blob/main/m.gguf", "m.gguf");
}

static void a_mirror_is_asked_instead(void **state)
{
    struct source s;
    assert_int_equal(source_parse("hf:o/r/m.gguf", "http://127.0.0.1:9/hub/", &s, NULL), 0);
    assert_string_equal(s.from, "http://127.0.0.1:9/hub/o/r/resolve/main/m.gguf");
    assert_string_equal(s.page, "http://127.0.0.1:9/hub/o/r");
    assert_int_equal(source_parse("hf:o/r/m.gguf", "nonsense", &s, NULL), FAIL_ARG);
}

static void what_cannot_be_meant_is_refused(void **state)
{
    static const char *const specs[] = {
        "",
        "hf:",
        "hf:o",
        "hf:o/r",
        "hf:o/r/",
        "hf:o/r/m.bin",
        "hf:o/r/m.gguf@",
        "hf:../r/m.gguf",
        "hf:o/../m.gguf",
        "hf:o/r/../m.gguf",
        "hf:o/r/./m.gguf",
        "hf:o/r//m.gguf",
        "hf:o x/r/m.gguf",
        "hf:o?x/r/m.gguf",
        "ftp://h.example/m.gguf",
        "file:///etc/passwd",
        "https://",
        "https://h.example/",
        "https://h.example",
        "/a/b/",
        "https://u:p@/m.gguf",
    };
    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        struct source s;
        struct error e = { 0 };
        if (source_parse(specs[i], SOURCE_HUB_ENDPOINT, &s, &e) != FAIL_ARG) {
            fail_test("\"%s\" was taken", specs[i]);
        }
        assert_true(strlen(e.text) > 10);
    }
}

static void names_cannot_leave_their_folder(void **state)
{
    static const char *const pairs[][2] = {
        { "m.gguf", "m.gguf" },
        { "..", "_..gguf" },
        { "../../etc/passwd", "_._.._etc_passwd.gguf" },
        { ".hidden.gguf", "_hidden.gguf" },
        { "a\\b.gguf", "a_b.gguf" },
        { "a\nb.gguf", "a_b.gguf" },
        { "c:x.GGUF", "c_x.GGUF" },
        { "-rf", "_rf.gguf" },
        { "\xc3\xa4.gguf", "\xc3\xa4.gguf" },
    };
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        char name[STORE_NAME_TEXT];
        assert_int_equal(name_clean(bytes_text(pairs[i][0]), name, NULL), 0);
        assert_string_equal(name, pairs[i][1]);
    }
    struct url u;
    char name[STORE_NAME_TEXT];
    assert_int_equal(url_parse("http://h.example/a/..%2f..%2Fx%00.gguf", &u, NULL), 0);
    assert_int_equal(url_name(&u, name, NULL), 0);
    assert_null(strchr(name, '/'));
    assert_string_equal(name, "_._.._x_.gguf");
    char longest[400];
    memset(longest, 'x', sizeof longest);
    assert_int_equal(name_clean(bytes_of(longest, sizeof longest), name, NULL), FAIL_ARG);
    assert_int_equal(name_clean(bytes_of(longest, 202), name, NULL), 0);
    assert_int_equal(strlen(name), STORE_NAME_TEXT - 1);
}

static void secrets_are_not_shown(void **state)
{
    struct url u;
    char text[URL_TEXT];
    assert_int_equal(url_parse("https://me:geheim@H.Example/m.gguf?sig=geheim#geheim", &u, NULL),
                     0);
    url_show(&u, text, sizeof text);
    assert_null(strstr(text, "geheim"));
    assert_string_equal(u.login, "me:geheim");
    assert_string_equal(u.origin, "https://h.example:443");
    assert_null(strstr(u.clean, "geheim@"));
    assert_non_null(strstr(u.clean, "sig=geheim"));
}

static void redirections_are_checked(void **state)
{
    struct url from, to;
    struct error e = { 0 };
    assert_int_equal(url_parse("https://me:pw@a.example/x/m.gguf", &from, NULL), 0);
    assert_int_equal(url_redirect(&from, "/y/n.gguf?a=b", &to, &e), 0);
    assert_string_equal(to.clean, "https://a.example/y/n.gguf?a=b");
    assert_string_equal(to.login, "");
    assert_int_equal(url_redirect(&from, "https://b.example/n", &to, &e), 0);
    assert_string_equal(to.origin, "https://b.example:443");
    assert_int_equal(url_redirect(&from, "//b.example:444/n", &to, &e), 0);
    assert_string_equal(to.origin, "https://b.example:444");
    static const char *const bad[] = { "", "http://a.example/m.gguf", "ftp://a.example/m.gguf",
                                       "file:///etc/passwd", "https://you:pw@b.example/m.gguf" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(url_redirect(&from, bad[i], &to, &e), FAIL_FORMAT);
    }
}

static void parts_of_split_models_are_named(void **state)
{
    struct source s, part;
    assert_int_equal(source_parse("hf:o/r/q/m-00002-of-00003.gguf", SOURCE_HUB_ENDPOINT, &s, NULL),
                     0);
    assert_int_equal(s.part, 2);
    assert_int_equal(s.parts, 3);
    assert_int_equal(source_part(&s, 3, &part, NULL), 0);
    assert_string_equal(part.from,
                        "https://huggingface.co/o/r/resolve/main/q/m-00003-of-00003.gguf");
    assert_string_equal(part.name, "m-00003-of-00003.gguf");
    assert_int_equal(source_parse("http://h.example/m-00001-of-00002.gguf?x=-00001-of-00002.gguf",
                                  SOURCE_HUB_ENDPOINT, &s, NULL),
                     0);
    assert_int_equal(source_part(&s, 2, &part, NULL), 0);
    assert_string_equal(part.from, "http://h.example/m-00002-of-00002.gguf?x=-00001-of-00002.gguf");
    assert_int_equal(source_parse("./m-00001-of-00002.gguf", SOURCE_HUB_ENDPOINT, &s, NULL), 0);
    assert_int_equal(source_part(&s, 2, &part, NULL), 0);
    assert_string_equal(part.from, "./m-00002-of-00002.gguf");
    static const char *const whole[] = { "m-00003-of-00002.gguf", "m-00000-of-00002.gguf",
                                         "m-0001-of-00002.gguf", "m-00001-of-99999.gguf",
                                         "-00001-of-00002.gguf" };
    for (size_t i = 0; i < ARRAY_LEN(whole); i++) {
        assert_int_equal(source_parse(whole[i], SOURCE_HUB_ENDPOINT, &s, NULL), 0);
        assert_int_equal(s.parts, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_three_forms_are_told_apart),
        cmocka_unit_test(a_mirror_is_asked_instead),
        cmocka_unit_test(what_cannot_be_meant_is_refused),
        cmocka_unit_test(names_cannot_leave_their_folder),
        cmocka_unit_test(secrets_are_not_shown),
        cmocka_unit_test(redirections_are_checked),
        cmocka_unit_test(parts_of_split_models_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

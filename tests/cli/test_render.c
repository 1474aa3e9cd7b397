/* shoal render: exact bytes on stdout, reasons on stderr. */
#include "tests/test.h"

#include <stdio.h>
#include <unistd.h>

#include "base/buffer.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "gguf/gguf.h"
#include "os/file.h"

#define TEMPLATE                                                                                   \
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}:{{ m.content }}]{% endfor %}"             \
    "{% if tools %}{{ tools | tojson }}{% endif %}"                                                \
    "{% if add_generation_prompt %}>{% endif %}{{ mood }}{{ eos_token is defined }}\n\n"

static void put_text(struct buffer *b, const char *text)
{
    buffer_u64(b, strlen(text));
    buffer_text(b, text);
}

/* A GGUF file of metadata alone: a template where one is given, two tokens, BOS is the second,
 * and an EOS outside the vocabulary. */
static void write_model(const char *path, const char *template)
{
    struct buffer b;
    struct error e = { 0 };
    buffer_init(&b, 1 << 16);
    buffer_text(&b, "GGUF");
    buffer_u32(&b, 3);
    buffer_u64(&b, 0);
    buffer_u64(&b, template ? 4 : 3);
    put_text(&b, "tokenizer.ggml.tokens");
    buffer_u32(&b, 9);
    buffer_u32(&b, 8);
    buffer_u64(&b, 2);
    put_text(&b, "<a>");
    put_text(&b, "<b>");
    put_text(&b, "tokenizer.ggml.bos_token_id");
    buffer_u32(&b, 4);
    buffer_u32(&b, 1);
    put_text(&b, "tokenizer.ggml.eos_token_id");
    buffer_u32(&b, 4);
    buffer_u32(&b, 77);
    if (template) {
        put_text(&b, "tokenizer.chat_template");
        buffer_u32(&b, 8);
        put_text(&b, template);
    }
    while (b.size % 32)
        buffer_u8(&b, 0);
    assert_false(b.failed);
    assert_int_equal(file_write_atomic(path, buffer_bytes(&b), 0600, &e), 0);
    buffer_done(&b);
}

/* Runs the command with this standard input; out and problem are its two outputs. */
static int run(const char *template, const char *input, struct buffer *out, struct buffer *problem)
{
    char folder[] = "/tmp/shoal-render-XXXXXX";
    char paths[4][64];
    static const char *const names[] = { "in", "out", "problem", "model.gguf" };
    int kept[3];
    struct error e = { 0 };
    assert_non_null(mkdtemp(folder));
    for (int i = 0; i < 4; i++)
        snprintf(paths[i], sizeof paths[i], "%s/%s", folder, names[i]);
    assert_int_equal(file_write_atomic(paths[0], bytes_text(input), 0600, &e), 0);
    write_model(paths[3], template);
    fflush(stdout);
    fflush(stderr);
    for (int i = 0; i < 3; i++)
        kept[i] = dup(i);
    assert_non_null(freopen(paths[0], "r", stdin));
    assert_non_null(freopen(paths[1], "w", stdout));
    assert_non_null(freopen(paths[2], "w", stderr));
    const char *argv[] = { "render", paths[3], NULL };
    int status = cmd_render(2, (char **)argv);
    fflush(stdout);
    fflush(stderr);
    for (int i = 0; i < 3; i++) {
        dup2(kept[i], i);
        close(kept[i]);
    }
    buffer_init(out, 1 << 20);
    buffer_init(problem, 1 << 20);
    assert_int_equal(file_read_all(paths[1], out, &e), 0);
    assert_int_equal(file_read_all(paths[2], problem, &e), 0);
    for (int i = 0; i < 4; i++)
        remove(paths[i]);
    remove(folder);
    return status;
}

static void expect(const char *template, const char *input, const char *want)
{
    struct buffer out, problem;
    int status = run(template, input, &out, &problem);
    assert_string_equal(buffer_cstr(&problem), "");
    assert_int_equal(status, EXIT_OK);
    assert_string_equal(buffer_cstr(&out), want);
    buffer_done(&out);
    buffer_done(&problem);
}

static void expect_refusal(const char *template, const char *input, const char *part)
{
    struct buffer out, problem;
    assert_int_equal(run(template, input, &out, &problem), EXIT_FAILED);
    assert_int_equal(out.size, 0);
    if (!strstr(buffer_cstr(&problem), part))
        print_message("%s\n", buffer_cstr(&problem));
    assert_non_null(strstr(buffer_cstr(&problem), part));
    buffer_done(&out);
    buffer_done(&problem);
}

static void conversations_come_out_exactly(void **state)
{
    (void)state;
    expect(TEMPLATE, "[{\"role\":\"user\",\"content\":\"h\\u00e9\"}]",
           "<b>[user:h\xc3\xa9]>False\n");
    expect(TEMPLATE, "{\"messages\":[],\"add_generation_prompt\":false,\"mood\":\"!\"}",
           "<b>!False\n");
    expect(TEMPLATE, "{\"messages\":[],\"tools\":[{\"z\":1,\"a\":[1.0,null]}],\"eos_token\":\"x\"}",
           "<b>[{\"z\": 1, \"a\": [1.0, null]}]>True\n");
}

static void refusals_say_why(void **state)
{
    (void)state;
    expect_refusal(NULL, "[]", "has no chat template");
    expect_refusal(TEMPLATE, "{\"message\":[]}", "\"messages\"");
    expect_refusal(TEMPLATE, "[{]", "stdin is not JSON");
    expect_refusal("{% if %}", "[]", "line 1, column 7");
    expect_refusal("{{ raise_exception('roles must alternate') }}", "[]", "roles must alternate");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversations_come_out_exactly),
        cmocka_unit_test(refusals_say_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

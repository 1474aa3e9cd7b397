/* shoal inspect: what it prints of a golden model, and its exit codes. */
#include "tests/test.h"

#include "base/buffer.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "os/file.h"

#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

#define LLAMA TEST_DATA "/golden/llama.gguf"
#define MAX_OUTPUT (4u << 20)

/* Runs the command with standard output and error in `out`. */
static int run(struct buffer *out, int argc, const char **argv)
{
    char path[] = "/tmp/shoal-inspect-XXXXXX";
    int file = mkstemp(path), kept[2] = { dup(STDOUT_FILENO), dup(STDERR_FILENO) };
    assert_true(file >= 0);
    fflush(stdout);
    fflush(stderr);
    dup2(file, STDOUT_FILENO);
    dup2(file, STDERR_FILENO);
    int status = cmd_inspect(argc, (char **)argv);
    fflush(stdout);
    fflush(stderr);
    for (int i = 0; i < 2; i++) {
        dup2(kept[i], i ? STDERR_FILENO : STDOUT_FILENO);
        close(kept[i]);
    }
    close(file);
    buffer_init(out, MAX_OUTPUT);
    assert_int_equal(file_read_all(path, out, NULL), 0);
    remove(path);
    return status;
}

static void expect(const struct buffer *out, const char *words)
{
    if (!strstr(buffer_cstr(out), words))
        fail_test("no \"%s\" in:\n%.4000s", words, buffer_cstr(out));
}

static void prints_text(void **state)
{
    struct buffer out;
    const char *argv[] = { "inspect", LLAMA, NULL };
    assert_int_equal(run(&out, 2, argv), EXIT_OK);
    expect(&out, "architecture     llama\n");
    expect(&out, "parameters       98624 (98.62 K)\n");
    expect(&out, "32.000 bits a weight\n");
    expect(&out, "KV cache         256 bytes a token (f16), in 2 layers");
    expect(&out, "1024 tokens");
    expect(&out, "  llama.attention.head_count_kv = 2\n");
    expect(&out, "\"<unk>\", \"<s>\", \"</s>\"");
    expect(&out, "288 in all]\n");
    expect(&out, "  blk.0.ffn_down.weight     F32      96 x 64            24576 bytes\n");
    buffer_done(&out);
}

static void prints_json(void **state)
{
    struct buffer out;
    const char *argv[] = { "inspect", "--json", LLAMA, NULL };
    assert_int_equal(run(&out, 3, argv), EXIT_OK);
    json_error_t why;
    json_t *j = json_loadb((const char *)out.data, out.size, 0, &why);
    if (!j)
        fail_test("%s", why.text);
    assert_int_equal(json_integer_value(json_object_get(j, "parameters")), 98624);
    assert_int_equal(json_array_size(json_object_get(j, "tensors")), 21);
    json_t *kv = json_object_get(j, "kv_cache"), *keys = json_object_get(j, "metadata");
    assert_int_equal(json_integer_value(json_object_get(kv, "bytes_per_token")), 256);
    assert_int_equal(json_integer_value(json_object_get(keys, "llama.block_count")), 2);
    json_t *tokens = json_object_get(keys, "tokenizer.ggml.tokens");
    assert_int_equal(json_integer_value(json_object_get(tokens, "count")), 288);
    json_t *native = json_array_get(json_object_get(j, "memory"), 0);
    assert_int_equal(json_integer_value(json_object_get(native, "context")), 1024);
    assert_int_equal(json_integer_value(json_object_get(native, "kv")), 1024 * 256);
    assert_string_equal(json_string_value(json_object_get(j, "refused")), "");
    assert_string_equal(json_string_value(json_object_get(j, "notes")), "");
    json_decref(j);
    buffer_done(&out);
}

static void fails_with_the_right_code(void **state)
{
    struct buffer out;
    const char *missing[] = { "inspect", "/no/such/file.gguf", NULL };
    assert_int_equal(run(&out, 2, missing), EXIT_FAILED);
    expect(&out, "shoal inspect: /no/such/file.gguf");
    buffer_done(&out);
    const char *other[] = { "inspect", TEST_DATA "/../test.h", NULL };
    assert_int_equal(run(&out, 2, other), EXIT_FAILED);
    expect(&out, "not a GGUF file");
    buffer_done(&out);
    const char *nothing[] = { "inspect", NULL };
    assert_int_equal(run(&out, 1, nothing), EXIT_USAGE);
    buffer_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prints_text),
        cmocka_unit_test(prints_json),
        cmocka_unit_test(fails_with_the_right_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Damaged models, from file to logits: 10,000 single-bit flips and 1,000 truncations of tiny
 * models. Nothing crashes, and each refusal says what is wrong and at which byte. */
#include "tests/wide.h"
#include "tests/values.h"

#include "chat/vocab_load.h"
#include "model/summary.h"
#include "token/vocab.h"

#include <ctype.h>

#define FLIPS 2500 /* of each family */
#define CUTS 250
#define ROWS 3

static const char *const families[] = { "llama", "gemma3", "lfm2", "qwen3moe" };

/* How far one damaged file got. */
enum reached { READ, VOCABULARY, PROGRAM, LOADED, DECODED, REACHED_COUNT };
static const char *const reached_names[] = { "file", "vocabulary", "program", "weights", "logits" };

static void make_tiny(struct buffer *out, const char *family)
{
    struct synth_spec spec;
    struct error e = { 0 };
    struct gguf_writer *w = NULL;
    buffer_init(out, WIDE_MAX_BYTES);
    assert_int_equal(synth_preset(&spec, "tiny", family, &e), 0);
    spec.vocab = SYNTH_MIN_VOCAB;
    spec.context = 64;
    spec.layers = strcmp(family, "lfm2") == 0 ? 3 : 2; /* every third attends */
    spec.width = spec.ffn = spec.expert_ffn = 32;
    spec.head_dim = 8;
    spec.heads = 4;
    spec.kv_heads = 2;
    spec.type = QUANT_Q8_0;
    assert_int_equal(gguf_writer_open_memory(&w, out, &e), 0);
    assert_int_equal(synth_write(w, &spec, &e), 0);
    gguf_writer_close(w);
}

/* "... byte 123 ..." */
static bool names_a_byte(const char *text)
{
    const char *at = strstr(text, "byte ");
    return at != NULL && isdigit((unsigned char)at[5]);
}

static int decode(struct backend_ctx *c, const struct program *p, struct error *e)
{
    const struct backend_run run = { 1, 0, ROWS };
    const uint8_t wanted[ROWS] = { 0, 0, 1 };
    const int32_t ids[ROWS] = { 0, 1, p->vocab - 1 };
    const struct backend_step step = {
        .runs = &run, .n_runs = 1, .ids = ids, .wanted = wanted, .n_rows = ROWS, .n_wanted = 1
    };
    int rows = 0, width = 0, r;
    if ((r = backend_create(c, 1, e)) || (r = backend_begin(c, &step, e)) ||
        (r = backend_run(c, 0, e)))
        return r;
    backend_rows_of(c, p->logits, &rows, &width);
    assert_int_equal(width, p->vocab);
    return backend_end(c, e);
}

/* Everything that a device does with a file. Gives the stage that refused, or REACHED_COUNT. */
static enum reached use(struct bytes file, struct pool *pool, struct error *e)
{
    enum reached at = READ;
    struct gguf *g = NULL;
    struct model_summary summary;
    struct vocab *vocab = NULL;
    struct arena arena = { 0 };
    struct program *p = NULL;
    struct backend_ctx *c = NULL;
    if (gguf_open_bytes(&g, file, e) || model_summarize(g, &summary, e))
        goto out;
    at = VOCABULARY;
    if (vocab_load(&vocab, g, e))
        goto out;
    at = PROGRAM;
    if (model_build(g, NULL, &arena, &p, e))
        goto out;
    at = LOADED;
    const struct weight_source source = { .map = wide_tensor, .arg = g };
    const struct backend_options options = { .pool = pool,
                                             .kernels = kernels_choose(NULL, e),
                                             .max_rows = ROWS,
                                             .max_sessions = 1,
                                             .state_tokens = 64 };
    if (backend_open(&backend_cpu, &c, p, &source, &options, e))
        goto out;
    at = DECODED;
    if (decode(c, p, e) == 0)
        at = REACHED_COUNT;
out:
    if (c)
        backend_close(c);
    arena_done(&arena);
    vocab_close(vocab);
    gguf_close(g);
    return at;
}

/* On an exact copy, so that an address sanitizer sees the first byte beyond the end. */
static bool try(struct bytes file, struct pool *pool, int refused[static REACHED_COUNT])
{
    struct error e = { 0 };
    uint8_t *copy = malloc(file.size ? file.size : 1);
    assert_non_null(copy);
    memcpy(copy, file.data, file.size);
    enum reached at = use(bytes_of(copy, file.size), pool, &e);
    free(copy);
    if (at == REACHED_COUNT)
        return true;
    if (!names_a_byte(e.text))
        fail_test("refused at the %s without a place: %s", reached_names[at], e.text);
    refused[at]++;
    return false;
}

/* Where the next flip goes: mostly into what describes keys and tensors, since the vocabulary and
 * the weights fill the file. */
static size_t choose_byte(const struct gguf *g, struct bytes file, struct random *random)
{
    size_t header = gguf_header(g).size, within = random_below(random, 80);
    const uint8_t *at;
    switch (random_below(random, 4)) {
    case 0:
        return random_below(random, file.size);
    case 1:
        return random_below(random, header);
    case 2:
        at = gguf_value_at(g, (int)random_below(random, (uint64_t)gguf_n_keys(g)))->key.data;
        break;
    default:
        at = gguf_tensor_at(g, (int)random_below(random, (uint64_t)gguf_n_tensors(g)))->name.data;
    }
    size_t byte = (size_t)(at - file.data) - 8 + within; /* its length comes first */
    return byte < header ? byte : header - 1;
}

static void flip_bits(struct buffer *file, struct pool *pool, struct random *random,
                      int refused[static REACHED_COUNT])
{
    struct gguf *g = NULL;
    assert_int_equal(gguf_open_bytes(&g, buffer_bytes(file), NULL), 0);
    for (int i = 0; i < FLIPS; i++) {
        /* The open file's strings lie in the buffer, so a flip is undone before the next choice. */
        size_t at = choose_byte(g, buffer_bytes(file), random);
        uint8_t bit = (uint8_t)(1u << random_below(random, 8));
        file->data[at] ^= bit;
        try(buffer_bytes(file), pool, refused);
        file->data[at] ^= bit;
    }
    gguf_close(g);
}

static void damaged_models_are_refused_or_run(void **state)
{
    (void)state;
    struct error e = { 0 };
    struct random random = { 0x5eed };
    struct pool *pool = NULL;
    int refused[REACHED_COUNT] = { 0 };
    assert_int_equal(pool_open(&pool, &(struct pool_options){ .threads = 1 }, &e), 0);
    for (size_t f = 0; f < ARRAY_LEN(families); f++) {
        struct buffer file;
        int cuts[REACHED_COUNT] = { 0 };
        make_tiny(&file, families[f]);
        assert_true(try(buffer_bytes(&file), pool, cuts));
        flip_bits(&file, pool, &random, refused);
        for (size_t i = 0; i < CUTS; i++)
            assert_false(try(bytes_of(file.data, file.size * i / CUTS), pool, cuts));
        assert_int_equal(cuts[READ], CUTS);
        buffer_done(&file);
    }
    pool_close(pool);
    for (int i = 0; i < REACHED_COUNT; i++)
        print_message("refused at the %s: %d\n", reached_names[i], refused[i]);
    /* Each stage has met damage that only it can see. */
    assert_true(refused[READ] > 1000);
    assert_true(refused[VOCABULARY] > 20 && refused[PROGRAM] > 200 && refused[LOADED] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(damaged_models_are_refused_or_run) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

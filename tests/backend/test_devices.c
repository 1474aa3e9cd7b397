/* Compute devices, and weights that are read instead of mapped. */
#include "tests/wide.h"

#include "graph/wants.h"
#include "tests/values.h"

#include <stdlib.h>

#define ROWS 5

/* Gives weights by read alone, and notes what was read. */
struct reader {
    const struct gguf *gguf;
    uint8_t *seen; /* one for each byte of the file's data, counted from its first tensor */
    const uint8_t *base;
    int fail_at, n; /* the read that fails; 0: none */
};

static int read_noted(void *arg, const char *name, uint64_t offset, uint64_t size, void *into,
                      struct error *e)
{
    struct reader *r = arg;
    const struct gguf_tensor *t = gguf_tensor(r->gguf, name);
    assert_non_null(t);
    assert_true(offset + size <= t->bytes);
    if (++r->n == r->fail_at)
        return fail(e, FAIL_IO, "the disk is gone");
    memcpy(into, t->data + offset, (size_t)size);
    memset(r->seen + (t->data - r->base) + offset, 1, (size_t)size);
    return 0;
}

static struct backend_options options_of(struct pool *pool)
{
    return (struct backend_options){ .pool = pool,
                                     .kernels = kernels_choose(NULL, NULL),
                                     .max_rows = ROWS,
                                     .max_sessions = 1,
                                     .state_tokens = 64 };
}

/* All outputs of a part, whose exchanges give what they take. */
static int run_part(const struct program *p, const struct weight_source *source, struct pool *pool,
                    struct buffer *out, struct error *e)
{
    struct backend_ctx *c = NULL;
    int32_t ids[ROWS];
    const uint8_t wanted[ROWS] = { 0, 0, 1, 0, 1 };
    const struct backend_run run = { 1, 0, ROWS };
    const struct backend_step step = {
        .runs = &run, .n_runs = 1, .ids = ids, .wanted = wanted, .n_rows = ROWS, .n_wanted = 2
    };
    const struct backend_options o = options_of(pool);
    wide_ids(ids, ROWS, p->vocab, 3);
    int r = backend_open(&backend_cpu, &c, p, source, &o, e);
    if (r)
        return r;
    assert_int_equal(backend_create(c, 1, e) | backend_begin(c, &step, e), 0);
    for (int i = 0; i < p->n_inputs; i++) {
        struct backend_rows in;
        assert_int_equal(backend_write(c, p->inputs[i], &in, e), 0);
        for (int k = 0; k < in.rows * in.width; k++)
            in.data[k] = (float)(k % 7) - 3;
    }
    struct arena a = { 0 };
    struct segment *segments;
    int n = program_segments(p, &a, &segments);
    for (int i = 0; i < n; i++) {
        assert_int_equal(backend_run(c, i, e), 0);
        struct backend_rows x, sum;
        if (segments[i].exchange == PROGRAM_NONE)
            continue;
        const struct instr *in = &p->instrs[segments[i].exchange];
        assert_int_equal(backend_read(c, in->in[0], &x, e), 0);
        assert_int_equal(backend_write(c, in->out, &sum, e), 0);
        memmove(sum.data, x.data, (size_t)(x.rows * x.width) * sizeof(float));
    }
    for (int i = 0; i < p->n_outputs; i++) {
        struct backend_rows x;
        assert_int_equal(backend_read(c, p->outputs[i], &x, e), 0);
        buffer_append(out, bytes_of(x.data, (size_t)(x.rows * x.width) * sizeof(float)));
    }
    assert_int_equal(backend_end(c, e), 0);
    struct backend_rows x;
    assert_int_equal(backend_read(c, p->outputs[0], &x, e), FAIL_STATE);
    assert_int_equal(backend_run(c, 0, e), FAIL_STATE);
    backend_close(c);
    arena_done(&a);
    return 0;
}

/* Exactly the bytes of the want-list were read. */
static void check_reads(const struct program *p, const struct reader *r, size_t size)
{
    struct arena a = { 0 };
    struct want *wants;
    uint8_t *wanted = calloc(size, 1);
    struct error e = { 0 };
    int n = program_wants(p, &a, &wants, &e);
    assert_true(n > 0 && wanted);
    for (int i = 0; i < n; i++) {
        const struct gguf_tensor *t = gguf_tensor(r->gguf, wants[i].tensor);
        for (uint64_t k = 0; k < want_runs(&wants[i]); k++)
            memset(wanted + (t->data - r->base) + want_offset(&wants[i], k), 1,
                   (size_t)wants[i].size);
    }
    assert_memory_equal(r->seen, wanted, size);
    free(wanted);
    arena_done(&a);
}

static void weights_that_are_read_are_those_that_are_mapped(void **state)
{
    static const char *const families[] = { "llama", "lfm2", "gemma3", "qwen3moe" };
    const int shares[] = { 3, 2 };
    struct pool *pool;
    struct error e = { 0 };
    assert_int_equal(pool_open(&pool, &(struct pool_options){ .threads = 2 }, &e), 0);
    for (size_t i = 0; i < 2 * ARRAY_LEN(families); i++) {
        struct wide w;
        struct synth_spec spec;
        struct arena a = { 0 };
        struct program *part;
        struct buffer mapped, read;
        assert_int_equal(synth_preset(&spec, "tiny", families[i / 2], &e), 0);
        spec.type = i % 2 ? QUANT_Q4_0 : QUANT_F16;
        wide_open(&w, &spec);
        const struct rank_share share = { shares, 2, 1 };
        int n = w.program->n_layers;
        assert_int_equal(program_cut(w.program, i % 3 ? n / 2 : 0, n, &a, &part, &e), 0);
        assert_int_equal(program_shard(part, &share, &a, &part, &e), 0);
        buffer_init(&mapped, 1 << 24);
        buffer_init(&read, 1 << 24);
        struct reader r = { .gguf = w.gguf, .base = w.file.data };
        r.seen = calloc(w.file.size, 1);
        const struct weight_source reads = { .read = read_noted, .arg = &r };
        assert_int_equal(run_part(part, &w.source, pool, &mapped, &e), 0);
        assert_int_equal(run_part(part, &reads, pool, &read, &e), 0);
        assert_int_equal(mapped.size, read.size);
        assert_true(mapped.size > 0);
        assert_memory_equal(mapped.data, read.data, mapped.size);
        check_reads(part, &r, w.file.size);
        r.fail_at = 1 + r.n / 2;
        r.n = 0;
        assert_int_equal(run_part(part, &reads, pool, &read, &e), FAIL_IO);
        assert_non_null(strstr(e.text, "the disk is gone"));
        free(r.seen);
        buffer_done(&mapped);
        buffer_done(&read);
        arena_done(&a);
        wide_close(&w);
    }
    pool_close(pool);
    (void)state;
}

static void a_device_says_what_it_can_do(void **state)
{
    struct compute_device d[8];
    struct wide w;
    struct synth_spec spec;
    struct error e = { 0 };
    assert_int_equal(compute_devices(d, 0), 0);
    assert_int_equal(compute_devices(d, 8), 1);
    assert_string_equal(d[0].name, "cpu");
    assert_true(d[0].exact && d[0].memory > 0 && d[0].backend == &backend_cpu);
    assert_int_equal(synth_preset(&spec, "tiny", "lfm2", &e), 0);
    spec.type = QUANT_Q4_0;
    wide_open(&w, &spec);
    assert_int_equal(compute_device_check(&d[0], w.program, &e), 0);
    struct compute_device less = d[0];
    less.ops[OP_CONV] = false;
    assert_int_equal(compute_device_check(&less, w.program, &e), FAIL_UNSUPPORTED);
    assert_non_null(strstr(e.text, "conv"));
    less = d[0];
    less.types[QUANT_Q4_0] = false;
    e = (struct error){ 0 };
    assert_int_equal(compute_device_check(&less, w.program, &e), FAIL_UNSUPPORTED);
    assert_non_null(strstr(e.text, "Q4_0"));
    less = d[0];
    less.ops[OP_EXPERT_MATMUL] = false; /* which this model hasn't got */
    assert_int_equal(compute_device_check(&less, w.program, &e), 0);
    wide_close(&w);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_that_are_read_are_those_that_are_mapped),
        cmocka_unit_test(a_device_says_what_it_can_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

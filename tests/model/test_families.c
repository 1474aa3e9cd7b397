/* Every family against its golden logits, and every split of it against the whole: ranks and
 * stages run one after another in this process, exchanges are done by hand. */
#include "tests/model/edited.h"
#include "tests/values.h"

#include "backend/backend.h"
#include "kernels/kernels.h"
#include "model/model.h"
#include "os/pool.h"

#include <math.h>
#include <stdio.h>

#define MAX_RANKS 4
#define MAX_STAGES 4

struct golden {
    const char *name;
    double f64; /* the reference's own distance from double precision (golden set's index) */
};

static const struct golden goldens[] = {
    { "llama", 4.3e-6 },        { "llama-llama3rope", 6.0e-6 }, { "llama-bias", 4.3e-6 },
    { "llama-linear", 5.4e-6 }, { "llama-yarn", 4.3e-6 },       { "mistral", 6.2e-6 },
    { "gemma3", 8.6e-6 },       { "gemma3-linear", 8.0e-6 },    { "qwen2", 5.5e-6 },
    { "qwen3", 7.7e-6 },        { "qwen3_moe", 7.0e-6 },        { "mixtral", 4.8e-6 },
    { "lfm2", 1.0e-5 },         { "smollm3", 6.5e-6 },          { "gemma4", 2.0e-5 },
    { "gemma4-kv", 8.5e-6 },
};

/* A model, its tokens and reference logits. */
struct fixture {
    struct buffer file; /* of an edited model */
    struct gguf *model, *golden;
    const int32_t *ids;
    const float *logits;
    int n, vocab;
    struct pool *pool;
};

static int find_tensor(void *arg, const char *name, const uint8_t **data, uint64_t *size,
                       struct error *e)
{
    const struct gguf_tensor *t = gguf_tensor(arg, name);
    if (!t)
        return fail(e, FAIL_NOT_FOUND, "no tensor %s", name);
    *data = t->data;
    *size = t->bytes;
    return 0;
}

static void open_fixture(struct fixture *f, const char *name, const struct edit *edits)
{
    char path[512];
    struct error e = { 0 };
    snprintf(path, sizeof(path), "%s/golden/%s.gguf", getenv("SHOAL_TEST_DATA"), name);
    edited_file(&f->file, path, edits);
    if (gguf_open_bytes(&f->model, buffer_bytes(&f->file), &e))
        fail_test("%s", e.text);
    snprintf(path, sizeof(path), "%s/golden/%s.golden.gguf", getenv("SHOAL_TEST_DATA"), name);
    if (gguf_open(&f->golden, path, &e))
        fail_test("%s", e.text);
    const struct gguf_tensor *ids = gguf_tensor(f->golden, "tokens");
    const struct gguf_tensor *logits = gguf_tensor(f->golden, "logits");
    f->ids = (const int32_t *)(const void *)ids->data;
    f->logits = (const float *)(const void *)logits->data;
    f->n = (int)ids->dims[0];
    f->vocab = (int)logits->dims[0];
    assert_int_equal(pool_open(&f->pool, &(struct pool_options){ .threads = 2 }, &e), 0);
}

static void close_fixture(struct fixture *f)
{
    pool_close(f->pool);
    gguf_close(f->model);
    buffer_done(&f->file);
    gguf_close(f->golden);
}

/* How a run is split. */
struct layout {
    int n_stages, cuts[MAX_STAGES + 1];
    int n_ranks, shares[MAX_RANKS];
    bool expert_columns;
};

struct stage {
    struct program *programs[MAX_RANKS];
    struct backend_ctx *ranks[MAX_RANKS];
};

static void open_stage(struct stage *s, const struct fixture *f, const struct program *whole,
                       const struct layout *l, int index, struct arena *a)
{
    struct error e = { 0 };
    struct program *cut;
    const struct weight_source source = { .map = find_tensor, .arg = f->model };
    const struct backend_options options = { .pool = f->pool,
                                             .kernels = kernels_choose(NULL, &e),
                                             .exact = true,
                                             .max_rows = 64,
                                             .max_sessions = 2,
                                             .state_tokens = 256 };
    if (program_cut(whole, l->cuts[index], l->cuts[index + 1], a, &cut, &e))
        fail_test("%s", e.text);
    for (int k = 0; k < l->n_ranks; k++) {
        const struct rank_share share = { l->shares, l->n_ranks, k };
        if (program_shard(cut, &share, a, &s->programs[k], &e) ||
            program_validate(s->programs[k], &e) ||
            backend_open(&backend_cpu, &s->ranks[k], s->programs[k], &source, &options, &e) ||
            backend_create(s->ranks[k], 1, &e))
            fail_test("%s", e.text);
    }
}

/* The exchange: partial sums added in rank order, the sum given to all. */
static void exchange(struct stage *s, int n_ranks, int instr)
{
    int rows, width;
    int in = s->programs[0]->instrs[instr].in[0];
    float *first = backend_rows_of(s->ranks[0], in, &rows, &width);
    size_t n = (size_t)rows * (size_t)width;
    float *sum = malloc(n * sizeof(float));
    memcpy(sum, first, n * sizeof(float));
    for (int k = 1; k < n_ranks; k++) {
        const float *more =
            backend_rows_of(s->ranks[k], s->programs[k]->instrs[instr].in[0], &rows, &width);
        for (size_t i = 0; i < n; i++)
            sum[i] += more[i];
    }
    for (int k = 0; k < n_ranks; k++)
        memcpy(backend_rows_of(s->ranks[k], s->programs[k]->instrs[instr].out, &rows, &width), sum,
               n * sizeof(float));
    free(sum);
}

static void run_stage(struct stage *s, const struct fixture *f, int n_ranks, float **carry)
{
    struct error e = { 0 };
    struct arena a = { 0 };
    struct segment *segments;
    uint8_t wanted[64];
    int rows, width;
    memset(wanted, 1, sizeof(wanted));
    const struct backend_run run = { 1, 0, f->n };
    const struct backend_step step = {
        .runs = &run, .n_runs = 1, .ids = f->ids, .wanted = wanted, .n_rows = f->n
    };
    for (int k = 0; k < n_ranks; k++) {
        assert_int_equal(backend_begin(s->ranks[k], &step, &e), 0);
        for (int i = 0; i < s->programs[k]->n_inputs; i++) {
            float *to = backend_rows_of(s->ranks[k], s->programs[k]->inputs[i], &rows, &width);
            memcpy(to, carry[i], (size_t)rows * (size_t)width * sizeof(float));
        }
    }
    int n = program_segments(s->programs[0], &a, &segments);
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < n_ranks; k++)
            assert_int_equal(backend_run(s->ranks[k], i, &e), 0);
        if (segments[i].exchange != PROGRAM_NONE)
            exchange(s, n_ranks, segments[i].exchange);
    }
    arena_done(&a);
}

static void close_stage(struct stage *s, int n_ranks)
{
    struct error e = { 0 };
    for (int k = 0; k < n_ranks; k++) {
        assert_int_equal(backend_end(s->ranks[k], &e), 0);
        backend_close(s->ranks[k]);
    }
}

/* Ranks' parts of the logits side by side. */
static void gather_logits(struct stage *s, const struct fixture *f, int n_ranks, float *out)
{
    int at = 0, rows, width;
    for (int k = 0; k < n_ranks; k++) {
        const float *part = backend_rows_of(s->ranks[k], s->programs[k]->logits, &rows, &width);
        for (int t = 0; t < f->n; t++)
            memcpy(out + (size_t)t * (size_t)f->vocab + at, part + (size_t)t * (size_t)width,
                   (size_t)width * sizeof(float));
        at += width;
    }
    assert_int_equal(at, f->vocab);
}

/* Logits (n, vocab) of the model split this way; caller frees. */
static float *run_layout(const struct fixture *f, const struct layout *l)
{
    struct error e = { 0 };
    struct arena a = { 0 };
    struct program *whole;
    float *out = malloc((size_t)f->n * (size_t)f->vocab * sizeof(float));
    float *carry[8] = { NULL };
    const struct model_options options = { .expert_columns = l->expert_columns };
    if (model_build(f->model, &options, &a, &whole, &e))
        fail_test("%s", e.text);
    for (int i = 0; i < l->n_stages; i++) {
        struct stage s;
        int rows, width;
        open_stage(&s, f, whole, l, i, &a);
        run_stage(&s, f, l->n_ranks, carry);
        const struct program *p = s.programs[0];
        if (p->logits != PROGRAM_NONE)
            gather_logits(&s, f, l->n_ranks, out);
        for (int v = 0; p->logits == PROGRAM_NONE && v < p->n_outputs; v++) {
            const float *from = backend_rows_of(s.ranks[0], p->outputs[v], &rows, &width);
            size_t bytes = (size_t)rows * (size_t)width * sizeof(float);
            free(carry[v]);
            carry[v] = malloc(bytes);
            memcpy(carry[v], from, bytes);
        }
        close_stage(&s, l->n_ranks);
    }
    for (int v = 0; v < 8; v++)
        free(carry[v]);
    arena_done(&a);
    return out;
}

static double kl_divergence(const float *p, const float *q, int n)
{
    double max_p = -INFINITY, max_q = -INFINITY, sum_p = 0, sum_q = 0, kl = 0;
    for (int i = 0; i < n; i++) {
        max_p = fmax(max_p, (double)p[i]);
        max_q = fmax(max_q, (double)q[i]);
    }
    for (int i = 0; i < n; i++) {
        sum_p += exp((double)p[i] - max_p);
        sum_q += exp((double)q[i] - max_q);
    }
    for (int i = 0; i < n; i++) {
        double lp = (double)p[i] - max_p - log(sum_p), lq = (double)q[i] - max_q - log(sum_q);
        kl += exp(lp) * (lp - lq);
    }
    return kl;
}

static struct layout whole_model(const struct fixture *f)
{
    int64_t layers = 0;
    struct error e = { 0 };
    struct arena a = { 0 };
    struct program *p;
    assert_int_equal(model_build(f->model, NULL, &a, &p, &e), 0);
    layers = p->n_layers;
    arena_done(&a);
    return (struct layout){ 1, { 0, (int)layers }, 1, { 1 }, false };
}

/* Largest difference of a row relative to the row's largest logit, over all rows. */
static double relative_difference(const struct fixture *f, const float *a, const float *b)
{
    double worst = 0;
    for (int t = 0; t < f->n; t++) {
        double top = 0, difference = 0;
        for (int i = 0; i < f->vocab; i++) {
            size_t at = (size_t)t * (size_t)f->vocab + (size_t)i;
            top = fmax(top, fabs((double)a[at]));
            difference = fmax(difference, fabs((double)a[at] - (double)b[at]));
        }
        worst = fmax(worst, difference / top);
    }
    return worst;
}

static void families_are_right_to_the_logit(void **state)
{
    (void)state;
    for (size_t g = 0; g < ARRAY_LEN(goldens); g++) {
        struct fixture f;
        open_fixture(&f, goldens[g].name, NULL);
        struct layout whole = whole_model(&f);
        float *logits = run_layout(&f, &whole);
        double limit = fmax(5e-5, 5 * goldens[g].f64), worst = 0, worst_kl = 0;
        for (size_t i = 0; i < (size_t)f.n * (size_t)f.vocab; i++)
            worst = fmax(worst, fabs((double)logits[i] - (double)f.logits[i]));
        for (int t = 0; t < f.n; t++)
            worst_kl = fmax(worst_kl, kl_divergence(f.logits + (size_t)t * (size_t)f.vocab,
                                                    logits + (size_t)t * (size_t)f.vocab, f.vocab));
        print_message("%-18s max |d| %.2g (limit %.2g), max KL %.2g\n", goldens[g].name, worst,
                      limit, worst_kl);
        assert_true(worst <= limit);
        assert_true(worst_kl <= 1e-9);
        free(logits);
        close_fixture(&f);
    }
}

/* False where the cut goes through shared state; any other error fails the test. */
static bool may_cut(const struct fixture *f, int cut)
{
    struct error e = { 0 };
    struct arena a = { 0 };
    struct program *p, *part;
    assert_int_equal(model_build(f->model, NULL, &a, &p, &e), 0);
    int r = program_cut(p, 0, cut, &a, &part, &e);
    assert_true(r == 0 || (r == FAIL_UNSUPPORTED && strstr(e.text, "shares the state")));
    arena_done(&a);
    return r == 0;
}

static void pipelines_change_no_bit(void **state)
{
    (void)state;
    for (size_t g = 0; g < ARRAY_LEN(goldens); g++) {
        struct fixture f;
        open_fixture(&f, goldens[g].name, NULL);
        struct layout whole = whole_model(&f);
        float *one = run_layout(&f, &whole);
        int legal = 0;
        for (int cut = 1; cut < whole.cuts[1]; cut++) {
            if (!may_cut(&f, cut))
                continue;
            legal++;
            struct layout two = { 2, { 0, cut, whole.cuts[1] }, 1, { 1 }, false };
            float *piped = run_layout(&f, &two);
            assert_memory_equal(one, piped, (size_t)f.n * (size_t)f.vocab * sizeof(float));
            free(piped);
        }
        /* Gemma 4's last layers share keys and values of layers 2 and 3. */
        assert_int_equal(legal, strcmp(goldens[g].name, "gemma4") == 0 ? 2 : whole.cuts[1] - 1);
        free(one);
        close_fixture(&f);
    }
}

static void check_splits(const struct fixture *f, const char *name)
{
    struct layout whole = whole_model(f);
    int n = whole.cuts[1];
    const struct layout splits[] = {
        { 1, { 0, n }, 2, { 1, 1 }, false },    { 1, { 0, n }, 2, { 1, 3 }, true },
        { 1, { 0, n }, 3, { 2, 1, 1 }, false }, { 1, { 0, n }, 4, { 1, 1, 1, 1 }, false },
        { 2, { 0, 1, n }, 2, { 1, 1 }, false },
    };
    float *one = run_layout(f, &whole);
    for (size_t s = 0; s < ARRAY_LEN(splits); s++) {
        float *split = run_layout(f, &splits[s]);
        double d = relative_difference(f, one, split);
        if (!(d <= 1e-5))
            fail_test("%s, split %zu: %g of the row's largest logit", name, s, d);
        free(split);
    }
    free(one);
}

static void tensor_splits_stay_within_rounding(void **state)
{
    (void)state;
    for (size_t g = 0; g < ARRAY_LEN(goldens); g++) {
        struct fixture f;
        open_fixture(&f, goldens[g].name, NULL);
        check_splits(&f, goldens[g].name);
        close_fixture(&f);
    }
}

/* What the golden models don't have: factors beside matrices, fused projections. */
static void splits_of_scaled_and_fused_tensors_do_too(void **state)
{
    (void)state;
    static const char qkv[] = "blk.0.attn_q.weight blk.0.attn_k.weight blk.0.attn_v.weight";
    const struct edit dense[] = { ADD_TENSOR("blk.0.attn_qkv.scale", 1.5, 1),
                                  ADD_TENSOR("blk.1.attn_output.scale", 0.75, 1),
                                  ADD_TENSOR("blk.0.ffn_up.scale", 1.25, 1),
                                  ADD_TENSOR("blk.1.ffn_down.scale", 1.5, 1),
                                  ADD_TENSOR("output.scale", 2, 1),
                                  JOIN("blk.0.attn_qkv.weight", qkv),
                                  { 0 } };
    const struct edit experts[] = { ADD_TENSOR("blk.0.ffn_up_exps.scale", 0.25, 8),
                                    ADD_TENSOR("blk.1.ffn_down_exps.scale", 0.375, 8),
                                    { 0 } };
    struct fixture f;
    open_fixture(&f, "llama", dense);
    check_splits(&f, "llama with scales");
    close_fixture(&f);
    open_fixture(&f, "mixtral", experts);
    check_splits(&f, "mixtral with scales");
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_are_right_to_the_logit),
        cmocka_unit_test(pipelines_change_no_bit),
        cmocka_unit_test(tensor_splits_stay_within_rounding),
        cmocka_unit_test(splits_of_scaled_and_fused_tensors_do_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

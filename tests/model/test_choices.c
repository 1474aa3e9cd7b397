/* Discrete choices on wide models: fast mode chooses the experts that exact mode does. */
#include "tests/wide.h"
#include "tests/values.h"

#include <math.h>

#define TOKENS 32 /* of one sequence */
#define SEQUENCES 20
/* Fast mode against exact mode, mean KL before the first choice that differs. */
#define KL_MAX 5e-3
/* Choices that may differ. Where the gaps between the last chosen and the first other expert don't
 * allow so few, no more than half above what they make inevitable: the share of gaps that noise of
 * the router's logits as large as 8-bit activations bring (NOISE_MAX of their rms) closes. */
#define DIFFERENT_MAX 0.03
#define INEVITABLE_FACTOR 1.5
#define NOISE_MAX 0.025

struct run {
    struct program *program;
    struct backend_ctx *c;
    struct pool *pool;
};

/* Routes and their inputs become outputs, so that their memory is kept to the step's end. */
static void keep_routes(struct program *p)
{
    int *outputs = arena_array(p->arena, int, 2 * p->n_instrs + p->n_outputs);
    assert_non_null(outputs);
    memcpy(outputs, p->outputs, (size_t)p->n_outputs * sizeof(*outputs));
    for (int i = 0; i < p->n_instrs; i++) {
        if (p->instrs[i].op == OP_ROUTE) {
            outputs[p->n_outputs++] = p->instrs[i].out;
            outputs[p->n_outputs++] = p->instrs[i].in[0];
        }
    }
    p->outputs = outputs;
}

static void open_run(struct run *r, struct wide *w, bool exact)
{
    struct error e = { 0 };
    r->program = w->program;
    assert_int_equal(pool_open(&r->pool, &(struct pool_options){ .threads = 1 }, &e), 0);
    const struct backend_options o = { .pool = r->pool,
                                       .kernels = kernels_choose(NULL, &e),
                                       .exact = exact,
                                       .max_rows = TOKENS,
                                       .max_sessions = 1,
                                       .state_tokens = TOKENS };
    if (!o.kernels || backend_open(&backend_cpu, &r->c, w->program, &w->source, &o, &e))
        fail_test("%s", e.text);
}

static void close_run(struct run *r)
{
    backend_close(r->c);
    pool_close(r->pool);
}

/* Starts a fresh sequence of n ids on a rank. */
static void begin(struct run *r, const int32_t *ids, int n)
{
    uint8_t wanted[TOKENS];
    struct error e = { 0 };
    memset(wanted, 1, sizeof(wanted));
    const struct backend_run rows = { 1, 0, n };
    const struct backend_step s = {
        .runs = &rows, .n_runs = 1, .ids = ids, .wanted = wanted, .n_rows = n, .n_wanted = n
    };
    if (backend_create(r->c, 1, &e) || backend_begin(r->c, &s, &e))
        fail_test("%s", e.text);
}

static float *value_of(struct run *r, int value, size_t *n)
{
    int rows, width;
    float *data = backend_rows_of(r->c, value, &rows, &width);
    *n = (size_t)rows * (size_t)width;
    return data;
}

static void open_model(struct wide *w, const char *family, enum quant_type type)
{
    struct error e = { 0 };
    struct synth_spec spec;
    assert_int_equal(synth_preset(&spec, "wide", family, &e), 0);
    spec.type = type;
    wide_open(w, &spec);
}

static double divergence(const float *p, const float *q, int n)
{
    double top_p = (double)p[0], top_q = (double)q[0], sum_p = 0, sum_q = 0, kl = 0;
    for (int i = 1; i < n; i++) {
        top_p = fmax(top_p, (double)p[i]);
        top_q = fmax(top_q, (double)q[i]);
    }
    for (int i = 0; i < n; i++) {
        sum_p += exp((double)p[i] - top_p);
        sum_q += exp((double)q[i] - top_q);
    }
    for (int i = 0; i < n; i++) {
        double lp = (double)p[i] - top_p - log(sum_p), lq = (double)q[i] - top_q - log(sum_q);
        kl += exp(lp) * (lp - lq);
    }
    return kl;
}

struct tally {
    int choices, different; /* afresh: no choice before it that leads here differed */
    double noise, square;   /* sums over the router's logits of those choices */
    int logits;
    float gaps[SEQUENCES * TOKENS * 16]; /* of the exact mode's choices */
    double kl;
    int rows;
};

/* How far the last chosen of n experts is above the first other one. */
static float gap_of(const float *logits, int n, int top_k)
{
    float sorted[64];
    assert_true(n <= 64 && top_k < n);
    for (int i = 0; i < n; i++) {
        int at = i;
        for (; at > 0 && sorted[at - 1] < logits[i]; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = logits[i];
    }
    return sorted[top_k - 1] - sorted[top_k];
}

/* The share of choices that noise of this deviation changes: the difference of two logits moves by
 * its square root of two. */
static double inevitable(const struct tally *t, double noise)
{
    double sum = 0;
    for (int i = 0; i < t->choices; i++)
        sum += erfc((double)t->gaps[i] / (2 * noise)) / 2;
    return sum / t->choices;
}

/* Whether two routes choose the same set of experts. */
static bool same_set(const float *a, const float *b, int top_k)
{
    for (int i = 0; i < top_k; i++) {
        bool found = false;
        for (int j = 0; j < top_k; j++)
            found = found || a[2 * i] == b[2 * j];
        if (!found)
            return false;
    }
    return true;
}

/* One layer's choices in both modes. touched[row]: a choice of a layer before, of this row or an
 * earlier one, differed. Gives those of this layer to `fresh`. */
static void compare_layer(struct run *exact, struct run *fast, const struct instr *in,
                          const bool *touched, bool *fresh, struct tally *t)
{
    size_t n;
    int top_k = in->route.top_k, experts = exact->program->values[in->in[0]].width;
    const float *a = value_of(exact, in->out, &n), *b = value_of(fast, in->out, &n);
    const float *x = value_of(exact, in->in[0], &n), *y = value_of(fast, in->in[0], &n);
    for (int row = 0; row < TOKENS; row++) {
        if (touched[row])
            continue;
        for (int i = row * experts; i < (row + 1) * experts; i++, t->logits++) {
            t->noise += pow((double)x[i] - (double)y[i], 2);
            t->square += (double)x[i] * (double)x[i];
        }
        assert_true((size_t)t->choices < ARRAY_LEN(t->gaps));
        t->gaps[t->choices++] = gap_of(x + row * experts, experts, top_k);
        fresh[row] = !same_set(a + 2 * row * top_k, b + 2 * row * top_k, top_k);
        t->different += fresh[row];
    }
}

/* One sequence in both modes: choices of every (token, layer), KL up to the first other one. */
static void compare_sequence(struct run *exact, struct run *fast, uint64_t seed, struct tally *t)
{
    struct error e = { 0 };
    const struct program *p = exact->program;
    int32_t ids[TOKENS];
    bool touched[TOKENS] = { false };
    size_t n;
    wide_ids(ids, TOKENS, p->vocab, seed);
    begin(exact, ids, TOKENS);
    begin(fast, ids, TOKENS);
    assert_int_equal(backend_run(exact->c, 0, &e) | backend_run(fast->c, 0, &e), 0);
    for (int i = 0; i < p->n_instrs; i++) {
        bool fresh[TOKENS] = { false };
        if (p->instrs[i].op != OP_ROUTE)
            continue;
        compare_layer(exact, fast, &p->instrs[i], touched, fresh, t);
        for (int row = 0; row < TOKENS; row++)
            touched[row] = touched[row] || fresh[row] || (row > 0 && touched[row - 1]);
    }
    const float *a = value_of(exact, p->logits, &n), *b = value_of(fast, p->logits, &n);
    for (int row = 0; row < TOKENS && !touched[row]; row++, t->rows++)
        t->kl += divergence(a + (size_t)row * (size_t)p->vocab, b + (size_t)row * (size_t)p->vocab,
                            p->vocab);
    backend_end(exact->c, &e);
    backend_end(fast->c, &e);
    backend_release(exact->c, 1, &e);
    backend_release(fast->c, 1, &e);
}

static void fast_mode_chooses_as_exact_mode_does(void **state)
{
    (void)state;
    static const char *const families[] = { "mixtral", "qwen3moe" };
    static const enum quant_type types[] = { QUANT_Q8_0, QUANT_Q4_0 };
    for (int k = 0; k < 4; k++) {
        struct wide w;
        struct run exact, fast;
        static struct tally t;
        t = (struct tally){ 0 };
        open_model(&w, families[k / 2], types[k % 2]);
        keep_routes(w.program);
        open_run(&exact, &w, true);
        open_run(&fast, &w, false);
        for (int s = 0; s < SEQUENCES; s++)
            compare_sequence(&exact, &fast, (uint64_t)s + 10, &t);
        double share = (double)t.different / t.choices, kl = t.kl / (t.rows ? t.rows : 1);
        double noise = sqrt(t.noise / t.logits), rms = sqrt(t.square / t.logits);
        double least = inevitable(&t, noise);
        print_message(
            "%-9s %s: %d of %d choices differ (%.2f %%; by the gaps %.2f %%), noise of the "
            "router's logits %.2f %%, mean KL %.1e over %d rows\n",
            families[k / 2], quant_format(types[k % 2])->name, t.different, t.choices, 100 * share,
            100 * least, 100 * noise / rms, kl, t.rows);
        assert_true(noise <= NOISE_MAX * rms);
        assert_true(share <= DIFFERENT_MAX || share <= INEVITABLE_FACTOR * least);
        assert_true(t.rows >= SEQUENCES && kl <= KL_MAX);
        close_run(&exact);
        close_run(&fast);
        wide_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fast_mode_chooses_as_exact_mode_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A tensor split over two processes on different instruction sets, joined by TCP: whatever both
 * hold whole (the residual after each layer, the choices of experts) has the same bits in both, at
 * every token.
 *
 *   test_processes [FAMILY TYPE]      all families in Q4_0 without arguments */
#include "tests/wide.h"
#include "tests/values.h"

#include "stage/distributed.h"
#include "stage/rank.h"
#include "stage/share.h"
#include "os/thread.h"
#include "tests/transport/pairs.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define RANKS 2
#define PREFILL 12
#define TOKENS 20 /* the rest is decoded one by one */
#define STEP_NS (60 * CLOCK_NS_PER_S)
/* A process that hangs ends by itself after so many seconds. */
#define PROCESS_SECONDS 240

/* --- in the processes of the ranks --- */

/* What the rank's thread shares with the process: there is one rank in each. */
static struct {
    struct program program; /* the rank's, with every whole value an output */
    FILE *out;
    const struct backend_ops *inner;
    struct backend_ops ops;
    struct mutex lock;
    struct condition ended;
    bool end, bad;
} traced;

static bool is_whole(const struct program *p, int instr)
{
    return p->values[p->instrs[instr].out].layout == VALUE_WHOLE;
}

/* Writes every whole value of the step: instruction, rows, width, floats. */
static int traced_end(struct backend_ctx *c, struct error *e)
{
    for (int i = 0; i < traced.program.n_instrs; i++) {
        if (!is_whole(&traced.program, i)) {
            continue;
        }
        int head[3] = { i };
        const float *x = backend_rows_of(c, traced.program.instrs[i].out, &head[1], &head[2]);
        size_t n = (size_t)head[1] * (size_t)head[2];
        if (fwrite(head, sizeof head, 1, traced.out) != 1 ||
            fwrite(x, sizeof *x, n, traced.out) != n) {
            return fail(e, FAIL_IO, "a trace can't be written");
        }
    }
    return traced.inner->end(c, e);
}

/* Outputs keep their memory to the step's end. */
static int traced_open(struct backend_ctx **ret, const struct program *program,
                       const struct weight_source *source, const struct backend_options *options,
                       struct error *e)
{
    struct program *p = &traced.program;
    *p = *program;
    p->outputs = arena_array(p->arena, int, p->n_instrs + p->n_outputs);
    if (p->outputs == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a trace");
    }
    memcpy(p->outputs, program->outputs, (size_t)p->n_outputs * sizeof *p->outputs);
    for (int i = 0; i < p->n_instrs; i++) {
        if (is_whole(p, i) && p->instrs[i].out != p->logits) {
            p->outputs[p->n_outputs++] = p->instrs[i].out;
        }
    }
    int code = backend_open(&backend_cpu, ret, p, source, options, e);
    if (code == 0) {
        traced.inner = (*ret)->ops;
        traced.ops = *traced.inner;
        traced.ops.end = traced_end;
        (*ret)->ops = &traced.ops;
    }
    return code;
}

static void on_state(void *arg, enum rank_state state, const struct error *error)
{
    (void)arg;
    mutex_lock(&traced.lock);
    if (error != NULL) {
        fprintf(stderr, "a rank ended: %s\n", error->text);
        traced.bad = true;
    }
    traced.end = state == RANK_ENDED;
    condition_signal(&traced.ended);
    mutex_unlock(&traced.lock);
}

/* What one rank's process is told. */
struct side {
    const struct wide *wide;
    const struct placement_plan *plan;
    int rank;
    const char *isa; /* NULL: the best */
    bool exact;
    int steps, group; /* sockets */
    FILE *out;        /* its trace */
};

static int attach(struct rank *r, enum link_kind kind, int from, int to, int fd, struct error *e)
{
    struct channel *channel = NULL;
    const struct wire_link link = { kind, from, to };
    int code = tcp_from_fd(&channel, fd, NULL, e);
    return code ? code : rank_attach(r, &link, channel, e);
}

static int be_rank(const struct side *s, struct error *e)
{
    struct backend backend = backend_cpu;
    struct rank *r = NULL;
    backend.open = traced_open;
    traced.out = s->out;
    mutex_init(&traced.lock);
    condition_init(&traced.ended);
    struct rank_options o = { .backend = &backend,
                              .program = s->wide->program,
                              .source = &s->wide->source,
                              .plan = s->plan,
                              .rank = s->rank,
                              .epoch = 1,
                              .threads = 1,
                              .kernels = kernels_choose(s->isa, e),
                              .exact = s->exact,
                              .max_rows = PREFILL,
                              .max_sessions = 1,
                              .state_tokens = TOKENS,
                              .step_timeout_ns = STEP_NS,
                              .on_state = on_state };
    int code = o.kernels ? rank_open(&r, &o, e) : FAIL_ARG;
    code = code ? code : attach(r, LINK_STEPS, WIRE_HEAD, s->rank, s->steps, e);
    code = code ? code : attach(r, LINK_GROUP, 0, 1, s->group, e);
    mutex_lock(&traced.lock);
    while (code == 0 && !traced.end) {
        condition_wait(&traced.ended, &traced.lock, CLOCK_NS_PER_S);
    }
    mutex_unlock(&traced.lock);
    rank_close(r);
    if (code == 0 && (traced.bad || fflush(s->out) != 0)) {
        code = fail(e, FAIL_IO, "its rank or its trace failed");
    }
    return code;
}

static pid_t start(const struct side *s)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct error e = { 0 };
        alarm(PROCESS_SECONDS);
        if (be_rank(s, &e) != 0) {
            fprintf(stderr, "rank %d: %s\n", s->rank, e.text);
            _exit(1);
        }
        _exit(0);
    }
    assert_true(child > 0);
    return child;
}

/* --- in the test's process, the head --- */

static void run_steps(struct executor *x)
{
    struct error e = { 0 };
    int32_t ids[TOKENS];
    uint8_t wanted[PREFILL];
    struct step_command create = { .op = STEP_CREATE, .session = 1 };
    wide_ids(ids, TOKENS, x->vocab, 3);
    memset(wanted, 1, sizeof wanted);
    for (int at = 0; at < TOKENS;) {
        int count = at == 0 ? PREFILL : 1;
        struct step_run run = { .session = 1, .first = at, .count = count };
        struct step s = { .id = (uint64_t)at,
                          .commands = &create,
                          .n_commands = at == 0,
                          .runs = &run,
                          .n_runs = 1,
                          .ids = ids + at,
                          .wanted = wanted,
                          .n_rows = count,
                          .n_wanted = count };
        struct step_result result;
        if (x->ops->submit(x, &s, clock_deadline(STEP_NS), &e) ||
            x->ops->collect(x, &result, clock_deadline(STEP_NS), &e)) {
            fail_test("position %d: %s", at, e.text);
        }
        assert_int_equal(result.n_wanted, count);
        at += count;
    }
}

static struct executor *open_head(const struct wide *w, const struct placement_plan *plan,
                                  const int steps[static RANKS])
{
    struct distributed_rank ranks[RANKS];
    struct executor *x = NULL;
    struct error e = { 0 };
    struct arena arena = { 0 };
    for (int r = 0; r < RANKS; r++) {
        struct program *part = NULL;
        ranks[r] = (struct distributed_rank){ .name = "rank" };
        assert_int_equal(tcp_from_fd(&ranks[r].channel, steps[r], NULL, &e), 0);
        assert_int_equal(rank_program(w->program, plan, r, &arena, &part, &e), 0);
        rank_vocab(part, &ranks[r].vocab_first, &ranks[r].vocab_count);
    }
    const struct distributed_options o = { .plan = plan,
                                           .ranks = ranks,
                                           .epoch = 1,
                                           .vocab = w->program->vocab,
                                           .max_rows = PREFILL,
                                           .max_context = TOKENS,
                                           .max_sessions = 1,
                                           .state_tokens = TOKENS };
    assert_int_equal(distributed_open(&x, &o, &e), 0);
    arena_done(&arena);
    return x;
}

/* Reads both traces; every record must be the same. Gives the number of values and of choices of
 * experts. */
static void compare(const char *family, const struct program *p, FILE *traces[static RANKS],
                    int *values, int *choices)
{
    static float x[RANKS][PREFILL * 4096];
    int head[RANKS][3] = { 0 }, last = 0, first = 0, rows = 0;
    rewind(traces[0]);
    rewind(traces[1]);
    *values = *choices = 0;
    while (fread(head[0], sizeof head[0], 1, traces[0]) == 1) {
        assert_int_equal(fread(head[1], sizeof head[1], 1, traces[1]), 1);
        assert_memory_equal(head[0], head[1], sizeof head[0]);
        const struct instr *in = &p->instrs[head[0][0]];
        first += head[0][0] < last ? rows : 0; /* the next step */
        last = head[0][0];
        rows = head[0][1];
        size_t width = (size_t)head[0][2], n = (size_t)head[0][1] * width;
        assert_true(n <= ARRAY_LEN(x[0]));
        for (int r = 0; r < RANKS; r++) {
            assert_int_equal(fread(x[r], sizeof x[r][0], n, traces[r]), n);
        }
        for (size_t i = 0; i < n; i++) {
            if (memcmp(&x[0][i], &x[1][i], sizeof x[0][i]) != 0) {
                fail_test("%s: %s of layer %d differs at token %d, element %zu", family,
                          p->values[in->out].name, in->layer, first + (int)(i / width), i % width);
            }
        }
        *values += rows;
        *choices += in->op == OP_ROUTE ? rows * in->route.top_k : 0;
    }
    assert_int_equal(fread(head[1], 1, 1, traces[1]), 0);
}

/* The instruction set of rank 0: the scalar definition is the other's. */
static const char *fast_isa(void)
{
    int n = 0;
    const struct kernels *best = kernels_all(&n)[n - 1];
    return kernels_choose("avx2", NULL) ? "avx2" : best->name;
}

static void check(struct wide *w, const char *family, bool exact)
{
    struct placement_plan plan;
    struct error e = { 0 };
    int head[RANKS][2], group[2], values = 0, choices = 0;
    FILE *traces[RANKS] = { tmpfile(), tmpfile() };
    pid_t children[RANKS];
    assert_non_null(traces[0]);
    assert_non_null(traces[1]);
    assert_int_equal(split_parse("5:3", w->program->n_layers, &plan, &e), 0);
    for (int r = 0; r < RANKS; r++) {
        tcp_sockets(head[r]);
    }
    tcp_sockets(group);
    for (int r = 0; r < RANKS; r++) {
        children[r] = start(&(struct side){ .wide = w,
                                            .plan = &plan,
                                            .rank = r,
                                            .isa = r ? "scalar" : fast_isa(),
                                            .exact = exact,
                                            .steps = head[r][1],
                                            .group = group[r],
                                            .out = traces[r] });
    }
    for (int r = 0; r < RANKS; r++) {
        tcp_close(head[r][1]);
        tcp_close(group[r]);
    }
    struct executor *x = open_head(w, &plan, (int[RANKS]){ head[0][0], head[1][0] });
    run_steps(x);
    x->ops->close(x);
    for (int r = 0; r < RANKS; r++) {
        int status = -1;
        assert_int_equal(waitpid(children[r], &status, 0), children[r]);
        assert_int_equal(status, 0);
    }
    struct program *part = NULL;
    assert_int_equal(rank_program(w->program, &plan, 0, &w->arena, &part, &e), 0);
    compare(family, part, traces, &values, &choices);
    int experts = 0;
    for (int i = 0; i < part->n_instrs; i++) {
        experts += part->instrs[i].op == OP_ROUTE ? part->instrs[i].route.top_k : 0;
    }
    assert_true(values >= 2 * w->program->n_layers * TOKENS);
    assert_int_equal(choices, experts * TOKENS);
    print_message("%-9s %s: %d rows of whole values the same, %d choices of experts\n", family,
                  exact ? "exact" : "fast ", values, choices);
    for (int r = 0; r < RANKS; r++) {
        fclose(traces[r]);
    }
}

static void check_family(const char *family, const char *type)
{
    struct error e = { 0 };
    struct synth_spec spec;
    struct wide w;
    if (synth_preset(&spec, "wide", family, &e) || synth_set_type(&spec, type, &e)) {
        fail_test("%s", e.text);
    }
    wide_open(&w, &spec);
    check(&w, family, false);
    check(&w, family, true);
    wide_close(&w);
}

static const char *only_family, *only_type;

static void processes_on_other_instruction_sets_do_not_drift(void **state)
{
    (void)state;
    static const char *const families[] = { "llama",    "mixtral", "qwen2", "qwen3",
                                            "qwen3moe", "gemma3",  "lfm2",  "smollm3" };
    if (strcmp(fast_isa(), "scalar") == 0) {
        print_message("this machine has the scalar instruction set only\n");
        skip();
    }
    if (only_family) {
        check_family(only_family, only_type);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        check_family(families[i], "Q4_0");
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(processes_on_other_instruction_sets_do_not_drift),
    };
    if (argc > 2) {
        only_family = argv[1];
        only_type = argv[2];
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

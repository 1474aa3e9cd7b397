/* See eval.h. */
#include "node/eval.h"

#include "base/random.h"
#include "engine/executor.h"
#include "gguf/gguf.h"
#include "kernels/kernels.h"
#include "model/model.h"
#include "os/clock.h"
#include "os/cpu.h"
#include "os/log.h"
#include "plan/split.h"
#include "stage/inprocess.h"
#include "stage/source.h"

#include <stdlib.h>
#include <string.h>

#define ISA_NAME 32

/* Rows of one other sequence in one step, and its length, at the most. */
#define BESIDE_ROWS 9
#define BESIDE_LENGTH 60
#define MAX_BESIDE 64
#define STEP_TIMEOUT_NS (600 * CLOCK_NS_PER_S)

/* A random sequence that shares the main one's steps; it joins and leaves as it likes. */
struct beside {
    bool live;
    uint32_t session;
    int32_t position, length;
};

struct eval {
    struct eval_options options;
    struct source *source;
    struct arena arena; /* of program, where it isn't the source's */
    const struct program *program;
    struct executor *x;
    struct step_command commands[2 * MAX_BESIDE + 2];
    struct step_run runs[MAX_BESIDE + 1];
    int32_t *ids;
    uint8_t *wanted;
    struct beside others[MAX_BESIDE];
    struct random random;
    uint32_t next_session;
    uint64_t next_step;
};

/* The whole model's program; the source's own deals whole experts. */
static int make_program(struct eval *v, struct error *e)
{
    struct program *own = NULL;
    v->program = source_program(v->source);
    if (!v->options.expert_columns)
        return 0;
    arena_init(&v->arena, 0);
    int r = model_build(source_gguf(v->source), &(struct model_options){ .expert_columns = true },
                        &v->arena, &own, e);
    v->program = own;
    return r;
}

/* The kernel table of each rank: the names in turn, from the first again when they are used up. */
static int choose_kernels(const char *names, int n_ranks, const struct kernels **ret,
                          struct error *e)
{
    const char *at = names;
    int n_names = 1;
    for (const char *c = names; c && (c = strchr(c, ',')); c++)
        n_names++;
    if (n_names > n_ranks)
        return fail(e, FAIL_ARG, "--isa names %d instruction sets, but there %s %d rank%s", n_names,
                    n_ranks == 1 ? "is" : "are", n_ranks, n_ranks == 1 ? "" : "s");
    for (int i = 0; i < n_ranks; i++) {
        char name[ISA_NAME];
        size_t n = at ? strcspn(at, ",") : 0;
        if (n >= sizeof(name))
            return fail(e, FAIL_ARG, "no instruction set is called %.40s", at);
        memcpy(name, at ? at : "", n);
        name[n] = '\0';
        ret[i] = kernels_choose(at ? name : NULL, e);
        if (!ret[i])
            return FAIL_ARG;
        at = at && at[n] ? at + n + 1 : names;
    }
    return 0;
}

static int make_plan(const struct eval *v, struct placement_plan *plan, struct error *e)
{
    int n_layers = v->program->n_layers;
    if (v->options.split)
        return split_parse(v->options.split, n_layers, plan, e);
    plan_single(n_layers, 0, plan);
    return 0;
}

int eval_open(struct eval **ret, const struct eval_options *o, int max_tokens, struct error *e)
{
    struct eval *v = calloc(1, sizeof(*v));
    if (!v)
        return fail(e, FAIL_NOMEM, "an evaluation");
    v->options = *o;
    v->random.state = 1;
    v->next_session = 1;
    if (v->options.chunk < 1)
        v->options.chunk = 512;
    if (v->options.chunk > max_tokens)
        v->options.chunk = max_tokens;
    int rows = (int)(v->options.chunk + v->options.beside * BESIDE_ROWS);
    struct placement_plan plan;
    v->ids = calloc((size_t)rows, sizeof(*v->ids));
    v->wanted = calloc((size_t)rows, 1);
    int r = v->ids && v->wanted ? 0 : fail(e, FAIL_NOMEM, "steps of %d rows", rows);
    const struct kernels *kernels[PLAN_MAX_RANKS];
    if (r || (r = source_open(&v->source, o->model, e)) || (r = make_program(v, e)) ||
        (r = make_plan(v, &plan, e)) || (r = choose_kernels(o->isa, plan.n_ranks, kernels, e)))
        goto out;
    if (*source_notes(v->source))
        log_warn("node", "%s: %s", o->model, source_notes(v->source));
    struct inprocess_options in = { .backend = &backend_cpu,
                                    .program = v->program,
                                    .source = source_weights(v->source),
                                    .plan = &plan,
                                    .rank_kernels = kernels,
                                    .transport = o->transport,
                                    .threads = (int)(o->threads ? o->threads : cpu_cores()),
                                    .exact = o->exact,
                                    .max_rows = rows,
                                    .max_sessions = (int)v->options.beside + 2,
                                    .max_context = max_tokens + 1,
                                    .step_timeout_ns = STEP_TIMEOUT_NS };
    if (in.max_context < BESIDE_LENGTH + BESIDE_ROWS)
        in.max_context = BESIDE_LENGTH + BESIDE_ROWS;
    r = inprocess_open(&v->x, &in, e);
out:
    if (r)
        eval_close(v);
    else
        *ret = v;
    return r;
}

void eval_close(struct eval *v)
{
    if (!v)
        return;
    if (v->x)
        v->x->ops->close(v->x);
    arena_done(&v->arena);
    source_close(v->source);
    free(v->ids);
    free(v->wanted);
    free(v);
}

const struct gguf *eval_gguf(const struct eval *v)
{
    return source_gguf(v->source);
}

int eval_vocab(const struct eval *v)
{
    return v->x->vocab;
}

static void add_rows(struct eval *v, struct step *s, uint32_t session, int first, int count)
{
    v->runs[s->n_runs++] = (struct step_run){ .session = session, .first = first, .count = count };
    s->n_rows += count;
}

/* One other sequence's part of the step: it may rest, join, go on, or leave. Some of its rows want
 * logits too, so that the wanted rows of the main sequence move about. */
static void add_beside(struct eval *v, struct step *s, struct beside *b)
{
    struct random *rng = &v->random;
    if (!b->live) {
        if (random_below(rng, 3) == 0)
            return;
        *b = (struct beside){ .live = true,
                              .session = ++v->next_session,
                              .length = 1 + (int32_t)random_below(rng, BESIDE_LENGTH) };
        v->commands[s->n_commands++] =
            (struct step_command){ .op = STEP_CREATE, .session = b->session };
    }
    int count = 1 + (int)random_below(rng, BESIDE_ROWS);
    for (int i = 0; i < count; i++) {
        v->ids[s->n_rows + i] = (int32_t)random_below(rng, (uint64_t)v->x->vocab);
        v->wanted[s->n_rows + i] = random_below(rng, 4) == 0;
        s->n_wanted += v->wanted[s->n_rows + i];
    }
    add_rows(v, s, b->session, b->position, count);
    b->position += count;
}

/* Sequences that reached their length are freed by the next step's commands. */
static void retire(struct eval *v, struct step *s)
{
    for (int i = 0; i < v->options.beside; i++) {
        struct beside *b = &v->others[i];
        if (!b->live || b->position < b->length)
            continue;
        v->commands[s->n_commands++] =
            (struct step_command){ .op = STEP_FREE, .session = b->session };
        b->live = false;
    }
}

static int run_step(struct eval *v, struct step *s, struct step_result *result, struct error *e)
{
    uint64_t deadline = clock_deadline(STEP_TIMEOUT_NS);
    s->id = v->next_step++;
    int r = v->x->ops->submit(v->x, s, deadline, e);
    return r ? r : v->x->ops->collect(v->x, result, deadline, e);
}

int eval_sequence(struct eval *v, const int32_t *ids, int n,
                  int (*fn)(void *arg, int position, const float *logits, struct error *e),
                  void *arg, struct error *e)
{
    uint32_t session = ++v->next_session;
    int r = 0;
    for (int at = 0; at < n && !r;) {
        struct step s = {
            .commands = v->commands, .runs = v->runs, .ids = v->ids, .wanted = v->wanted
        };
        int count = n - at < v->options.chunk ? n - at : (int)v->options.chunk;
        retire(v, &s);
        if (at == 0)
            v->commands[s.n_commands++] =
                (struct step_command){ .op = STEP_CREATE, .session = session };
        int half = (int)v->options.beside / 2;
        for (int i = 0; i < half; i++)
            add_beside(v, &s, &v->others[i]);
        int first_wanted = s.n_wanted;
        for (int i = 0; i < count; i++) {
            v->ids[s.n_rows + i] = ids[at + i];
            v->wanted[s.n_rows + i] = 1;
        }
        s.n_wanted += count;
        add_rows(v, &s, session, at, count);
        for (int i = half; i < v->options.beside; i++)
            add_beside(v, &s, &v->others[i]);
        struct step_result result;
        r = run_step(v, &s, &result, e);
        for (int i = 0; i < count && !r; i++)
            r = fn(arg, at + i, result.logits + (size_t)(first_wanted + i) * (size_t)v->x->vocab,
                   e);
        at += count;
    }
    /* A step without rows only carries the command. */
    struct step end = { .commands = v->commands,
                        .runs = v->runs,
                        .ids = v->ids,
                        .wanted = v->wanted,
                        .n_commands = 1 };
    v->commands[0] = (struct step_command){ .op = STEP_FREE, .session = session };
    struct step_result none;
    return r ? r : run_step(v, &end, &none, e);
}

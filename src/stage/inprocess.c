/* All ranks of a plan in this process. */
#include "stage/inprocess.h"

#include <stdlib.h>

#include "engine/sessions.h"
#include "stage/distributed.h"
#include "stage/rank.h"
#include "stage/share.h"
#include "os/thread.h"
#include "transport/pair.h"

#include <stdio.h>

#define STEP_TIMEOUT_NS 120000000000u
/* Loading ends by itself; this only bounds one wait for news of it. */
#define NEWS_WAIT_NS 100000000u
#define RANK_NAME 32

struct inprocess {
    struct inprocess_options options;
    struct placement_plan plan;
    struct rank *ranks[PLAN_MAX_RANKS];
    struct wire_link *links;
    int n_links;
    struct channel *head[PLAN_MAX_RANKS];

    /* Under lock: written by the ranks' threads. */
    struct mutex lock;
    struct condition news;
    int n_loaded;
    bool failed;
    struct error failure;
};

static void on_state(void *arg, enum rank_state state, const struct error *error)
{
    struct inprocess *p = arg;
    mutex_lock(&p->lock);
    p->n_loaded += state == RANK_LOADED;
    if (error != NULL && !p->failed) {
        p->failed = true;
        p->failure = *error;
    }
    condition_signal(&p->news);
    mutex_unlock(&p->lock);
}

static void inprocess_close(void *arg)
{
    struct inprocess *p = arg;
    for (int r = 0; r < p->plan.n_ranks; r++) {
        if (p->ranks[r] != NULL) {
            rank_stop(p->ranks[r]);
        }
    }
    for (int r = 0; r < p->plan.n_ranks; r++) {
        rank_close(p->ranks[r]);
    }
    condition_done(&p->news);
    mutex_done(&p->lock);
    free(p->links);
    free(p);
}

static int open_ranks(struct inprocess *p, struct error *e)
{
    const struct inprocess_options *o = &p->options;
    int code = 0;
    for (int r = 0; r < p->plan.n_ranks && code == 0; r++) {
        const struct kernels *kernels = o->rank_kernels != NULL ? o->rank_kernels[r] : o->kernels;
        code = rank_open(&p->ranks[r],
                         &(struct rank_options){ .backend = o->backend,
                                                 .program = o->program,
                                                 .source = o->source,
                                                 .plan = &p->plan,
                                                 .rank = r,
                                                 .epoch = 1,
                                                 .threads = o->threads,
                                                 .kernels = kernels,
                                                 .exact = o->exact,
                                                 .max_rows = o->max_rows,
                                                 .max_sessions = o->max_sessions,
                                                 .state_tokens = o->state_tokens,
                                                 .step_timeout_ns = o->step_timeout_ns,
                                                 .on_state = on_state,
                                                 .arg = p },
                         e);
    }
    return code;
}

static void tell_progress(struct inprocess *p)
{
    uint64_t done = 0, total = 0;
    for (int r = 0; r < p->plan.n_ranks; r++) {
        struct rank_facts facts;
        rank_facts(p->ranks[r], &facts);
        done += facts.load_done;
        total += facts.load_total;
    }
    if (p->options.on_progress != NULL && total > 0) {
        p->options.on_progress(p->options.arg, done, total);
    }
}

static int wait_loaded(struct inprocess *p, struct error *e)
{
    mutex_lock(&p->lock);
    while (p->n_loaded < p->plan.n_ranks && !p->failed) {
        condition_wait(&p->news, &p->lock, NEWS_WAIT_NS);
        mutex_unlock(&p->lock);
        tell_progress(p);
        mutex_lock(&p->lock);
    }
    int code = p->failed ? fail(e, p->failure.code, "%s", p->failure.text) : 0;
    mutex_unlock(&p->lock);
    if (code == 0) {
        tell_progress(p);
    }
    return code;
}

static int make_pair(struct inprocess *p, const struct wire_link *l, struct channel **a,
                     struct channel **b, struct error *e)
{
    if (p->options.pair != NULL) {
        return p->options.pair(p->options.arg, l->from, l->to, a, b, e);
    }
    const char *transport = p->options.transport;
    return transport_pair(transport != NULL ? transport : "memory", a, b, NULL, e);
}

static int connect_ranks(struct inprocess *p, struct error *e)
{
    for (int i = 0; i < p->n_links; i++) {
        const struct wire_link *l = &p->links[i];
        struct channel *a = NULL, *b = NULL;
        int code = make_pair(p, l, &a, &b, e);
        if (code != 0) {
            return code;
        }
        if (l->from == WIRE_HEAD) {
            p->head[l->to] = a;
        } else {
            code = rank_attach(p->ranks[l->from], l, a, e);
        }
        int second = rank_attach(p->ranks[l->to], l, b, code == 0 ? e : NULL);
        if (code != 0 || second != 0) {
            return code != 0 ? code : second;
        }
    }
    return 0;
}

static int open_head(struct inprocess *p, struct executor **ret, struct error *e)
{
    struct distributed_rank ranks[PLAN_MAX_RANKS];
    char names[PLAN_MAX_RANKS][RANK_NAME];
    for (int r = 0; r < p->plan.n_ranks; r++) {
        struct rank_facts facts;
        rank_facts(p->ranks[r], &facts);
        snprintf(names[r], sizeof names[r], "rank %d", r);
        ranks[r] =
            (struct distributed_rank){ p->head[r], names[r], facts.vocab_first, facts.vocab_count };
        p->head[r] = NULL;
    }
    return distributed_open(
        ret,
        &(struct distributed_options){ .plan = &p->plan,
                                       .ranks = ranks,
                                       .epoch = 1,
                                       .vocab = p->options.program->vocab,
                                       .width = rank_hidden_width(p->options.program),
                                       .max_rows = p->options.max_rows,
                                       .max_context = p->options.max_context,
                                       .max_sessions = p->options.max_sessions,
                                       .state_tokens = p->options.state_tokens,
                                       .can_truncate = rank_can_truncate(p->options.program),
                                       .on_close = inprocess_close,
                                       .arg = p },
        e);
}

int inprocess_open(struct executor **ret, const struct inprocess_options *options, struct error *e)
{
    struct inprocess *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a placement");
    }
    p->options = *options;
    p->plan = *options->plan;
    if (p->options.state_tokens == 0) {
        p->options.state_tokens = (uint64_t)options->max_sessions *
                                  size_round_up((size_t)options->max_context, SESSION_PAGE);
    }
    if (p->options.step_timeout_ns == 0) {
        p->options.step_timeout_ns = STEP_TIMEOUT_NS;
    }
    mutex_init(&p->lock);
    condition_init(&p->news);
    p->links = malloc(WIRE_MAX_LINKS * sizeof *p->links);
    int code = p->links ? 0 : fail(e, FAIL_NOMEM, "memory for a placement");
    if (code == 0) {
        p->n_links = wire_links(&p->plan, p->links);
        code = open_ranks(p, e);
    }
    code = code == 0 ? wait_loaded(p, e) : code;
    code = code == 0 ? connect_ranks(p, e) : code;
    code = code == 0 ? open_head(p, ret, e) : code;
    if (code != 0) {
        for (int r = 0; r < p->plan.n_ranks; r++) {
            channel_close(p->head[r]);
        }
        inprocess_close(p);
    }
    return code;
}

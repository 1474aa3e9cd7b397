/* See engine.h. What other threads do with an engine; the head's own part is in head.c. */
#include "engine/engine.h"

#include "engine/head.h"
#include "os/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_REQUESTS 8
#define STEP_TIMEOUT_NS (120 * CLOCK_NS_PER_S)

/* --- what an executor brings --- */

static void schedule_options_of(const struct engine *g, const struct executor *x,
                                struct schedule_options *ret)
{
    int sessions = x->max_sessions ? x->max_sessions : g->options.max_requests;
    uint64_t each = ((uint64_t)x->max_context + SESSION_PAGE - 1) / SESSION_PAGE * SESSION_PAGE;
    *ret = (struct schedule_options){
        .max_requests = g->options.max_requests,
        .prefill_chunk = g->options.prefill_chunk,
        .max_rows = x->max_rows,
        .depth = x->depth < SCHEDULE_MAX_DEPTH ? x->depth : SCHEDULE_MAX_DEPTH,
        .grant = { .max_sessions = sessions,
                   .tokens = x->state_tokens ? x->state_tokens : each * (uint64_t)sessions,
                   .can_truncate = x->can_truncate }
    };
}

/* One session can have all that was granted, and no more. */
static int context_of(const struct engine *g, const struct executor *x)
{
    uint64_t most = sessions_capacity(&g->schedule.sessions);
    return most < (uint64_t)x->max_context ? (int)most : x->max_context;
}

static int check_executor(const struct engine_options *o, const struct executor *x, struct error *e)
{
    if (x->vocab != o->vocab)
        return fail(e, FAIL_ARG, "a head of %d tokens for logits of %d", o->vocab, x->vocab);
    if (x->depth < 1 || x->max_rows < 1 || x->max_context < 1)
        return fail(e, FAIL_ARG, "an executor of %d steps, %d rows and %d positions", x->depth,
                    x->max_rows, x->max_context);
    return 0;
}

/* --- life --- */

static int alloc_engine(struct engine *g, const struct engine_options *o, struct error *e)
{
    struct schedule_options options;
    g->cap_live = g->options.max_requests + o->max_queue;
    g->by_ticket = calloc((size_t)g->cap_live, sizeof(struct request *));
    g->is_eog = malloc((size_t)o->vocab);
    if (!g->by_ticket || !g->is_eog)
        return fail(e, FAIL_NOMEM, "an engine for %d requests", g->options.max_requests);
    memcpy(g->is_eog, o->is_eog, (size_t)o->vocab);
    schedule_options_of(g, o->executor, &options);
    int r = schedule_init(&g->schedule, &options, e);
    return r ? r : sampler_open(&g->sampler, o->vocab, e);
}

static void engine_free(struct engine *g)
{
    if (!g)
        return;
    schedule_done(&g->schedule);
    sampler_close(g->sampler);
    mutex_done(&g->lock);
    condition_done(&g->wake);
    condition_done(&g->settled);
    free(g->by_ticket);
    free(g->is_eog);
    free(g);
}

static struct engine *engine_new(const struct engine_options *options)
{
    struct engine *g = calloc(1, sizeof(*g));
    if (!g)
        return NULL;
    int n = options->max_requests < 1 ? DEFAULT_REQUESTS : options->max_requests;
    g->options = *options;
    g->options.max_requests = n < STEP_MAX_RUNS ? n : STEP_MAX_RUNS;
    if (!g->options.step_timeout_ns)
        g->options.step_timeout_ns = STEP_TIMEOUT_NS;
    g->next_ticket = 1;
    g->rate_since_ns = clock_now_ns();
    mutex_init(&g->lock);
    condition_init(&g->wake);
    condition_init(&g->settled);
    return g;
}

int engine_open(struct engine **ret, const struct engine_options *options, struct error *e)
{
    struct executor *x = options->executor;
    struct engine *g = NULL;
    int r = check_executor(options, x, e);
    if (!r && !(g = engine_new(options)))
        r = fail(e, FAIL_NOMEM, "an engine");
    r = r ? r : alloc_engine(g, options, e);
    if (!r) {
        g->x = x;
        g->context = context_of(g, x);
        r = g->options.stepped ? 0 : thread_start(&g->thread, head_run, g, e);
    }
    if (r) {
        engine_free(g);
        x->ops->close(x);
        return r;
    }
    *ret = g;
    return 0;
}

void engine_close(struct engine *g)
{
    if (!g)
        return;
    mutex_lock(&g->lock);
    g->closing = true;
    if (g->x)
        g->x->ops->shutdown(g->x);
    condition_signal(&g->wake);
    mutex_unlock(&g->lock);
    if (g->options.stepped)
        head_end(g);
    else
        thread_join(&g->thread);
    if (g->x)
        g->x->ops->close(g->x);
    engine_free(g);
}

bool engine_turn(struct engine *g)
{
    return head_turn(g);
}

/* --- loss and recovery --- */

int engine_suspend(struct engine *g, const char *why, struct error *e)
{
    mutex_lock(&g->lock);
    if (g->state == ENGINE_RUNNING) {
        g->state = ENGINE_SUSPENDING;
        g->why = (struct error){ 0 };
        fail(&g->why, FAIL_CLOSED, "%s", why);
        g->x->ops->shutdown(g->x);
        condition_signal(&g->wake);
    }
    while (g->state == ENGINE_SUSPENDING) {
        if (g->options.stepped) {
            mutex_unlock(&g->lock);
            head_turn(g);
            mutex_lock(&g->lock);
        } else {
            condition_wait(&g->settled, &g->lock, CLOCK_NS_PER_S);
        }
    }
    int r = g->state == ENGINE_FAILED ? fail(e, FAIL_CLOSED, "%s", g->why.text) : 0;
    mutex_unlock(&g->lock);
    return r;
}

int engine_resume(struct engine *g, struct executor *x, struct error *e)
{
    struct schedule_options options;
    int r = check_executor(&g->options, x, e);
    mutex_lock(&g->lock);
    if (!r && (g->state != ENGINE_SUSPENDED || g->closing))
        r = fail(e, FAIL_STATE, "the engine does not wait for an executor");
    if (!r) {
        schedule_options_of(g, x, &options);
        r = schedule_restart(&g->schedule, &options, e);
    }
    if (!r) {
        g->x = x;
        g->context = context_of(g, x);
        g->state = ENGINE_RUNNING;
        condition_signal(&g->wake);
    }
    mutex_unlock(&g->lock);
    if (r)
        x->ops->close(x);
    return r;
}

void engine_fail(struct engine *g, const struct error *why)
{
    mutex_lock(&g->lock);
    if (g->state != ENGINE_FAILED) {
        g->state = ENGINE_FAILED;
        g->why = *why;
        if (g->x)
            g->x->ops->shutdown(g->x);
        condition_signal(&g->wake);
        condition_signal(&g->settled);
    }
    mutex_unlock(&g->lock);
}

/* --- requests --- */

/* Under lock. */
static int check_request(const struct engine *g, const struct engine_request *r, struct error *e)
{
    if (r->n_prompt < 1)
        return fail(e, FAIL_ARG, "the prompt is empty");
    if (r->n_prompt >= g->context)
        return fail(e, FAIL_LIMIT,
                    "the prompt has %d tokens, the context of %d leaves no room for an answer",
                    r->n_prompt, g->context);
    if (r->rows && (r->first_row < 0 || r->first_row >= r->n_prompt || !r->on_rows))
        return fail(e, FAIL_ARG, "rows from %d of a prompt of %d tokens", r->first_row,
                    r->n_prompt);
    if (r->rows == ENGINE_ROWS_HIDDEN && g->x && g->x->width == 0)
        return fail(e, FAIL_UNSUPPORTED, "hidden states are not given here");
    return 0;
}

static int check_tokens(const struct engine *g, const struct engine_request *r, struct error *e)
{
    for (int i = 0; i < r->n_prompt; i++)
        if (r->prompt[i] < 0 || r->prompt[i] >= g->options.vocab)
            return fail(e, FAIL_RANGE, "token %d is not in the vocabulary of %d", r->prompt[i],
                        g->options.vocab);
    return 0;
}

/* Under lock. */
static int queue_request(struct engine *g, struct request *r, struct error *e)
{
    if (g->closing || g->state == ENGINE_FAILED)
        return fail(e, FAIL_CLOSED, "%s", g->closing ? "shutting down" : g->why.text);
    if (g->n_queued >= g->options.max_queue + g->options.max_requests - g->stats.active ||
        g->n_live == g->cap_live)
        return fail(e, FAIL_BUSY, "%d requests are running and %d are waiting", g->stats.active,
                    g->n_queued);
    r->ticket = g->next_ticket++;
    g->by_ticket[g->n_live++] = r;
    request_queue_add(&g->submitted, r);
    g->n_queued++;
    g->stats.queued = g->n_queued;
    condition_signal(&g->wake);
    return 0;
}

int engine_submit(struct engine *g, const struct engine_request *ask, uint64_t *ticket,
                  struct error *e)
{
    struct request *r = NULL;
    mutex_lock(&g->lock);
    int code = check_request(g, ask, e), context = g->context;
    mutex_unlock(&g->lock);
    code = code ? code : check_tokens(g, ask, e);
    code = code ? code : request_open(&r, ask, context, e);
    if (code)
        return code;
    mutex_lock(&g->lock);
    code = queue_request(g, r, e);
    if (!code)
        *ticket = r->ticket;
    mutex_unlock(&g->lock);
    if (code) {
        r->ask.sampling.constraint = NULL; /* still the caller's */
        request_close(r);
    }
    return code;
}

void engine_cancel(struct engine *g, uint64_t ticket)
{
    mutex_lock(&g->lock);
    for (int i = 0; i < g->n_live; i++)
        if (g->by_ticket[i]->ticket == ticket)
            g->by_ticket[i]->cancelled = g->cancels = true;
    condition_signal(&g->wake);
    mutex_unlock(&g->lock);
}

int engine_context(const struct engine *g)
{
    struct engine *m = (struct engine *)g; /* the lock is not part of what a reader sees */
    mutex_lock(&m->lock);
    int context = g->context;
    mutex_unlock(&m->lock);
    return context;
}

int engine_vocab(const struct engine *g)
{
    return g->options.vocab;
}

void engine_stats(const struct engine *g, struct engine_stats *ret)
{
    struct engine *m = (struct engine *)g;
    mutex_lock(&m->lock);
    *ret = g->stats;
    ret->broken = g->state == ENGINE_FAILED;
    ret->suspended = g->state == ENGINE_SUSPENDED || g->state == ENGINE_SUSPENDING;
    if (g->state != ENGINE_RUNNING)
        snprintf(ret->why, sizeof(ret->why), "%.*s", (int)sizeof(ret->why) - 1, g->why.text);
    mutex_unlock(&m->lock);
}

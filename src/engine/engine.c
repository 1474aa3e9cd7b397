/* The head: one thread that takes requests, forms steps, samples, and calls back. */
#include "engine/internal.h"

#include "os/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How long one wait for a result lasts before the head looks at cancellations again. */
#define COLLECT_SLICE_NS (20 * CLOCK_NS_PER_MS)
#define RATE_WINDOW_NS (2 * CLOCK_NS_PER_S)

static void request_free(struct request *r)
{
    free(r->tokens);
    free(r);
}

static void forget_live(struct engine *g, const struct request *r)
{
    for (int i = 0; i < g->n_live; i++)
        if (g->by_ticket[i] == r) {
            g->by_ticket[i] = g->by_ticket[--g->n_live];
            return;
        }
}

/* Ends a request that is in no step; the callback is outside the lock. */
static void request_end(struct engine *g, struct request *r, enum engine_finish finish,
                        const struct error *error)
{
    uint64_t now = clock_now_ns();
    struct engine_usage usage = { .prompt_tokens = r->n_prompt,
                                  .cached_tokens = r->cached,
                                  .completion_tokens = r->n_tokens - r->n_prompt };
    uint64_t started = r->started_ns ? r->started_ns : now;
    uint64_t first = r->first_ns ? r->first_ns : now;
    usage.queued_ns = started - r->submitted_ns;
    usage.prefill_ns = first - started;
    usage.decode_ns = now - first;
    for (int i = 0; i < g->n_active; i++)
        if (g->active[i] == r) {
            g->active[i] = g->active[--g->n_active];
            break;
        }
    engine_leave_session(g, r);
    mutex_lock(&g->lock);
    forget_live(g, r);
    if (r->phase == REQUEST_QUEUED)
        g->n_queued--;
    g->stats.requests++;
    g->stats.failed += finish == FINISH_ERROR;
    g->stats.active = g->n_active;
    g->stats.queued = g->n_queued;
    mutex_unlock(&g->lock);
    r->ask.on_end(r->ask.arg, finish, &usage, error);
    request_free(r);
}

static void take_submissions(struct engine *g)
{
    mutex_lock(&g->lock);
    *g->waiting_end = g->submitted;
    if (g->submitted)
        g->waiting_end = g->submitted_end;
    g->submitted = NULL;
    g->submitted_end = &g->submitted;
    mutex_unlock(&g->lock);
}

/* The head of the waiting list leaves it. */
static struct request *waiting_pop(struct engine *g)
{
    struct request *r = g->waiting;
    g->waiting = r->next;
    if (!g->waiting)
        g->waiting_end = &g->waiting;
    r->next = NULL;
    return r;
}

static void admit(struct engine *g)
{
    take_submissions(g);
    while (g->waiting) {
        struct request *r = g->waiting;
        if (r->cancelled) {
            request_end(g, waiting_pop(g), FINISH_CANCELLED, NULL);
            continue;
        }
        if (g->n_active == g->options.max_requests || !engine_take_session(g, r))
            return;
        waiting_pop(g);
        g->active[g->n_active++] = r;
        r->phase = REQUEST_PREFILL;
        r->started_ns = clock_now_ns();
        mutex_lock(&g->lock);
        g->n_queued--;
        g->stats.active = g->n_active;
        g->stats.queued = g->n_queued;
        mutex_unlock(&g->lock);
    }
}

/* Cancelled requests end as soon as no step holds rows of theirs. */
static void sweep_cancelled(struct engine *g)
{
    for (int i = g->n_active - 1; i >= 0; i--) {
        struct request *r = g->active[i];
        if (r->cancelled && r->in_flight == 0)
            request_end(g, r, FINISH_CANCELLED, NULL);
    }
}

/* Everything that runs or waits ends with the error; later submissions are refused with it. */
static void break_engine(struct engine *g, const struct error *error)
{
    mutex_lock(&g->lock);
    g->broken = true;
    g->broken_error = *error;
    g->stats.broken = true;
    snprintf(g->stats.broken_text, sizeof(g->stats.broken_text), "%.*s",
             (int)sizeof(g->stats.broken_text) - 1, error->text);
    mutex_unlock(&g->lock);
    take_submissions(g);
    g->step.n_commands = 0;
    while (g->n_active) {
        g->active[0]->has_session = false; /* gone with the placement */
        request_end(g, g->active[0], FINISH_ERROR, error);
    }
    while (g->waiting)
        request_end(g, waiting_pop(g), FINISH_ERROR, error);
    g->n_flights = 0;
}

static int submit_steps(struct engine *g, struct error *e)
{
    while (g->n_flights < g->overlap.depth) {
        struct flight *f = &g->flights[(g->first_flight + g->n_flights) % ENGINE_MAX_DEPTH];
        if (!engine_form_step(g, f))
            return 0;
        f->submitted_ns = clock_now_ns();
        f->id = g->step.id = g->next_step++;
        int r = g->x->ops->submit(g->x, &g->step, f->submitted_ns + g->options.step_timeout_ns, e);
        if (r)
            return r;
        g->step.n_commands = 0;
        g->n_flights++;
    }
    return 0;
}

/* One sampled token: kept, told, and the request ended when that was the last one. */
static void take_token(struct engine *g, struct request *r, const float *logits)
{
    struct sampler_pick pick;
    int generated = r->n_tokens - r->n_prompt;
    sampler_pick(g->sampler, &r->ask.sampling, logits,
                 &(struct sampler_history){ r->tokens, r->n_tokens, generated }, &pick);
    if (pick.id < 0) {
        struct error e = { 0 };
        fail(&e, FAIL_FORMAT,
             "the model gives no numbers (NaN): its file is damaged, or it overflows");
        request_end(g, r, FINISH_ERROR, &e);
        return;
    }
    if (r->phase == REQUEST_PREFILL) {
        r->phase = REQUEST_DECODE;
        r->first_ns = clock_now_ns();
    }
    r->tokens[r->n_tokens++] = pick.id;
    g->rate_decode++;
    struct engine_token token = { .id = pick.id,
                                  .is_eog = g->is_eog[pick.id],
                                  .logprob = pick.logprob,
                                  .top = pick.top,
                                  .n_top = pick.n_top };
    enum engine_verdict verdict = r->ask.on_token(r->ask.arg, &token);
    if (verdict == ENGINE_STOP || token.is_eog)
        request_end(g, r, FINISH_STOP, NULL);
    else if (r->n_tokens == r->capacity)
        request_end(g, r, FINISH_LENGTH, NULL);
}

/* A step over several stages came back: how fast the streams share steps this way. */
static void time_overlap(struct engine *g, const struct flight *f)
{
    int decoding = 0, prefilling = 0;
    for (int i = 0; i < g->n_active; i++) {
        decoding += g->active[i]->phase == REQUEST_DECODE;
        prefilling += g->active[i]->phase == REQUEST_PREFILL;
    }
    overlap_take(&g->overlap, decoding, f->n_decodes, prefilling > 0, clock_now_ns());
}

static void take_result(struct engine *g, const struct step_result *result)
{
    struct flight *f = &g->flights[g->first_flight];
    int row = 0;
    if (g->overlap.depth > 1)
        time_overlap(g, f);
    for (int i = 0; i < f->n_runs; i++) {
        struct flight_run *run = &f->runs[i];
        struct request *r = run->request;
        const float *logits = result->logits + (size_t)row * (size_t)g->x->vocab;
        row += run->wanted;
        r->in_flight--;
        r->n_done += run->count;
        if (r->phase == REQUEST_PREFILL) {
            g->rate_prefill += (uint64_t)run->count;
            if (r->ask.on_progress && !r->cancelled)
                r->ask.on_progress(r->ask.arg, r->n_done, r->n_prompt);
        }
        if (run->wanted && !r->cancelled && row <= result->n_wanted)
            take_token(g, r, logits);
    }
    g->first_flight = (g->first_flight + 1) % ENGINE_MAX_DEPTH;
    g->n_flights--;
}

_Static_assert(ENGINE_OVERLAPS == OVERLAP_CHOICES, "what status shows is what is measured");

/* What the overlap measured, for as many streams as last had a choice. Under lock. */
static void tell_overlap(struct engine *g)
{
    struct engine_stats *s = &g->stats;
    if (g->overlap.compared == 0)
        return;
    s->overlap_streams = g->overlap.compared;
    s->overlap_steps = overlap_steps(&g->overlap, s->overlap_streams);
    for (int i = 0; i < ENGINE_OVERLAPS; i++)
        s->overlap[i].steps =
            overlap_measured(&g->overlap, s->overlap_streams, i, &s->overlap[i].tokens_per_second);
}

/* Adds what was counted since the last time; rates only where it was long enough. Under lock. */
static void take_counts(struct engine *g, uint64_t now)
{
    uint64_t since = now - g->rate_since_ns;
    double seconds = (double)since / (double)CLOCK_NS_PER_S;
    if (g->rate_decode + g->rate_prefill > 0 && since > 0) {
        g->stats.decode_tokens_per_second = (double)g->rate_decode / seconds;
        g->stats.prefill_tokens_per_second = (double)g->rate_prefill / seconds;
    }
    tell_overlap(g);
    g->stats.completion_tokens += g->rate_decode;
    g->stats.prompt_tokens += g->rate_prefill;
    g->rate_decode = g->rate_prefill = 0;
    g->rate_since_ns = now;
}

static void update_rates(struct engine *g)
{
    uint64_t now = clock_now_ns();
    if (now - g->rate_since_ns < RATE_WINDOW_NS)
        return;
    mutex_lock(&g->lock);
    take_counts(g, now);
    mutex_unlock(&g->lock);
}

static int collect_one(struct engine *g, struct error *e)
{
    struct step_result result;
    uint64_t now = clock_now_ns();
    const struct flight *f = &g->flights[g->first_flight];
    int r = g->x->ops->collect(g->x, &result, now + COLLECT_SLICE_NS, e);
    if (r == FAIL_TIMEOUT) {
        if (now - f->submitted_ns < g->options.step_timeout_ns)
            return 0;
        return fail(e, FAIL_TIMEOUT, "no device answered step %" PRIu64 " for %.0f s", f->id,
                    (double)(now - f->submitted_ns) / (double)CLOCK_NS_PER_S);
    }
    if (r)
        return r;
    if (result.id != f->id)
        return fail(e, FAIL_FORMAT, "result of step %" PRIu64 " where %" PRIu64 " was due",
                    result.id, f->id);
    take_result(g, &result);
    return 0;
}

/* Sleeps until there is something to do; false when the engine closes. */
static bool wait_for_work(struct engine *g)
{
    mutex_lock(&g->lock);
    bool idle = g->n_flights == 0 && g->n_active == 0 && !g->waiting;
    if (idle)
        take_counts(g, clock_now_ns());
    while (idle && !g->submitted && !g->closing) {
        condition_wait(&g->wake, &g->lock, 60 * CLOCK_NS_PER_S);
        g->rate_since_ns = clock_now_ns();
    }
    bool closing = g->closing;
    mutex_unlock(&g->lock);
    return !closing;
}

static void *head(void *arg)
{
    struct engine *g = arg;
    struct error e = { 0 };
    while (wait_for_work(g)) {
        if (g->broken) {
            break_engine(g, &g->broken_error);
            continue;
        }
        sweep_cancelled(g);
        admit(g);
        int r = submit_steps(g, &e);
        if (!r && g->n_flights)
            r = collect_one(g, &e);
        if (r) {
            break_engine(g, &e);
            e = (struct error){ 0 };
        }
        update_rates(g);
    }
    fail(&e, FAIL_CLOSED, "shutting down");
    break_engine(g, &e);
    return NULL;
}

static int alloc_engine(struct engine *g)
{
    int n = g->options.max_requests, rows = g->x->max_rows;
    g->commands = calloc(STEP_MAX_COMMANDS, sizeof(*g->commands));
    g->runs = calloc(STEP_MAX_RUNS, sizeof(*g->runs));
    g->ids = calloc((size_t)rows, sizeof(*g->ids));
    g->wanted = calloc((size_t)rows, 1);
    g->active = calloc((size_t)n, sizeof(struct request *));
    g->cap_live = n + g->options.max_queue;
    g->by_ticket = calloc((size_t)g->cap_live, sizeof(struct request *));
    g->is_eog = malloc((size_t)g->options.vocab);
    bool ok =
        g->commands && g->runs && g->ids && g->wanted && g->active && g->by_ticket && g->is_eog;
    for (int i = 0; i < ENGINE_MAX_DEPTH && ok; i++)
        ok = (g->flights[i].runs = calloc((size_t)n, sizeof(struct flight_run))) != NULL;
    return ok ? 0 : FAIL_NOMEM;
}

static void engine_free(struct engine *g)
{
    engine_free_cached(g);
    sampler_close(g->sampler);
    for (int i = 0; i < ENGINE_MAX_DEPTH; i++)
        free(g->flights[i].runs);
    free(g->commands);
    free(g->runs);
    free(g->ids);
    free(g->wanted);
    free(g->active);
    free(g->by_ticket);
    free(g->is_eog);
    free(g);
}

int engine_open(struct engine **ret, const struct engine_options *options, struct error *e)
{
    struct engine *g = calloc(1, sizeof(*g));
    int r = g ? 0 : fail(e, FAIL_NOMEM, "an engine");
    if (!r && options->vocab != options->executor->vocab)
        r = fail(e, FAIL_ARG, "a head of %d tokens for logits of %d", options->vocab,
                 options->executor->vocab);
    if (r) {
        free(g);
        options->executor->ops->close(options->executor);
        return r;
    }
    g->options = *options;
    g->x = options->executor;
    if (g->options.max_requests < 1)
        g->options.max_requests = 8;
    if (g->options.max_requests > STEP_MAX_RUNS)
        g->options.max_requests = STEP_MAX_RUNS;
    if (!g->options.step_timeout_ns)
        g->options.step_timeout_ns = 120 * CLOCK_NS_PER_S;
    r = alloc_engine(g);
    if (!r)
        r = sampler_open(&g->sampler, options->vocab, e);
    if (r) {
        engine_free(g);
        options->executor->ops->close(options->executor);
        return fail(e, FAIL_NOMEM, "an engine for %d requests", options->max_requests);
    }
    memcpy(g->is_eog, options->is_eog, (size_t)options->vocab);
    g->step = (struct step){
        .commands = g->commands, .runs = g->runs, .ids = g->ids, .wanted = g->wanted
    };
    g->submitted_end = &g->submitted;
    g->waiting_end = &g->waiting;
    g->next_ticket = g->next_session = 1;
    g->rate_since_ns = clock_now_ns();
    overlap_init(&g->overlap, g->x->depth < ENGINE_MAX_DEPTH ? g->x->depth : ENGINE_MAX_DEPTH);
    mutex_init(&g->lock);
    condition_init(&g->wake);
    if ((r = thread_start(&g->thread, head, g, e))) {
        mutex_done(&g->lock);
        condition_done(&g->wake);
        engine_free(g);
        options->executor->ops->close(options->executor);
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
    condition_signal(&g->wake);
    mutex_unlock(&g->lock);
    g->x->ops->shutdown(g->x);
    thread_join(&g->thread);
    g->x->ops->close(g->x);
    mutex_done(&g->lock);
    condition_done(&g->wake);
    engine_free(g);
}

static int check_request(const struct engine *g, const struct engine_request *r, struct error *e)
{
    if (r->n_prompt < 1)
        return fail(e, FAIL_ARG, "the prompt is empty");
    if (r->n_prompt >= g->x->max_context)
        return fail(e, FAIL_LIMIT,
                    "the prompt has %d tokens, the context of %d leaves no room for an answer",
                    r->n_prompt, g->x->max_context);
    for (int i = 0; i < r->n_prompt; i++)
        if (r->prompt[i] < 0 || r->prompt[i] >= g->options.vocab)
            return fail(e, FAIL_RANGE, "token %d is not in the vocabulary of %d", r->prompt[i],
                        g->options.vocab);
    return 0;
}

static struct request *request_new(const struct engine *g, const struct engine_request *ask)
{
    int room = g->x->max_context - ask->n_prompt;
    int most = ask->max_tokens < 0 || ask->max_tokens > room ? room : ask->max_tokens;
    struct request *r = calloc(1, sizeof(*r));
    int32_t *tokens = malloc((size_t)(ask->n_prompt + most + 1) * sizeof(*tokens));
    if (!r || !tokens) {
        free(r);
        free(tokens);
        return NULL;
    }
    memcpy(tokens, ask->prompt, (size_t)ask->n_prompt * sizeof(*tokens));
    r->ask = *ask;
    r->tokens = tokens;
    r->ask.prompt = tokens;
    r->n_tokens = r->n_prompt = ask->n_prompt;
    r->capacity = ask->n_prompt + (most > 0 ? most : 1);
    r->submitted_ns = clock_now_ns();
    return r;
}

int engine_submit(struct engine *g, const struct engine_request *ask, uint64_t *ticket,
                  struct error *e)
{
    int result = check_request(g, ask, e);
    if (result)
        return result;
    struct request *r = request_new(g, ask);
    if (!r)
        return fail(e, FAIL_NOMEM, "a request of %d tokens", ask->n_prompt);
    mutex_lock(&g->lock);
    if (g->closing || g->broken) {
        result = fail(e, FAIL_CLOSED, "%s", g->broken ? g->broken_error.text : "shutting down");
    } else if (g->n_queued >= g->options.max_queue + g->options.max_requests - g->stats.active ||
               g->n_live == g->cap_live) {
        result = fail(e, FAIL_BUSY, "%d requests are running and %d are waiting", g->stats.active,
                      g->n_queued);
    } else {
        r->ticket = *ticket = g->next_ticket++;
        g->by_ticket[g->n_live++] = r;
        *g->submitted_end = r;
        g->submitted_end = &r->next;
        g->n_queued++;
        g->stats.queued = g->n_queued;
        condition_signal(&g->wake);
    }
    mutex_unlock(&g->lock);
    if (result)
        request_free(r);
    return result;
}

void engine_cancel(struct engine *g, uint64_t ticket)
{
    mutex_lock(&g->lock);
    for (int i = 0; i < g->n_live; i++)
        if (g->by_ticket[i]->ticket == ticket)
            g->by_ticket[i]->cancelled = true;
    condition_signal(&g->wake);
    mutex_unlock(&g->lock);
}

int engine_context(const struct engine *g)
{
    return g->x->max_context;
}

int engine_vocab(const struct engine *g)
{
    return g->options.vocab;
}

void engine_stats(const struct engine *g, struct engine_stats *ret)
{
    struct engine *m = (struct engine *)g; /* the lock is not part of what a reader sees */
    mutex_lock(&m->lock);
    *ret = g->stats;
    mutex_unlock(&m->lock);
}

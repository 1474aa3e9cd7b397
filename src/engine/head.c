/* See head.h. The head owns every request from the moment it takes it from `submitted`. */
#include "engine/head.h"

#include "os/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* How long one wait for a result lasts before the head looks at cancellations again. */
#define COLLECT_SLICE_NS (20 * CLOCK_NS_PER_MS)
#define RATE_WINDOW_NS (2 * CLOCK_NS_PER_S)

/* --- requests come and go --- */

/* Under lock. */
static void forget_live(struct engine *g, const struct request *r)
{
    for (int i = 0; i < g->n_live; i++)
        if (g->by_ticket[i] == r) {
            g->by_ticket[i] = g->by_ticket[--g->n_live];
            return;
        }
}

/* Under lock: as many requests more (or fewer) wait. */
static void count_waiting(struct engine *g, int more)
{
    g->n_queued += more;
    g->stats.active = g->schedule.n_active;
    g->stats.queued = g->n_queued;
}

/* Ends a request that is in no step and no queue; the callback is outside the lock. */
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
    bool waited = r->phase == REQUEST_WAITING;
    if (!waited)
        schedule_remove(&g->schedule, r);
    mutex_lock(&g->lock);
    forget_live(g, r);
    g->stats.requests++;
    g->stats.failed += finish == FINISH_ERROR;
    count_waiting(g, waited ? -1 : 0);
    mutex_unlock(&g->lock);
    void (*on_end)(void *, enum engine_finish, const struct engine_usage *, const struct error *) =
        r->ask.on_end;
    void *arg = r->ask.arg;
    request_close(r);
    on_end(arg, finish, &usage, error);
}

static void take_submissions(struct engine *g)
{
    struct request *r;
    mutex_lock(&g->lock);
    while ((r = request_queue_take(&g->submitted)))
        request_queue_add(&g->waiting, r);
    mutex_unlock(&g->lock);
}

/* Whether a waiting request goes on within the present context; else it is ended. */
static bool within_context(struct engine *g, struct request *r, int context)
{
    struct error e = { 0 };
    r->capacity = r->capacity < context ? r->capacity : context;
    if (r->n_tokens < r->capacity)
        return true;
    request_queue_take(&g->waiting);
    if (r->n_tokens > r->n_prompt) {
        request_end(g, r, FINISH_LENGTH, NULL);
        return false;
    }
    fail(&e, FAIL_LIMIT, "the prompt has %d tokens, the context is %d now", r->n_prompt, context);
    request_end(g, r, FINISH_ERROR, &e);
    return false;
}

static void admit(struct engine *g)
{
    while (g->waiting.first && !g->schedule.short_of) {
        struct request *r = g->waiting.first;
        if (r->cancelled) {
            request_end(g, request_queue_take(&g->waiting), FINISH_CANCELLED, NULL);
            continue;
        }
        if (!within_context(g, r, g->context))
            continue;
        if (!schedule_admit(&g->schedule, r))
            return;
        request_queue_take(&g->waiting);
        if (!r->started_ns) {
            r->started_ns = clock_now_ns();
            r->cached = r->n_done;
        }
        mutex_lock(&g->lock);
        count_waiting(g, -1);
        mutex_unlock(&g->lock);
    }
}

/* r, which is active and in no step, waits again, before all others. */
static void send_back(struct engine *g, struct request *r)
{
    schedule_remove(&g->schedule, r);
    request_rewind(r);
    request_queue_add_first(&g->waiting, r);
    mutex_lock(&g->lock);
    count_waiting(g, 1);
    mutex_unlock(&g->lock);
}

/* Cancelled requests end, held ones give their room back, as soon as no step holds rows of them. */
static void sweep_active(struct engine *g)
{
    for (int i = g->schedule.n_active - 1; i >= 0; i--) {
        struct request *r = g->schedule.active[i];
        if (r->in_flight > 0)
            continue;
        if (r->cancelled)
            request_end(g, r, FINISH_CANCELLED, NULL);
        else if (r->held)
            send_back(g, r);
    }
}

static void sweep_waiting(struct engine *g)
{
    struct request_queue stay = { 0 };
    struct request *r;
    while ((r = request_queue_take(&g->waiting))) {
        if (r->cancelled)
            request_end(g, r, FINISH_CANCELLED, NULL);
        else
            request_queue_add(&stay, r);
    }
    g->waiting = stay;
}

/* --- the executor goes --- */

/* All that is active waits again, in its order and before all others; the schedule is empty. */
static void rewind_all(struct engine *g)
{
    int n = g->schedule.n_active;
    schedule_forget(&g->schedule);
    for (int i = n - 1; i >= 0; i--) {
        request_rewind(g->schedule.active[i]);
        request_queue_add_first(&g->waiting, g->schedule.active[i]);
    }
    g->schedule.n_active = 0;
    mutex_lock(&g->lock);
    count_waiting(g, n);
    mutex_unlock(&g->lock);
}

static void end_all(struct engine *g, const struct error *error)
{
    rewind_all(g);
    take_submissions(g);
    while (g->waiting.first)
        request_end(g, request_queue_take(&g->waiting), FINISH_ERROR, error);
}

/* The executor is closed and requests wait for another. */
static void give_up_executor(struct engine *g)
{
    rewind_all(g);
    mutex_lock(&g->lock);
    struct executor *x = g->x;
    g->x = NULL;
    mutex_unlock(&g->lock);
    x->ops->close(x);
    mutex_lock(&g->lock);
    bool lost = g->lost;
    struct error why = g->why;
    g->lost = false;
    if (g->state == ENGINE_SUSPENDING)
        g->state = ENGINE_SUSPENDED;
    condition_signal(&g->settled);
    mutex_unlock(&g->lock);
    if (lost)
        g->options.on_lost(g->options.lost_arg, &why);
}

/* The executor broke: who can be given another one waits for it. */
static void lose_executor(struct engine *g, const struct error *error)
{
    mutex_lock(&g->lock);
    if (g->state == ENGINE_RUNNING) {
        g->lost = g->options.on_lost != NULL;
        g->state = g->lost ? ENGINE_SUSPENDING : ENGINE_FAILED;
        g->why = *error;
    }
    mutex_unlock(&g->lock);
}

/* --- results --- */

/* One sampled token: kept, told, and the request ended when that was the last one. */
static void take_token(struct engine *g, struct request *r, const float *logits)
{
    struct sampler_pick pick;
    struct error e = { 0 };
    int generated = r->n_tokens - r->n_prompt;
    if (sampler_pick(g->sampler, &r->ask.sampling, logits,
                     &(struct sampler_history){ r->tokens, r->n_tokens, generated }, &pick, &e)) {
        request_end(g, r, FINISH_ERROR, &e);
        return;
    }
    r->phase = REQUEST_DECODE;
    if (!r->first_ns)
        r->first_ns = clock_now_ns();
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

/* Rows of the prompt that were asked for and not told before. */
static void tell_rows(struct request *r, const struct flight_run *run, const float *rows, int width)
{
    int first = run->first + run->count - run->n_wanted, end = run->first + run->count;
    int from = first > r->n_told ? first : r->n_told;
    int n = (end < r->n_prompt ? end : r->n_prompt) - from;
    if (!r->ask.rows || n <= 0)
        return;
    const struct engine_rows told = { .kind = r->ask.rows,
                                      .first = from,
                                      .n = n,
                                      .width = width,
                                      .rows = rows + (size_t)(from - first) * (size_t)width };
    r->n_told = from + n;
    r->ask.on_rows(r->ask.arg, &told);
}

static void take_run(struct engine *g, const struct flight_run *run, const float *rows, int width)
{
    struct request *r = run->request;
    r->in_flight--;
    r->n_done += run->count;
    if (r->phase == REQUEST_PREFILL)
        g->rate_prefill += (uint64_t)run->count;
    if (r->cancelled)
        return;
    /* What was told before comes again unseen, and what was generated is not of the prompt. */
    if (r->n_tokens == r->n_prompt && r->ask.on_progress && r->n_done > r->n_progress) {
        r->n_progress = r->n_done;
        r->ask.on_progress(r->ask.arg, r->n_done, r->n_prompt);
    }
    tell_rows(r, run, rows, width);
    if (!run->samples)
        return;
    if (run->hidden || (r->ask.rows && r->ask.max_tokens == 0))
        request_end(g, r, FINISH_LENGTH, NULL);
    else
        take_token(g, r, rows + (size_t)(run->n_wanted - 1) * (size_t)width);
}

/* A step over several stages came back: how fast the streams share steps this way. */
static void time_overlap(struct engine *g, const struct flight *f)
{
    int decoding = 0, prefilling = 0;
    for (int i = 0; i < g->schedule.n_active; i++) {
        decoding += g->schedule.active[i]->phase == REQUEST_DECODE;
        prefilling += g->schedule.active[i]->phase == REQUEST_PREFILL;
    }
    overlap_take(&g->schedule.overlap, decoding, f->n_decodes, prefilling > 0, clock_now_ns());
}

static void take_result(struct engine *g, const struct step_result *result)
{
    const struct flight *f = schedule_oldest(&g->schedule);
    const float *logits = result->logits, *hidden = result->hidden;
    if (g->schedule.overlap.depth > 1)
        time_overlap(g, f);
    for (int i = 0; i < f->n_runs; i++) {
        const struct flight_run *run = &f->runs[i];
        int width = run->hidden ? g->x->width : g->x->vocab;
        const float **rows = run->hidden ? &hidden : &logits;
        take_run(g, run, *rows, width);
        *rows += (size_t)run->n_wanted * (size_t)width;
    }
    schedule_pop(&g->schedule);
}

/* --- rates --- */

_Static_assert(ENGINE_OVERLAPS == OVERLAP_CHOICES, "what status shows is what is measured");

/* What the overlap measured, for as many streams as last had a choice. Under lock. */
static void tell_overlap(struct engine *g)
{
    struct engine_stats *s = &g->stats;
    const struct overlap *o = &g->schedule.overlap;
    s->overlap_streams = o->compared;
    if (o->compared == 0)
        return;
    s->overlap_steps = overlap_steps(o, s->overlap_streams);
    for (int i = 0; i < ENGINE_OVERLAPS; i++)
        s->overlap[i].steps =
            overlap_measured(o, s->overlap_streams, i, &s->overlap[i].tokens_per_second);
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

/* --- the loop --- */

static int submit_steps(struct engine *g, struct error *e)
{
    struct schedule *s = &g->schedule;
    while (s->n_flights < s->overlap.depth) {
        struct flight *f = schedule_form(s);
        if (!f)
            return 0;
        f->submitted_ns = clock_now_ns();
        f->id = s->step.id = g->next_step++;
        int r = g->x->ops->submit(g->x, &s->step, f->submitted_ns + g->options.step_timeout_ns, e);
        if (r)
            return r;
        schedule_sent(s);
    }
    return 0;
}

static int collect_one(struct engine *g, struct error *e)
{
    struct step_result result = { 0 };
    uint64_t now = clock_now_ns();
    const struct flight *f = schedule_oldest(&g->schedule);
    int r = g->x->ops->collect(g->x, &result, now + COLLECT_SLICE_NS, e);
    if (r == FAIL_TIMEOUT) {
        if (now - f->submitted_ns < g->options.step_timeout_ns)
            return 0;
        return fail(e, FAIL_TIMEOUT, "no device answered step %" PRIu64 " for %.0f s", f->id,
                    (double)(now - f->submitted_ns) / (double)CLOCK_NS_PER_S);
    }
    if (r)
        return r;
    if (result.id != f->id || result.n_wanted != f->n_wanted || result.n_hidden != f->n_hidden)
        return fail(e, FAIL_FORMAT,
                    "result of step %" PRIu64 " with %d rows where %" PRIu64 " with %d was due",
                    result.id, result.n_wanted, f->id, f->n_wanted);
    take_result(g, &result);
    return 0;
}

/* Under lock. */
static bool is_idle(const struct engine *g)
{
    switch (g->state) {
    case ENGINE_RUNNING:
        return !g->submitted.first && !g->waiting.first && g->schedule.n_active == 0 &&
               g->schedule.n_flights == 0;
    case ENGINE_SUSPENDED:
        return !g->cancels;
    case ENGINE_FAILED:
        return !g->submitted.first && !g->waiting.first && g->schedule.n_active == 0;
    case ENGINE_SUSPENDING:
        break;
    }
    return false;
}

/* Sleeps until there is something to do; false when the engine closes. *cancels: since the last
 * time some request was cancelled. */
static bool wait_for_work(struct engine *g, enum engine_state *state, bool *cancels)
{
    mutex_lock(&g->lock);
    if (is_idle(g))
        take_counts(g, clock_now_ns());
    while (is_idle(g) && !g->closing) {
        condition_wait(&g->wake, &g->lock, 60 * CLOCK_NS_PER_S);
        g->rate_since_ns = clock_now_ns();
    }
    bool closing = g->closing;
    *state = g->state;
    *cancels = g->cancels;
    g->cancels = false;
    mutex_unlock(&g->lock);
    return !closing;
}

static int run_once(struct engine *g, struct error *e)
{
    sweep_active(g);
    admit(g);
    int r = submit_steps(g, e);
    if (!r && g->schedule.n_flights)
        r = collect_one(g, e);
    update_rates(g);
    return r;
}

/* One round of work in this state. */
static void turn(struct engine *g, enum engine_state state, bool cancels)
{
    struct error e = { 0 };
    take_submissions(g);
    if (cancels)
        sweep_waiting(g);
    if (state == ENGINE_RUNNING && run_once(g, &e))
        lose_executor(g, &e);
    else if (state == ENGINE_SUSPENDING)
        give_up_executor(g);
    else if (state == ENGINE_FAILED)
        end_all(g, &g->why);
}

void *head_run(void *arg)
{
    struct engine *g = arg;
    enum engine_state state;
    bool cancels;
    while (wait_for_work(g, &state, &cancels))
        turn(g, state, cancels);
    head_end(g);
    return NULL;
}

bool head_turn(struct engine *g)
{
    mutex_lock(&g->lock);
    bool idle = is_idle(g), cancels = g->cancels;
    enum engine_state state = g->state;
    g->cancels = g->cancels && idle;
    mutex_unlock(&g->lock);
    if (!idle)
        turn(g, state, cancels);
    return !idle;
}

void head_end(struct engine *g)
{
    struct error e = { 0 };
    fail(&e, FAIL_CLOSED, "shutting down");
    end_all(g, &e);
}

/* Requests for answers, in whatever dialect.
 *
 * A worker reads the body, the loop finds the model, a worker renders and encodes, the loop starts
 * the engine and tells its events on. What workers and engines have to say they say by putting an
 * answer into the API's ready list. An answer lives until its responder is ended, no task of it is
 * out and the engine is done with it. */
#include "api/answer.h"
#include "api/text.h"

#include <stdlib.h>
#include <string.h>

#include "os/clock.h"

/* From a request's coming to its prompt's being ready, waiting for a worker included. */
#define PREPARE_NS (10u * CLOCK_NS_PER_S)
/* The largest body that comes, over HTTP or from a peer. */
#define MAX_BODY (64u << 20)

/* --- on workers' and engines' threads --- */

/* Under the lock. A full pipe means that the loop has enough to wake up for. */
static void wake_loop(struct api *a)
{
    ssize_t n = send(a->wake[1], "", 1, 0);
    (void)n;
}

/* Under the lock. */
static void make_ready(struct answer *a)
{
    struct api *api = a->api;
    if (a->ready) {
        return;
    }
    a->ready = true;
    a->next_ready = NULL;
    bool first = api->ready == NULL;
    *api->ready_end = a;
    api->ready_end = &a->next_ready;
    if (first) {
        wake_loop(api);
    }
}

static void on_events(void *arg)
{
    struct answer *a = arg;
    mutex_lock(&a->api->lock);
    make_ready(a);
    mutex_unlock(&a->api->lock);
}

static void on_task_done(void *arg)
{
    struct answer *a = arg;
    mutex_lock(&a->api->lock);
    a->task_done = true;
    make_ready(a);
    mutex_unlock(&a->api->lock); /* it may be gone from here on */
}

/* The present stage's work. */
static void work(void *arg)
{
    struct answer *a = arg;
    if (atomic_load(&a->api->stopping)) {
        problem_set(&a->problem, 503, "service_unavailable", NULL, "The server is shutting down.");
    } else if (clock_now_ns() > a->deadline_ns) {
        problem_set(&a->problem, 503, "service_unavailable", NULL,
                    "The request could not be read in time: too many large ones are waiting.");
    } else if (a->stage == STAGE_PARSE) {
        a->dialect->parse(buffer_bytes(&a->body), &a->ask, &a->problem);
    } else {
        const struct prompt_model model = { a->model, a->text, a->context, a->tokens };
        prompts_make(&a->prompts, &model, &a->ask.chat, a->deadline_ns, &a->problem);
    }
}

/* --- life --- */

/* Workers are done with it. */
static void release_body(struct answer *a)
{
    buffer_done(&a->body);
    a->api->body_bytes -= a->body_bytes;
    a->body_bytes = 0;
}

static void answer_free(struct answer *a)
{
    struct api *api = a->api;
    chat_answers_close(a->answers);
    for (int i = 0; i < a->n_choices; i++) {
        buffer_done(&a->choices[i].text);
        buffer_done(&a->choices[i].log);
    }
    api->logprob_bytes -= a->logprob_bytes;
    *a->back = a->next;
    if (a->next != NULL) {
        a->next->back = a->back;
    }
    api->n_answers--;
    prompts_free(a->prompts);
    chat_request_done(&a->ask.chat);
    chat_model_release(a->text);
    release_body(a);
    free(a->choices);
    free(a->model);
    free(a->path);
    free(a);
}

/* One that is in the ready list again is freed when its turn comes. */
static void free_when_done(struct answer *a)
{
    mutex_lock(&a->api->lock);
    bool listed = a->ready;
    mutex_unlock(&a->api->lock);
    bool running = a->answers != NULL && chat_answers_running(a->answers) > 0;
    if (a->responder == NULL && !running && !a->task_out && !listed) {
        answer_free(a);
    }
}

static void cancel(struct answer *a)
{
    if (a->answers != NULL) {
        chat_answers_cancel(a->answers);
    }
}

/* The client is gone, or doesn't take what it is sent. */
static void give_up(struct answer *a)
{
    struct responder *r = a->responder;
    a->responder = NULL;
    r->closed = NULL;
    r->ops->end(r);
    cancel(a);
}

static void on_closed(void *arg)
{
    give_up(arg);
    free_when_done(arg);
}

static void tell_problem(struct answer *a, const struct api_problem *p)
{
    struct responder *r = a->responder;
    a->responder = NULL;
    r->closed = NULL;
    a->dialect->error(r, p, a->begun);
}

static void fail_answer(struct answer *a, const struct api_problem *p)
{
    tell_problem(a, p);
    cancel(a);
}

/* --- events of the engine --- */

static void begin_stream(struct answer *a)
{
    if (!a->begun) {
        a->begun = true;
        a->responder->ops->begin(a->responder, 200, a->dialect->stream_type, true, NULL);
    }
}

static void fail_by_end(struct answer *a, const struct generate_end *end)
{
    struct api_problem p = { 0 };
    problem_from_error(&p, &end->error);
    if (end->finish == FINISH_CANCELLED) {
        problem_set(&p, 503, "service_unavailable", NULL, "The request was cancelled here.");
    } else if (end->error.code == FAIL_LIMIT) { /* of the answer: the prompt was taken */
        problem_set(&p, 500, NULL, NULL, "The answer can't be completed: %s.", end->error.text);
    }
    fail_answer(a, &p);
}

/* Keeps what a whole answer needs. */
static void keep(struct answer *a, const struct chat_event *e)
{
    struct choice *c = &a->choices[e->answer];
    if (e->kind == CHAT_START || e->kind == CHAT_TEXT) {
        buffer_append(&c->text, e->text);
        buffer_append(&c->log, e->log);
    }
    if (c->text.failed || c->log.failed) {
        struct api_problem p = { 0 };
        problem_set(&p, 500, NULL, NULL, "The answer is too large.");
        fail_answer(a, &p);
    }
}

static bool wants_log(const struct answer *a)
{
    return a->n_choices == 1 && a->responder->ops->log != NULL;
}

/* The seed goes with every piece. */
static void tell_log(struct answer *a, struct responder_log *more)
{
    more->seed = a->seed;
    a->responder->ops->log(a->responder, more);
}

static void on_event(void *arg, const struct chat_event *e)
{
    struct answer *a = arg;
    struct choice *c = &a->choices[e->answer];
    if (e->end != NULL) {
        c->end = *e->end;
    }
    if (a->responder == NULL) {
        return;
    }
    if (e->kind == CHAT_SAMPLED) {
        tell_log(a, &(struct responder_log){ .ids = e->ids, .n_ids = e->n_ids });
        return;
    }
    if (e->kind == CHAT_START) {
        c->echo_length = text_length(e->text);
    }
    if (e->kind == CHAT_ERROR) {
        fail_by_end(a, e->end);
    } else if (!a->ask.stream) {
        keep(a, e);
    } else {
        begin_stream(a);
        a->last_write_ns = clock_now_ns();
        if (a->dialect->event(a, e) != 0) {
            give_up(a); /* nothing can be said to it */
        }
    }
}

static void serve_events(struct answer *a)
{
    chat_answers_drain(a->answers, on_event, a);
    if (a->responder == NULL || chat_answers_running(a->answers) > 0) {
        return;
    }
    if (a->ask.stream) {
        begin_stream(a);
    }
    struct responder *r = a->responder;
    r->closed = NULL;
    a->dialect->end(a, r);
    a->responder = NULL;
}

struct engine_usage answer_usage(const struct answer *a)
{
    struct engine_usage sum = { 0 };
    for (int i = 0; i < a->n_choices; i++) {
        const struct engine_usage *u = &a->choices[i].end.usage;
        sum.prompt_tokens += u->prompt_tokens;
        sum.completion_tokens += u->completion_tokens;
        sum.cached_tokens += u->cached_tokens;
    }
    return sum;
}

/* --- the stages --- */

static void send_task(struct answer *a, enum stage stage)
{
    a->stage = stage;
    a->task_out = true;
    chat_workers_add(a->api->workers, &a->task);
}

/* The body was read: finds who answers. */
static int route(struct answer *a, struct api_problem *p)
{
    const struct api_provider *provider = &a->api->options.provider;
    struct api_model m;
    if (models_serving(a->api, a->ask.model, &m, p) != 0) {
        return -1;
    }
    if (m.engine == NULL) {
        const struct api_request q = { "POST", a->path, buffer_bytes(&a->body) };
        struct responder *r = a->responder;
        struct error e = { 0 };
        r->closed = NULL;
        if (provider->forward(provider->arg, &q, r, &e) == 0) {
            a->responder = NULL;
            return 0;
        }
        r->closed = on_closed;
        r->closed_arg = a;
        return problem_set(p, 503, "service_unavailable", NULL,
                           "The device that serves '%.100s' can't be reached: %s.", m.id, e.text);
    }
    a->model = strdup(m.id);
    if (a->model == NULL) {
        return problem_set(p, 500, NULL, NULL, "Out of memory.");
    }
    a->text = chat_model_acquire(m.text);
    a->vocab = chat_model_vocab(a->text);
    a->context = m.context;
    int tokens = vocab_size(a->vocab), rows = engine_vocab(m.engine);
    a->tokens = tokens < rows ? tokens : rows;
    buffer_done(&a->body);
    send_task(a, STAGE_ENCODE);
    return 0;
}

/* JSON of one token's or alternative's log probability: text, number, bytes. */
#define LOGPROB_BYTES 100

/* What the log probabilities of a whole answer may come to: bounded before it starts, since once it
 * is under way nothing can be taken back. */
static int reserve_logprobs(struct answer *a, struct api_problem *p)
{
    struct api *api = a->api;
    uint64_t tokens = 0, bytes = 0;
    for (int i = 0; i < a->n_choices; i++) {
        int room = a->context - prompts_at(a->prompts, i / a->ask.chat.n).n;
        int most = a->ask.chat.max_tokens;
        tokens += (uint64_t)(most < 0 || most > room ? room : most);
    }
    if (a->ask.chat.want_logprobs && !a->ask.stream) {
        bytes = tokens * (uint64_t)(1 + a->ask.chat.sampling.n_top) * LOGPROB_BYTES;
    }
    if (bytes > API_MAX_LOGPROBS) {
        return problem_set(p, 400, "invalid_value", "logprobs",
                           "The log probabilities of so many tokens would make an answer of about "
                           "%llu MB; %u is the most. Lower 'max_tokens' or the number of "
                           "alternatives, or set 'stream'.",
                           (unsigned long long)bytes >> 20, API_MAX_LOGPROBS >> 20);
    }
    if (bytes > API_MAX_ALL_LOGPROBS - api->logprob_bytes) {
        return problem_set(p, 429, "rate_limit_exceeded", NULL,
                           "Too many answers with log probabilities at once. Try again soon, or "
                           "set 'stream'.");
    }
    a->logprob_bytes = bytes;
    api->logprob_bytes += bytes;
    return 0;
}

/* The model may have gone, or come back as another file's, while its prompt was made. */
static int still_served(struct answer *a, struct api_model *ret, struct api_problem *p)
{
    if (models_serving(a->api, a->model, ret, p) != 0) {
        return -1;
    }
    if (ret->engine == NULL || ret->text != a->text) {
        return problem_set(p, 503, "model_not_ready", "model",
                           "The model '%.100s' was just moved. Try again soon.", a->model);
    }
    return 0;
}

static int make_choices(struct answer *a, struct api_problem *p)
{
    int n = chat_request_answers(&a->ask.chat);
    a->choices = calloc((size_t)n, sizeof *a->choices);
    if (a->choices == NULL) {
        return problem_set(p, 500, NULL, NULL, "Out of memory.");
    }
    a->n_choices = n;
    for (int i = 0; i < n; i++) {
        buffer_init(&a->choices[i].text, API_MAX_TEXT);
        buffer_init(&a->choices[i].log, API_MAX_TEXT);
    }
    return reserve_logprobs(a, p);
}

static int start_engine(struct answer *a, const struct api_model *model, struct api_problem *p)
{
    const struct chat_request *q = &a->ask.chat;
    struct chat_start *starts = calloc((size_t)a->n_choices, sizeof *starts);
    struct error e = { 0 };
    if (starts == NULL) {
        return problem_set(p, 500, NULL, NULL, "Out of memory.");
    }
    for (int i = 0; i < a->n_choices; i++) {
        starts[i] = prompts_at(a->prompts, i / q->n);
        starts[i].seed = q->sampling.seed + (uint64_t)(i % q->n);
        if (!q->has_seed) { /* equal prompts of one request get answers of their own */
            evutil_secure_rng_get_bytes(&starts[i].seed, sizeof starts[i].seed);
        }
    }
    a->seed = starts[0].seed;
    if (wants_log(a)) {
        tell_log(a, &(struct responder_log){ .prompt = starts[0].ids, .n_prompt = starts[0].n });
    }
    int code = chat_answers_start(&a->answers,
                                  &(struct chat_answers_options){
                                      .engine = model->engine,
                                      .vocab = a->vocab,
                                      .request = q,
                                      .starts = starts,
                                      .n = a->n_choices,
                                      .want_ids = wants_log(a),
                                      .on_ready = on_events,
                                      .arg = a,
                                  },
                                  &e);
    free(starts);
    prompts_free(a->prompts);
    a->prompts = NULL;
    return code == 0 ? 0 : problem_from_error(p, &e);
}

/* The prompt is made: starts the answer. */
static int start(struct answer *a, struct api_problem *p)
{
    struct api_model m;
    if (still_served(a, &m, p) != 0 || make_choices(a, p) != 0) {
        return -1;
    }
    a->stage = STAGE_ANSWER;
    release_body(a);
    a->created_s = clock_wall_s();
    a->dialect->begin(a);
    return start_engine(a, &m, p);
}

static void serve(struct answer *a)
{
    mutex_lock(&a->api->lock);
    bool task_done = a->task_done;
    a->task_done = false;
    mutex_unlock(&a->api->lock);
    if (task_done) {
        a->task_out = false;
    }
    if (task_done && a->responder != NULL) {
        struct api_problem p = a->problem;
        if (a->api->stopped) {
            problem_set(&p, 503, "service_unavailable", NULL, "The server is shutting down.");
        }
        bool ok = p.status == 0 && (a->stage == STAGE_PARSE ? route(a, &p) : start(a, &p)) == 0;
        if (!ok) {
            fail_answer(a, &p);
        }
    } else if (a->answers != NULL) {
        serve_events(a);
    }
    free_when_done(a);
}

/* --- the API --- */

void answers_drain(struct api *api)
{
    /* Each at most about once a turn, so that the loop's other events have theirs. */
    for (int left = api->n_answers; left >= 0; left--) {
        mutex_lock(&api->lock);
        struct answer *a = api->ready;
        if (a != NULL && left == 0) {
            wake_loop(api);
            a = NULL;
        }
        if (a != NULL) {
            api->ready = a->next_ready;
            api->ready_end = api->ready != NULL ? api->ready_end : &api->ready;
            a->ready = false;
        }
        mutex_unlock(&api->lock);
        if (a == NULL) {
            return;
        }
        serve(a);
    }
}

void answers_keep_alive(struct api *api, uint64_t now_ns)
{
    uint64_t silence = (uint64_t)api->options.keepalive_ms * CLOCK_NS_PER_MS;
    for (struct answer *a = api->answers, *next; a != NULL; a = next) {
        next = a->next;
        if (a->answers == NULL || !a->ask.stream || a->responder == NULL ||
            now_ns - a->last_write_ns < silence) {
            continue;
        }
        int done = 0, total = 0;
        chat_answers_progress(a->answers, &done, &total);
        begin_stream(a);
        a->last_write_ns = now_ns;
        if (a->dialect->keep_alive(a, done, total) != 0) {
            give_up(a);
            free_when_done(a);
        }
    }
}

void answers_close(struct api *api)
{
    while (api->answers != NULL) {
        struct answer *a = api->answers;
        if (a->responder != NULL) {
            struct api_problem p = { 0 };
            problem_set(&p, 503, "service_unavailable", NULL, "The server is shutting down.");
            tell_problem(a, &p);
        }
        answer_free(a);
    }
}

static int take_body(struct answer *a, struct bytes body, struct api_problem *p)
{
    if (body.size > API_MAX_BODIES - a->api->body_bytes) {
        return problem_set(p, 429, "rate_limit_exceeded", NULL,
                           "Too many large requests at once. Try again soon.");
    }
    if (buffer_append(&a->body, body) != 0) {
        return problem_set(p, 500, NULL, NULL, "Out of memory.");
    }
    a->body_bytes = body.size;
    a->api->body_bytes += body.size;
    return 0;
}

void answer_start(struct api *api, const struct dialect *dialect, const struct api_request *request,
                  struct responder *responder)
{
    struct answer *a = calloc(1, sizeof *a);
    char *path = strdup(request->path);
    struct api_problem p = { 0 };
    if (a == NULL || path == NULL) {
        free(a);
        free(path);
        problem_set(&p, 500, NULL, NULL, "Out of memory.");
        dialect->error(responder, &p, false);
        return;
    }
    uint64_t now_ns = clock_now_ns();
    *a = (struct answer){ .api = api,
                          .dialect = dialect,
                          .responder = responder,
                          .path = path,
                          .task = { .work = work, .done = on_task_done, .arg = a },
                          .deadline_ns = now_ns + PREPARE_NS,
                          .last_write_ns = now_ns,
                          .next = api->answers,
                          .back = &api->answers };
    buffer_init(&a->body, MAX_BODY);
    if (a->next != NULL) {
        a->next->back = &a->next;
    }
    api->answers = a;
    api->n_answers++;
    responder->closed = on_closed;
    responder->closed_arg = a;
    if (take_body(a, request->body, &p) == 0) {
        send_task(a, STAGE_PARSE);
        return;
    }
    fail_answer(a, &p);
    free_when_done(a);
}

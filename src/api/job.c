/* Requests that run on an engine of this device.
 *
 * The engine's callbacks fill a choice's inbox and put its job into the ready list; the event loop
 * empties the inboxes and writes. A job lives until its answer is ended and all its choices are. */
#include "api/internal.h"

#include <stdlib.h>
#include <string.h>

#include "api/sse.h"
#include "os/clock.h"

/* --- on the head's thread --- */

/* Under the lock. A full pipe means that the loop has enough to wake up for. */
static void wake_loop(struct api *a)
{
    ssize_t n = send(a->wake[1], "", 1, 0);
    (void)n;
}

/* Under the lock. */
static void make_ready(struct job *job)
{
    struct api *a = job->api;
    if (job->ready) {
        return;
    }
    job->ready = true;
    job->next_ready = NULL;
    bool first = a->ready == NULL;
    *a->ready_end = job;
    a->ready_end = &job->next_ready;
    if (first) {
        wake_loop(a);
    }
}

static void on_text(void *arg, struct bytes text, const struct generate_token *tokens, int n)
{
    struct choice *c = arg;
    mutex_lock(&c->job->api->lock);
    buffer_append(&c->inbox.text, text);
    tokens_pack(&c->inbox.tokens, tokens, n);
    make_ready(c->job);
    mutex_unlock(&c->job->api->lock);
}

static void on_progress(void *arg, int done, int total)
{
    struct choice *c = arg;
    mutex_lock(&c->job->api->lock);
    c->inbox.done = done;
    c->inbox.total = total;
    mutex_unlock(&c->job->api->lock);
}

static void on_end(void *arg, const struct generate_end *end)
{
    struct choice *c = arg;
    struct api *a = c->job->api;
    mutex_lock(&a->lock);
    c->inbox.ended = true;
    c->inbox.end = *end;
    make_ready(c->job);
    mutex_unlock(&a->lock); /* the job may be gone from here on */
}

/* --- on the event loop --- */

static void job_free(struct job *job)
{
    for (int i = 0; i < job->n_choices; i++) {
        struct choice *c = &job->choices[i];
        generate_close(c->generate);
        buffer_done(&c->inbox.text);
        buffer_done(&c->inbox.tokens);
        buffer_done(&c->text);
        buffer_done(&c->tokens);
        buffer_done(&c->answer);
        buffer_done(&c->log);
    }
    job->api->logprob_bytes -= job->logprob_bytes;
    *job->back = job->next;
    if (job->next != NULL) {
        job->next->back = job->back;
    }
    job->api->n_jobs--;
    openai_request_done(&job->request);
    free(job->choices);
    free(job->model);
    free(job);
}

/* A job that is in the ready list again is freed when its turn comes. */
static void free_when_done(struct job *job)
{
    mutex_lock(&job->api->lock);
    bool listed = job->ready;
    mutex_unlock(&job->api->lock);
    if (job->responder == NULL && job->n_running == 0 && !listed) {
        job_free(job);
    }
}

/* Ends what still runs. Under the lock, since an engine lives at least as long as a request of it
 * whose end hasn't been told. */
static void cancel_all(struct job *job)
{
    mutex_lock(&job->api->lock);
    for (int i = 0; i < job->n_choices; i++) {
        struct choice *c = &job->choices[i];
        if (c->generate != NULL && !c->inbox.ended) {
            generate_cancel(c->generate);
        }
    }
    mutex_unlock(&job->api->lock);
}

static void end_answer(struct job *job)
{
    struct responder *r = job->responder;
    job->responder = NULL;
    r->closed = NULL;
    r->ops->end(r);
}

static void on_closed(void *arg)
{
    struct job *job = arg;
    end_answer(job);
    cancel_all(job);
    free_when_done(job);
}

static void fail_job(struct job *job, const struct api_problem *p)
{
    struct responder *r = job->responder;
    if (job->begun) { /* the status is out: the stream carries the error */
        sse_json(r, problem_json(p));
        end_answer(job);
    } else {
        job->responder = NULL;
        reply_problem(r, p);
    }
    cancel_all(job);
}

static json_t *usage_json(const struct job *job)
{
    json_int_t prompt = 0, completion = 0, cached = 0;
    for (int i = 0; i < job->n_choices; i++) {
        const struct engine_usage *u = &job->choices[i].end.usage;
        prompt += u->prompt_tokens;
        completion += u->completion_tokens;
        cached += u->cached_tokens;
    }
    return json_pack("{s:I,s:I,s:I,s:{s:I}}", "prompt_tokens", prompt, "completion_tokens",
                     completion, "total_tokens", prompt + completion, "prompt_tokens_details",
                     "cached_tokens", cached);
}

/* What every object of an answer has, but for its choices. */
static json_t *envelope(const struct job *job, const char *object)
{
    return json_pack("{s:s,s:s,s:I,s:s,s:s}", "id", job->id, "object", object, "created",
                     (json_int_t)job->created_s, "model", job->model, "system_fingerprint",
                     "shoal-" SHOAL_VERSION);
}

static const char *finish_text(const struct choice *c)
{
    return c->end.finish == FINISH_LENGTH ? "length" : "stop";
}

/* Writes one chunk of a stream; choice is stolen. False when the client doesn't take it. */
static bool write_chunk(struct job *job, json_t *choice)
{
    json_t *choices = choice != NULL ? json_pack("[o]", choice) : NULL;
    json_t *chunk = choices != NULL ? envelope(job, job->format->chunk_object) : NULL;
    json_object_set_new(chunk, "choices", choices);
    if (chunk != NULL && job->request.include_usage) {
        json_object_set_new(chunk, "usage", json_null());
    }
    job->last_write_ns = clock_now_ns();
    return sse_json(job->responder, chunk) == 0;
}

static void begin_stream(struct job *job)
{
    if (!job->begun) {
        job->begun = true;
        job->responder->ops->begin(job->responder, 200, "text/event-stream; charset=utf-8", true,
                                   NULL);
    }
}

/* Writes what a choice has got. */
static bool stream_choice(struct choice *c, bool ended_now)
{
    struct job *job = c->job;
    const struct bytes none = { 0 };
    begin_stream(job);
    bool ok = true;
    if (!c->announced) {
        c->announced = true;
        struct bytes first = buffer_bytes(&c->answer); /* an echo */
        if (job->request.endpoint == OPENAI_CHAT || first.size > 0) {
            ok = write_chunk(job, job->format->chunk(c, first, none, NULL));
        }
    }
    if (ok && (c->text.size > 0 || c->tokens.size > 0)) {
        ok = write_chunk(
            job, job->format->chunk(c, buffer_bytes(&c->text), buffer_bytes(&c->tokens), NULL));
    }
    if (ok && ended_now) {
        ok = write_chunk(job, job->format->chunk(c, none, none, finish_text(c)));
    }
    return ok;
}

static void finish_stream(struct job *job)
{
    if (job->request.include_usage) {
        json_t *last = envelope(job, job->format->chunk_object);
        json_object_set_new(last, "choices", json_array());
        json_object_set_new(last, "usage", usage_json(job));
        sse_json(job->responder, last);
    }
    sse_done(job->responder);
    end_answer(job);
}

/* The envelope with its choices last, in pieces. */
static void finish_whole(struct job *job)
{
    struct pieces out;
    struct responder *r = job->responder;
    json_t *rest = envelope(job, job->format->object);
    json_object_set_new(rest, "usage", usage_json(job));
    job->responder = NULL;
    pieces_begin(&out, r, 200);
    const char *key = NULL;
    json_t *value = NULL;
    pieces_text(&out, "{");
    json_object_foreach(rest, key, value)
    {
        pieces_json(&out, json_string(key));
        pieces_text(&out, ":");
        pieces_json(&out, json_incref(value));
        pieces_text(&out, ",");
    }
    pieces_text(&out, "\"choices\":[");
    for (int i = 0; i < job->n_choices; i++) {
        struct choice *c = &job->choices[i];
        pieces_text(&out, i > 0 ? "," : "");
        job->format->whole(c, finish_text(c), &out);
        buffer_done(&c->answer);
        buffer_done(&c->log);
    }
    pieces_text(&out, "]}");
    out.failed |= rest == NULL;
    json_decref(rest);
    pieces_end(&out);
}

/* Takes the inbox. Under the lock. */
static void take_inbox(struct choice *c)
{
    struct buffer text = c->text, tokens = c->tokens;
    buffer_clear(&text);
    buffer_clear(&tokens);
    c->text = c->inbox.text;
    c->tokens = c->inbox.tokens;
    c->inbox.text = text;
    c->inbox.tokens = tokens;
}

/* Brings one choice up to date. False when the job has failed. */
static bool serve_choice(struct choice *c, bool ended_now, struct api_problem *p)
{
    struct job *job = c->job;
    if (c->text.failed || c->tokens.failed) {
        problem_set(p, 500, NULL, NULL, "The answer is too large.");
        return false;
    }
    if (ended_now && c->end.finish == FINISH_ERROR) {
        problem_from_error(p, &c->end.error);
        if (c->end.error.code == FAIL_LIMIT) { /* of the answer: the prompt was taken */
            problem_set(p, 500, NULL, NULL, "The answer can't be completed: %s.",
                        c->end.error.text);
        }
        return false;
    }
    if (ended_now && c->end.finish == FINISH_CANCELLED) {
        problem_set(p, 503, "service_unavailable", NULL, "The request was cancelled here.");
        return false;
    }
    if (!job->request.stream) {
        buffer_append(&c->answer, buffer_bytes(&c->text));
        buffer_append(&c->log, buffer_bytes(&c->tokens));
    }
    if (c->answer.failed || c->log.failed) {
        problem_set(p, 500, NULL, NULL, "The answer is too large.");
        return false;
    }
    if (!job->request.stream) {
        return true;
    }
    if ((c->text.size > 0 || c->tokens.size > 0 || ended_now) && !stream_choice(c, ended_now)) {
        /* The client doesn't read: nothing can be said to it. */
        end_answer(job);
        cancel_all(job);
    }
    return true;
}

static void serve_job(struct job *job)
{
    struct api_problem p = { 0 };
    for (int i = 0; i < job->n_choices; i++) {
        struct choice *c = &job->choices[i];
        mutex_lock(&job->api->lock);
        take_inbox(c);
        bool ended_now = c->inbox.ended && !c->ended;
        c->ended = c->inbox.ended;
        c->end = c->inbox.end;
        mutex_unlock(&job->api->lock);
        job->n_running -= ended_now;
        if (job->responder != NULL && !serve_choice(c, ended_now, &p)) {
            fail_job(job, &p);
        }
    }
    if (job->responder != NULL && job->n_running == 0) {
        if (job->request.stream) {
            begin_stream(job);
            finish_stream(job);
        } else {
            finish_whole(job);
        }
    }
    free_when_done(job);
}

void jobs_drain(struct api *a)
{
    /* Each job at most about once a turn, so that the loop's other events have theirs. */
    for (int left = a->n_jobs; left >= 0; left--) {
        mutex_lock(&a->lock);
        struct job *job = a->ready;
        if (job != NULL && left == 0) {
            wake_loop(a);
            job = NULL;
        }
        if (job != NULL) {
            a->ready = job->next_ready;
            a->ready_end = a->ready != NULL ? a->ready_end : &a->ready;
            job->ready = false;
        }
        mutex_unlock(&a->lock);
        if (job == NULL) {
            return;
        }
        serve_job(job);
    }
}

void jobs_keep_alive(struct api *a, uint64_t now_ns)
{
    uint64_t silence = (uint64_t)a->options.keepalive_ms * CLOCK_NS_PER_MS;
    for (struct job *job = a->jobs, *next; job != NULL; job = next) {
        next = job->next;
        if (!job->request.stream || job->responder == NULL ||
            now_ns - job->last_write_ns < silence) {
            continue;
        }
        mutex_lock(&a->lock);
        int done = job->choices[0].inbox.done, total = job->choices[0].inbox.total;
        mutex_unlock(&a->lock);
        begin_stream(job);
        job->last_write_ns = now_ns;
        if (sse_progress(job->responder, done, total) != 0) {
            end_answer(job);
            cancel_all(job);
            free_when_done(job);
        }
    }
}

void jobs_close(struct api *a)
{
    while (a->jobs != NULL) {
        struct job *job = a->jobs;
        if (job->responder != NULL) {
            struct api_problem p = { 0 };
            problem_set(&p, 503, "service_unavailable", NULL, "The server is shutting down.");
            for (int i = 0; i < job->n_choices; i++) {
                job->choices[i].inbox.ended = true; /* the engines are gone */
            }
            fail_job(job, &p);
        }
        job_free(job);
    }
}

/* --- start --- */

static int start_choice(struct choice *c, const struct api_model *model,
                        const struct job_prompt *prompt, struct error *e)
{
    struct job *job = c->job;
    struct sampling sampling = job->request.sampling;
    if (!job->request.has_seed) { /* equal prompts of one request get answers of their own */
        evutil_secure_rng_get_bytes(&sampling.seed, sizeof sampling.seed);
    }
    if (buffer_append(&c->answer, prompt->echo) != 0) {
        return fail(e, FAIL_NOMEM, "memory for the answer");
    }
    c->text_offset = text_length(prompt->echo);
    if (job->request.max_tokens == 0) { /* only the prompt is wanted: no engine needed */
        c->inbox.ended = true;
        c->inbox.end.finish = FINISH_LENGTH;
        c->inbox.end.usage.prompt_tokens = prompt->n;
        mutex_lock(&job->api->lock);
        make_ready(job);
        mutex_unlock(&job->api->lock);
        job->n_running++;
        return 0;
    }
    int code = generate_start(&c->generate,
                              &(struct generate_request){
                                  .engine = model->engine,
                                  .vocab = chat_model_vocab(model->text),
                                  .prompt = prompt->ids,
                                  .n_prompt = prompt->n,
                                  .max_tokens = job->request.max_tokens,
                                  .sampling = &sampling,
                                  .stops = job->request.stops,
                                  .n_stops = job->request.n_stops,
                                  .want_tokens = job->request.want_logprobs,
                                  .on_text = on_text,
                                  .on_progress = on_progress,
                                  .on_end = on_end,
                                  .arg = c,
                              },
                              e);
    job->n_running += code == 0;
    return code;
}

static struct job *job_new(struct api *a, struct responder *responder,
                           const struct api_model *model, struct openai_request *request, int n)
{
    struct job *job = calloc(1, sizeof *job);
    struct choice *choices = calloc((size_t)n, sizeof *choices);
    char *name = strdup(model->id);
    if (job == NULL || choices == NULL || name == NULL) {
        free(job);
        free(choices);
        free(name);
        return NULL;
    }
    *job = (struct job){ .api = a,
                         .responder = responder,
                         .request = *request,
                         .model = name,
                         .vocab = chat_model_vocab(model->text),
                         .created_s = clock_wall_s(),
                         .last_write_ns = clock_now_ns(),
                         .n_choices = n,
                         .choices = choices };
    job->format = request->endpoint == OPENAI_CHAT ? &job_format_chat : &job_format_text;
    id_make(job->id, job->format->id_prefix);
    for (int i = 0; i < n; i++) {
        struct choice *c = &choices[i];
        c->job = job;
        c->index = i;
        buffer_init(&c->inbox.text, API_MAX_TEXT);
        buffer_init(&c->inbox.tokens, API_MAX_TEXT);
        buffer_init(&c->text, API_MAX_TEXT);
        buffer_init(&c->tokens, API_MAX_TEXT);
        buffer_init(&c->answer, API_MAX_TEXT);
        buffer_init(&c->log, API_MAX_TEXT);
    }
    job->next = a->jobs;
    job->back = &a->jobs;
    if (job->next != NULL) {
        job->next->back = &job->next;
    }
    a->jobs = job;
    a->n_jobs++;
    return job;
}

/* JSON of one token's or alternative's log probability: text, number, bytes. */
#define LOGPROB_BYTES 100

/* What the log probabilities of a whole answer may come to. */
static uint64_t logprob_bytes(const struct api_model *model, const struct openai_request *request,
                              const struct job_prompt *prompts, int n)
{
    uint64_t tokens = 0;
    for (int i = 0; i < n; i++) {
        int room = model->context - prompts[i].n, most = request->max_tokens;
        tokens += (uint64_t)(most < 0 || most > room ? room : most);
    }
    bool kept = request->want_logprobs && !request->stream;
    return kept ? tokens * (uint64_t)(1 + request->sampling.n_top) * LOGPROB_BYTES : 0;
}

/* Bounded before it starts: once an answer is under way nothing can be taken back. */
static int check_logprobs(const struct api *a, uint64_t bytes, struct api_problem *p)
{
    if (bytes > API_MAX_LOGPROBS) {
        return problem_set(p, 400, "invalid_value", "logprobs",
                           "The log probabilities of so many tokens would make an answer of about "
                           "%llu MB; %u is the most. Lower 'max_tokens' or the number of "
                           "alternatives, or set 'stream'.",
                           (unsigned long long)bytes >> 20, API_MAX_LOGPROBS >> 20);
    }
    if (bytes > API_MAX_ALL_LOGPROBS - a->logprob_bytes) {
        return problem_set(p, 429, "rate_limit_exceeded", NULL,
                           "Too many answers with log probabilities at once. Try again soon, or "
                           "set 'stream'.");
    }
    return 0;
}

void job_start(struct api *a, struct responder *responder, const struct api_model *model,
               struct openai_request *request, const struct job_prompt *prompts, int n_prompts)
{
    struct api_problem p = { 0 };
    uint64_t bytes = logprob_bytes(model, request, prompts, n_prompts);
    struct job *job = NULL;
    if (check_logprobs(a, bytes, &p) == 0) {
        job = job_new(a, responder, model, request, n_prompts);
        problem_set(&p, 500, NULL, NULL, "Out of memory.");
    }
    if (job == NULL) {
        openai_request_done(request);
        reply_problem(responder, &p);
        return;
    }
    job->logprob_bytes = bytes;
    a->logprob_bytes += bytes;
    responder->closed = on_closed;
    responder->closed_arg = job;
    for (int i = 0; i < n_prompts; i++) {
        struct error e = { 0 };
        if (start_choice(&job->choices[i], model, &prompts[i], &e) != 0) {
            problem_from_error(&p, &e);
            fail_job(job, &p);
            break;
        }
    }
    free_when_done(job);
}

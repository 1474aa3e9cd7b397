/* See bench_engine.h. Tokens are counted in the head's callbacks, between the moment when every
 * stream has its first token and the one when the first stream ends: so neither prefill nor
 * streams that joined late count. */
#include "node/bench_engine.h"

#include "backend/backend.h"
#include "base/bytes.h"
#include "base/random.h"
#include "engine/engine.h"
#include "kernels/kernels.h"
#include "os/clock.h"
#include "os/thread.h"
#include "plan/split.h"
#include "stage/inprocess.h"
#include "stage/source.h"
#include "transport/pair.h"

#include <stdlib.h>

/* Rows of one step, as `shoal up` has it. */
#define MAX_ROWS 512
/* One look at whether all have ended; the engine has its own deadlines. */
#define LOOK_NS CLOCK_NS_PER_S

struct bench_engine {
    struct engine *engine;
    const char *transport;
    int vocab;
};

static int make_pair(void *arg, int from, int to, struct channel **a, struct channel **b,
                     struct error *e)
{
    const struct bench_engine *g = arg;
    bool between_ranks = from >= 0 && to >= 0;
    return transport_pair(between_ranks ? g->transport : "memory", a, b, NULL, e);
}

static int open_executor(struct bench_engine *g, const struct bench_engine_options *o,
                         struct executor **ret, struct error *e)
{
    const struct program *p = source_program(o->source);
    struct placement_plan plan;
    int r = 0;
    if (o->split)
        r = split_parse(o->split, p->n_layers, &plan, e);
    else
        plan_single(p->n_layers, 0, &plan);
    if (r)
        return r;
    return inprocess_open(ret,
                          &(struct inprocess_options){
                              .backend = &backend_cpu,
                              .program = p,
                              .source = source_weights(o->source),
                              .plan = &plan,
                              .kernels = o->kernels,
                              .threads = o->threads,
                              .max_rows = MAX_ROWS,
                              /* One more than streams: a session that
                               * ended stays until its place is needed. */
                              .max_sessions = o->streams + 1,
                              /* State is given in whole pages. */
                              .max_context = (int)size_round_up((size_t)o->context, KERNEL_PAGE),
                              .pair = make_pair,
                              .arg = g },
                          e);
}

int bench_engine_open(struct bench_engine **ret, const struct bench_engine_options *o,
                      struct error *e)
{
    struct executor *x = NULL;
    int vocab = source_program(o->source)->vocab;
    struct bench_engine *g = calloc(1, sizeof(*g));
    uint8_t *no_end = calloc((size_t)vocab, 1);
    int r = g && no_end ? 0 : fail(e, FAIL_NOMEM, "an engine");
    if (!r) {
        g->vocab = vocab;
        g->transport = o->transport ? o->transport : "memory";
        r = open_executor(g, o, &x, e);
    }
    if (!r)
        r = engine_open(&g->engine,
                        &(struct engine_options){ .executor = x,
                                                  .vocab = vocab,
                                                  .is_eog = no_end,
                                                  .max_requests = o->streams,
                                                  .max_queue = o->streams },
                        e);
    free(no_end);
    if (r)
        free(g);
    else
        *ret = g;
    return r;
}

void bench_engine_close(struct bench_engine *g)
{
    if (!g)
        return;
    engine_close(g->engine);
    free(g);
}

struct stream {
    struct run *run;
    bool started;
    int counted; /* tokens while all streams decode */
    uint64_t first_ns, last_ns;
};

/* One load; the head's thread writes, under the lock what the caller reads meanwhile. */
struct run {
    struct stream streams[BENCH_MAX_STREAMS];
    int n, started;
    uint64_t prefill_ns; /* of the stream that ended last */
    struct mutex lock;
    struct condition news;
    int ended;
    struct error error;
};

static enum engine_verdict on_token(void *arg, const struct engine_token *t)
{
    struct stream *s = arg;
    struct run *run = s->run;
    (void)t;
    if (!s->started) {
        /* Held while requests are submitted: a small model would be done with the first one before
         * the last has come. */
        mutex_lock(&run->lock);
        mutex_unlock(&run->lock);
    }
    run->started += !s->started;
    s->started = true;
    if (run->started < run->n || run->ended > 0)
        return ENGINE_CONTINUE;
    s->last_ns = clock_now_ns();
    if (s->counted++ == 0)
        s->first_ns = s->last_ns;
    return ENGINE_CONTINUE;
}

static void on_end(void *arg, enum engine_finish finish, const struct engine_usage *usage,
                   const struct error *error)
{
    struct run *run = ((struct stream *)arg)->run;
    (void)finish;
    mutex_lock(&run->lock);
    run->prefill_ns = usage->prefill_ns;
    if (error && !run->error.code)
        run->error = *error;
    run->ended++;
    condition_signal(&run->news);
    mutex_unlock(&run->lock);
}

static int submit(struct bench_engine *g, struct run *run, int stream, const struct bench_load *l,
                  struct error *e)
{
    uint64_t ticket;
    int32_t *prompt = malloc((size_t)l->prompt * sizeof(*prompt));
    if (!prompt)
        return fail(e, FAIL_NOMEM, "a prompt");
    for (int i = 0; i < l->prompt; i++)
        prompt[i] =
            (int32_t)(random_at(l->seed + (uint64_t)stream, (uint64_t)i) % (uint64_t)g->vocab);
    int r = engine_submit(g->engine,
                          &(struct engine_request){ .prompt = prompt,
                                                    .n_prompt = l->prompt,
                                                    .max_tokens = l->decode + 1,
                                                    .on_token = on_token,
                                                    .on_end = on_end,
                                                    .arg = &run->streams[stream] },
                          &ticket, e);
    free(prompt);
    return r;
}

static int rates(const struct run *run, const struct bench_load *l, struct bench_rates *ret,
                 struct error *e)
{
    double decode = 0;
    for (int i = 0; i < run->n; i++) {
        const struct stream *s = &run->streams[i];
        if (s->counted < 2)
            return fail(e, FAIL_STATE, "%d streams of %d tokens hardly overlap: decode more",
                        run->n, l->decode);
        decode +=
            (double)(s->counted - 1) * (double)CLOCK_NS_PER_S / (double)(s->last_ns - s->first_ns);
    }
    ret->decode = decode;
    ret->prefill = (double)l->prompt * (double)CLOCK_NS_PER_S / (double)run->prefill_ns;
    return 0;
}

int bench_engine_run(struct bench_engine *g, const struct bench_load *load, struct bench_rates *ret,
                     struct error *e)
{
    struct run run = { .n = load->streams };
    int submitted = 0, r = 0;
    mutex_init(&run.lock);
    condition_init(&run.news);
    for (int i = 0; i < run.n; i++)
        run.streams[i].run = &run;
    mutex_lock(&run.lock);
    while (submitted < run.n && !(r = submit(g, &run, submitted, load, e)))
        submitted++;
    while (run.ended < submitted)
        condition_wait(&run.news, &run.lock, LOOK_NS);
    mutex_unlock(&run.lock);
    condition_done(&run.news);
    mutex_done(&run.lock);
    if (!r && run.error.code)
        r = fail(e, run.error.code, "%s", run.error.text);
    return r ? r : rates(&run, load, ret, e);
}

/* Executors of real ranks that are lost at random steps and followed by others: greedy and seeded
 * answers are those of an undisturbed run, for a plain KV cache, one with windows, and a recurrent
 * state beside attention. */
#include "tests/wide.h"

#include "engine/engine.h"
#include "os/clock.h"
#include "os/thread.h"
#include "plan/split.h"
#include "stage/inprocess.h"

#define STREAMS 4
#define ANSWER 24
#define CONTEXT 256
#define WINDOW 64
#define KILLS 200
#define KILLS_OF_A_RUN 25

/* An executor that another one does the work for, until it is killed. */
struct mortal {
    struct executor base;
    struct executor *inner;
    int life; /* calls until it breaks; < 0: for ever */
};

static int spend(struct mortal *m, struct error *e)
{
    if (m->life > 0)
        m->life--;
    return m->life == 0 ? fail(e, FAIL_CLOSED, "killed") : 0;
}

static int mortal_submit(struct executor *x, const struct step *s, uint64_t deadline_ns,
                         struct error *e)
{
    struct mortal *m = (struct mortal *)x;
    int r = spend(m, e);
    return r ? r : m->inner->ops->submit(m->inner, s, deadline_ns, e);
}

static int mortal_collect(struct executor *x, struct step_result *ret, uint64_t deadline_ns,
                          struct error *e)
{
    struct mortal *m = (struct mortal *)x;
    int r = spend(m, e);
    return r ? r : m->inner->ops->collect(m->inner, ret, deadline_ns, e);
}

static void mortal_shutdown(struct executor *x)
{
    struct mortal *m = (struct mortal *)x;
    m->inner->ops->shutdown(m->inner);
}

static void mortal_close(struct executor *x)
{
    struct mortal *m = (struct mortal *)x;
    m->inner->ops->close(m->inner);
    free(m);
}

static const struct executor_ops mortal_ops = { mortal_submit, mortal_collect, mortal_shutdown,
                                                mortal_close };

static struct executor *open_executor(struct wide *w, const char *split, int life)
{
    struct error e = { 0 };
    struct placement_plan plan;
    struct mortal *m = calloc(1, sizeof(*m));
    assert_non_null(m);
    assert_int_equal(split_parse(split, w->program->n_layers, &plan, &e), 0);
    const struct inprocess_options in = { .backend = &backend_cpu,
                                          .program = w->program,
                                          .source = &w->source,
                                          .plan = &plan,
                                          .kernels = kernels_choose(NULL, &e),
                                          .threads = 1,
                                          .max_rows = 64,
                                          .max_sessions = 8,
                                          .state_tokens = 448, /* less than they all come to need */
                                          .max_context = CONTEXT };
    if (inprocess_open(&m->inner, &in, &e))
        fail_test("%s", e.text);
    m->base = *m->inner;
    m->base.ops = &mortal_ops;
    m->life = life;
    return &m->base;
}

struct run {
    struct mutex lock;
    struct condition news;
    int lost, ended;
    int32_t ids[STREAMS][ANSWER];
    float logprobs[STREAMS][ANSWER];
    int n[STREAMS];
    struct stream {
        struct run *run;
        int index;
    } streams[STREAMS];
};

static void on_lost(void *arg, const struct error *why)
{
    struct run *r = arg;
    (void)why;
    mutex_lock(&r->lock);
    r->lost++;
    condition_signal(&r->news);
    mutex_unlock(&r->lock);
}

static enum engine_verdict on_token(void *arg, const struct engine_token *t)
{
    struct stream *s = arg;
    struct run *r = s->run;
    r->ids[s->index][r->n[s->index]] = t->id;
    r->logprobs[s->index][r->n[s->index]++] = t->logprob;
    return ENGINE_CONTINUE;
}

static void on_end(void *arg, enum engine_finish finish, const struct engine_usage *usage,
                   const struct error *error)
{
    struct run *r = ((struct stream *)arg)->run;
    (void)usage;
    if (finish != FINISH_LENGTH)
        fail_test("ended: %s", error ? error->text : "too early");
    mutex_lock(&r->lock);
    r->ended++;
    condition_signal(&r->news);
    mutex_unlock(&r->lock);
}

static void submit_all(struct engine *g, struct run *r, int vocab)
{
    int32_t prompt[CONTEXT];
    uint64_t ticket;
    struct error e = { 0 };
    for (int i = 0; i < STREAMS; i++) {
        r->streams[i] = (struct stream){ r, i };
        wide_ids(prompt, 40 + 60 * i, vocab, (uint64_t)i % 3);
        const struct engine_request ask = { .prompt = prompt,
                                            .n_prompt = 40 + 60 * i,
                                            .max_tokens = ANSWER,
                                            .sampling = { .temperature = i % 2 ? 1.0f : 0.0f,
                                                          .seed = (uint64_t)i,
                                                          .want_logprob = true },
                                            .on_token = on_token,
                                            .on_end = on_end,
                                            .arg = &r->streams[i] };
        assert_int_equal(engine_submit(g, &ask, &ticket, &e), 0);
    }
}

/* Waits for a loss beyond `known`; false when everything has ended. */
static bool wait_loss(struct run *r, int known)
{
    uint64_t deadline = clock_deadline(100 * CLOCK_NS_PER_S);
    mutex_lock(&r->lock);
    while (r->lost == known && r->ended < STREAMS && clock_now_ns() < deadline)
        condition_wait(&r->news, &r->lock, CLOCK_NS_PER_S);
    bool lost = r->lost > known;
    assert_true(lost || r->ended == STREAMS);
    mutex_unlock(&r->lock);
    return lost;
}

/* One set of answers; executors live for random times until `kills` of them are gone. */
static int answer(struct wide *w, struct random *random, int kills, struct run *r)
{
    static const char *const splits[] = { "1", "1/1", "1/1/1" };
    static const uint8_t never[65536];
    struct error e = { 0 };
    struct engine *g;
    *r = (struct run){ 0 };
    mutex_init(&r->lock);
    condition_init(&r->news);
    for (int lost = 0;; lost++) {
        const char *split = kills ? splits[random_next(random) % ARRAY_LEN(splits)] : "1";
        int life = lost < kills ? 1 + (int)(random_next(random) % 40) : -1;
        struct executor *x = open_executor(w, split, life);
        const struct engine_options o = { .executor = x,
                                          .vocab = w->program->vocab,
                                          .is_eog = never,
                                          .max_requests = STREAMS,
                                          .max_queue = STREAMS,
                                          .on_lost = on_lost,
                                          .lost_arg = r };
        assert_int_equal(lost ? engine_resume(g, x, &e) : engine_open(&g, &o, &e), 0);
        if (lost == 0)
            submit_all(g, r, w->program->vocab);
        if (!wait_loss(r, lost))
            break;
    }
    engine_close(g);
    condition_done(&r->news);
    mutex_done(&r->lock);
    return r->lost;
}

static void answers_are_those_of_an_undisturbed_run(void **state)
{
    static const char *const families[] = { "llama", "gemma3", "lfm2" };
    static struct run want, got;
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        struct wide w;
        struct error e = { 0 };
        struct synth_spec spec;
        struct random random = { 40 + i };
        assert_int_equal(synth_preset(&spec, "tiny", families[i], &e), 0);
        spec.layers = 7;
        spec.window = WINDOW;
        wide_open(&w, &spec);
        assert_int_equal(answer(&w, &random, 0, &want), 0);
        for (int kills = 0; kills < KILLS;) {
            int n = answer(&w, &random, KILLS_OF_A_RUN, &got);
            assert_true(n > 0);
            kills += n;
            assert_memory_equal(got.n, want.n, sizeof(want.n));
            assert_memory_equal(got.ids, want.ids, sizeof(want.ids));
            assert_memory_equal(got.logprobs, want.logprobs, sizeof(want.logprobs));
        }
        wide_close(&w);
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_those_of_an_undisturbed_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

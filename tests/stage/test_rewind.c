/* Prompts that share all but their end with an earlier one, through the engine on the real backend:
 * a state that can't go back is restored from its nearest checkpoint and replayed, and every token
 * and its probability have the bits of a fresh engine. */
#include "tests/wide.h"

#include "stage/inprocess.h"
#include "plan/split.h"
#include "engine/engine.h"
#include "os/clock.h"
#include "os/thread.h"

#define LENGTH 240
#define ANSWER 12
#define CONTEXT 320

struct answer {
    struct mutex lock;
    struct condition wake;
    bool ended;
    int n, cached;
    enum engine_finish finish;
    int32_t ids[ANSWER];
    float logprobs[ANSWER];
};

static enum engine_verdict on_token(void *arg, const struct engine_token *t)
{
    struct answer *a = arg;
    a->ids[a->n] = t->id;
    a->logprobs[a->n++] = t->logprob;
    return ENGINE_CONTINUE;
}

static void on_end(void *arg, enum engine_finish finish, const struct engine_usage *usage,
                   const struct error *error)
{
    struct answer *a = arg;
    (void)error;
    mutex_lock(&a->lock);
    a->ended = true;
    a->finish = finish;
    a->cached = usage->cached_tokens;
    condition_signal(&a->wake);
    mutex_unlock(&a->lock);
}

static struct engine *open_engine(struct wide *w, bool can_truncate)
{
    static const uint8_t never[65536];
    struct error e = { 0 };
    struct executor *x;
    struct engine *g;
    struct placement_plan plan;
    plan_single(w->program->n_layers, 0, &plan);
    const struct inprocess_options in = { .backend = &backend_cpu,
                                          .program = w->program,
                                          .source = &w->source,
                                          .plan = &plan,
                                          .kernels = kernels_choose(NULL, &e),
                                          .threads = 1,
                                          .max_rows = 64,
                                          .max_sessions = 6,
                                          .max_context = CONTEXT };
    if (inprocess_open(&x, &in, &e))
        fail_test("%s", e.text);
    x->can_truncate = can_truncate;
    x->max_sessions = 6;
    const struct engine_options o = { .executor = x,
                                      .vocab = w->program->vocab,
                                      .is_eog = never,
                                      .max_requests = 1,
                                      .max_queue = 1 };
    assert_int_equal(engine_open(&g, &o, &e), 0);
    return g;
}

static void ask(struct engine *g, const int32_t *prompt, int n, struct answer *a)
{
    struct error e = { 0 };
    uint64_t ticket, deadline = clock_deadline(60 * CLOCK_NS_PER_S);
    *a = (struct answer){ 0 };
    mutex_init(&a->lock);
    condition_init(&a->wake);
    const struct engine_request r = { .prompt = prompt,
                                      .n_prompt = n,
                                      .max_tokens = ANSWER,
                                      .sampling = { .temperature = 1, .seed = 5 },
                                      .on_token = on_token,
                                      .on_end = on_end,
                                      .arg = a };
    assert_int_equal(engine_submit(g, &r, &ticket, &e), 0);
    mutex_lock(&a->lock);
    while (!a->ended && clock_now_ns() < deadline)
        condition_wait(&a->wake, &a->lock, CLOCK_NS_PER_S);
    assert_true(a->ended);
    mutex_unlock(&a->lock);
    condition_done(&a->wake);
    mutex_done(&a->lock);
    assert_int_equal(a->finish, FINISH_LENGTH);
}

/* The first prompt in full, then one that leaves it `back` tokens before its end. */
static void check_rewind(struct wide *w, bool can_truncate, int length, int back)
{
    int32_t prompt[LENGTH], other[LENGTH];
    struct answer fresh, again;
    wide_ids(prompt, LENGTH, w->program->vocab, 1);
    wide_ids(other, LENGTH, w->program->vocab, 2);
    struct engine *g = open_engine(w, can_truncate);
    ask(g, prompt, length, &again);
    memcpy(other, prompt, (size_t)(length - back) * sizeof(*prompt));
    other[length - back] = (prompt[length - back] + 1) % w->program->vocab;
    ask(g, other, length, &again);
    engine_close(g);
    g = open_engine(w, can_truncate);
    ask(g, other, length, &fresh);
    engine_close(g);
    assert_int_equal(fresh.cached, 0);
    assert_true(again.cached <= length - back);
    /* A short prompt's only checkpoint lies 16 before its end; a long one has others. */
    assert_true(again.cached >= 8 || (back > 16 && length < 128));
    assert_true(!can_truncate || again.cached == length - back);
    assert_memory_equal(again.ids, fresh.ids, sizeof(fresh.ids));
    assert_memory_equal(again.logprobs, fresh.logprobs, sizeof(fresh.logprobs));
}

static void prompts_that_share_their_beginning_are_taken_back(void **state)
{
    (void)state;
    static const struct {
        const char *family;
        bool can_truncate;
    } cases[] = { { "llama", true }, { "llama", false }, { "lfm2", false }, { "gemma3", false } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct wide w;
        struct error e = { 0 };
        struct synth_spec spec;
        assert_int_equal(synth_preset(&spec, "tiny", cases[i].family, &e), 0);
        spec.layers = 7;
        spec.window = 64;
        wide_open(&w, &spec);
        /* Below, at and beyond the window. */
        for (int length = 50; length <= LENGTH; length += length < 64 ? 14 : 176) {
            check_rewind(&w, cases[i].can_truncate, length, 1);
            check_rewind(&w, cases[i].can_truncate, length, 20);
        }
        wide_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_that_share_their_beginning_are_taken_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

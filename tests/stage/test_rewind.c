/* The engine on the real backend. Prompts that share all but their end with an earlier one: a state
 * that can't go back is restored from its nearest checkpoint and replayed, and every token and its
 * probability have the bits of a fresh engine. And rows of a prompt: logits, hidden states. */
#include "tests/wide.h"

#include <math.h>
#include <stdlib.h>

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

static struct engine *open_split(struct wide *w, bool can_truncate, const char *split)
{
    static const uint8_t never[65536];
    struct error e = { 0 };
    struct executor *x;
    struct engine *g;
    struct placement_plan plan;
    assert_int_equal(split_parse(split, w->program->n_layers, &plan, &e), 0);
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
                                      .max_requests = 2,
                                      .max_queue = 1 };
    assert_int_equal(engine_open(&g, &o, &e), 0);
    return g;
}

static struct engine *open_engine(struct wide *w, bool can_truncate)
{
    return open_split(w, can_truncate, "1");
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

/* Rows of one prompt, as they are told. */
struct told {
    struct answer answer;
    float *rows; /* (LENGTH, width) */
    int n, width;
};

static void on_rows(void *arg, const struct engine_rows *r)
{
    struct told *t = arg;
    assert_int_equal(r->first, t->n);
    t->width = r->width;
    memcpy(t->rows + t->n * r->width, r->rows, (size_t)(r->n * r->width) * sizeof(float));
    t->n += r->n;
}

static void begin_rows(struct engine *g, const int32_t *prompt, enum engine_row_kind kind,
                       struct told *t)
{
    struct error e = { 0 };
    uint64_t ticket;
    t->answer = (struct answer){ 0 };
    t->n = 0;
    mutex_init(&t->answer.lock);
    condition_init(&t->answer.wake);
    const struct engine_request r = { .prompt = prompt,
                                      .n_prompt = LENGTH,
                                      .rows = kind,
                                      .on_rows = on_rows,
                                      .on_token = on_token,
                                      .on_end = on_end,
                                      .arg = t };
    if (engine_submit(g, &r, &ticket, &e))
        fail_test("%s", e.text);
}

static void end_rows(struct told *t)
{
    uint64_t deadline = clock_deadline(60 * CLOCK_NS_PER_S);
    mutex_lock(&t->answer.lock);
    while (!t->answer.ended && clock_now_ns() < deadline)
        condition_wait(&t->answer.wake, &t->answer.lock, CLOCK_NS_PER_S);
    mutex_unlock(&t->answer.lock);
    assert_int_equal(t->answer.finish, FINISH_LENGTH);
    assert_int_equal(t->n, LENGTH);
}

/* Logits and hidden states of all rows of a prompt, from one device, a pipeline and a group: the
 * same bits but for the group's rounding; and the output matrix makes the logits of the states. */
static void rows_of_a_prompt_come_from_real_ranks(void **state)
{
    static const char *const splits[] = { "1", "1/1", "1/1:1" };
    struct wide w;
    struct error e = { 0 };
    struct synth_spec spec;
    int32_t prompt[LENGTH];
    assert_int_equal(synth_preset(&spec, "tiny", "llama", &e), 0);
    spec.layers = 3;
    spec.type = QUANT_F32;
    wide_open(&w, &spec);
    int width = w.program->width, vocab = w.program->vocab;
    struct told logits[ARRAY_LEN(splits)], states[ARRAY_LEN(splits)];
    wide_ids(prompt, LENGTH, vocab, 1);
    for (size_t i = 0; i < ARRAY_LEN(splits); i++) {
        struct engine *g = open_split(&w, true, splits[i]);
        states[i].rows = malloc((size_t)(LENGTH * width) * sizeof(float));
        logits[i].rows = malloc((size_t)(LENGTH * vocab) * sizeof(float));
        begin_rows(g, prompt, ENGINE_ROWS_HIDDEN, &states[i]); /* both share steps */
        begin_rows(g, prompt, ENGINE_ROWS_LOGITS, &logits[i]);
        end_rows(&states[i]);
        end_rows(&logits[i]);
        assert_int_equal(states[i].width, width);
        assert_int_equal(logits[i].width, vocab);
        engine_close(g);
    }
    assert_memory_equal(states[0].rows, states[1].rows, (size_t)(LENGTH * width) * sizeof(float));
    assert_memory_equal(logits[0].rows, logits[1].rows, (size_t)(LENGTH * vocab) * sizeof(float));
    for (int k = 0; k < LENGTH * width; k++)
        assert_true(fabsf(states[0].rows[k] - states[2].rows[k]) < 1e-2f);
    const struct gguf_tensor *m = gguf_tensor(w.gguf, "output.weight");
    m = m ? m : gguf_tensor(w.gguf, "token_embd.weight");
    for (int row = 0; row < LENGTH; row += 17)
        for (int v = 0; v < vocab; v += 29) {
            double sum = 0;
            for (int k = 0; k < width; k++)
                sum += (double)states[0].rows[row * width + k] *
                       (double)((const float *)(const void *)m->data)[v * width + k];
            assert_true(fabs(sum - (double)logits[0].rows[row * vocab + v]) < 1e-3);
        }
    for (size_t i = 0; i < ARRAY_LEN(splits); i++) {
        free(states[i].rows);
        free(logits[i].rows);
    }
    wide_close(&w);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_a_prompt_come_from_real_ranks),
        cmocka_unit_test(prompts_that_share_their_beginning_are_taken_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The KV that was granted is what is held, on the real backend: many chats of full context, one
 * after another and at once, with common beginnings, checkpoints and copies, are all answered, and
 * no page more than the grant is ever in use. */
#include "tests/wide.h"

#include "engine/engine.h"
#include "engine/sessions.h"
#include "os/clock.h"
#include "os/thread.h"
#include "plan/split.h"
#include "stage/inprocess.h"

#define CONTEXT 192
#define CHATS 64
#define AT_ONCE 8
#define SESSIONS 32

/* The backend under test, watched: the most state that was in use behind a step. */
static struct {
    const struct backend_ops *inner;
    struct backend_ops ops;
    uint64_t empty, most;
} watched;

static int watched_end(struct backend_ctx *c, struct error *e)
{
    int r = watched.inner->end(c, e);
    uint64_t now = backend_state_bytes(c);
    watched.most = now > watched.most ? now : watched.most;
    return r;
}

static int watched_open(struct backend_ctx **ret, const struct program *program,
                        const struct weight_source *source, const struct backend_options *options,
                        struct error *e)
{
    int r = backend_open(&backend_cpu, ret, program, source, options, e);
    if (r)
        return r;
    watched.inner = (*ret)->ops;
    watched.ops = *watched.inner;
    watched.ops.end = watched_end;
    (*ret)->ops = &watched.ops;
    watched.empty = watched.most = backend_state_bytes(*ret);
    return 0;
}

static const struct backend watched_backend = { .name = "watched", .open = watched_open };

/* Bytes of one page of every state. */
static uint64_t page_bytes(const struct program *p)
{
    uint64_t n = 0;
    for (int i = 0; i < p->n_states; i++)
        if (p->states[i].kind == STATE_KV)
            n += (uint64_t)p->states[i].heads *
                 kernels_page_bytes(p->states[i].key_dim, p->states[i].value_dim, false);
    return n;
}

struct chats {
    struct mutex lock;
    struct condition news;
    int ended, answered;
    char error[128];
};

static enum engine_verdict on_token(void *arg, const struct engine_token *t)
{
    (void)arg;
    (void)t;
    return ENGINE_CONTINUE;
}

static void on_end(void *arg, enum engine_finish finish, const struct engine_usage *usage,
                   const struct error *error)
{
    struct chats *c = arg;
    mutex_lock(&c->lock);
    c->ended++;
    c->answered +=
        finish == FINISH_LENGTH && usage->prompt_tokens + usage->completion_tokens == CONTEXT;
    if (error)
        memcpy(c->error, error->text, sizeof(c->error) - 1);
    condition_signal(&c->news);
    mutex_unlock(&c->lock);
}

/* Chats that fill the context, the first `same` tokens of each alike, at most `at_once` under way.
 */
static void chat(struct engine *g, int vocab, int n, int at_once, int same)
{
    struct chats c = { 0 };
    struct error e = { 0 };
    uint64_t ticket, deadline = clock_deadline(100 * CLOCK_NS_PER_S);
    mutex_init(&c.lock);
    condition_init(&c.news);
    for (int i = 0; i < n; i++) {
        int32_t prompt[CONTEXT];
        int length = 100 + i * 7 % 60;
        wide_ids(prompt, CONTEXT, vocab, (uint64_t)i + 10);
        wide_ids(prompt, same, vocab, 1);
        const struct engine_request ask = { .prompt = prompt,
                                            .n_prompt = length,
                                            .max_tokens = -1,
                                            .sampling = { .temperature = 1, .seed = (uint64_t)i },
                                            .on_token = on_token,
                                            .on_end = on_end,
                                            .arg = &c };
        assert_int_equal(engine_submit(g, &ask, &ticket, &e), 0);
        mutex_lock(&c.lock);
        while (c.ended < (i + 1 == n ? n : i + 2 - at_once) && clock_now_ns() < deadline)
            condition_wait(&c.news, &c.lock, CLOCK_NS_PER_S);
        mutex_unlock(&c.lock);
    }
    if (c.answered != n)
        fail_test("%d of %d answered: %s", c.answered, n, c.error);
    condition_done(&c.news);
    mutex_done(&c.lock);
}

static void check_grant(struct wide *w, int contexts)
{
    static const uint8_t never[65536];
    struct error e = { 0 };
    struct executor *x;
    struct engine *g;
    struct placement_plan plan;
    uint64_t tokens = (uint64_t)contexts * CONTEXT;
    plan_single(w->program->n_layers, 0, &plan);
    const struct inprocess_options in = { .backend = &watched_backend,
                                          .program = w->program,
                                          .source = &w->source,
                                          .plan = &plan,
                                          .kernels = kernels_choose(NULL, &e),
                                          .threads = 1,
                                          .max_rows = 64,
                                          .max_sessions = SESSIONS,
                                          .state_tokens = tokens,
                                          .max_context = CONTEXT };
    if (inprocess_open(&x, &in, &e))
        fail_test("%s", e.text);
    const struct engine_options o = { .executor = x,
                                      .vocab = w->program->vocab,
                                      .is_eog = never,
                                      .max_requests = AT_ONCE,
                                      .max_queue = CHATS };
    assert_int_equal(engine_open(&g, &o, &e), 0);
    chat(g, w->program->vocab, CHATS, 1, 70);
    chat(g, w->program->vocab, CHATS, AT_ONCE, 0);
    chat(g, w->program->vocab, CHATS, AT_ONCE, 90);
    engine_close(g);
    uint64_t held = watched.most - watched.empty;
    assert_true(held <= (tokens + SESSION_PAGE - 1) / SESSION_PAGE * page_bytes(w->program));
    assert_true(held > 0);
}

static void many_chats_stay_within_the_grant(void **state)
{
    static const char *const families[] = { "llama", "gemma3", "lfm2" };
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        struct wide w;
        struct error e = { 0 };
        struct synth_spec spec;
        assert_int_equal(synth_preset(&spec, "tiny", families[i], &e), 0);
        spec.layers = 7;
        spec.window = 64;
        wide_open(&w, &spec);
        check_grant(&w, 1);
        check_grant(&w, 3);
        wide_close(&w);
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_chats_stay_within_the_grant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Answers as events, over the engine with an executor made for tests. */
#include "tests/engine/fake.h"

#include <stdio.h>

#include "chat/answers.h"
#include "token/vocab.h"

/* The fake model's tokens are letters: 'A' + id. */
static struct bytes letter(void *arg, int32_t id)
{
    static char letters[VOCAB];
    letters[id] = (char)('A' + id);
    return bytes_of(&letters[id], 1);
}

static struct vocab *letters_open(void)
{
    struct vocab *v = NULL;
    struct error e = { 0 };
    const struct vocab_source source = { .model = bytes_text("gpt2"),
                                         .pre = bytes_text("gpt-2"),
                                         .n_tokens = VOCAB,
                                         .token_text = letter };
    assert_int_equal(vocab_open(&v, &source, &e), 0);
    return v;
}

/* Everything that was told, each event as a letter with its text. */
struct told {
    struct mutex lock;
    struct condition ready;
    int n_ready;
    struct buffer of[3];
    struct generate_end end[3];
    int tokens;
};

static void on_ready(void *arg)
{
    struct told *t = arg;
    mutex_lock(&t->lock);
    t->n_ready++;
    condition_signal(&t->ready);
    mutex_unlock(&t->lock);
}

static void count(void *arg, const struct generate_token *token)
{
    ++*(int *)arg;
}

static void on_event(void *arg, const struct chat_event *e)
{
    struct told *t = arg;
    struct buffer *to = &t->of[e->answer];
    static const char kinds[CHAT_EVENT_COUNT] = "STRBAIFE";
    char kind[2] = { kinds[e->kind], '\0' };
    /* Text may come in several pieces: what is one text stays one. */
    if (e->kind != CHAT_TEXT || to->size == 0 || memchr(to->data, 'T', to->size) == NULL)
        buffer_text(to, kind);
    buffer_append(to, e->text);
    chat_log_each(e->log, count, &t->tokens);
    if (e->end != NULL)
        t->end[e->answer] = *e->end;
}

static void told_init(struct told *t)
{
    *t = (struct told){ 0 };
    mutex_init(&t->lock);
    condition_init(&t->ready);
    for (int i = 0; i < 3; i++)
        buffer_init(&t->of[i], 4096);
}

static void told_done(struct told *t)
{
    for (int i = 0; i < 3; i++)
        buffer_done(&t->of[i]);
    condition_done(&t->ready);
    mutex_done(&t->lock);
}

static void drain_all(struct chat_answers *a, struct told *t)
{
    while (chat_answers_running(a) > 0) {
        mutex_lock(&t->lock);
        if (t->n_ready == 0)
            condition_wait(&t->ready, &t->lock, CLOCK_NS_PER_S);
        t->n_ready = 0;
        mutex_unlock(&t->lock);
        chat_answers_drain(a, on_event, t);
    }
}

/* Only 'C' may come. */
struct only {
    struct constraint base;
    atomic_int *alive;
};

static int only_allowed(struct constraint *c, int vocab, uint32_t *mask, struct error *e)
{
    mask[0] |= 1u << ('C' - 'A');
    return 0;
}

static int only_accept(struct constraint *c, int32_t id, struct error *e)
{
    return id == 'C' - 'A' ? 0 : fail(e, FAIL_RANGE, "token %d", id);
}

static void only_close(struct constraint *c)
{
    atomic_fetch_sub(((struct only *)c)->alive, 1);
    free(c);
}

static int only_clone(const struct constraint *c, struct constraint **ret, struct error *e);

static const struct constraint_ops only_ops = { only_allowed, only_accept, only_clone, only_close };

static struct constraint *only_open(atomic_int *alive)
{
    struct only *o = malloc(sizeof *o);
    assert_non_null(o);
    *o = (struct only){ { &only_ops }, alive };
    atomic_fetch_add(alive, 1);
    return &o->base;
}

static int only_clone(const struct constraint *c, struct constraint **ret, struct error *e)
{
    *ret = only_open(((const struct only *)c)->alive);
    return 0;
}

static const int32_t prompt[] = { 3, 1, 4 };

static struct chat_answers *start(struct engine *g, const struct vocab *v,
                                  const struct chat_request *q, const uint64_t *seeds, int n,
                                  struct told *t)
{
    struct chat_start starts[3];
    struct chat_answers *a = NULL;
    struct error e = { 0 };
    for (int i = 0; i < n; i++)
        starts[i] = (struct chat_start){
            .ids = prompt, .n = 3, .echo = bytes_text(i ? "" : "echo"), .seed = seeds[i]
        };
    const struct chat_answers_options o = { .engine = g,
                                            .vocab = v,
                                            .request = q,
                                            .starts = starts,
                                            .n = n,
                                            .on_ready = on_ready,
                                            .arg = t };
    assert_int_equal(chat_answers_start(&a, &o, &e), 0);
    return a;
}

static void answers_are_told_in_order(void **state)
{
    (void)state;
    struct fake f;
    struct told t;
    struct vocab *v = letters_open();
    const uint64_t seeds[] = { 7, 7, 8 };
    struct chat_request q = { .n = 3, .max_tokens = 20, .want_logprobs = true };
    q.sampling.temperature = 1.0f;
    q.sampling.want_logprob = true;
    fake_init(&f, 1);
    struct engine *g = open_engine(&f, 4, 60 * CLOCK_NS_PER_S);
    told_init(&t);
    struct chat_answers *a = start(g, v, &q, seeds, 3, &t);
    drain_all(a, &t);
    int tokens = 0;
    for (int i = 0; i < 3; i++) {
        const char *text = buffer_cstr(&t.of[i]);
        size_t head = i ? 1 : 5, n = strlen(text);
        assert_memory_equal(text, i ? "ST" : "SechoT", head + 1);
        assert_int_equal(text[n - 1], 'F');
        int sampled = t.end[i].usage.completion_tokens;
        bool stopped = t.end[i].finish == FINISH_STOP;
        assert_int_equal(n - head - 2, sampled - stopped);
        assert_int_equal(t.end[i].usage.prompt_tokens, 3);
        tokens += sampled - stopped;
    }
    assert_int_equal(t.tokens, tokens);
    assert_string_equal(buffer_cstr(&t.of[0]) + 5, buffer_cstr(&t.of[1]) + 1); /* one seed */
    assert_string_not_equal(buffer_cstr(&t.of[1]), buffer_cstr(&t.of[2]));
    chat_answers_close(a);
    told_done(&t);
    engine_close(g);
    vocab_close(v);
}

static void each_answer_keeps_to_the_constraint(void **state)
{
    (void)state;
    struct fake f;
    struct told t;
    struct vocab *v = letters_open();
    atomic_int alive = 0;
    const uint64_t seeds[] = { 1, 2, 3 };
    struct chat_request q = { .n = 3, .max_tokens = 5 };
    q.sampling.constraint = only_open(&alive);
    fake_init(&f, 1);
    struct engine *g = open_engine(&f, 4, 60 * CLOCK_NS_PER_S);
    told_init(&t);
    struct chat_answers *a = start(g, v, &q, seeds, 3, &t);
    drain_all(a, &t);
    for (int i = 0; i < 3; i++)
        assert_string_equal(buffer_cstr(&t.of[i]), i ? "STCCCCCF" : "SechoTCCCCCF");
    assert_int_equal(alive, 1); /* the request's own */
    chat_request_done(&q);
    assert_int_equal(alive, 0);
    chat_answers_close(a);
    told_done(&t);
    engine_close(g);
    vocab_close(v);
}

static void cancelled_ones_end_with_an_error(void **state)
{
    (void)state;
    struct fake f;
    struct told t;
    struct vocab *v = letters_open();
    const uint64_t seeds[] = { 1, 2, 3 };
    struct chat_request q = { .n = 3, .max_tokens = -1 };
    fake_init(&f, 1);
    atomic_store(&f.silent, true);
    struct engine *g = open_engine(&f, 4, 60 * CLOCK_NS_PER_S);
    told_init(&t);
    struct chat_answers *a = start(g, v, &q, seeds, 3, &t);
    chat_answers_cancel(a);
    atomic_store(&f.silent, false);
    drain_all(a, &t);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(t.end[i].finish, FINISH_CANCELLED);
        assert_int_equal(buffer_cstr(&t.of[i])[t.of[i].size - 1], 'E');
    }
    chat_answers_close(a);
    told_done(&t);
    engine_close(g);
    vocab_close(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_told_in_order),
        cmocka_unit_test(each_answer_keeps_to_the_constraint),
        cmocka_unit_test(cancelled_ones_end_with_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

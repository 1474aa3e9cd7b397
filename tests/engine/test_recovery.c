/* Executors come and go under an engine: no request notices but by a pause. */
#include "tests/engine/fake.h"

#include <stdio.h>

#include "base/random.h"

#define CLIENTS 10

static void make_prompt(int which, int32_t *prompt, int *n)
{
    *n = 5 + which * 17 % 90;
    for (int i = 0; i < *n; i++)
        prompt[i] = (i * 31 + (i < 20 ? 0 : which * 17)) % (VOCAB - 1);
}

static void submit_all(struct engine *g, struct client *c)
{
    int32_t prompt[CONTEXT];
    int n;
    struct error e = { 0 };
    for (int i = 0; i < CLIENTS; i++) {
        make_prompt(i, prompt, &n);
        c[i].more.rows = i % 3 == 2 ? ENGINE_ROWS_LOGITS : ENGINE_ROWS_NONE;
        c[i].more.first_row = n / 2;
        assert_int_equal(submit(g, &c[i], prompt,
                                (struct ask){ n, 60, .seed = (uint64_t)i, .greedy = i % 2 == 0 },
                                &e),
                         0);
    }
}

/* What each client is told when nothing happens. */
static void undisturbed(struct client *c)
{
    struct fake f;
    fake_init(&f, 1);
    struct engine *g = open_engine(&f, 4, 0);
    submit_all(g, c);
    for (int i = 0; i < CLIENTS; i++)
        wait_end(&c[i]);
    engine_close(g);
}

static void same_as(const struct client *want, const struct client *got)
{
    for (int i = 0; i < CLIENTS; i++) {
        assert_int_equal(got[i].finish, want[i].finish);
        assert_int_equal(got[i].n, want[i].n);
        assert_memory_equal(got[i].ids, want[i].ids, (size_t)want[i].n * sizeof(int32_t));
        assert_int_equal(got[i].usage.completion_tokens, want[i].usage.completion_tokens);
        assert_int_equal(got[i].n_rows, want[i].n_rows);
        assert_memory_equal(got[i].rows, want[i].rows,
                            (size_t)(want[i].n_rows * VOCAB) * sizeof(float));
    }
}

/* The head tells here that it lost its executor. */
struct losses {
    struct mutex lock;
    struct condition news;
    int n;
    char why[128];
};

static void on_lost(void *arg, const struct error *why)
{
    struct losses *l = arg;
    mutex_lock(&l->lock);
    l->n++;
    snprintf(l->why, sizeof(l->why), "%.100s", why->text);
    condition_signal(&l->news);
    mutex_unlock(&l->lock);
}

/* False when all requests ended instead. */
static bool wait_loss(struct losses *l, int n, struct client *c)
{
    for (;;) {
        mutex_lock(&l->lock);
        condition_wait(&l->news, &l->lock, 2 * CLOCK_NS_PER_MS);
        bool lost = l->n >= n;
        mutex_unlock(&l->lock);
        int ended = 0;
        for (int i = 0; i < CLIENTS; i++) {
            mutex_lock(&c[i].lock);
            ended += c[i].ended;
            mutex_unlock(&c[i].lock);
        }
        if (lost || ended == CLIENTS)
            return lost;
    }
}

/* Executors that break at a random submit or collect, of one to three stages, with and without the
 * power to truncate, one after another until everything is answered. */
static void lost_executors_change_no_token(void **state)
{
    static struct client want[CLIENTS], got[CLIENTS];
    static struct fake f[64];
    struct random r = { 7 };
    int all = 0;
    undisturbed(want);
    for (int round = 0; round < 40; round++) {
        struct losses l = { 0 };
        int n = 0;
        mutex_init(&l.lock);
        condition_init(&l.news);
        for (int k = 0; k < 64; k++) {
            fake_init(&f[k], 1 + (int)(random_next(&r) % 3));
            int at = 1 + (int)(random_next(&r) % 40);
            *(k % 2 ? &f[k].fail_at : &f[k].refuse_at) = at;
            f[k].x.can_truncate = random_next(&r) % 2;
        }
        struct engine *g = open_with(
            &f[0],
            &(struct engine_options){ .max_requests = 4, .on_lost = on_lost, .lost_arg = &l });
        submit_all(g, got);
        while (wait_loss(&l, n + 1, got)) {
            struct engine_stats stats;
            struct error e = { 0 };
            assert_int_equal(f[n].closed, 1);
            engine_stats(g, &stats);
            assert_true(stats.suspended && !stats.broken && stats.active == 0);
            assert_non_null(strstr(stats.why, "was lost"));
            n++;
            if (n == 20)
                f[n].fail_at = f[n].refuse_at = 0;
            assert_int_equal(engine_resume(g, &f[n].x, &e), 0);
        }
        for (int i = 0; i < CLIENTS; i++)
            wait_end(&got[i]);
        same_as(want, got);
        engine_close(g);
        assert_int_equal(f[n].closed, 1);
        all += n;
    }
    assert_true(all > 100);
    (void)state;
}

/* Given up from outside, at any moment, again and again. */
static void a_suspended_engine_goes_on_where_it_was(void **state)
{
    static struct client want[CLIENTS], got[CLIENTS];
    static struct fake f[30];
    undisturbed(want);
    fake_init(&f[0], 2);
    struct engine *g = open_engine(&f[0], 4, 0);
    submit_all(g, got);
    for (int k = 1; k < 30; k++) {
        struct error e = { 0 };
        assert_int_equal(engine_suspend(g, "re-planned", &e), 0);
        assert_int_equal(f[k - 1].closed, 1);
        assert_int_equal(engine_suspend(g, "again", &e), 0);
        fake_init(&f[k], 1 + k % 3);
        assert_int_equal(engine_resume(g, &f[k].x, &e), 0);
    }
    for (int i = 0; i < CLIENTS; i++)
        wait_end(&got[i]);
    same_as(want, got);
    engine_close(g);
    (void)state;
}

/* While it waits an engine takes requests, lets them go, and ends them when there is no hope. */
static void a_suspended_engine_serves_its_queue(void **state)
{
    static struct client c[CLIENTS];
    struct fake f, wrong;
    struct error e = { 0 };
    struct engine_stats stats;
    fake_init(&f, 1);
    struct engine *g = open_engine(&f, 4, 0);
    assert_int_equal(engine_suspend(g, "device B sleeps", &e), 0);
    submit_all(g, c);
    engine_stats(g, &stats);
    assert_int_equal(stats.queued, CLIENTS);
    assert_true(stats.suspended && strstr(stats.why, "device B sleeps"));
    engine_cancel(g, c[3].ticket);
    wait_end(&c[3]);
    assert_int_equal(c[3].finish, FINISH_CANCELLED);
    fake_init(&wrong, 1);
    wrong.x.vocab = VOCAB + 1;
    assert_int_equal(engine_resume(g, &wrong.x, &e), FAIL_ARG);
    assert_int_equal(wrong.closed, 1);
    const struct error end = { FAIL_CLOSED, "device B did not come back" };
    engine_fail(g, &end);
    for (int i = 0; i < CLIENTS; i++) {
        wait_end(&c[i]);
        assert_int_equal(c[i].finish, i == 3 ? FINISH_CANCELLED : FINISH_ERROR);
        assert_true(i == 3 || strstr(c[i].error, "did not come back"));
    }
    int32_t prompt[] = { 1, 2 };
    e = (struct error){ 0 };
    assert_int_equal(submit(g, &c[0], prompt, (struct ask){ 2, 1 }, &e), FAIL_CLOSED);
    assert_int_equal(engine_suspend(g, "late", &e), FAIL_CLOSED);
    fake_init(&wrong, 1);
    assert_int_equal(engine_resume(g, &wrong.x, &e), FAIL_STATE);
    assert_int_equal(wrong.closed, 1);
    engine_close(g);
    (void)state;
}

/* The next executor has less room: what fits goes on, what doesn't is told why. */
static void a_smaller_context_is_told(void **state)
{
    struct client c[3] = { 0 };
    struct fake f[2];
    struct error e = { 0 };
    int32_t prompt[CONTEXT] = { 0 };
    fake_init(&f[0], 1);
    atomic_store(&f[0].silent, true);
    struct engine *g = open_engine(&f[0], 4, 0);
    assert_int_equal(submit(g, &c[0], prompt, (struct ask){ 200, 5, 1 }, &e), 0);
    assert_int_equal(submit(g, &c[1], prompt, (struct ask){ 60, 3, 1 }, &e), 0);
    assert_int_equal(submit(g, &c[2], prompt, (struct ask){ 120, -1, 1 }, &e), 0);
    assert_int_equal(engine_suspend(g, "", &e), 0);
    fake_init(&f[1], 1);
    f[1].x.max_context = 128;
    assert_int_equal(engine_resume(g, &f[1].x, &e), 0);
    for (int i = 0; i < 3; i++)
        wait_end(&c[i]);
    assert_int_equal(c[0].finish, FINISH_ERROR);
    assert_non_null(strstr(c[0].error, "the context is 128 now"));
    assert_true(c[1].finish != FINISH_ERROR && c[1].n <= 3);
    assert_true(c[2].finish != FINISH_ERROR && c[2].n <= 8);
    assert_int_equal(engine_context(g), 128);
    engine_close(g);
    (void)state;
}

/* Clients that come and go on a thread of their own. */
struct crowd {
    struct engine *engine;
    struct client *clients;
    int n, refused;
};

static void *crowd_run(void *arg)
{
    struct crowd *c = arg;
    struct random r = { 99 };
    int32_t prompt[CONTEXT];
    for (int i = 0; i < c->n; i++) {
        struct error e = { 0 };
        int n;
        make_prompt(i % 20, prompt, &n);
        int code = submit(c->engine, &c->clients[i], prompt,
                          (struct ask){ n, 1 + (int)(random_next(&r) % 60), .seed = 1 }, &e);
        while (code == FAIL_BUSY)
            code = submit(c->engine, &c->clients[i], prompt, (struct ask){ n, 10, .seed = 1 }, &e);
        if (code) {
            assert_int_equal(code, FAIL_CLOSED);
            c->refused++;
            c->clients[i].ended = true;
        } else if (random_next(&r) % 3 == 0) {
            engine_cancel(c->engine, c->clients[i].ticket);
        }
    }
    return NULL;
}

/* Clients on one thread, executors that come, go and break on another, and an end in the middle of
 * it: each request ends once. */
static void everything_at_once(void **state)
{
    static struct client c[600];
    static struct fake f[40];
    for (int round = 0; round < 4; round++) {
        struct crowd crowd = { .clients = c, .n = 600 };
        struct thread thread;
        struct error e = { 0 };
        struct losses l = { 0 };
        struct random r = { (uint64_t)round };
        mutex_init(&l.lock);
        condition_init(&l.news);
        fake_init(&f[0], 1);
        crowd.engine = open_with(
            &f[0],
            &(struct engine_options){ .max_requests = 6, .on_lost = on_lost, .lost_arg = &l });
        assert_int_equal(thread_start(&thread, crowd_run, &crowd, &e), 0);
        for (int k = 1; k < 40; k++) {
            fake_init(&f[k], 1 + k % 3);
            f[k].fail_at = 1 + (int)(random_next(&r) % 50);
            f[k].x.can_truncate = k % 2;
            assert_int_equal(engine_suspend(crowd.engine, "again", &e), 0);
            assert_int_equal(engine_resume(crowd.engine, &f[k].x, &e), 0);
        }
        const struct error end = { FAIL_CLOSED, "enough" };
        if (round % 2) {
            engine_fail(crowd.engine, &end);
        } else {
            struct fake *last = &f[0];
            assert_int_equal(engine_suspend(crowd.engine, "again", &e), 0);
            fake_init(last, 2);
            assert_int_equal(engine_resume(crowd.engine, &last->x, &e), 0);
        }
        thread_join(&thread);
        for (int i = 0; i < crowd.n; i++)
            if (c[i].ticket)
                wait_end(&c[i]);
        assert_true(round % 2 || crowd.refused == 0);
        engine_close(crowd.engine);
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lost_executors_change_no_token),
        cmocka_unit_test(a_suspended_engine_goes_on_where_it_was),
        cmocka_unit_test(a_suspended_engine_serves_its_queue),
        cmocka_unit_test(a_smaller_context_is_told),
        cmocka_unit_test(everything_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

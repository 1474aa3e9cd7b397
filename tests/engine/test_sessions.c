/* Sessions, the prefix cache and the order of prefill: what is decided without an executor. */
#include "tests/test.h"

#include "base/random.h"
#include "engine/schedule.h"

#include <stdlib.h>

#define LONG 4000

struct fixture {
    struct commands commands;
    struct sessions sessions;
};

static void open_fixture(struct fixture *f, struct sessions_grant grant)
{
    struct error e = { 0 };
    *f = (struct fixture){ 0 };
    assert_int_equal(commands_init(&f->commands, &e), 0);
    assert_int_equal(sessions_init(&f->sessions, &grant, &f->commands, &e), 0);
}

static void close_fixture(struct fixture *f)
{
    sessions_done(&f->sessions);
    commands_done(&f->commands);
}

static struct session *take(struct fixture *f, const int32_t *tokens, int n, int *reused)
{
    const struct sessions_ask ask = { tokens, n, n, n - 1 };
    return sessions_take(&f->sessions, &ask, reused);
}

static void fill(int32_t *tokens, int n, int which)
{
    for (int i = 0; i < n; i++)
        tokens[i] = which * 1000 + i % 900;
}

static int count(const struct fixture *f, enum step_command_op op)
{
    int n = 0;
    for (int i = 0; i < f->commands.n; i++)
        n += f->commands.list[i].op == op;
    return n;
}

/* One long conversation and a hundred short questions of others, in little room: the long one's
 * beginning is still there. */
static void short_requests_do_not_empty_the_cache(void **state)
{
    int32_t conversation[LONG], other[64];
    int reused = -1;
    struct fixture f;
    open_fixture(&f, (struct sessions_grant){ 8, LONG + 1024, true });
    fill(conversation, LONG, 1);
    sessions_leave(&f.sessions, take(&f, conversation, LONG, &reused), conversation, LONG - 10);
    for (int i = 0; i < 100; i++) {
        fill(other, 64, 2 + i);
        struct session *s = take(&f, other, 60, &reused);
        assert_non_null(s);
        assert_int_equal(reused, 0);
        sessions_leave(&f.sessions, s, other, 64);
        commands_clear(&f.commands);
    }
    assert_non_null(take(&f, conversation, LONG, &reused));
    assert_int_equal(reused, LONG - 10);
    close_fixture(&f);
    (void)state;
}

/* A short question that begins like a long conversation takes a copy of the beginning; where there
 * is no room for one, what it needs. */
static void a_common_beginning_is_copied_where_there_is_room(void **state)
{
    int32_t conversation[LONG];
    int reused = -1;
    for (int room = 0; room < 2; room++) {
        struct fixture f;
        open_fixture(&f, (struct sessions_grant){ 8, LONG + (room ? 640 : 0), true });
        fill(conversation, LONG, 1);
        sessions_leave(&f.sessions, take(&f, conversation, LONG, &reused), conversation, LONG);
        conversation[500] = -1;
        assert_non_null(take(&f, conversation, 520, &reused));
        assert_int_equal(reused, 500);
        assert_int_equal(count(&f, STEP_FORK), room);
        conversation[500] = 1500;
        assert_int_equal(take(&f, conversation, LONG, &reused) != NULL, room);
        assert_int_equal(reused, room ? LONG - 1 : 500);
        close_fixture(&f);
    }
    (void)state;
}

/* What an executor would hold of the commands. */
struct held {
    uint32_t id[4096];
    int n;
};

static void hold(struct held *h, struct commands *c)
{
    for (int i = 0; i < c->n; i++) {
        const struct step_command *m = &c->list[i];
        bool makes = m->op == STEP_CREATE || m->op == STEP_FORK || m->op == STEP_CHECKPOINT;
        uint32_t id = m->op == STEP_CHECKPOINT ? m->other : m->session;
        int at = 0;
        while (at < h->n && h->id[at] != id)
            at++;
        assert_int_equal(at < h->n, !makes);
        if (makes)
            h->id[h->n++] = id;
        else if (m->op == STEP_FREE)
            h->id[at] = h->id[--h->n];
    }
    commands_clear(c);
}

/* Thousands of random requests: the account is that of the executor, grants are kept, commands
 * always fit, also when none goes out for long. */
static void the_account_is_kept(void **state)
{
    static struct held h;
    int32_t tokens[1024];
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct random r = { seed };
        struct fixture f;
        struct session *live[64];
        int n_live = 0, n_tokens[64], beginning[64], refused = 0;
        const struct sessions_grant grant = { 4 + (int)(random_next(&r) % 60),
                                              64 * (16 + random_next(&r) % 200), seed % 2 };
        open_fixture(&f, grant);
        h.n = 0;
        for (int i = 0; i < 20000; i++) {
            uint64_t what = random_next(&r) % 8;
            int k = n_live ? (int)(random_next(&r) % (uint64_t)n_live) : 0, reused = 0;
            if (what < 4 && n_live < 64) {
                int n = 1 + (int)(random_next(&r) % 1000), which = (int)(random_next(&r) % 5);
                fill(tokens, n, which);
                live[n_live] = take(&f, tokens, n, &reused);
                assert_true(reused < n);
                n_tokens[n_live] = n;
                beginning[n_live] = which;
                refused += !live[n_live];
                n_live += live[n_live] != NULL;
            } else if (what < 6 && n_live) {
                fill(tokens, n_tokens[k], beginning[k]);
                sessions_leave(&f.sessions, live[k], tokens, n_tokens[k]);
                live[k] = live[--n_live];
                n_tokens[k] = n_tokens[n_live];
                beginning[k] = beginning[n_live];
            } else if (what == 6 && n_live) {
                int more = (int)(random_next(&r) % 100);
                if (n_tokens[k] + more < 1000 &&
                    sessions_grow(&f.sessions, live[k], n_tokens[k] + more))
                    n_tokens[k] += more;
            } else if (n_live) {
                sessions_checkpoint(&f.sessions, live[k], n_tokens[k], 0);
            }
            assert_true((uint64_t)sessions_pages(&f.sessions) * SESSION_PAGE <= grant.tokens);
            assert_true(sessions_in_use(&f.sessions) <= grant.max_sessions);
            if (random_next(&r) % (seed < 10 ? 3 : 3000) == 0) {
                hold(&h, &f.commands);
                assert_int_equal(h.n, sessions_in_use(&f.sessions));
            }
        }
        assert_true(refused > 0);
        close_fixture(&f);
    }
    (void)state;
}

static struct request *new_request(int n)
{
    int32_t tokens[LONG];
    struct request *r = NULL;
    fill(tokens, n, n);
    const struct engine_request ask = { .prompt = tokens, .n_prompt = n, .max_tokens = 1 };
    assert_int_equal(request_open(&r, &ask, 2 * LONG, NULL), 0);
    return r;
}

static void close_all(struct schedule *s)
{
    while (s->n_active) {
        struct request *r = s->active[0];
        schedule_remove(s, r);
        request_close(r);
    }
    schedule_done(s);
}

/* One step goes out and comes back; returns the longest prompt that ended with it. */
static int step(struct schedule *s)
{
    struct flight *f = schedule_form(s);
    int ended = 0;
    if (!f)
        return 0;
    schedule_sent(s);
    for (int i = 0; i < f->n_runs; i++) {
        struct request *r = f->runs[i].request;
        r->in_flight--;
        r->n_done += f->runs[i].count;
        if (f->runs[i].samples) {
            ended = r->n_prompt > ended ? r->n_prompt : ended;
            r->phase = REQUEST_DECODE;
            r->cancelled = true; /* its own decode is of no interest here */
        }
    }
    schedule_pop(s);
    for (int i = s->n_active - 1; i >= 0; i--)
        if (s->active[i]->cancelled) {
            struct request *r = s->active[i];
            schedule_remove(s, r);
            request_close(r);
        }
    return ended;
}

/* A long prompt does not keep short ones waiting, and no number of them keeps it waiting. */
static void prefill_is_shared_fairly(void **state)
{
    struct schedule s;
    const struct schedule_options o = {
        .max_requests = 64, .max_rows = 512, .depth = 1, .grant = { 200, 1 << 20, true }
    };
    assert_int_equal(schedule_init(&s, &o, NULL), 0);
    assert_true(schedule_admit(&s, new_request(LONG))); /* 8 steps alone */
    assert_int_equal(step(&s), 0);
    assert_int_equal(step(&s), 0);
    assert_true(schedule_admit(&s, new_request(100)));
    int steps = 0, ended = 0;
    while ((ended = step(&s)) == 0)
        steps++;
    assert_int_equal(ended, 100);
    assert_true(steps <= 1);
    for (steps = 0; ended != LONG; steps++) {
        if (s.n_active < 64) /* more comes than can be done */
            assert_true(schedule_admit(&s, new_request(600 + steps)));
        ended = step(&s);
    }
    assert_true(steps >= 16 && steps <= 4 * LONG / 512 + 8);
    close_all(&s);
    (void)state;
}

/* Thousands are admitted and cancelled while one step takes long: each leaves commands to do, for
 * which there is room, or it is not admitted until the step is back. */
static void a_storm_of_cancelled_requests_is_weathered(void **state)
{
    for (int way = 0; way < 2; way++) {
        struct schedule s;
        const struct schedule_options o = {
            .max_requests = 4, .max_rows = 512, .depth = 1, .grant = { 32, 1 << 14, way }
        };
        int admitted = 0;
        assert_int_equal(schedule_init(&s, &o, NULL), 0);
        for (int round = 0; round < 2; round++) {
            assert_true(schedule_admit(&s, new_request(100)));
            assert_non_null(schedule_form(&s));
            schedule_sent(&s);
            for (int i = 0; i < 5000; i++) {
                struct request *r = new_request(1 + i % 100);
                if (schedule_admit(&s, r)) {
                    admitted++;
                    r->n_done = i % 3 ? r->n_prompt : 0;
                    schedule_remove(&s, r);
                }
                request_close(r);
            }
            struct request *first = s.active[0];
            first->in_flight = 0;
            schedule_remove(&s, first);
            request_close(first);
            schedule_pop(&s);
            /* What was left to do goes out also when nobody else comes. */
            assert_non_null(schedule_form(&s));
            assert_int_equal(s.step.n_rows, 0);
            assert_true(s.step.n_commands >= COMMANDS_MANY);
            schedule_sent(&s);
            schedule_pop(&s);
            assert_null(schedule_form(&s));
        }
        assert_true(admitted > 2 * 1500 && admitted < 2 * 5000);
        close_all(&s);
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_requests_do_not_empty_the_cache),
        cmocka_unit_test(a_common_beginning_is_copied_where_there_is_room),
        cmocka_unit_test(the_account_is_kept),
        cmocka_unit_test(prefill_is_shared_fairly),
        cmocka_unit_test(a_storm_of_cancelled_requests_is_weathered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The head on an executor made here: it keeps every rule of steps and answers with logits that are
 * a function of the sequence alone, so that tokens must not depend on batching, reuse or order. */
#include "tests/test.h"

#include "base/random.h"
#include "engine/engine.h"
#include "os/clock.h"
#include "os/thread.h"

#include <math.h>
#include <stdio.h>

#define VOCAB 50
#define EOG 49
#define MAX_SESSIONS 64
#define CONTEXT 256
#define MAX_FLIGHT 4

struct fake_session {
    bool used, is_checkpoint;
    uint32_t id;
    int32_t ids[CONTEXT];
    int n;
};

struct fake {
    struct executor x;
    struct fake_session sessions[MAX_SESSIONS];
    float logits[MAX_FLIGHT][64 * VOCAB];
    struct step_result results[MAX_FLIGHT];
    int first, count;
    int steps, rows, mixed_steps, most_runs;
    int fail_at; /* step whose collect fails; 0: never */
    bool silent; /* collect only times out */
    bool down;
    int restores, checkpoints, in_use, most_in_use;
    int closed;
    bool numberless; /* gives NaN for every logit */
};

static struct fake_session *session_of(struct fake *f, uint32_t id)
{
    for (int i = 0; i < MAX_SESSIONS; i++)
        if (f->sessions[i].used && f->sessions[i].id == id)
            return &f->sessions[i];
    return NULL;
}

static struct fake_session *free_slot(struct fake *f)
{
    for (int i = 0; i < MAX_SESSIONS; i++)
        if (!f->sessions[i].used) {
            f->in_use++;
            f->most_in_use = f->in_use > f->most_in_use ? f->in_use : f->most_in_use;
            return &f->sessions[i];
        }
    fail_test("more than %d sessions", MAX_SESSIONS);
    return NULL;
}

static void do_command(struct fake *f, const struct step_command *c)
{
    struct fake_session *s = session_of(f, c->session), *other = session_of(f, c->other);
    switch (c->op) {
    case STEP_CREATE:
        assert_null(s);
        *free_slot(f) = (struct fake_session){ .used = true, .id = c->session };
        break;
    case STEP_TRUNCATE:
        assert_non_null(s);
        assert_true(f->x.can_truncate);
        assert_true(c->position <= s->n);
        s->n = c->position;
        break;
    case STEP_CHECKPOINT:
        assert_non_null(s);
        assert_null(other);
        other = free_slot(f);
        *other = *s;
        other->id = c->other;
        other->is_checkpoint = true;
        f->checkpoints++;
        break;
    case STEP_RESTORE:
        assert_true(s && other && !s->is_checkpoint && other->is_checkpoint);
        memcpy(s->ids, other->ids, sizeof(s->ids));
        s->n = other->n;
        f->restores++;
        break;
    case STEP_FREE:
        assert_non_null(s);
        s->used = false;
        f->in_use--;
        break;
    default:
        fail_test("unexpected command %d", (int)c->op);
    }
}

/* The logits that follow a sequence: pseudo-random from all its ids. The end token is likely after
 * a multiple of 13 of them. */
static void logits_after(const struct fake_session *s, float *out)
{
    uint64_t h = 1;
    for (int i = 0; i < s->n; i++)
        h = random_mix(h + (uint64_t)s->ids[i] + 1);
    for (int i = 0; i < VOCAB; i++)
        out[i] = (float)random_unit(random_at(h, (uint64_t)i)) * 4;
    out[EOG] = h % 13 == 0 ? 10.0f : -10.0f;
}

static int fake_submit(struct executor *x, const struct step *s, uint64_t deadline_ns,
                       struct error *e)
{
    struct fake *f = (struct fake *)x;
    (void)deadline_ns;
    if (f->down)
        return fail(e, FAIL_CLOSED, "down");
    assert_true(f->count < x->depth);
    assert_true(s->n_rows > 0 && s->n_rows <= x->max_rows);
    for (int i = 0; i < s->n_commands; i++)
        do_command(f, &s->commands[i]);
    int at = (f->first + f->count) % MAX_FLIGHT, row = 0, wanted = 0;
    int prefills = 0, decodes = 0;
    for (int i = 0; i < s->n_runs; i++) {
        struct fake_session *session = session_of(f, s->runs[i].session);
        assert_non_null(session);
        assert_int_equal(session->n, s->runs[i].first);
        for (int k = 0; k < s->runs[i].count; k++, row++) {
            assert_true(session->n < CONTEXT);
            session->ids[session->n++] = s->ids[row];
            if (!s->wanted[row])
                continue;
            float *out = f->logits[at] + wanted++ * VOCAB;
            logits_after(session, out);
            for (int v = 0; v < VOCAB && f->numberless; v++)
                out[v] = NAN;
        }
        prefills += s->runs[i].count > 1;
        decodes += s->runs[i].count == 1;
    }
    assert_int_equal(row, s->n_rows);
    assert_int_equal(wanted, s->n_wanted);
    f->results[at] =
        (struct step_result){ .id = s->id, .logits = f->logits[at], .n_wanted = wanted };
    f->count++;
    f->steps++;
    f->rows += s->n_rows;
    f->mixed_steps += prefills && decodes;
    f->most_runs = s->n_runs > f->most_runs ? s->n_runs : f->most_runs;
    return 0;
}

static int fake_collect(struct executor *x, struct step_result *ret, uint64_t deadline_ns,
                        struct error *e)
{
    struct fake *f = (struct fake *)x;
    if (f->down)
        return fail(e, FAIL_CLOSED, "down");
    if (f->fail_at && f->steps >= f->fail_at)
        return fail(e, FAIL_CLOSED, "device B was lost");
    if (f->silent) {
        while (clock_now_ns() < deadline_ns && !f->down)
            ;
        return fail(e, FAIL_TIMEOUT, "silence");
    }
    assert_true(f->count > 0);
    *ret = f->results[f->first];
    f->first = (f->first + 1) % MAX_FLIGHT;
    f->count--;
    return 0;
}

static void fake_shutdown(struct executor *x)
{
    ((struct fake *)x)->down = true;
}

static void fake_close(struct executor *x)
{
    ((struct fake *)x)->closed++;
}

static const struct executor_ops fake_ops = { fake_submit, fake_collect, fake_shutdown,
                                              fake_close };

static void fake_init(struct fake *f, int depth)
{
    memset(f, 0, sizeof(*f));
    f->x = (struct executor){ .ops = &fake_ops,
                              .vocab = VOCAB,
                              .depth = depth,
                              .max_rows = 16,
                              .max_context = CONTEXT,
                              .can_truncate = true };
}

static struct engine *open_engine(struct fake *f, int max_requests, uint64_t timeout_ns)
{
    static uint8_t eog[VOCAB];
    struct engine *g = NULL;
    struct error e = { 0 };
    eog[EOG] = 1;
    const struct engine_options o = { .executor = &f->x,
                                      .vocab = VOCAB,
                                      .is_eog = eog,
                                      .max_requests = max_requests,
                                      .max_queue = 40,
                                      .step_timeout_ns = timeout_ns };
    assert_int_equal(engine_open(&g, &o, &e), 0);
    return g;
}

/* One client of the engine. */
struct client {
    struct mutex lock;
    struct condition wake;
    bool ended;
    enum engine_finish finish;
    struct engine_usage usage;
    char error[128];
    int32_t ids[CONTEXT];
    int n, stop_after, progress;
    uint64_t ticket;
};

static enum engine_verdict on_token(void *arg, const struct engine_token *t)
{
    struct client *c = arg;
    c->ids[c->n++] = t->id;
    return c->stop_after && c->n >= c->stop_after ? ENGINE_STOP : ENGINE_CONTINUE;
}

static void on_progress(void *arg, int done, int total)
{
    struct client *c = arg;
    assert_true(done <= total);
    c->progress++;
}

static void on_end(void *arg, enum engine_finish finish, const struct engine_usage *usage,
                   const struct error *error)
{
    struct client *c = arg;
    mutex_lock(&c->lock);
    assert_false(c->ended);
    c->ended = true;
    c->finish = finish;
    c->usage = *usage;
    snprintf(c->error, sizeof(c->error), "%.100s", error ? error->text : "");
    condition_signal(&c->wake);
    mutex_unlock(&c->lock);
}

struct ask {
    int n_prompt;
    int max_tokens;
    uint64_t seed;
};

static int submit(struct engine *g, struct client *c, const int32_t *prompt, struct ask ask,
                  struct error *e)
{
    *c = (struct client){ .stop_after = c->stop_after };
    mutex_init(&c->lock);
    condition_init(&c->wake);
    const struct engine_request r = { .prompt = prompt,
                                      .n_prompt = ask.n_prompt,
                                      .max_tokens = ask.max_tokens,
                                      .sampling = { .temperature = 1.0f, .seed = ask.seed },
                                      .on_token = on_token,
                                      .on_progress = on_progress,
                                      .on_end = on_end,
                                      .arg = c };
    return engine_submit(g, &r, &c->ticket, e);
}

static void wait_end(struct client *c)
{
    uint64_t deadline = clock_deadline(20 * CLOCK_NS_PER_S);
    mutex_lock(&c->lock);
    while (!c->ended && clock_now_ns() < deadline)
        condition_wait(&c->wake, &c->lock, CLOCK_NS_PER_S);
    bool ended = c->ended;
    mutex_unlock(&c->lock);
    assert_true(ended);
}

static void make_prompt(int which, int32_t *prompt, int *n)
{
    *n = 5 + which * 7 % 60;
    for (int i = 0; i < *n; i++)
        prompt[i] = (i * 31 + (i < 20 ? 0 : which * 17)) % (VOCAB - 1);
}

/* Alone, and among others on one and on three stages: the same tokens. */
static void tokens_do_not_depend_on_company(void **state)
{
    (void)state;
    static struct client alone[12], among[12];
    int32_t prompt[CONTEXT];
    int n;
    struct error e = { 0 };
    for (int i = 0; i < 12; i++) {
        struct fake f;
        fake_init(&f, 1);
        struct engine *g = open_engine(&f, 4, 0);
        make_prompt(i, prompt, &n);
        assert_int_equal(submit(g, &alone[i], prompt, (struct ask){ n, 40, (uint64_t)i }, &e), 0);
        wait_end(&alone[i]);
        engine_close(g);
    }
    for (int depth = 1; depth <= 3; depth++) {
        struct fake f;
        fake_init(&f, depth);
        struct engine *g = open_engine(&f, 4, 0);
        for (int round = 0; round < 3; round++) {
            for (int i = 0; i < 12; i++) {
                make_prompt(i, prompt, &n);
                assert_int_equal(
                    submit(g, &among[i], prompt, (struct ask){ n, 40, (uint64_t)i }, &e), 0);
            }
            for (int i = 0; i < 12; i++) {
                wait_end(&among[i]);
                assert_int_equal(among[i].n, alone[i].n);
                assert_int_equal(among[i].finish, alone[i].finish);
                assert_memory_equal(among[i].ids, alone[i].ids,
                                    (size_t)alone[i].n * sizeof(int32_t));
            }
        }
        assert_true(f.most_runs > 1);
        engine_close(g);
    }
}

static void limits_end_requests(void **state)
{
    (void)state;
    struct fake f;
    struct client c = { 0 };
    struct error e = { 0 };
    int32_t prompt[CONTEXT] = { 1, 2, 3 };
    fake_init(&f, 1);
    struct engine *g = open_engine(&f, 2, 0);
    assert_int_equal(submit(g, &c, prompt, (struct ask){ 3, 1, 1 }, &e), 0);
    wait_end(&c);
    assert_int_equal(c.n, 1);
    assert_int_equal(c.usage.completion_tokens, 1);
    assert_int_equal(c.usage.prompt_tokens, 3);
    c.stop_after = 2;
    assert_int_equal(submit(g, &c, prompt, (struct ask){ 3, 100, 1 }, &e), 0);
    wait_end(&c);
    assert_true(c.n <= 2);
    assert_int_equal(c.finish, FINISH_STOP);
    assert_int_equal(submit(g, &c, prompt, (struct ask){ CONTEXT, 1, 1 }, &e), FAIL_LIMIT);
    prompt[1] = VOCAB;
    assert_int_equal(submit(g, &c, prompt, (struct ask){ 3, 1, 1 }, &e), FAIL_RANGE);
    engine_close(g);
}

static void a_common_beginning_is_not_computed_again(void **state)
{
    (void)state;
    struct fake f;
    struct client c = { 0 };
    struct error e = { 0 };
    int32_t prompt[CONTEXT];
    for (int i = 0; i < 100; i++)
        prompt[i] = i % 40;
    fake_init(&f, 1);
    struct engine *g = open_engine(&f, 2, 0);
    assert_int_equal(submit(g, &c, prompt, (struct ask){ 80, 3, 1 }, &e), 0);
    wait_end(&c);
    assert_int_equal(c.usage.cached_tokens, 0);
    prompt[60] = 45;
    assert_int_equal(submit(g, &c, prompt, (struct ask){ 90, 3, 1 }, &e), 0);
    wait_end(&c);
    assert_int_equal(c.usage.cached_tokens, 60);
    engine_close(g);
}

/* Sequences taken back to any earlier position by checkpoint and replay, where the state itself
 * can't go back: the tokens of a fresh run, and only the part behind the checkpoint is computed. */
static void a_state_that_cannot_go_back_is_restored_and_replayed(void **state)
{
    (void)state;
    const int cuts[] = { 199, 180, 150, 100, 30 };
    for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
        struct fake f;
        struct client c = { 0 }, fresh = { 0 };
        struct error e = { 0 };
        int32_t prompt[CONTEXT];
        for (int k = 0; k < 220; k++)
            prompt[k] = k * 7 % 40;
        fake_init(&f, 1 + (int)i % 3);
        f.x.can_truncate = false;
        f.x.max_sessions = 6;
        struct engine *g = open_engine(&f, 2, 0);
        assert_int_equal(submit(g, &c, prompt, (struct ask){ 200, 20, 1 }, &e), 0);
        wait_end(&c);
        assert_true(f.checkpoints > 0);
        for (int k = cuts[i]; k < 220; k++)
            prompt[k] = k * 5 % 40 + 1;
        assert_int_equal(submit(g, &c, prompt, (struct ask){ 220, 10, 7 }, &e), 0);
        wait_end(&c);
        assert_true(c.usage.cached_tokens <= cuts[i]);
        assert_true(cuts[i] < 64 || c.usage.cached_tokens >= cuts[i] - 80);
        assert_int_equal(f.restores, c.usage.cached_tokens > 0);
        assert_true(f.most_in_use <= 6);
        engine_close(g);
        fake_init(&f, 1);
        g = open_engine(&f, 2, 0);
        assert_int_equal(submit(g, &fresh, prompt, (struct ask){ 220, 10, 7 }, &e), 0);
        wait_end(&fresh);
        assert_int_equal(fresh.n, c.n);
        assert_memory_equal(fresh.ids, c.ids, (size_t)c.n * sizeof(int32_t));
        engine_close(g);
    }
}

/* Many requests with common beginnings in little room: checkpoints come and go, and no session
 * goes beyond what the executor holds. */
static void checkpoints_stay_within_their_room(void **state)
{
    (void)state;
    static struct client alone[12], among[12];
    int32_t prompt[CONTEXT];
    for (int room = 3; room <= 12; room += 3) {
        struct fake f;
        struct error e = { 0 };
        fake_init(&f, 2);
        f.x.can_truncate = false;
        f.x.max_sessions = room;
        struct engine *g = open_engine(&f, 3, 0);
        for (int round = 0; round < 2; round++)
            for (int i = 0; i < 12; i++) {
                struct client *c = round ? &among[i] : &alone[i];
                for (int k = 0; k < 160; k++)
                    prompt[k] = (k * 3 + (k < 20 * (i % 4) ? 0 : i)) % 40;
                assert_int_equal(submit(g, c, prompt, (struct ask){ 160, 30, (uint64_t)i }, &e), 0);
                if (!round)
                    wait_end(c);
            }
        for (int i = 0; i < 12; i++) {
            wait_end(&among[i]);
            assert_int_equal(among[i].n, alone[i].n);
            assert_memory_equal(among[i].ids, alone[i].ids, (size_t)alone[i].n * sizeof(int32_t));
        }
        assert_true(f.most_in_use <= room);
        engine_close(g);
    }
}

static void a_cancelled_request_ends_and_others_go_on(void **state)
{
    (void)state;
    struct fake f;
    static struct client a, b;
    struct error e = { 0 };
    int32_t prompt[CONTEXT] = { 4, 5, 6 };
    fake_init(&f, 2);
    struct engine *g = open_engine(&f, 1, 0); /* b waits in the queue */
    assert_int_equal(submit(g, &a, prompt, (struct ask){ 3, -1, 9 }, &e), 0);
    assert_int_equal(submit(g, &b, prompt, (struct ask){ 3, 5, 9 }, &e), 0);
    engine_cancel(g, a.ticket);
    wait_end(&a);
    wait_end(&b);
    assert_true(a.finish == FINISH_CANCELLED || a.finish == FINISH_STOP ||
                a.finish == FINISH_LENGTH);
    assert_true(b.finish == FINISH_STOP || b.finish == FINISH_LENGTH);
    engine_cancel(g, 12345);
    engine_close(g);
}

static void a_lost_placement_tells_everybody_why(void **state)
{
    (void)state;
    struct fake f;
    static struct client c[6];
    struct error e = { 0 };
    int32_t prompt[CONTEXT] = { 7, 8, 9 };
    fake_init(&f, 2);
    f.fail_at = 5;
    struct engine *g = open_engine(&f, 2, 0);
    int accepted = 0;
    for (int i = 0; i < 6; i++)
        accepted += submit(g, &c[accepted], prompt, (struct ask){ 3, -1, (uint64_t)i }, &e) == 0;
    for (int i = 0; i < accepted; i++)
        wait_end(&c[i]);
    int told = 0;
    for (int i = 0; i < accepted; i++)
        told += c[i].finish == FINISH_ERROR && strstr(c[i].error, "device B was lost");
    assert_true(told > 0);
    struct client late = { 0 };
    e = (struct error){ 0 };
    assert_int_equal(submit(g, &late, prompt, (struct ask){ 3, 5, 1 }, &e), FAIL_CLOSED);
    assert_non_null(strstr(e.text, "device B was lost"));
    struct engine_stats stats;
    engine_stats(g, &stats);
    assert_true(stats.broken);
    engine_close(g);
}

static void silence_has_a_deadline(void **state)
{
    (void)state;
    struct fake f;
    struct client c = { 0 };
    struct error e = { 0 };
    int32_t prompt[CONTEXT] = { 7, 8, 9 };
    fake_init(&f, 1);
    f.silent = true;
    struct engine *g = open_engine(&f, 1, 60 * CLOCK_NS_PER_MS);
    assert_int_equal(submit(g, &c, prompt, (struct ask){ 3, 5, 1 }, &e), 0);
    wait_end(&c);
    assert_int_equal(c.finish, FINISH_ERROR);
    assert_non_null(strstr(c.error, "no device answered"));
    engine_close(g);
}

/* The request ends with the reason, the engine goes on. */
static void a_model_without_numbers_ends_the_request(void **state)
{
    (void)state;
    struct fake f;
    struct client c = { 0 };
    struct error e = { 0 };
    int32_t prompt[CONTEXT] = { 7, 8, 9 };
    fake_init(&f, 1);
    f.numberless = true;
    struct engine *g = open_engine(&f, 1, 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(submit(g, &c, prompt, (struct ask){ 3, 5, 1 }, &e), 0);
        wait_end(&c);
        assert_int_equal(c.finish, FINISH_ERROR);
        assert_non_null(strstr(c.error, "the model gives no numbers"));
        assert_int_equal(c.n, 0);
    }
    engine_close(g);
    assert_int_equal(f.closed, 1);
}

static void the_executor_is_the_engines_also_when_it_does_not_open(void **state)
{
    (void)state;
    struct fake f;
    struct engine *g = NULL;
    struct error e = { 0 };
    const uint8_t eog[VOCAB + 1] = { 0 };
    fake_init(&f, 1);
    const struct engine_options o = { .executor = &f.x, .vocab = VOCAB + 1, .is_eog = eog };
    assert_int_equal(engine_open(&g, &o, &e), FAIL_ARG);
    assert_null(g);
    assert_int_equal(f.closed, 1);
}

static void steps_survive_the_wire(void **state)
{
    (void)state;
    const struct step_command commands[] = { { STEP_CREATE, 3, 0, 0 }, { STEP_TRUNCATE, 4, 0, 9 } };
    const struct step_run runs[] = { { 3, 0, 2 }, { 4, 9, 1 } };
    const int32_t ids[] = { 5, 6, 7 };
    const uint8_t wanted[] = { 0, 1, 1 };
    const struct step s = { .id = 77,
                            .epoch = 2,
                            .commands = commands,
                            .n_commands = 2,
                            .runs = runs,
                            .n_runs = 2,
                            .ids = ids,
                            .wanted = wanted,
                            .n_rows = 3,
                            .n_wanted = 2 };
    struct buffer out;
    struct step_storage m;
    struct step back;
    struct error e = { 0 };
    buffer_init(&out, 1 << 16);
    assert_int_equal(step_storage_init(&m, &e), 0);
    assert_int_equal(step_encode(&s, &out), 0);
    assert_int_equal(step_decode(buffer_bytes(&out), &m, &back, &e), 0);
    assert_int_equal(back.n_wanted, 2);
    assert_int_equal(back.commands[1].position, 9);
    assert_memory_equal(back.ids, ids, sizeof(ids));
    /* Every truncation and every changed byte is refused or gives a step within bounds. */
    for (size_t n = 0; n < out.size; n++)
        assert_int_not_equal(step_decode(bytes_of(out.data, n), &m, &back, &e), 0);
    for (size_t i = 0; i < out.size; i++) {
        uint8_t old = out.data[i];
        out.data[i] ^= 0x81;
        if (step_decode(buffer_bytes(&out), &m, &back, &e) == 0)
            assert_true(back.n_rows <= STEP_MAX_ROWS && back.n_runs <= STEP_MAX_RUNS);
        out.data[i] = old;
    }
    step_storage_done(&m);
    buffer_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_do_not_depend_on_company),
        cmocka_unit_test(limits_end_requests),
        cmocka_unit_test(a_common_beginning_is_not_computed_again),
        cmocka_unit_test(a_state_that_cannot_go_back_is_restored_and_replayed),
        cmocka_unit_test(checkpoints_stay_within_their_room),
        cmocka_unit_test(a_cancelled_request_ends_and_others_go_on),
        cmocka_unit_test(a_lost_placement_tells_everybody_why),
        cmocka_unit_test(silence_has_a_deadline),
        cmocka_unit_test(a_model_without_numbers_ends_the_request),
        cmocka_unit_test(the_executor_is_the_engines_also_when_it_does_not_open),
        cmocka_unit_test(steps_survive_the_wire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The head on an executor made here: requests, limits, the prefix cache, checkpoints, errors. */
#include "tests/engine/fake.h"

#include <stdlib.h>

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
    assert_true(stats.broken && strstr(stats.why, "device B was lost"));
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

/* Streams share one grant of KV, may each come to need all of it, and get the tokens that they
 * would get with room for all. */
static void streams_share_the_granted_memory(void **state)
{
    static struct client want[8], got[8];
    int32_t prompt[CONTEXT];
    int n;
    struct error e = { 0 };
    for (int pages = 64; pages >= 4; pages -= pages > 4 ? 60 : 1)
        for (int k = 0; k < 6; k++) {
            struct fake f;
            struct client *c = pages == 64 ? want : got;
            fake_init(&f, 1 + k % 3);
            f.x.can_truncate = k < 3;
            f.x.max_sessions = 16;
            f.x.state_tokens = (uint64_t)pages * 64;
            struct engine *g = open_engine(&f, 8, 0);
            assert_int_equal(engine_context(g), CONTEXT);
            for (int i = 0; i < 8; i++) {
                make_prompt(i, prompt, &n);
                assert_int_equal(
                    submit(g, &c[i], prompt, (struct ask){ n, -1, (uint64_t)i * 3 }, &e), 0);
            }
            for (int i = 0; i < 8; i++) {
                wait_end(&c[i]);
                assert_true(c[i].finish == FINISH_STOP || c[i].finish == FINISH_LENGTH);
                assert_int_equal(c[i].n, want[i].n);
                assert_memory_equal(c[i].ids, want[i].ids, (size_t)want[i].n * sizeof(int32_t));
            }
            engine_close(g);
            assert_true(f.most_pages <= pages);
        }
    (void)state;
}

/* Allows ids of one remainder, and the end after `left` of them. */
struct thirds {
    struct constraint base;
    int remainder, left, accepted;
    bool nothing;
    int *closed;
};

static int thirds_allowed(struct constraint *c, int vocab, uint32_t *mask, struct error *e)
{
    struct thirds *t = (struct thirds *)c;
    for (int i = 0; i < vocab && !t->nothing; i++)
        if (t->left > 0 ? i % 3 == t->remainder && i != EOG : i == EOG)
            mask[i / 32] |= 1u << (i % 32);
    return t->left < 0 ? fail(e, FAIL_STATE, "beyond the end") : 0;
}

static int thirds_accept(struct constraint *c, int32_t id, struct error *e)
{
    struct thirds *t = (struct thirds *)c;
    if (id != EOG && id % 3 != t->remainder)
        return fail(e, FAIL_RANGE, "token %d is not allowed", id);
    t->accepted++;
    t->left--;
    return 0;
}

static int thirds_clone(const struct constraint *c, struct constraint **ret, struct error *e)
{
    struct thirds *t = malloc(sizeof(*t));
    if (!t)
        return fail(e, FAIL_NOMEM, "a constraint");
    *t = *(const struct thirds *)c;
    *ret = &t->base;
    return 0;
}

static void thirds_close(struct constraint *c)
{
    ++*((struct thirds *)c)->closed;
    free(c);
}

static const struct constraint_ops thirds_ops = { thirds_allowed, thirds_accept, thirds_clone,
                                                  thirds_close };

static void an_answer_keeps_to_its_constraint(void **state)
{
    static struct client c[3];
    struct error e = { 0 };
    struct fake f;
    int closed = 0;
    int32_t prompt[CONTEXT] = { 3, 1, 4, 1, 5 };
    struct thirds first = { { &thirds_ops }, 1, 12, 0, false, &closed };
    fake_init(&f, 1);
    struct engine *g = open_engine(&f, 3, 0);
    for (int i = 0; i < 3; i++) {
        first.nothing = i == 2;
        first.remainder = i;
        assert_int_equal(thirds_clone(&first.base, &c[i].more.sampling.constraint, &e), 0);
        assert_int_equal(submit(g, &c[i], prompt, (struct ask){ 5, -1, 1, .greedy = i == 0 }, &e),
                         0);
    }
    for (int i = 0; i < 2; i++) {
        wait_end(&c[i]);
        assert_int_equal(c[i].finish, FINISH_STOP);
        assert_int_equal(c[i].n, 13);
        for (int k = 0; k < 12; k++)
            assert_int_equal(c[i].ids[k] % 3, i);
        assert_int_equal(c[i].ids[12], EOG);
    }
    wait_end(&c[2]);
    assert_int_equal(c[2].finish, FINISH_ERROR);
    assert_non_null(strstr(c[2].error, "no token that the answer's format allows"));
    assert_int_equal(closed, 3);
    /* A request that is refused leaves it to who made it. */
    struct constraint *kept = NULL;
    assert_int_equal(thirds_clone(&first.base, &kept, &e), 0);
    c[0].more.sampling.constraint = kept;
    assert_int_equal(submit(g, &c[0], prompt, (struct ask){ CONTEXT, 1, 1 }, &e), FAIL_LIMIT);
    assert_int_equal(closed, 3);
    kept->ops->close(kept);
    engine_close(g);
    assert_int_equal(closed, 4);
    (void)state;
}

/* Logits and hidden states of a prompt's rows, each once, whatever is cached of it. */
static void rows_of_a_prompt_are_given(void **state)
{
    static struct client c;
    struct error e = { 0 };
    int32_t prompt[CONTEXT];
    for (int i = 0; i < 150; i++)
        prompt[i] = i * 7 % 40;
    for (int depth = 1; depth <= 3; depth++) {
        struct fake f;
        fake_init(&f, depth);
        struct engine *g = open_engine(&f, 2, 0);
        for (int k = 0; k < 8; k++) {
            const int firsts[] = { 0, 1, 100, 149 };
            float want[VOCAB];
            c.more.rows = k % 2 ? ENGINE_ROWS_HIDDEN : ENGINE_ROWS_LOGITS;
            c.more.first_row = firsts[k / 2];
            assert_int_equal(submit(g, &c, prompt, (struct ask){ 150, k % 2 ? 9 : 0, 1 }, &e), 0);
            wait_end(&c);
            assert_int_equal(c.finish, FINISH_LENGTH);
            assert_int_equal(c.n, 0);
            assert_int_equal(c.n_rows, 150 - firsts[k / 2]);
            assert_int_equal(c.usage.cached_tokens, k ? firsts[k / 2] >= 8 ? firsts[k / 2] : 0 : 0);
            for (int i = 0, width = k % 2 ? HIDDEN : VOCAB; i < c.n_rows; i++) {
                (k % 2 ? fake_hidden : fake_logits)(prompt, firsts[k / 2] + i + 1, want);
                assert_memory_equal(c.rows + i * width, want, (size_t)width * sizeof(float));
            }
        }
        /* With tokens behind them. */
        c.more.rows = ENGINE_ROWS_LOGITS;
        assert_int_equal(submit(g, &c, prompt, (struct ask){ 150, 2, 1 }, &e), 0);
        wait_end(&c);
        assert_true(c.n > 0 && c.n_rows == 1);
        c.more.first_row = 150;
        assert_int_equal(submit(g, &c, prompt, (struct ask){ 150, 2, 1 }, &e), FAIL_ARG);
        engine_close(g);
        c.more = (struct engine_request){ 0 };
    }
    (void)state;
}

static void steps_survive_the_wire(void **state)
{
    (void)state;
    const struct step_command commands[] = { { STEP_CREATE, 3, 0, 0 }, { STEP_TRUNCATE, 4, 0, 9 } };
    const struct step_run runs[] = { { 3, 0, 2 }, { 4, 9, 1 } };
    const int32_t ids[] = { 5, 6, 7 };
    const uint8_t wanted[] = { STEP_WANT_NOTHING, STEP_WANT_HIDDEN, STEP_WANT_LOGITS };
    const struct step s = { .id = 77,
                            .epoch = 2,
                            .commands = commands,
                            .n_commands = 2,
                            .runs = runs,
                            .n_runs = 2,
                            .ids = ids,
                            .wanted = wanted,
                            .n_rows = 3,
                            .n_wanted = 2,
                            .n_hidden = 1 };
    struct buffer out;
    struct step_storage m;
    struct step back;
    struct error e = { 0 };
    buffer_init(&out, 1 << 16);
    assert_int_equal(step_storage_init(&m, &e), 0);
    assert_int_equal(step_encode(&s, &out), 0);
    assert_int_equal(step_decode(buffer_bytes(&out), &m, &back, &e), 0);
    assert_int_equal(back.n_wanted, 2);
    assert_int_equal(back.n_hidden, 1);
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
        cmocka_unit_test(streams_share_the_granted_memory),
        cmocka_unit_test(an_answer_keeps_to_its_constraint),
        cmocka_unit_test(rows_of_a_prompt_are_given),
        cmocka_unit_test(steps_survive_the_wire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

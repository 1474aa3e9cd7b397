/* Sequence state: truncate, fork, checkpoint and restore give the bits of a fresh run, for a plain
 * KV cache, one with windows, and a recurrent state beside attention. */
#include "tests/wide.h"
#include "tests/values.h"

#define LENGTH 320
#define MAX_ROWS 48
#define WINDOW 64
/* Tokens that follow whatever was done to the state. */
#define AFTER 6

static const char *const families[] = { "llama", "lfm2", "gemma3" };
/* Below, at and beyond the window; at and beside the end of a page; far beyond both. */
static const int positions[] = { 40, WINDOW, WINDOW + 1, 129, 300 };

struct fixture {
    struct wide model;
    struct pool *pool;
    struct backend_ctx *c;
    int vocab;
    int32_t ids[LENGTH + AFTER];   /* the sequence */
    int32_t other[LENGTH + AFTER]; /* what others go on with */
};

static struct backend_options options_of(const struct fixture *f, bool exact)
{
    return (struct backend_options){ .pool = f->pool,
                                     .kernels = kernels_choose(NULL, NULL),
                                     .exact = exact,
                                     .max_rows = MAX_ROWS,
                                     .max_sessions = 6,
                                     .state_tokens = 6 * (LENGTH + AFTER) };
}

static void open_fixture(struct fixture *f, const char *family, bool exact)
{
    struct error e = { 0 };
    struct synth_spec spec;
    assert_int_equal(synth_preset(&spec, "tiny", family, &e), 0);
    spec.layers = 7;
    spec.window = WINDOW;
    spec.type = QUANT_Q8_0;
    wide_open(&f->model, &spec);
    f->vocab = f->model.program->vocab;
    wide_ids(f->ids, LENGTH + AFTER, f->vocab, 1);
    wide_ids(f->other, LENGTH + AFTER, f->vocab, 2);
    assert_int_equal(pool_open(&f->pool, &(struct pool_options){ .threads = 1 }, &e), 0);
    const struct backend_options o = options_of(f, exact);
    if (backend_open(&backend_cpu, &f->c, f->model.program, &f->model.source, &o, &e))
        fail_test("%s", e.text);
}

static void close_fixture(struct fixture *f)
{
    backend_close(f->c);
    pool_close(f->pool);
    wide_close(&f->model);
}

/* Feeds positions [first, end) of ids; the last row's logits into out (vocab), unless NULL. */
static void feed(struct fixture *f, uint32_t session, const int32_t *ids, int first, int end,
                 float *out)
{
    struct error e = { 0 };
    uint8_t wanted[MAX_ROWS] = { 0 };
    int rows, width;
    for (int at = first; at < end;) {
        int n = end - at < MAX_ROWS ? end - at : MAX_ROWS;
        bool last = at + n == end;
        wanted[n - 1] = 1;
        const struct backend_run run = { session, at, n };
        const struct backend_step s = {
            .runs = &run, .n_runs = 1, .ids = ids + at, .wanted = wanted, .n_rows = n, .n_wanted = 1
        };
        if (backend_begin(f->c, &s, &e) || backend_run(f->c, 0, &e))
            fail_test("%s", e.text);
        if (last && out)
            memcpy(out, backend_rows_of(f->c, f->model.program->logits, &rows, &width),
                   (size_t)f->vocab * sizeof(float));
        assert_int_equal(backend_end(f->c, &e), 0);
        wanted[n - 1] = 0;
        at += n;
    }
}

/* Logits after `kept` tokens of the sequence and AFTER of the other, in a session of its own. */
static void fresh(struct fixture *f, int kept, float *out)
{
    struct error e = { 0 };
    int32_t ids[LENGTH + AFTER];
    memcpy(ids, f->ids, sizeof(ids));
    memcpy(ids + kept, f->other + kept, AFTER * sizeof(*ids));
    assert_int_equal(backend_create(f->c, 99, &e), 0);
    feed(f, 99, ids, 0, kept + AFTER, out);
    assert_int_equal(backend_release(f->c, 99, &e), 0);
}

/* The session, which holds `kept` tokens of the sequence, goes on as fresh() does. */
static void same_as_fresh(struct fixture *f, uint32_t session, int kept)
{
    float want[2048], got[2048];
    assert_true(f->vocab <= 2048);
    fresh(f, kept, want);
    feed(f, session, f->other, kept, kept + AFTER, got);
    assert_memory_equal(want, got, (size_t)f->vocab * sizeof(float));
}

/* Takes the session from `position` back: by truncate, or where the state can't, by restoring the
 * checkpoint and replaying. Returns whether it could. */
static bool take_back(struct fixture *f, uint32_t session, uint32_t checkpoint, int saved, int to)
{
    struct error e = { 0 };
    bool can = to >= backend_earliest(f->c, session);
    int r = backend_truncate(f->c, session, to, &e);
    assert_int_equal(r, can ? 0 : FAIL_STATE);
    if (can)
        return true;
    assert_int_equal(backend_restore(f->c, session, checkpoint, &e), 0);
    feed(f, session, f->ids, saved, to, NULL);
    return false;
}

static void back_by_1_and_by_20(void **state)
{
    (void)state;
    for (size_t k = 0; k < 2 * ARRAY_LEN(families); k++) {
        struct fixture f;
        struct error e = { 0 };
        open_fixture(&f, families[k / 2], k % 2);
        int could = 0, all = 0;
        for (size_t i = 0; i < ARRAY_LEN(positions); i++)
            for (int back = 1; back <= 20; back += 19, all++) {
                int saved = positions[i] - 31;
                assert_int_equal(backend_create(f.c, 1, &e), 0);
                feed(&f, 1, f.ids, 0, saved, NULL);
                assert_int_equal(backend_checkpoint(f.c, 1, 2, &e), 0);
                feed(&f, 1, f.ids, saved, positions[i], NULL);
                could += take_back(&f, 1, 2, saved, positions[i] - back);
                same_as_fresh(&f, 1, positions[i] - back);
                assert_int_equal(backend_release(f.c, 1, &e), 0);
                assert_int_equal(backend_release(f.c, 2, &e), 0);
            }
        if (k / 2 == 0)
            assert_int_equal(could, all);
        if (k / 2 == 1)
            assert_int_equal(could, 0);
        close_fixture(&f);
    }
}

/* Far beyond its window a state can't go back to where it needs what it let go. */
static void a_window_says_how_far_back_it_can_go(void **state)
{
    (void)state;
    struct fixture f;
    struct error e = { 0 };
    open_fixture(&f, "gemma3", true);
    assert_int_equal(backend_create(f.c, 1, &e), 0);
    feed(&f, 1, f.ids, 0, 10, NULL);
    assert_int_equal(backend_checkpoint(f.c, 1, 2, &e), 0);
    feed(&f, 1, f.ids, 10, LENGTH, NULL);
    int earliest = backend_earliest(f.c, 1);
    assert_true(earliest > 10 && earliest <= LENGTH - 20);
    assert_int_equal(backend_truncate(f.c, 1, earliest - 1, &e), FAIL_STATE);
    assert_int_equal(backend_truncate(f.c, 1, earliest, &e), 0);
    same_as_fresh(&f, 1, earliest);
    assert_int_equal(backend_restore(f.c, 1, 2, &e), 0);
    feed(&f, 1, f.ids, 10, earliest - 1, NULL);
    same_as_fresh(&f, 1, earliest - 1);
    close_fixture(&f);
}

static void forks_go_their_own_ways(void **state)
{
    (void)state;
    for (size_t k = 0; k < 2 * ARRAY_LEN(families); k++) {
        struct fixture f;
        struct error e = { 0 };
        float want[2048], got[2048];
        open_fixture(&f, families[k / 2], k % 2);
        for (size_t i = 0; i < ARRAY_LEN(positions); i++) {
            int at = positions[i];
            assert_int_equal(backend_create(f.c, 1, &e), 0);
            feed(&f, 1, f.ids, 0, at, NULL);
            assert_int_equal(backend_fork(f.c, 2, 1, &e), 0);
            same_as_fresh(&f, 2, at);
            assert_int_equal(backend_release(f.c, 2, &e), 0);
            feed(&f, 1, f.ids, at, at + AFTER, got);
            assert_int_equal(backend_create(f.c, 3, &e), 0);
            feed(&f, 3, f.ids, 0, at + AFTER, want);
            assert_memory_equal(want, got, (size_t)f.vocab * sizeof(float));
            assert_int_equal(backend_release(f.c, 1, &e), 0);
            assert_int_equal(backend_release(f.c, 3, &e), 0);
        }
        close_fixture(&f);
    }
}

static void a_checkpoint_can_be_restored_again_and_again(void **state)
{
    (void)state;
    for (size_t k = 0; k < 2 * ARRAY_LEN(families); k++) {
        struct fixture f;
        struct error e = { 0 };
        open_fixture(&f, families[k / 2], k % 2);
        uint64_t empty = backend_state_bytes(f.c);
        for (size_t i = 0; i < ARRAY_LEN(positions); i++) {
            int at = positions[i], beyond = at + 70 < LENGTH ? at + 70 : LENGTH;
            assert_int_equal(backend_create(f.c, 1, &e), 0);
            feed(&f, 1, f.ids, 0, at, NULL);
            assert_int_equal(backend_checkpoint(f.c, 1, 2, &e), 0);
            feed(&f, 1, f.ids, at, beyond, NULL);
            for (int again = 0; again < 2; again++) {
                assert_int_equal(backend_restore(f.c, 1, 2, &e), 0);
                same_as_fresh(&f, 1, at);
            }
            assert_int_equal(backend_release(f.c, 1, &e), 0);
            assert_int_equal(backend_restore(f.c, 1, 2, &e), FAIL_NOT_FOUND);
            assert_int_equal(backend_release(f.c, 2, &e), 0);
            assert_int_equal(backend_state_bytes(f.c), empty);
        }
        close_fixture(&f);
    }
}

/* A step of `count` rows from position `first`, given up before its first segment or behind it. */
static void give_up(struct fixture *f, uint32_t session, int first, int count, bool run_it)
{
    struct error e = { 0 };
    const struct backend_run run = { session, first, count };
    const uint8_t wanted[MAX_ROWS] = { 0 };
    const struct backend_step s = {
        .runs = &run, .n_runs = 1, .ids = f->other + first, .wanted = wanted, .n_rows = count
    };
    assert_int_equal(backend_begin(f->c, &s, &e), 0);
    if (run_it)
        assert_int_equal(backend_run(f->c, 0, &e), 0);
    backend_abort(f->c);
}

/* An aborted step, or one that did not begin, leaves every kind of state as it was: the session
 * goes on with the bits of one that never saw it, also behind a fork. */
static void abort_leaves_every_state_as_it_was(void **state)
{
    const int counts[] = { 1, 2, MAX_ROWS };
    for (size_t k = 0; k < 2 * ARRAY_LEN(families); k++) {
        struct fixture f;
        struct error e = { 0 };
        open_fixture(&f, families[k / 2], k % 2);
        uint64_t empty = backend_state_bytes(f.c);
        for (size_t i = 0; i < ARRAY_LEN(positions); i++)
            for (size_t n = 0; n < 2 * ARRAY_LEN(counts); n++) {
                int at = positions[i];
                if (at + counts[n / 2] > LENGTH + AFTER)
                    continue;
                assert_int_equal(backend_create(f.c, 1, &e), 0);
                feed(&f, 1, f.ids, 0, at, NULL);
                uint64_t before = backend_state_bytes(f.c);
                give_up(&f, 1, at, counts[n / 2], n % 2);
                assert_int_equal(backend_state_bytes(f.c), before);
                assert_int_equal(backend_fork(f.c, 2, 1, &e), 0);
                give_up(&f, 2, at, counts[n / 2], n % 2);
                same_as_fresh(&f, 2, at);
                same_as_fresh(&f, 1, at);
                assert_int_equal(backend_release(f.c, 1, &e), 0);
                assert_int_equal(backend_release(f.c, 2, &e), 0);
                assert_int_equal(backend_state_bytes(f.c), empty);
            }
        close_fixture(&f);
    }
    (void)state;
}

/* The second run of a step can't be had: the first one's pages are free again. */
static void a_step_that_does_not_begin_takes_nothing(void **state)
{
    struct fixture f;
    struct error e = { 0 };
    open_fixture(&f, "lfm2", false);
    const struct backend_run runs[] = { { 1, 0, 40 }, { 7, 0, 1 } };
    const uint8_t wanted[MAX_ROWS] = { 0 };
    const struct backend_step s = {
        .runs = runs, .n_runs = 2, .ids = f.ids, .wanted = wanted, .n_rows = 41
    };
    uint64_t empty = backend_state_bytes(f.c);
    assert_int_equal(backend_create(f.c, 1, &e), 0);
    assert_int_equal(backend_begin(f.c, &s, &e), FAIL_NOT_FOUND);
    assert_int_equal(backend_state_bytes(f.c), empty);
    same_as_fresh(&f, 1, 0);
    close_fixture(&f);
    (void)state;
}

static void a_session_ends_at_its_own_bound(void **state)
{
    struct fixture f;
    struct error e = { 0 };
    open_fixture(&f, "llama", false);
    backend_close(f.c);
    struct backend_options o = options_of(&f, false);
    o.state_tokens = UINT64_C(1) << 32;
    f.c = NULL;
    assert_int_equal(backend_open(&backend_cpu, &f.c, f.model.program, &f.model.source, &o, &e),
                     FAIL_LIMIT);
    o = options_of(&f, false);
    o.session_tokens = 128;
    assert_int_equal(backend_open(&backend_cpu, &f.c, f.model.program, &f.model.source, &o, &e), 0);
    assert_int_equal(backend_create(f.c, 0, &e), 0);
    feed(&f, 0, f.ids, 0, 128, NULL);
    int code = 0;
    for (int at = 128; at < LENGTH && code == 0; at += 32) {
        const struct backend_run run = { 0, at, 32 };
        const uint8_t wanted[32] = { 0 };
        const struct backend_step s = {
            .runs = &run, .n_runs = 1, .ids = f.ids + at, .wanted = wanted, .n_rows = 32
        };
        code = backend_begin(f.c, &s, &e);
        code = code ? code : backend_run(f.c, 0, &e);
        code = code ? code : backend_end(f.c, &e);
    }
    assert_int_equal(code, FAIL_LIMIT);
    close_fixture(&f);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(back_by_1_and_by_20),
        cmocka_unit_test(a_window_says_how_far_back_it_can_go),
        cmocka_unit_test(forks_go_their_own_ways),
        cmocka_unit_test(a_checkpoint_can_be_restored_again_and_again),
        cmocka_unit_test(abort_leaves_every_state_as_it_was),
        cmocka_unit_test(a_step_that_does_not_begin_takes_nothing),
        cmocka_unit_test(a_session_ends_at_its_own_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* See fake.h. */
#include "tests/engine/fake.h"

#include "base/random.h"

#include <math.h>
#include <stdio.h>

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
    case STEP_FORK:
        assert_true(!s && other && !other->is_checkpoint);
        s = free_slot(f);
        *s = *other;
        s->id = c->session;
        f->forks++;
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

static uint64_t hash_of(const int32_t *ids, int n)
{
    uint64_t h = 1;
    for (int i = 0; i < n; i++)
        h = random_mix(h + (uint64_t)ids[i] + 1);
    return h;
}

/* Pseudo-random from all ids. The end token is likely after a multiple of 13 of them. */
void fake_logits(const int32_t *ids, int n, float *out)
{
    uint64_t h = hash_of(ids, n);
    for (int i = 0; i < VOCAB; i++)
        out[i] = (float)random_unit(random_at(h, (uint64_t)i)) * 4;
    out[EOG] = h % 13 == 0 ? 10.0f : -10.0f;
}

void fake_hidden(const int32_t *ids, int n, float *out)
{
    uint64_t h = hash_of(ids, n);
    for (int i = 0; i < HIDDEN; i++)
        out[i] = (float)random_unit(random_at(h, 100 + (uint64_t)i));
}

/* What a row gives. */
static void answer_row(struct fake *f, const struct fake_session *s, enum step_want want,
                       struct step_result *to)
{
    int at = (f->first + f->count) % MAX_FLIGHT;
    if (want == STEP_WANT_HIDDEN)
        fake_hidden(s->ids, s->n, f->hidden[at] + to->n_hidden++ * HIDDEN);
    if (want == STEP_WANT_LOGITS) {
        float *out = f->logits[at] + (to->n_wanted - to->n_hidden) * VOCAB;
        fake_logits(s->ids, s->n, out);
        for (int v = 0; v < VOCAB && f->numberless; v++)
            out[v] = NAN;
    }
    to->n_wanted += want != STEP_WANT_NOTHING;
}

/* Pages that sessions hold, those of checkpoints shared with theirs. */
static void count_pages(struct fake *f)
{
    int pages = 0;
    for (int i = 0; i < MAX_SESSIONS; i++)
        if (f->sessions[i].used && !f->sessions[i].is_checkpoint)
            pages += (f->sessions[i].n + 63) / 64;
    f->most_pages = pages > f->most_pages ? pages : f->most_pages;
}

static int fake_submit(struct executor *x, const struct step *s, uint64_t deadline_ns,
                       struct error *e)
{
    struct fake *f = (struct fake *)x;
    (void)deadline_ns;
    if (f->down)
        return fail(e, FAIL_CLOSED, "down");
    assert_true(f->count < x->depth);
    if (f->refuse_at && f->steps + 1 >= f->refuse_at)
        return fail(e, FAIL_CLOSED, "device C was lost");
    assert_true(s->n_rows <= x->max_rows && s->n_rows + s->n_commands > 0);
    for (int i = 0; i < s->n_commands; i++)
        do_command(f, &s->commands[i]);
    int at = (f->first + f->count) % MAX_FLIGHT, row = 0, prefills = 0, decodes = 0;
    struct step_result result = { .id = s->id, .logits = f->logits[at], .hidden = f->hidden[at] };
    for (int i = 0; i < s->n_runs; i++) {
        struct fake_session *session = session_of(f, s->runs[i].session);
        assert_non_null(session);
        assert_int_equal(session->n, s->runs[i].first);
        for (int k = 0; k < s->runs[i].count; k++, row++) {
            assert_true(session->n < CONTEXT);
            session->ids[session->n++] = s->ids[row];
            answer_row(f, session, s->wanted[row], &result);
        }
        prefills += s->runs[i].count > 1;
        decodes += s->runs[i].count == 1;
    }
    assert_int_equal(row, s->n_rows);
    assert_int_equal(result.n_wanted, s->n_wanted);
    assert_int_equal(result.n_hidden, s->n_hidden);
    f->results[at] = result;
    f->count++;
    f->steps++;
    f->rows += s->n_rows;
    f->mixed_steps += prefills && decodes;
    f->most_runs = s->n_runs > f->most_runs ? s->n_runs : f->most_runs;
    count_pages(f);
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
        while (!f->hasty && clock_now_ns() < deadline_ns && !f->down)
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

void fake_init(struct fake *f, int depth)
{
    memset(f, 0, sizeof(*f));
    f->x = (struct executor){ .ops = &fake_ops,
                              .vocab = VOCAB,
                              .width = HIDDEN,
                              .depth = depth,
                              .max_rows = 16,
                              .max_context = CONTEXT,
                              .can_truncate = true };
}

struct engine *open_with(struct fake *f, const struct engine_options *options)
{
    static const uint8_t eog[VOCAB] = { [EOG] = 1 };
    struct engine *g = NULL;
    struct error e = { 0 };
    struct engine_options o = *options;
    o.executor = &f->x;
    o.vocab = VOCAB;
    o.is_eog = eog;
    o.max_queue = 40;
    assert_int_equal(engine_open(&g, &o, &e), 0);
    return g;
}

struct engine *open_engine(struct fake *f, int max_requests, uint64_t timeout_ns)
{
    return open_with(
        f, &(struct engine_options){ .max_requests = max_requests, .step_timeout_ns = timeout_ns });
}

static enum engine_verdict on_token(void *arg, const struct engine_token *t)
{
    struct client *c = arg;
    c->ids[c->n++] = t->id;
    return c->stop_after && c->n >= c->stop_after ? ENGINE_STOP : ENGINE_CONTINUE;
}

static void on_progress(void *arg, int done, int total)
{
    struct client *c = arg;
    assert_true(done <= total && done > c->last_progress);
    c->last_progress = done;
    c->progress++;
}

static void on_rows(void *arg, const struct engine_rows *r)
{
    struct client *c = arg;
    assert_int_equal(r->kind, c->more.rows);
    assert_int_equal(r->first, c->n_rows ? c->first_row + c->n_rows : c->more.first_row);
    assert_int_equal(r->width, r->kind == ENGINE_ROWS_HIDDEN ? HIDDEN : VOCAB);
    c->first_row = c->more.first_row;
    memcpy(c->rows + c->n_rows * r->width, r->rows, (size_t)(r->n * r->width) * sizeof(float));
    c->n_rows += r->n;
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

int submit(struct engine *g, struct client *c, const int32_t *prompt, struct ask ask,
           struct error *e)
{
    *c = (struct client){ .stop_after = c->stop_after, .more = c->more };
    mutex_init(&c->lock);
    condition_init(&c->wake);
    const struct engine_request r = { .prompt = prompt,
                                      .n_prompt = ask.n_prompt,
                                      .max_tokens = ask.max_tokens,
                                      .sampling = { .temperature = ask.greedy ? 0.0f : 1.0f,
                                                    .seed = ask.seed,
                                                    .constraint = c->more.sampling.constraint },
                                      .rows = c->more.rows,
                                      .first_row = c->more.first_row,
                                      .on_rows = on_rows,
                                      .on_token = on_token,
                                      .on_progress = on_progress,
                                      .on_end = on_end,
                                      .arg = c };
    return engine_submit(g, &r, &c->ticket, e);
}

void wait_end(struct client *c)
{
    uint64_t deadline = clock_deadline(20 * CLOCK_NS_PER_S);
    mutex_lock(&c->lock);
    while (!c->ended && clock_now_ns() < deadline)
        condition_wait(&c->wake, &c->lock, CLOCK_NS_PER_S);
    bool ended = c->ended;
    mutex_unlock(&c->lock);
    assert_true(ended);
}

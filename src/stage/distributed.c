/* Steps out to all ranks, logits back in order. */
#include "stage/distributed.h"

#include <stdlib.h>

#include "os/clock.h"
#include "os/thread.h"
#include "transport/transport.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>

/* After a failure the ranks' own words are waited for this long: a rank that lost a neighbour says
 * so, and the neighbour's cause may still be under way. */
#define DIAGNOSE_NS 300000000u
#define NAME_TEXT 96
#define MAX_STEP_BYTES (1u << 18) /* more than step_encode makes within its own bounds */

struct remote {
    struct channel *channel;
    char name[NAME_TEXT];
    int vocab_first, vocab_count;
    int rows_here;   /* of the oldest step: with logits, */
    int states_here; /* and hidden */
    bool done;       /* with the oldest step */
};

struct flight {
    uint64_t id;
    int n_wanted, n_hidden;
};

/* owner: the head's thread; `broken` and `why` by distributed_break. */
struct distributed {
    struct executor base;
    struct placement_plan plan;
    uint32_t epoch;
    struct remote ranks[PLAN_MAX_RANKS];
    struct flight flights[PLAN_MAX_RANKS + 1]; /* oldest first */
    int n_flights;
    struct buffer encoded;
    uint8_t *message;
    size_t capacity;
    float *logits;
    size_t logits_rows;
    float *states;
    size_t states_rows;
    bool failed;
    struct error failure;
    void (*on_close)(void *arg);
    void *arg;

    struct mutex lock;
    atomic_bool broken;
    char why[ERROR_TEXT];
};

static struct distributed *self(struct executor *x)
{
    return (struct distributed *)x;
}

/* --- failures --- */

static const char *where(const struct distributed *d, int rank, char text[static 192])
{
    int s = plan_stage_of(&d->plan, rank);
    const struct plan_stage *stage = &d->plan.stages[s];
    if (stage->n_ranks > 1) {
        snprintf(text, 192, "%s (layers %d-%d, rank %d of %d)", d->ranks[rank].name, stage->first,
                 stage->end - 1, rank - stage->rank + 1, stage->n_ranks);
    } else {
        snprintf(text, 192, "%s (layers %d-%d)", d->ranks[rank].name, stage->first, stage->end - 1);
    }
    return text;
}

/* How near the root a rank's report is: its own failure, then a silent end, then the loss of a
 * neighbour. */
enum blame { BLAME_NONE, BLAME_LINK, BLAME_CLOSED, BLAME_OWN };

/* Closing is what a channel does when its rank ends; anything else is a cause of its own. */
static enum blame blame_of(int code)
{
    return code == FAIL_CLOSED ? BLAME_CLOSED : BLAME_OWN;
}

/* The text of an error message from a rank becomes ours. */
static int told_error(const struct distributed *d, const struct wire_header *h, size_t size,
                      struct error *e)
{
    return fail(e, h->code < 0 ? h->code : FAIL_STATE, "%.*s", (int)(size - WIRE_HEADER),
                (const char *)d->message + WIRE_HEADER);
}

/* Reads what a rank still says. Logits on the way are passed over. */
static enum blame question(struct distributed *d, int rank, uint64_t deadline, struct error *e)
{
    for (;;) {
        size_t size = 0;
        struct error local = { 0 };
        struct wire_header h;
        int code =
            channel_recv(d->ranks[rank].channel, d->message, d->capacity, &size, deadline, &local);
        if (code == FAIL_TIMEOUT) {
            return BLAME_NONE;
        }
        if (code != 0 || wire_decode(bytes_of(d->message, size), &h, &local) != 0) {
            *e = local;
            return blame_of(local.code);
        }
        if (h.kind == WIRE_ERROR) {
            told_error(d, &h, size, e);
            return h.link ? BLAME_LINK : BLAME_OWN;
        }
    }
}

/* Makes the best of a failure that was met at `rank`: asks the others, prefers the cause nearest to
 * the root. Leaves it in e and returns its code. */
static int broken(struct distributed *d, int rank, enum blame best, struct error *e)
{
    char text[192];
    struct error cause = *e;
    uint64_t deadline = clock_now_ns() + DIAGNOSE_NS;
    wrap(&cause, "%s", where(d, rank, text));
    for (int r = 0; r < d->plan.n_ranks && best != BLAME_OWN; r++) {
        struct error local = { 0 };
        enum blame b = question(d, r, deadline, &local);
        if (b > best) {
            best = b;
            cause = local;
            wrap(&cause, "%s", where(d, r, text));
        }
    }
    mutex_lock(&d->lock);
    if (atomic_load_explicit(&d->broken, memory_order_acquire)) {
        cause.code = 0;
        fail(&cause, FAIL_CLOSED, "%s", d->why);
    }
    mutex_unlock(&d->lock);
    /* A time-out of ours would mean that the step is still under way. */
    cause.code = cause.code == FAIL_TIMEOUT ? FAIL_CLOSED : cause.code;
    d->failed = true;
    d->failure = cause;
    *e = cause;
    return cause.code;
}

/* --- submit --- */

static int distributed_submit(struct executor *x, const struct step *s, uint64_t deadline_ns,
                              struct error *e)
{
    struct distributed *d = self(x);
    struct error local = { 0 };
    if (d->failed) {
        return fail(e, FAIL_CLOSED, "%s", d->failure.text);
    }
    if (d->n_flights == d->base.depth) {
        return fail(e, FAIL_STATE, "%d steps are already in flight", d->n_flights);
    }
    struct step mine = *s;
    mine.epoch = d->epoch;
    buffer_clear(&d->encoded);
    int code = step_encode(&mine, &d->encoded);
    if (code != 0) {
        return fail(e, code, "step %llu does not fit into a message", (unsigned long long)s->id);
    }
    struct bytes part = buffer_bytes(&d->encoded);
    for (int r = 0; r < d->plan.n_ranks; r++) {
        code = channel_send(d->ranks[r].channel, &part, 1, deadline_ns, &local);
        if (code != 0) {
            code = broken(d, r, blame_of(code), &local);
            return fail(e, code, "%s", local.text);
        }
    }
    d->flights[d->n_flights++] = (struct flight){ s->id, s->n_wanted, s->n_hidden };
    return 0;
}

/* --- collect --- */

static int grow_rows(float **rows, size_t *capacity, int n, int width, struct error *e)
{
    if ((size_t)n <= *capacity) {
        return 0;
    }
    float *more = realloc(*rows, (size_t)n * (size_t)width * sizeof *more);
    if (more == NULL) {
        return fail(e, FAIL_NOMEM, "memory for %d rows of results", n);
    }
    *rows = more;
    *capacity = (size_t)n;
    return 0;
}

static const struct plan_stage *last_stage(const struct distributed *d)
{
    return &d->plan.stages[d->plan.n_stages - 1];
}

/* Hidden states come from the first rank of the last stage, before its logits. */
static int take_states(struct distributed *d, struct remote *r, const struct wire_header *h,
                       struct error *e)
{
    const struct flight *f = &d->flights[0];
    if (r != &d->ranks[last_stage(d)->rank] || (int)h->first_row != r->states_here ||
        h->n_rows == 0 || (int)h->n_rows > f->n_hidden - r->states_here ||
        (int)h->n_cols != d->base.width) {
        return fail(e, FAIL_FORMAT, "hidden states %u+%u of %u where row %d of %d is due",
                    h->first_row, h->n_rows, h->n_cols, r->states_here, f->n_hidden);
    }
    size_t bytes = (size_t)h->n_cols * sizeof(float);
    memcpy(d->states + (size_t)r->states_here * h->n_cols, d->message + WIRE_HEADER,
           h->n_rows * bytes);
    r->states_here += (int)h->n_rows;
    return 0;
}

/* Takes one message of the oldest step from a rank of the last stage. *blame says whose failure
 * a failure is. */
static int take_piece(struct distributed *d, struct remote *r, size_t size, enum blame *blame,
                      struct error *e)
{
    const struct flight *f = &d->flights[0];
    struct wire_header h;
    int code = wire_decode(bytes_of(d->message, size), &h, e);
    if (code != 0) {
        return code;
    }
    if (h.kind == WIRE_ERROR) {
        *blame = h.link ? BLAME_LINK : BLAME_OWN;
        return told_error(d, &h, size, e);
    }
    if (h.epoch != d->epoch || h.step != f->id) {
        return fail(e, FAIL_STATE, "answer to step %llu of epoch %u where step %llu is due",
                    (unsigned long long)h.step, h.epoch, (unsigned long long)f->id);
    }
    int logits = f->n_wanted - f->n_hidden;
    if (h.kind == WIRE_STATES) {
        return take_states(d, r, &h, e);
    }
    bool all_states = r != &d->ranks[last_stage(d)->rank] || r->states_here == f->n_hidden;
    if (h.kind == WIRE_DONE && logits == 0 && all_states) {
        r->done = true;
        return 0;
    }
    if (h.kind != WIRE_LOGITS || (int)h.first_row != r->rows_here || h.n_rows == 0 ||
        (int)h.n_rows > logits - r->rows_here || !all_states ||
        (int)h.first_col != r->vocab_first || (int)h.n_cols != r->vocab_count) {
        return fail(e, FAIL_FORMAT, "rows %u+%u, columns %u+%u where row %d of %d is due",
                    h.first_row, h.n_rows, h.first_col, h.n_cols, r->rows_here, logits);
    }
    const uint8_t *from = d->message + WIRE_HEADER;
    size_t bytes = (size_t)r->vocab_count * sizeof(float);
    for (uint32_t i = 0; i < h.n_rows; i++) {
        float *row = d->logits + (size_t)(r->rows_here + (int)i) * (size_t)d->base.vocab;
        memcpy(row + r->vocab_first, from + i * bytes, bytes);
    }
    r->rows_here += (int)h.n_rows;
    r->done = r->rows_here == logits;
    return 0;
}

/* Reads until the rank has given all of the oldest step. FAIL_TIMEOUT keeps what is here. */
static int collect_from(struct distributed *d, struct remote *r, uint64_t deadline_ns,
                        enum blame *blame, struct error *e)
{
    int code = 0;
    while (!r->done && code == 0) {
        size_t size = 0;
        code = channel_recv(r->channel, d->message, d->capacity, &size, deadline_ns, e);
        *blame = code == FAIL_TIMEOUT ? BLAME_NONE : blame_of(code);
        code = code == 0 ? take_piece(d, r, size, blame, e) : code;
    }
    return code;
}

static int distributed_collect(struct executor *x, struct step_result *ret, uint64_t deadline_ns,
                               struct error *e)
{
    struct distributed *d = self(x);
    if (d->failed) {
        return fail(e, FAIL_CLOSED, "%s", d->failure.text);
    }
    if (d->n_flights == 0) {
        return fail(e, FAIL_STATE, "no step is in flight");
    }
    struct error local = { 0 };
    const struct flight *f = &d->flights[0];
    int code = grow_rows(&d->logits, &d->logits_rows, f->n_wanted - f->n_hidden, x->vocab, e);
    code = code ? code : grow_rows(&d->states, &d->states_rows, f->n_hidden, x->width, e);
    if (code != 0) {
        return code;
    }
    const struct plan_stage *last = last_stage(d);
    for (int i = 0; i < last->n_ranks; i++) {
        enum blame blame = BLAME_NONE;
        code = collect_from(d, &d->ranks[last->rank + i], deadline_ns, &blame, &local);
        if (code != 0 && blame == BLAME_NONE &&
            !atomic_load_explicit(&d->broken, memory_order_acquire)) {
            return fail(e, code, "no answer to step %llu yet",
                        (unsigned long long)d->flights[0].id);
        }
        if (code != 0) {
            code = broken(d, last->rank + i, blame, &local);
            return fail(e, code, "%s", local.text);
        }
    }
    *ret = (struct step_result){ .id = f->id,
                                 .logits = d->logits,
                                 .hidden = d->states,
                                 .n_wanted = f->n_wanted,
                                 .n_hidden = f->n_hidden };
    d->n_flights--;
    memmove(&d->flights[0], &d->flights[1], (size_t)d->n_flights * sizeof d->flights[0]);
    for (int i = 0; i < last->n_ranks; i++) {
        d->ranks[last->rank + i].rows_here = d->ranks[last->rank + i].states_here = 0;
        d->ranks[last->rank + i].done = false;
    }
    return 0;
}

/* --- life --- */

void distributed_break(struct executor *x, const char *why)
{
    struct distributed *d = self(x);
    mutex_lock(&d->lock);
    if (!atomic_load_explicit(&d->broken, memory_order_acquire)) {
        snprintf(d->why, sizeof d->why, "%s", why);
        atomic_store_explicit(&d->broken, true, memory_order_release);
    }
    mutex_unlock(&d->lock);
    for (int r = 0; r < d->plan.n_ranks; r++) {
        channel_shutdown(d->ranks[r].channel);
    }
}

static void distributed_shutdown(struct executor *x)
{
    distributed_break(x, "shutting down");
}

static void distributed_close(struct executor *x)
{
    struct distributed *d = self(x);
    for (int r = 0; r < d->plan.n_ranks; r++) {
        channel_close(d->ranks[r].channel);
    }
    if (d->on_close) {
        d->on_close(d->arg);
    }
    buffer_done(&d->encoded);
    mutex_done(&d->lock);
    free(d->message);
    free(d->logits);
    free(d->states);
    free(d);
}

static const struct executor_ops distributed_ops = {
    .submit = distributed_submit,
    .collect = distributed_collect,
    .shutdown = distributed_shutdown,
    .close = distributed_close,
};

static int check_vocab(const struct distributed *d, struct error *e)
{
    const struct plan_stage *last = &d->plan.stages[d->plan.n_stages - 1];
    int at = 0;
    for (int i = 0; i < last->n_ranks; i++) {
        const struct remote *r = &d->ranks[last->rank + i];
        if (r->vocab_first != at || r->vocab_count < 0) {
            return fail(e, FAIL_STATE, "%s holds vocabulary rows from %d where %d is due", r->name,
                        r->vocab_first, at);
        }
        at += r->vocab_count;
    }
    return at == d->base.vocab
               ? 0
               : fail(e, FAIL_STATE, "the last stage holds %d vocabulary rows of %d", at,
                      d->base.vocab);
}

int distributed_open(struct executor **ret, const struct distributed_options *o, struct error *e)
{
    struct distributed *d = calloc(1, sizeof *d);
    if (d == NULL) {
        for (int r = 0; r < o->plan->n_ranks; r++) {
            channel_close(o->ranks[r].channel);
        }
        return fail(e, FAIL_NOMEM, "memory for a placement");
    }
    d->base = (struct executor){ .ops = &distributed_ops,
                                 .vocab = o->vocab,
                                 .width = o->width,
                                 .depth = o->plan->n_stages > 1 ? o->plan->n_stages + 1 : 1,
                                 .max_rows = o->max_rows,
                                 .max_context = o->max_context,
                                 .max_sessions = o->max_sessions,
                                 .state_tokens = o->state_tokens,
                                 .can_truncate = o->can_truncate };
    d->plan = *o->plan;
    d->epoch = o->epoch;
    mutex_init(&d->lock);
    buffer_init(&d->encoded, MAX_STEP_BYTES);
    size_t widest = WIRE_LOGITS_PIECE;
    for (int r = 0; r < d->plan.n_ranks; r++) {
        struct remote *to = &d->ranks[r];
        to->channel = o->ranks[r].channel;
        to->vocab_first = o->ranks[r].vocab_first;
        to->vocab_count = o->ranks[r].vocab_count;
        snprintf(to->name, sizeof to->name, "%s", o->ranks[r].name);
        size_t row = (size_t)to->vocab_count * sizeof(float);
        widest = row > widest ? row : widest;
    }
    size_t state = (size_t)o->width * sizeof(float);
    d->capacity = WIRE_HEADER + (state > widest ? state : widest);
    d->message = malloc(d->capacity);
    int code = d->message ? check_vocab(d, e) : fail(e, FAIL_NOMEM, "memory for a placement");
    if (code != 0) {
        distributed_close(&d->base);
        return code;
    }
    d->on_close = o->on_close;
    d->arg = o->arg;
    *ret = &d->base;
    return 0;
}

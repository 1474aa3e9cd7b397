/* Steps on one rank: inputs, segments with their exchanges, outputs. */
#include "stage/work.h"

#include <stdlib.h>

#include "os/clock.h"
#include "stage/share.h"
#include "stage/wire.h"
#include "transport/reduce.h"
#include "transport/transport.h"

#include <assert.h>

/* An idle rank looks at its stop flag this often. */
#define IDLE_WAIT_NS 1000000000u
/* How long a rank that told an error waits for the head to close. */
#define LINGER_NS 1000000000u
/* The head reads errors at once, or it is gone. */
#define ERROR_TIMEOUT_NS 500000000u

static uint64_t deadline(const struct work *w)
{
    return clock_now_ns() + w->step_timeout_ns;
}

/* A neighbour that went or is late has its own cause; a frame that was altered is one itself. */
static bool is_loss(int code)
{
    return code == FAIL_CLOSED || code == FAIL_TIMEOUT;
}

static void advance(struct work *w)
{
    atomic_fetch_add_explicit(&w->progress, 1, memory_order_relaxed);
}

int work_open(struct work *w, int rank, int n_ranks, struct error *e)
{
    size_t width = 0;
    w->first = rank == 0;
    for (int i = 0; i < w->part->n_inputs; i++) {
        width += (size_t)w->part->values[w->part->inputs[i]].width;
    }
    w->capacity = WIRE_HEADER + width * (size_t)w->max_rows * sizeof(float);
    w->capacity = w->capacity > WIRE_STEP_BYTES ? w->capacity : WIRE_STEP_BYTES;
    w->message = malloc(w->capacity);
    w->runs = calloc(STEP_MAX_RUNS, sizeof *w->runs);
    w->parts = calloc((size_t)w->part->n_outputs + 1, sizeof *w->parts);
    if (w->message == NULL || w->runs == NULL || w->parts == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a rank's messages");
    }
    int code = step_storage_init(&w->storage, e);
    if (code != 0 || n_ranks == 1) {
        return code;
    }
    size_t widest = 0;
    for (int i = 0; i < w->n_segments; i++) {
        if (w->segments[i].exchange != PROGRAM_NONE) {
            const struct instr *in = &w->part->instrs[w->segments[i].exchange];
            size_t n = (size_t)w->part->values[in->out].width;
            widest = n > widest ? n : widest;
        }
    }
    return group_open(&w->reduce,
                      &(struct group_options){ .rank = rank,
                                               .n_ranks = n_ranks,
                                               .channels = w->wires->group,
                                               .max_floats = widest * (size_t)w->max_rows },
                      e);
}

void work_done(struct work *w)
{
    group_close(w->reduce);
    step_storage_done(&w->storage);
    free(w->message);
    free(w->runs);
    free(w->parts);
}

/* --- one step --- */

static int do_command(struct work *w, const struct step_command *c, struct error *e)
{
    switch (c->op) {
    case STEP_CREATE:
        return backend_create(w->ctx, c->session, e);
    case STEP_TRUNCATE:
        return backend_truncate(w->ctx, c->session, c->position, e);
    case STEP_FORK:
        return backend_fork(w->ctx, c->session, c->other, e);
    case STEP_FREE:
        return backend_release(w->ctx, c->session, e);
    case STEP_CHECKPOINT:
        return backend_checkpoint(w->ctx, c->session, c->other, e);
    case STEP_RESTORE:
        return backend_restore(w->ctx, c->session, c->other, e);
    case STEP_COMMAND_COUNT:
        break;
    }
    return fail(e, FAIL_FORMAT, "unknown state command %d", (int)c->op);
}

/* One message with all inputs, which the backend's memory takes. */
static int receive_inputs(struct work *w, struct error *e)
{
    size_t size = 0;
    int code = channel_recv(w->wires->previous, w->message, w->capacity, &size, deadline(w), e);
    if (code != 0) {
        w->link_failed = is_loss(code);
        wrap(e, "hidden states from the stage before");
        return code;
    }
    struct wire_header h;
    code = wire_decode(bytes_of(w->message, size), &h, e);
    if (code != 0) {
        return code;
    }
    if (h.kind != WIRE_HIDDEN || h.epoch != w->epoch || h.step != w->step) {
        return fail(
            e, FAIL_STATE,
            "the stage before sent step %llu of epoch %u where step %llu of epoch %u is due",
            (unsigned long long)h.step, h.epoch, (unsigned long long)w->step, w->epoch);
    }
    size_t at = WIRE_HEADER;
    for (int i = 0; i < w->part->n_inputs; i++) {
        struct backend_rows to;
        code = backend_write(w->ctx, w->part->inputs[i], &to, e);
        if (code != 0) {
            return code;
        }
        size_t n = (size_t)to.rows * (size_t)to.width * sizeof(float);
        if (n > size - at) {
            return fail(e, FAIL_FORMAT, "hidden states of %zu bytes are too short", size);
        }
        memcpy(to.data, w->message + at, n);
        at += n;
    }
    if (at != size) {
        return fail(e, FAIL_FORMAT, "hidden states of %zu bytes where %zu are due", size, at);
    }
    return 0;
}

static int exchange(struct work *w, const struct instr *in, struct error *e)
{
    struct backend_rows from, to;
    int code = backend_read(w->ctx, in->in[0], &from, e);
    size_t n = code == 0 ? (size_t)from.rows * (size_t)from.width : 0;
    if (n == 0) {
        return code;
    }
    code = backend_write(w->ctx, in->out, &to, e);
    if (code != 0) {
        return code;
    }
    assert(in->op == OP_ALL_REDUCE && n == (size_t)to.rows * (size_t)to.width);
    if (to.data != from.data) {
        memcpy(to.data, from.data, n * sizeof *to.data);
    }
    code = group_all_reduce(w->reduce, to.data, n, deadline(w), e);
    if (code != 0) {
        w->link_failed = is_loss(code);
        wrap(e, "all-reduce of layer %d", in->layer);
    }
    return code;
}

static int send_hidden(struct work *w, struct error *e)
{
    uint8_t header[WIRE_HEADER];
    struct wire_header h = { .kind = WIRE_HIDDEN, .epoch = w->epoch, .step = w->step };
    int n = 1, code = 0;
    for (int i = 0; i < w->part->n_outputs; i++) {
        struct backend_rows x;
        code = backend_read(w->ctx, w->part->outputs[i], &x, e);
        if (code != 0) {
            return code;
        }
        w->parts[n++] = bytes_of(x.data, (size_t)x.rows * (size_t)x.width * sizeof *x.data);
        h.n_rows = (uint32_t)x.rows;
        h.n_cols += (uint32_t)x.width;
    }
    wire_encode(&h, header);
    w->parts[0] = bytes_of(header, sizeof header);
    for (int i = 0; i < w->wires->n_next; i++) {
        code = channel_send(w->wires->next[i], w->parts, n, deadline(w), e);
        if (code != 0) {
            w->link_failed = is_loss(code);
            wrap(e, "hidden states to the next stage");
            return code;
        }
    }
    return 0;
}

static int send_done(struct work *w, struct error *e)
{
    uint8_t header[WIRE_HEADER];
    wire_encode(&(struct wire_header){ .kind = WIRE_DONE, .epoch = w->epoch, .step = w->step },
                header);
    struct bytes part = bytes_of(header, sizeof header);
    int code = channel_send(w->wires->steps, &part, 1, deadline(w), e);
    w->link_failed = w->link_failed || is_loss(code);
    return code;
}

/* Columns [first_col, first_col + width) of consecutive rows of one kind, in pieces. Their place
 * among the step's rows of that kind begins at first_row. */
static int send_rows(struct work *w, struct wire_header h, struct backend_rows x, struct error *e)
{
    size_t bytes = (size_t)x.width * sizeof *x.data;
    int piece = bytes > 0 ? (int)(WIRE_LOGITS_PIECE / bytes) : x.rows;
    piece = piece > 0 ? piece : 1;
    uint8_t header[WIRE_HEADER];
    h.epoch = w->epoch;
    h.step = w->step;
    h.n_cols = (uint32_t)x.width;
    for (int row = 0; row < x.rows; row += piece) {
        int n = x.rows - row < piece ? x.rows - row : piece;
        h.n_rows = (uint32_t)n;
        wire_encode(&h, header);
        struct bytes parts[2] = { bytes_of(header, sizeof header),
                                  bytes_of(x.data + (size_t)row * (size_t)x.width,
                                           (size_t)n * bytes) };
        int code = channel_send(w->wires->steps, parts, 2, deadline(w), e);
        if (code != 0) {
            w->link_failed = is_loss(code);
            wrap(e, "results to the head");
            return code;
        }
        h.first_row += (uint32_t)n;
        advance(w);
    }
    return 0;
}

/* The wanted rows of one kind, out of a value that has them all. */
static int send_kind(struct work *w, const struct step *s, enum step_want want,
                     struct backend_rows all, struct error *e)
{
    int first_col = 0, cols = 0, at = 0, sent = 0, code = 0;
    enum wire_kind kind = want == STEP_WANT_HIDDEN ? WIRE_STATES : WIRE_LOGITS;
    if (want == STEP_WANT_LOGITS) {
        rank_vocab(w->part, &first_col, &cols);
        assert(cols == all.width);
    }
    for (int i = 0; i < s->n_rows && code == 0;) {
        int n = 0;
        for (; i < s->n_rows && (s->wanted[i] == want || !s->wanted[i]); i++) {
            n += s->wanted[i] == want;
        }
        const struct wire_header h = { .kind = kind,
                                       .first_row = (uint32_t)sent,
                                       .first_col = (uint32_t)first_col };
        struct backend_rows some = all;
        some.data += (size_t)at * (size_t)all.width;
        some.rows = n;
        code = send_rows(w, h, some, e);
        at += n;
        sent += n;
        for (; i < s->n_rows && s->wanted[i] && s->wanted[i] != want; i++) {
            at++;
        }
    }
    return code;
}

/* What is wanted of the step's rows: hidden states from the first rank, this one's columns of the
 * logits. */
static int send_results(struct work *w, const struct step *s, struct error *e)
{
    struct backend_rows all;
    int code = 0;
    if (s->n_hidden > 0 && w->first) {
        code = backend_read(w->ctx, w->part->hidden, &all, e);
        code = code ? code : send_kind(w, s, STEP_WANT_HIDDEN, all, e);
    }
    if (code == 0 && s->n_wanted > s->n_hidden) {
        code = backend_read(w->ctx, w->part->logits, &all, e);
        code = code ? code : send_kind(w, s, STEP_WANT_LOGITS, all, e);
    }
    return code;
}

/* Runs the rows of a step through this part; the backend has begun it. */
static int run_rows(struct work *w, const struct step *s, struct error *e)
{
    int code = w->wires->previous ? receive_inputs(w, e) : 0;
    for (int i = 0; i < w->n_segments && code == 0; i++) {
        advance(w);
        atomic_store_explicit(&w->busy, true, memory_order_relaxed);
        code = backend_run(w->ctx, i, e);
        atomic_store_explicit(&w->busy, false, memory_order_relaxed);
        if (code == 0 && w->segments[i].exchange != PROGRAM_NONE) {
            code = exchange(w, &w->part->instrs[w->segments[i].exchange], e);
        }
    }
    if (code == 0 && w->part->logits == PROGRAM_NONE) {
        code = send_hidden(w, e);
    }
    if (code == 0 && w->part->logits != PROGRAM_NONE && s->n_wanted > 0) {
        code = send_results(w, s, e);
    }
    if (code != 0) {
        backend_abort(w->ctx);
        return code;
    }
    return backend_end(w->ctx, e);
}

static int do_step(struct work *w, const struct step *s, struct error *e)
{
    int code = 0;
    for (int i = 0; i < s->n_commands && code == 0; i++) {
        code = do_command(w, &s->commands[i], e);
    }
    if (code == 0 && s->n_hidden > 0 && w->part->logits != PROGRAM_NONE &&
        w->part->hidden == PROGRAM_NONE) {
        code = fail(e, FAIL_UNSUPPORTED, "this model's hidden states are nowhere whole");
    }
    if (code == 0 && s->n_rows > w->max_rows) {
        code = fail(e, FAIL_LIMIT, "step of %d rows, this rank takes %d", s->n_rows, w->max_rows);
    }
    if (code == 0 && s->n_rows > 0) {
        for (int i = 0; i < s->n_runs; i++) {
            w->runs[i] =
                (struct backend_run){ s->runs[i].session, s->runs[i].first, s->runs[i].count };
        }
        code = backend_begin(w->ctx,
                             &(struct backend_step){ .runs = w->runs,
                                                     .n_runs = s->n_runs,
                                                     .ids = s->ids,
                                                     .wanted = s->wanted,
                                                     .n_rows = s->n_rows,
                                                     .n_wanted = s->n_wanted },
                             e);
        code = code == 0 ? run_rows(w, s, e) : code;
    }
    if (code == 0 && w->part->logits != PROGRAM_NONE && s->n_wanted == s->n_hidden) {
        code = send_done(w, e);
    }
    return code;
}

void work_tell(struct channel *head, uint32_t epoch, uint64_t step, bool link,
               const struct error *e)
{
    uint8_t header[WIRE_HEADER];
    wire_encode(
        &(struct wire_header){
            .kind = WIRE_ERROR, .epoch = epoch, .step = step, .code = e->code, .link = link },
        header);
    size_t n = strlen(e->text);
    struct bytes parts[2] = { bytes_of(header, sizeof header),
                              bytes_of(e->text, n < WIRE_ERROR_TEXT ? n : WIRE_ERROR_TEXT) };
    channel_send(head, parts, 2, clock_now_ns() + ERROR_TIMEOUT_NS, NULL);
}

/* After an error was told: the neighbours learn at once that this rank is gone, but the head's
 * channel stays open for a moment, since a head that is just sending a step would find it closed
 * and never read why. */
static void part_ways(struct work *w)
{
    const struct rank_wires *l = w->wires;
    if (l->previous != NULL) {
        channel_shutdown(l->previous);
    }
    for (int i = 0; i < l->n_next; i++) {
        channel_shutdown(l->next[i]);
    }
    for (int i = 0; i < PLAN_MAX_RANKS; i++) {
        if (l->group[i] != NULL) {
            channel_shutdown(l->group[i]);
        }
    }
    uint64_t until = clock_now_ns() + LINGER_NS;
    int code = 0;
    while (code == 0 && !atomic_load_explicit(w->stop, memory_order_acquire)) {
        size_t size = 0;
        code = channel_recv(l->steps, w->message, w->capacity, &size, until, NULL);
    }
}

/* Decodes and does the step that lies in the message buffer. */
static int take_step(struct work *w, size_t size, struct error *e)
{
    struct step s;
    w->link_failed = false;
    int code = step_decode(bytes_of(w->message, size), &w->storage, &s, e);
    if (code != 0) {
        return code;
    }
    w->step = s.id;
    if (s.epoch != w->epoch) {
        return fail(e, FAIL_STATE, "step of epoch %u refused, this placement has epoch %u", s.epoch,
                    w->epoch);
    }
    code = do_step(w, &s, e);
    atomic_store_explicit(&w->state_bytes, backend_state_bytes(w->ctx), memory_order_relaxed);
    atomic_fetch_add_explicit(&w->steps, 1, memory_order_relaxed);
    return code;
}

int work_serve(struct work *w, struct error *e)
{
    channel_computes(w->wires->steps);
    if (w->wires->previous != NULL) {
        channel_computes(w->wires->previous);
    }
    while (!atomic_load_explicit(w->stop, memory_order_acquire)) {
        size_t size = 0;
        struct error local = { 0 };
        int code = channel_recv(w->wires->steps, w->message, w->capacity, &size,
                                clock_now_ns() + IDLE_WAIT_NS, &local);
        advance(w);
        if (code == FAIL_TIMEOUT) {
            continue;
        }
        if (code == FAIL_CLOSED) {
            return 0;
        }
        if (code != 0) {
            return fail(e, code, "steps from the head: %s", local.text);
        }
        code = take_step(w, size, &local);
        if (code != 0) {
            if (!atomic_load_explicit(w->stop, memory_order_acquire)) {
                work_tell(w->wires->steps, w->epoch, w->step, w->link_failed, &local);
                part_ways(w);
            }
            return fail(e, code, "%s", local.text);
        }
    }
    return 0;
}

/* Steps on the wire: little-endian, counts first, everything bounded. */
#include "engine/step.h"

#include <inttypes.h>
#include <stdlib.h>

int step_encode(const struct step *s, struct buffer *out)
{
    buffer_u64(out, s->id);
    buffer_u32(out, s->epoch);
    buffer_u32(out, (uint32_t)s->n_commands);
    buffer_u32(out, (uint32_t)s->n_runs);
    buffer_u32(out, (uint32_t)s->n_rows);
    for (int i = 0; i < s->n_commands; i++) {
        buffer_u8(out, (uint8_t)s->commands[i].op);
        buffer_u32(out, s->commands[i].session);
        buffer_u32(out, s->commands[i].other);
        buffer_u32(out, (uint32_t)s->commands[i].position);
    }
    for (int i = 0; i < s->n_runs; i++) {
        buffer_u32(out, s->runs[i].session);
        buffer_u32(out, (uint32_t)s->runs[i].first);
        buffer_u32(out, (uint32_t)s->runs[i].count);
    }
    for (int i = 0; i < s->n_rows; i++)
        buffer_u32(out, (uint32_t)s->ids[i]);
    buffer_append(out, bytes_of(s->wanted, (size_t)s->n_rows));
    return out->failed ? FAIL_LIMIT : 0;
}

int step_storage_init(struct step_storage *m, struct error *e)
{
    *m = (struct step_storage){ .commands = calloc(STEP_MAX_COMMANDS, sizeof(*m->commands)),
                                .runs = calloc(STEP_MAX_RUNS, sizeof(*m->runs)),
                                .ids = calloc(STEP_MAX_ROWS, sizeof(*m->ids)),
                                .wanted = calloc(STEP_MAX_ROWS, 1) };
    if (m->commands && m->runs && m->ids && m->wanted)
        return 0;
    step_storage_done(m);
    return fail(e, FAIL_NOMEM, "room for a step");
}

void step_storage_done(struct step_storage *m)
{
    free(m->commands);
    free(m->runs);
    free(m->ids);
    free(m->wanted);
    *m = (struct step_storage){ 0 };
}

static void decode_commands(struct cursor *c, struct step_storage *m, int n)
{
    for (int i = 0; i < n && !c->failed; i++) {
        uint8_t op = cursor_u8(c, "a command");
        m->commands[i] = (struct step_command){ .op = (enum step_command_op)op };
        m->commands[i].session = cursor_u32(c, "a command's session");
        m->commands[i].other = cursor_u32(c, "a command's other session");
        m->commands[i].position = (int32_t)cursor_u32(c, "a command's position");
        if (!c->failed && (op >= STEP_COMMAND_COUNT || m->commands[i].position < 0))
            cursor_fail(c, FAIL_FORMAT, "command %d: operation %u, position %d", i, op,
                        m->commands[i].position);
    }
}

/* Runs must be whole: their counts add up to the rows. */
static void decode_runs(struct cursor *c, struct step_storage *m, int n, int n_rows)
{
    int64_t rows = 0;
    for (int i = 0; i < n && !c->failed; i++) {
        struct step_run *r = &m->runs[i];
        r->session = cursor_u32(c, "a run's session");
        r->first = (int32_t)cursor_u32(c, "a run's first position");
        r->count = (int32_t)cursor_u32(c, "a run's count");
        if (!c->failed &&
            (r->first < 0 || r->count < 1 || r->count > n_rows || r->first > INT32_MAX - r->count))
            cursor_fail(c, FAIL_FORMAT, "run %d: %d rows from position %d", i, r->count, r->first);
        rows += r->count;
    }
    if (!c->failed && rows != n_rows)
        cursor_fail(c, FAIL_FORMAT, "runs of %" PRId64 " rows in a step of %d", rows, n_rows);
}

int step_decode(struct bytes message, struct step_storage *m, struct step *ret, struct error *e)
{
    struct error local = { 0 };
    struct cursor c;
    cursor_init(&c, message, e ? e : &local);
    struct step s = {
        .commands = m->commands, .runs = m->runs, .ids = m->ids, .wanted = m->wanted
    };
    s.id = cursor_u64(&c, "the step's id");
    s.epoch = cursor_u32(&c, "the epoch");
    uint32_t n_commands = cursor_u32(&c, "the command count");
    uint32_t n_runs = cursor_u32(&c, "the run count");
    uint32_t n_rows = cursor_u32(&c, "the row count");
    if (!c.failed &&
        (n_commands > STEP_MAX_COMMANDS || n_runs > STEP_MAX_RUNS || n_rows > STEP_MAX_ROWS))
        cursor_fail(&c, FAIL_LIMIT,
                    "a step of %" PRIu32 " commands, %" PRIu32 " runs, %" PRIu32 " rows",
                    n_commands, n_runs, n_rows);
    if (c.failed)
        return c.error->code;
    s.n_commands = (int)n_commands;
    s.n_runs = (int)n_runs;
    s.n_rows = (int)n_rows;
    decode_commands(&c, m, s.n_commands);
    decode_runs(&c, m, s.n_runs, s.n_rows);
    for (int i = 0; i < s.n_rows && !c.failed; i++) {
        m->ids[i] = (int32_t)cursor_u32(&c, "a token id");
        if (m->ids[i] < 0)
            cursor_fail(&c, FAIL_FORMAT, "token id %d", m->ids[i]);
    }
    for (int i = 0; i < s.n_rows && !c.failed; i++) {
        m->wanted[i] = cursor_u8(&c, "the mask of wanted rows");
        if (m->wanted[i] >= STEP_WANT_COUNT)
            cursor_fail(&c, FAIL_FORMAT, "a mask of %u", m->wanted[i]);
        s.n_wanted += m->wanted[i] != STEP_WANT_NOTHING;
        s.n_hidden += m->wanted[i] == STEP_WANT_HIDDEN;
    }
    if (!c.failed && cursor_left(&c))
        cursor_fail(&c, FAIL_FORMAT, "%" PRIu64 " bytes too many", cursor_left(&c));
    if (c.failed)
        return c.error->code;
    *ret = s;
    return 0;
}

/* See schedule.h. */
#include "engine/schedule.h"

#include <stdlib.h>
#include <string.h>

/* Rows of prefill in one step while others decode: bounds how long a long prompt stalls them. */
#define MIXED_PREFILL 128
/* Rows of prefill in one step alone. */
#define PREFILL 512
/* Over several stages a prompt comes in this many chunks for each stage beyond the first, of at
 * least so many rows (fewer read the weights more often than they are worth), in whole tiles of the
 * kernels. */
#define FILL_CHUNKS 16
#define LEAST_CHUNK 64
#define CHUNK_STEP 16
/* Rows with results in one run: each has a row of logits on its way to the head. */
#define MAX_WANTED 64
/* Room beyond its tokens that a request is admitted with: pages come as they are needed, but one
 * that was sent back for want of them should not come too early. */
#define HEADROOM 128
/* A prompt is due when so many times its own rows have been prefilled since it came. A short one is
 * due before a long one that came a little earlier, and however many come, each has its turn. */
#define PATIENCE 4

/* --- life --- */

static int alloc_rows(int max_rows, int32_t **ids, uint8_t **wanted, struct error *e)
{
    *ids = calloc((size_t)max_rows, sizeof(**ids));
    *wanted = calloc((size_t)max_rows, 1);
    if (*ids && *wanted)
        return 0;
    free(*ids);
    free(*wanted);
    return fail(e, FAIL_NOMEM, "steps of %d rows", max_rows);
}

int schedule_restart(struct schedule *s, const struct schedule_options *options, struct error *e)
{
    int32_t *ids;
    uint8_t *wanted;
    int r = alloc_rows(options->max_rows, &ids, &wanted, e);
    if (r)
        return r;
    if ((r = sessions_init(&s->sessions, &options->grant, &s->commands, e))) {
        free(ids);
        free(wanted);
        return r;
    }
    free(s->ids);
    free(s->wanted);
    s->ids = ids;
    s->wanted = wanted;
    s->options = *options;
    s->step = (struct step){
        .commands = s->commands.list, .runs = s->runs, .ids = s->ids, .wanted = s->wanted
    };
    s->turn = 0;
    s->short_of = false;
    overlap_init(&s->overlap, options->depth);
    return 0;
}

int schedule_init(struct schedule *s, const struct schedule_options *options, struct error *e)
{
    size_t n = (size_t)options->max_requests;
    *s = (struct schedule){ .active = calloc(n, sizeof(struct request *)),
                            .runs = calloc(STEP_MAX_RUNS, sizeof(*s->runs)) };
    bool ok = s->active && s->runs;
    for (int i = 0; i < SCHEDULE_MAX_DEPTH && ok; i++)
        ok = (s->flights[i].runs = calloc(n, sizeof(struct flight_run))) != NULL;
    int r = ok ? commands_init(&s->commands, e)
               : fail(e, FAIL_NOMEM, "room for %d requests", options->max_requests);
    r = r ? r : schedule_restart(s, options, e);
    if (r)
        schedule_done(s);
    return r;
}

void schedule_done(struct schedule *s)
{
    sessions_done(&s->sessions);
    commands_done(&s->commands);
    for (int i = 0; i < SCHEDULE_MAX_DEPTH; i++)
        free(s->flights[i].runs);
    free(s->active);
    free(s->runs);
    free(s->ids);
    free(s->wanted);
    *s = (struct schedule){ 0 };
}

void schedule_forget(struct schedule *s)
{
    s->n_flights = 0;
    s->short_of = false;
    commands_clear(&s->commands);
    sessions_forget(&s->sessions);
}

/* --- who is active --- */

static bool prefills(const struct request *r)
{
    return r->phase == REQUEST_PREFILL && !r->cancelled && !r->held;
}

static bool decodes(const struct request *r)
{
    return r->phase == REQUEST_DECODE && !r->cancelled && !r->held;
}

bool schedule_admit(struct schedule *s, struct request *r)
{
    int with_headroom = r->n_tokens + HEADROOM;
    const struct sessions_ask ask = {
        .tokens = r->tokens,
        .n = r->n_tokens,
        .positions = with_headroom < r->capacity ? with_headroom : r->capacity,
        /* The last token is always computed anew: its logits are needed. */
        .most_reused = r->ask.rows && r->n_told < r->n_prompt && r->n_told < r->n_tokens - 1
                           ? r->n_told
                           : r->n_tokens - 1
    };
    int reused = 0;
    if (s->n_active == s->options.max_requests)
        return false;
    r->session = sessions_take(&s->sessions, &ask, &reused);
    if (!r->session)
        return false;
    r->n_sent = r->n_done = reused;
    r->due = s->prefilled + PATIENCE * (uint64_t)(r->n_tokens - reused);
    r->phase = REQUEST_PREFILL;
    s->active[s->n_active++] = r;
    return true;
}

void schedule_remove(struct schedule *s, struct request *r)
{
    for (int i = 0; i < s->n_active; i++)
        if (s->active[i] == r) {
            s->n_active--;
            memmove(&s->active[i], &s->active[i + 1],
                    (size_t)(s->n_active - i) * sizeof(struct request *));
            break;
        }
    sessions_leave(&s->sessions, r->session, r->tokens, r->n_done);
    r->session = NULL;
}

/* --- one step --- */

/* How many of the last rows of [first, first + count) have results. */
static int wanted_rows(const struct request *r, int first, int count)
{
    int n = first + count == r->n_tokens ? 1 : 0;
    if (r->ask.rows && r->n_told < r->n_prompt && first < r->n_prompt) {
        int from = r->n_told > first ? r->n_told : first;
        int rows = first + count - from;
        n = rows > n ? rows : n;
    }
    return n;
}

/* Rows of r go into the step. False when there is no room for them. */
static bool add_run(struct schedule *s, struct flight *f, struct request *r, int count)
{
    struct step *step = &s->step;
    if (!sessions_grow(&s->sessions, r->session, r->n_sent + count)) {
        s->short_of = true;
        s->active[s->n_active - 1]->held = true;
        return false;
    }
    int wanted = wanted_rows(r, r->n_sent, count);
    bool hidden = r->ask.rows == ENGINE_ROWS_HIDDEN;
    sessions_checkpoint(&s->sessions, r->session, r->n_sent, r->n_prompt);
    s->runs[step->n_runs++] =
        (struct step_run){ .session = r->session->id, .first = r->n_sent, .count = count };
    memcpy(s->ids + step->n_rows, r->tokens + r->n_sent, (size_t)count * sizeof(*s->ids));
    memset(s->wanted + step->n_rows, STEP_WANT_NOTHING, (size_t)count);
    memset(s->wanted + step->n_rows + count - wanted, hidden ? STEP_WANT_HIDDEN : STEP_WANT_LOGITS,
           (size_t)wanted);
    f->runs[f->n_runs++] = (struct flight_run){ .request = r,
                                                .first = r->n_sent,
                                                .count = count,
                                                .n_wanted = wanted,
                                                .samples = r->n_sent + count == r->n_tokens,
                                                .hidden = hidden };
    step->n_rows += count;
    step->n_wanted += wanted;
    step->n_hidden += hidden ? wanted : 0;
    r->n_sent += count;
    r->in_flight++;
    return true;
}

/* Steps in flight that hold rows of decoding streams. */
static int decode_flights(const struct schedule *s)
{
    int n = 0;
    for (int i = 0; i < s->n_flights; i++)
        n += s->flights[(s->first_flight + i) % SCHEDULE_MAX_DEPTH].n_decodes > 0;
    return n;
}

/* How many of the ready streams go into this step: all of them, or an equal part where several
 * steps are to overlap; none while as many steps as wanted are in flight. */
static int decode_share(const struct schedule *s, int ready, int decoding)
{
    if (ready == 0)
        return 0;
    int steps = overlap_steps(&s->overlap, decoding), flights = decode_flights(s);
    if (flights >= steps)
        return 0;
    int share = (decoding + steps - 1) / steps;
    return share < ready ? share : ready;
}

static void add_decodes(struct schedule *s, struct flight *f, int share)
{
    /* Starting at a moving turn, no stream waits for ever. */
    for (int i = 0; i < s->n_active && share > 0; i++) {
        struct request *r = s->active[(s->turn + i) % s->n_active];
        if (decodes(r) && r->in_flight == 0 && add_run(s, f, r, 1)) {
            f->n_decodes++;
            share--;
        }
    }
    s->turn = s->n_active ? (s->turn + f->n_decodes) % s->n_active : 0;
}

/* Rows of one chunk of r's prompt. Over several stages it comes in so many chunks that filling and
 * emptying the pipeline costs little. */
static int chunk_rows(const struct schedule *s, const struct request *r)
{
    int most = s->options.prefill_chunk ? s->options.prefill_chunk : PREFILL;
    if (r->ask.rows && most > MAX_WANTED)
        most = MAX_WANTED;
    if (s->options.depth == 1 || s->options.prefill_chunk)
        return most;
    int stages = s->options.depth - 1;
    int chunks = FILL_CHUNKS * (stages > 1 ? stages - 1 : 1);
    int rows = (r->n_tokens - r->cached + chunks - 1) / chunks;
    rows = (rows + CHUNK_STEP - 1) / CHUNK_STEP * CHUNK_STEP;
    if (rows < LEAST_CHUNK)
        return LEAST_CHUNK;
    return rows < most ? rows : most;
}

/* Where r's next run of prefill must end at the latest: where the state can't go back, the end of
 * a prompt is apart. */
static int prefill_end(const struct schedule *s, const struct request *r)
{
    int tail = r->n_prompt - CHECKPOINT_TAIL;
    bool apart = !s->options.grant.can_truncate && tail >= CHECKPOINT_LEAST && r->n_sent < tail;
    return apart ? tail : r->n_tokens;
}

/* A request may have several runs in flight, but one in a step. */
static bool in_step(const struct flight *f, const struct request *r)
{
    for (int i = 0; i < f->n_runs; i++)
        if (f->runs[i].request == r)
            return true;
    return false;
}

/* Of those with rows to prefill the one that is due first; of equals who came first. */
static struct request *next_prefill(const struct schedule *s, const struct flight *f)
{
    struct request *found = NULL;
    for (int i = 0; i < s->n_active; i++) {
        struct request *r = s->active[i];
        if (prefills(r) && r->n_sent < r->n_tokens && (!found || r->due < found->due) &&
            !in_step(f, r))
            found = r;
    }
    return found;
}

static void add_prefills(struct schedule *s, struct flight *f, int budget)
{
    while (budget > 0 && s->step.n_runs < STEP_MAX_RUNS) {
        struct request *r = next_prefill(s, f);
        if (!r)
            return;
        int left = prefill_end(s, r) - r->n_sent, chunk = chunk_rows(s, r);
        chunk = chunk < budget ? chunk : budget;
        int count = left < chunk ? left : chunk;
        if (!add_run(s, f, r, count))
            return;
        s->prefilled += (uint64_t)count;
        budget -= count;
    }
}

struct flight *schedule_form(struct schedule *s)
{
    struct step *step = &s->step;
    struct flight *f = &s->flights[(s->first_flight + s->n_flights) % SCHEDULE_MAX_DEPTH];
    int ready = 0, decoding = 0;
    f->n_runs = f->n_decodes = 0;
    step->n_runs = step->n_rows = step->n_wanted = step->n_hidden = 0;
    s->short_of = false;
    for (int i = 0; i < s->n_active; i++) {
        decoding += decodes(s->active[i]);
        ready += decodes(s->active[i]) && s->active[i]->in_flight == 0;
    }
    int share = decode_share(s, ready, decoding), room = s->options.max_rows;
    add_decodes(s, f, share < room ? share : room);
    room -= step->n_rows;
    add_prefills(s, f, decoding > 0 && room > MIXED_PREFILL ? MIXED_PREFILL : room);
    step->n_commands = s->commands.n;
    f->n_wanted = step->n_wanted;
    f->n_hidden = step->n_hidden;
    return step->n_rows > 0 || step->n_commands >= COMMANDS_MANY ? f : NULL;
}

void schedule_sent(struct schedule *s)
{
    commands_clear(&s->commands);
    s->n_flights++;
}

struct flight *schedule_oldest(struct schedule *s)
{
    return &s->flights[s->first_flight];
}

void schedule_pop(struct schedule *s)
{
    s->first_flight = (s->first_flight + 1) % SCHEDULE_MAX_DEPTH;
    s->n_flights--;
}

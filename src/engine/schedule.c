/* Forming steps: decodes of all streams first, then chunks of prefill. */
#include "engine/internal.h"

#include <assert.h>

void engine_command(struct engine *g, enum step_command_op op, uint32_t session, uint32_t other,
                    int32_t position)
{
    /* Each request gives at most a handful of commands between two steps. */
    assert(g->step.n_commands < STEP_MAX_COMMANDS);
    g->commands[g->step.n_commands++] =
        (struct step_command){ .op = op, .session = session, .other = other, .position = position };
}

/* Rows of r go into the step; the last one's logits are wanted when the known tokens end there. */
static void add_run(struct engine *g, struct flight *f, struct request *r, int count)
{
    struct step *s = &g->step;
    bool wanted = r->n_sent + count == r->n_tokens;
    engine_checkpoint(g, r);
    g->runs[s->n_runs++] =
        (struct step_run){ .session = r->session, .first = r->n_sent, .count = count };
    for (int i = 0; i < count; i++) {
        g->ids[s->n_rows + i] = r->tokens[r->n_sent + i];
        g->wanted[s->n_rows + i] = wanted && i == count - 1;
    }
    s->n_rows += count;
    s->n_wanted += wanted;
    r->n_sent += count;
    r->in_flight++;
    f->runs[f->n_runs++] = (struct flight_run){ r, count, wanted };
}

static bool decode_ready(const struct request *r)
{
    return r->phase == REQUEST_DECODE && r->in_flight == 0 && !r->cancelled;
}

static bool prefill_ready(const struct request *r)
{
    return r->phase == REQUEST_PREFILL && r->n_sent < r->n_tokens && !r->cancelled;
}

static bool decodes(const struct request *r)
{
    return r->phase == REQUEST_DECODE && !r->cancelled;
}

/* Steps in flight that hold rows of decoding streams. */
static int decode_flights(const struct engine *g)
{
    int n = 0;
    for (int i = 0; i < g->n_flights; i++)
        n += g->flights[(g->first_flight + i) % ENGINE_MAX_DEPTH].n_decodes > 0;
    return n;
}

/* How many of the ready streams go into this step: all of them, or an equal part where several
 * steps are to overlap; none while as many steps as wanted are in flight. */
static int decode_share(const struct engine *g, int ready, int decoding)
{
    if (ready == 0)
        return 0;
    int steps = overlap_steps(&g->overlap, decoding), flights = decode_flights(g);
    if (flights >= steps)
        return 0;
    int share = (decoding + steps - 1) / steps;
    return share < ready ? share : ready;
}

/* Rows of one chunk of r's prompt. Over several stages it comes in so many chunks that filling and
 * emptying the pipeline costs little. */
static int chunk_rows(const struct engine *g, const struct request *r)
{
    int most = g->options.prefill_chunk ? g->options.prefill_chunk : ENGINE_PREFILL;
    if (g->x->depth == 1 || g->options.prefill_chunk)
        return most;
    int stages = g->x->depth - 1;
    int chunks = ENGINE_FILL_CHUNKS * (stages > 1 ? stages - 1 : 1);
    int rows = (r->n_tokens - r->cached + chunks - 1) / chunks;
    rows = (rows + ENGINE_CHUNK_STEP - 1) / ENGINE_CHUNK_STEP * ENGINE_CHUNK_STEP;
    if (rows < ENGINE_LEAST_CHUNK)
        return ENGINE_LEAST_CHUNK;
    return rows < most ? rows : most;
}

/* Rows of prefill that fit into the step: fewer where others decode meanwhile. */
static int prefill_budget(const struct engine *g, bool mixed)
{
    int room = g->x->max_rows - g->step.n_rows;
    return mixed && room > ENGINE_MIXED_PREFILL ? ENGINE_MIXED_PREFILL : room;
}

static void add_decodes(struct engine *g, struct flight *f, int share)
{
    /* Starting at a moving turn, no stream waits for ever. */
    for (int i = 0; i < g->n_active && share > 0; i++) {
        struct request *r = g->active[(g->turn + i) % g->n_active];
        if (decode_ready(r)) {
            add_run(g, f, r, 1);
            f->n_decodes++;
            share--;
        }
    }
    g->turn = g->n_active ? (g->turn + f->n_decodes) % g->n_active : 0;
}

bool engine_form_step(struct engine *g, struct flight *f)
{
    struct step *s = &g->step;
    int ready = 0, decoding = 0;
    f->n_runs = f->n_decodes = s->n_runs = s->n_rows = s->n_wanted = 0;
    for (int i = 0; i < g->n_active; i++) {
        ready += decode_ready(g->active[i]);
        decoding += decodes(g->active[i]);
    }
    int share = decode_share(g, ready, decoding);
    add_decodes(g, f, share < g->x->max_rows ? share : g->x->max_rows);
    int budget = prefill_budget(g, decoding > 0);
    for (int i = 0; i < g->n_active && budget > 0 && s->n_runs < STEP_MAX_RUNS; i++) {
        struct request *r = g->active[i];
        if (!prefill_ready(r))
            continue;
        int left = engine_prefill_end(g, r) - r->n_sent, chunk = chunk_rows(g, r);
        chunk = chunk < budget ? chunk : budget;
        int count = left < chunk ? left : chunk;
        add_run(g, f, r, count);
        budget -= count;
    }
    return s->n_rows > 0;
}

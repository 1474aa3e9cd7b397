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

/* With several stages, each of the steps that can be in flight gets its part of the streams, so
 * that all stages work. */
static int decode_share(const struct engine *g, int ready)
{
    int depth = g->x->depth < ENGINE_MAX_DEPTH ? g->x->depth : ENGINE_MAX_DEPTH;
    int steps = depth - g->n_flights;
    return steps > 1 ? (ready + steps - 1) / steps : ready;
}

static int prefill_budget(const struct engine *g, bool mixed)
{
    int most = g->options.prefill_chunk ? g->options.prefill_chunk : ENGINE_PREFILL;
    if (mixed && most > ENGINE_MIXED_PREFILL)
        most = ENGINE_MIXED_PREFILL;
    /* Chunks small enough to keep every stage of a pipeline busy. */
    if (g->x->depth > 1 && most > ENGINE_MIXED_PREFILL && !g->options.prefill_chunk)
        most = ENGINE_MIXED_PREFILL;
    int room = g->x->max_rows - g->step.n_rows;
    return most < room ? most : room;
}

bool engine_form_step(struct engine *g, struct flight *f)
{
    struct step *s = &g->step;
    int ready = 0, decoding = 0;
    f->n_runs = s->n_runs = s->n_rows = s->n_wanted = 0;
    for (int i = 0; i < g->n_active; i++) {
        ready += decode_ready(g->active[i]);
        decoding += g->active[i]->phase == REQUEST_DECODE;
    }
    int share = decode_share(g, ready);
    if (share > g->x->max_rows)
        share = g->x->max_rows;
    /* Starting at a moving turn, no stream waits for ever. */
    for (int i = 0; i < g->n_active && share > 0; i++) {
        struct request *r = g->active[(g->turn + i) % g->n_active];
        if (decode_ready(r)) {
            add_run(g, f, r, 1);
            share--;
        }
    }
    g->turn = g->n_active ? (g->turn + s->n_runs) % g->n_active : 0;
    int budget = prefill_budget(g, decoding > 0);
    for (int i = 0; i < g->n_active && budget > 0 && s->n_runs < STEP_MAX_RUNS; i++) {
        struct request *r = g->active[i];
        if (!prefill_ready(r))
            continue;
        int left = engine_prefill_end(g, r) - r->n_sent;
        int count = left < budget ? left : budget;
        add_run(g, f, r, count);
        budget -= count;
    }
    return s->n_rows > 0;
}

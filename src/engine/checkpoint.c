/* Checkpoints of sessions whose state can't go back (recurrent states, windows): such a session is
 * taken back to any position by restoring the nearest checkpoint before it and computing the rest
 * again, which gives the same bits because a row depends on its own history alone. */
#include "engine/internal.h"

/* Positions between two checkpoints of a session: at most this many are computed again. A step
 * boundary has to fall there, so a long prefill may leave wider gaps. */
#define EVERY 64
/* The end of a prompt is prefilled as a step of its own, behind a checkpoint: the next request
 * often differs from this one only there (the same question again, or its last turn changed). */
#define TAIL 16

int engine_checkpoints(const struct engine *g)
{
    int n = 0;
    for (int i = 0; i < g->n_active; i++)
        n += g->active[i]->checkpoints.n;
    for (int i = 0; i < ENGINE_MAX_CACHED; i++)
        n += g->cached[i].checkpoints.n;
    return n;
}

static void remove_at(struct engine *g, struct checkpoints *c, int index)
{
    engine_command(g, STEP_FREE, c->id[index], 0, 0);
    c->n--;
    for (int i = index; i < c->n; i++) {
        c->id[i] = c->id[i + 1];
        c->position[i] = c->position[i + 1];
    }
}

void engine_drop_checkpoints(struct engine *g, struct checkpoints *c, int beyond)
{
    while (c->n && c->position[c->n - 1] > beyond)
        remove_at(g, c, c->n - 1);
}

int engine_nearest_checkpoint(const struct checkpoints *c, int position)
{
    int found = -1;
    for (int i = 0; i < c->n && c->position[i] <= position; i++)
        found = i;
    return found;
}

/* The checkpoint whose loss leaves the smallest gap; the newest stays unless it is the only one. */
static int least_useful(const struct checkpoints *c)
{
    int best = 0, gap = INT32_MAX;
    for (int i = 0; i + 1 < c->n; i++) {
        int around = c->position[i + 1] - (i ? c->position[i - 1] : 0);
        if (around < gap) {
            gap = around;
            best = i;
        }
    }
    return best;
}

bool engine_free_a_checkpoint(struct engine *g)
{
    for (int i = 0; i < g->n_active; i++)
        if (g->active[i]->checkpoints.n) {
            remove_at(g, &g->active[i]->checkpoints, 0);
            return true;
        }
    return false;
}

int engine_prefill_end(const struct engine *g, const struct request *r)
{
    int tail = r->n_prompt - TAIL;
    bool apart = !g->x->can_truncate && tail >= ENGINE_MIN_PREFIX && r->n_sent < tail;
    return apart ? tail : r->n_tokens;
}

void engine_checkpoint(struct engine *g, struct request *r)
{
    struct checkpoints *c = &r->checkpoints;
    int last = c->n ? c->position[c->n - 1] : 0;
    bool due = r->n_sent - last >= EVERY || r->n_sent == r->n_prompt - TAIL;
    if (g->x->can_truncate || !due || r->n_sent < ENGINE_MIN_PREFIX || r->n_sent == last)
        return;
    if (c->n == ENGINE_MAX_CHECKPOINTS || (c->n && !engine_room_for_checkpoint(g, false)))
        remove_at(g, c, least_useful(c));
    else if (!engine_room_for_checkpoint(g, c->n == 0))
        return;
    c->id[c->n] = g->next_session++;
    c->position[c->n] = r->n_sent;
    engine_command(g, STEP_CHECKPOINT, r->session, c->id[c->n++], 0);
}

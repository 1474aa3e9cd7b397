/* Sessions, and the prefix cache: a finished request's session stays until its room is needed, so
 * that a chat's next turn only prefills what is new. Where the state can't go back, the nearest
 * checkpoint serves. */
#include "engine/internal.h"

#include <stdlib.h>
#include <string.h>

/* Positions are counted in whole pages of this many, as backends keep them. */
#define PAGE 64

static uint64_t pages(int positions)
{
    return ((uint64_t)positions + PAGE - 1) / PAGE + 1;
}

static uint64_t capacity(const struct engine *g)
{
    uint64_t tokens = g->x->state_tokens
                          ? g->x->state_tokens
                          : (uint64_t)g->x->max_context * (uint64_t)g->options.max_requests;
    return tokens / PAGE + (uint64_t)g->options.max_requests;
}

/* Pages that active requests may come to need, and cached sessions hold. A checkpoint shares its
 * session's pages but for the last one, which is copied when the session goes on. */
static uint64_t promised(const struct engine *g)
{
    uint64_t total = (uint64_t)engine_checkpoints(g);
    for (int i = 0; i < g->n_active; i++)
        if (g->active[i]->has_session)
            total += pages(g->active[i]->capacity);
    for (int i = 0; i < ENGINE_MAX_CACHED; i++)
        if (g->cached[i].used)
            total += pages(g->cached[i].n);
    return total;
}

static int sessions_in_use(const struct engine *g)
{
    int n = engine_checkpoints(g);
    for (int i = 0; i < g->n_active; i++)
        n += g->active[i]->has_session;
    for (int i = 0; i < ENGINE_MAX_CACHED; i++)
        n += g->cached[i].used;
    return n;
}

static int max_sessions(const struct engine *g)
{
    return g->x->max_sessions ? g->x->max_sessions : g->options.max_requests;
}

static void drop(struct engine *g, struct cached *c)
{
    engine_command(g, STEP_FREE, c->session, 0, 0);
    engine_drop_checkpoints(g, &c->checkpoints, -1);
    free(c->tokens);
    *c = (struct cached){ 0 };
}

void engine_free_cached(struct engine *g)
{
    for (int i = 0; i < ENGINE_MAX_CACHED; i++) {
        free(g->cached[i].tokens);
        g->cached[i] = (struct cached){ 0 };
    }
}

static struct cached *oldest(struct engine *g, const struct cached *keep)
{
    struct cached *found = NULL;
    for (int i = 0; i < ENGINE_MAX_CACHED; i++) {
        struct cached *c = &g->cached[i];
        if (c->used && c != keep && (!found || c->last_used < found->last_used))
            found = c;
    }
    return found;
}

/* Tokens at the beginning that the session's state could serve. The last prompt token is always
 * computed anew: its logits are needed. */
static int common(const struct engine *g, const struct cached *c, const struct request *r)
{
    int n = 0, most = c->n < r->n_prompt - 1 ? c->n : r->n_prompt - 1;
    while (n < most && c->tokens[n] == r->tokens[n])
        n++;
    if (n == c->n || g->x->can_truncate)
        return n;
    int checkpoint = engine_nearest_checkpoint(&c->checkpoints, n);
    return checkpoint < 0 ? 0 : c->checkpoints.position[checkpoint];
}

static struct cached *best_prefix(struct engine *g, const struct request *r, int *length)
{
    struct cached *best = NULL;
    *length = ENGINE_MIN_PREFIX - 1;
    for (int i = 0; i < ENGINE_MAX_CACHED; i++) {
        if (!g->cached[i].used)
            continue;
        int n = common(g, &g->cached[i], r);
        if (n > *length) {
            *length = n;
            best = &g->cached[i];
        }
    }
    return best;
}

bool engine_room_for_checkpoint(struct engine *g, bool evict)
{
    for (;;) {
        if (promised(g) < capacity(g) && sessions_in_use(g) < max_sessions(g))
            return true;
        struct cached *victim = evict ? oldest(g, NULL) : NULL;
        if (!victim)
            return false;
        drop(g, victim);
    }
}

/* The cached session becomes the request's, taken back to its first `length` positions. */
static void adopt(struct engine *g, struct request *r, struct cached *c, int length)
{
    r->session = c->session;
    r->checkpoints = c->checkpoints;
    engine_drop_checkpoints(g, &r->checkpoints, length);
    if (length < c->n && g->x->can_truncate)
        engine_command(g, STEP_TRUNCATE, r->session, 0, length);
    else if (length < c->n)
        engine_command(g, STEP_RESTORE, r->session, r->checkpoints.id[r->checkpoints.n - 1], 0);
    r->n_sent = r->n_done = r->cached = length;
    free(c->tokens);
    *c = (struct cached){ 0 };
}

bool engine_take_session(struct engine *g, struct request *r)
{
    int length;
    struct cached *reuse = best_prefix(g, r, &length);
    /* Make room: the reused session's pages become the request's. */
    for (;;) {
        uint64_t held = promised(g) - (reuse ? pages(reuse->n) : 0);
        int sessions = sessions_in_use(g) - (reuse ? 1 : 0);
        if (held + pages(r->capacity) <= capacity(g) && sessions < max_sessions(g))
            break;
        struct cached *victim = oldest(g, reuse);
        if (victim) {
            drop(g, victim);
        } else if (reuse) {
            drop(g, reuse);
            reuse = NULL;
        } else if (!engine_free_a_checkpoint(g)) {
            return false;
        }
    }
    r->has_session = true;
    if (reuse) {
        adopt(g, r, reuse, length);
        return true;
    }
    r->session = g->next_session++;
    engine_command(g, STEP_CREATE, r->session, 0, 0);
    return true;
}

void engine_leave_session(struct engine *g, struct request *r)
{
    if (!r->has_session)
        return;
    r->has_session = false;
    struct cached *slot = NULL;
    for (int i = 0; i < ENGINE_MAX_CACHED && !slot; i++)
        if (!g->cached[i].used)
            slot = &g->cached[i];
    if (!slot && (slot = oldest(g, NULL)))
        drop(g, slot);
    int32_t *tokens = malloc(((size_t)r->n_done + 1) * sizeof(*tokens));
    if (!slot || !tokens || r->n_done < ENGINE_MIN_PREFIX) {
        free(tokens);
        engine_command(g, STEP_FREE, r->session, 0, 0);
        engine_drop_checkpoints(g, &r->checkpoints, -1);
        return;
    }
    memcpy(tokens, r->tokens, (size_t)r->n_done * sizeof(*tokens));
    *slot = (struct cached){ .used = true,
                             .session = r->session,
                             .checkpoints = r->checkpoints,
                             .tokens = tokens,
                             .n = r->n_done,
                             .last_used = ++g->clock };
}

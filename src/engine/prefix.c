/* Sessions, and the prefix cache: a finished request's session stays until its room is needed, so
 * that a chat's next turn only prefills what is new. */
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

/* Pages that active requests may come to need, and cached sessions hold. */
static uint64_t promised(const struct engine *g)
{
    uint64_t total = 0;
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
    int n = 0;
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
    if (n < c->n && !g->x->can_truncate)
        return 0;
    return n;
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
        } else {
            return false;
        }
    }
    r->has_session = true;
    if (reuse) {
        r->session = reuse->session;
        if (length < reuse->n)
            engine_command(g, STEP_TRUNCATE, r->session, 0, length);
        r->n_sent = r->n_done = r->cached = length;
        free(reuse->tokens);
        *reuse = (struct cached){ 0 };
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
        return;
    }
    memcpy(tokens, r->tokens, (size_t)r->n_done * sizeof(*tokens));
    *slot = (struct cached){ .used = true,
                             .session = r->session,
                             .tokens = tokens,
                             .n = r->n_done,
                             .last_used = ++g->clock };
}

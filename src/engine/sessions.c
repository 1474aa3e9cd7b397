/* See sessions.h. */
#include "engine/sessions.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A shorter common beginning is not worth a session. */
#define LEAST_PREFIX 8
/* A kept session that holds at least this much beyond the common beginning is copied rather than
 * cut: a short question behind a long conversation's first words must not end the conversation. */
#define LEAST_COPY 128
/* Commands that taking a session adds, its own end included. */
#define TAKE_COMMANDS 3
/* The same of a checkpoint, with the one it may replace. */
#define CHECKPOINT_COMMANDS 3

static int pages_of(int positions)
{
    return (positions + SESSION_PAGE - 1) / SESSION_PAGE;
}

int sessions_init(struct sessions *s, const struct sessions_grant *grant, struct commands *commands,
                  struct error *e)
{
    int n = grant->max_sessions < SESSIONS_MAX ? grant->max_sessions : SESSIONS_MAX;
    struct session *slots = calloc((size_t)n, sizeof(*slots));
    if (!slots)
        return fail(e, FAIL_NOMEM, "%d sessions", n);
    free(s->slots);
    s->slots = slots;
    s->grant = *grant;
    s->grant.max_sessions = n;
    s->commands = commands;
    return 0;
}

void sessions_forget(struct sessions *s)
{
    for (int i = 0; s->slots && i < s->grant.max_sessions; i++) {
        free(s->slots[i].tokens);
        s->slots[i] = (struct session){ 0 };
    }
}

void sessions_done(struct sessions *s)
{
    sessions_forget(s);
    free(s->slots);
    s->slots = NULL;
}

static uint64_t granted_pages(const struct sessions *s)
{
    return (s->grant.tokens + SESSION_PAGE - 1) / SESSION_PAGE;
}

uint64_t sessions_capacity(const struct sessions *s)
{
    return granted_pages(s) * SESSION_PAGE;
}

/* A checkpoint shares its session's pages but for the last one, which is copied when the session
 * goes on. A copied session is counted as if it shared none. */
int sessions_pages(const struct sessions *s)
{
    int n = 0;
    for (int i = 0; i < s->grant.max_sessions; i++)
        n += s->slots[i].pages + s->slots[i].checkpoints.n;
    return n;
}

int sessions_in_use(const struct sessions *s)
{
    int n = 0;
    for (int i = 0; i < s->grant.max_sessions; i++)
        n += s->slots[i].used + s->slots[i].checkpoints.n;
    return n;
}

static bool fits(const struct sessions *s, int pages, int places)
{
    return (uint64_t)(sessions_pages(s) + pages) <= granted_pages(s) &&
           sessions_in_use(s) + places <= s->grant.max_sessions;
}

/* Commands that may be added now and leave room to free everything that is in use. */
static bool may_command(const struct sessions *s, int n)
{
    return commands_left(s->commands) - sessions_in_use(s) >= n;
}

static void command(struct sessions *s, enum step_command_op op, uint32_t session, uint32_t other,
                    int32_t position)
{
    commands_add(s->commands, (struct step_command){ op, session, other, position });
}

static void drop(struct sessions *s, struct session *x)
{
    command(s, STEP_FREE, x->id, 0, 0);
    checkpoint_free_beyond(&x->checkpoints, -1, s->commands);
    free(x->tokens);
    *x = (struct session){ 0 };
}

/* What keeping n tokens saves, by the time since they were of use. */
static double worth(const struct sessions *s, const struct session *x, int n)
{
    return (double)n / (double)(s->clock - x->last_used + 1);
}

/* The kept session, other than `keep`, that is worth the least. */
static struct session *least_worth(struct sessions *s, const struct session *keep)
{
    struct session *found = NULL;
    for (int i = 0; i < s->grant.max_sessions; i++) {
        struct session *x = &s->slots[i];
        if (x->used && !x->active && x != keep &&
            (!found || worth(s, x, x->n) < worth(s, found, found->n)))
            found = x;
    }
    return found;
}

static bool free_a_checkpoint(struct sessions *s)
{
    for (int i = 0; i < s->grant.max_sessions; i++)
        if (s->slots[i].active && s->slots[i].checkpoints.n) {
            checkpoint_free(&s->slots[i].checkpoints, 0, s->commands);
            return true;
        }
    return false;
}

/* Whether there would be room without anything that gives way: kept sessions but `keep`, and
 * checkpoints of what runs. */
static bool could_fit(const struct sessions *s, int pages, int places, const struct session *keep)
{
    for (int i = 0; i < s->grant.max_sessions; i++) {
        const struct session *x = &s->slots[i];
        if (x != keep && !x->active)
            continue;
        pages += x->pages + (x == keep ? x->checkpoints.n : 0);
        places += 1 + (x == keep ? x->checkpoints.n : 0);
    }
    return pages >= 0 && (uint64_t)pages <= granted_pages(s) && places <= s->grant.max_sessions;
}

/* Makes room by dropping kept sessions but `keep`, then checkpoints of what runs. Drops nothing
 * when that would not do. */
static bool make_room(struct sessions *s, int pages, int places, const struct session *keep)
{
    if (!could_fit(s, pages, places, keep))
        return false;
    while (!fits(s, pages, places)) {
        struct session *victim = least_worth(s, keep);
        if (victim)
            drop(s, victim);
        else if (!free_a_checkpoint(s))
            return false;
    }
    return true;
}

/* The same, but only of kept sessions that are worth less than `limit`. */
static bool make_cheap_room(struct sessions *s, int pages, int places, const struct session *keep,
                            double limit)
{
    while (!fits(s, pages, places)) {
        struct session *victim = least_worth(s, keep);
        if (!victim || worth(s, victim, victim->n) >= limit)
            return false;
        drop(s, victim);
    }
    return true;
}

/* Tokens at the beginning that the kept session's state could serve. */
static int common(const struct sessions *s, const struct session *x, const struct sessions_ask *ask)
{
    int n = 0, most = x->n < ask->most_reused ? x->n : ask->most_reused;
    while (n < most && x->tokens[n] == ask->tokens[n])
        n++;
    if (n == x->n || s->grant.can_truncate)
        return n;
    int checkpoint = checkpoint_nearest(&x->checkpoints, n);
    return checkpoint < 0 ? 0 : x->checkpoints.position[checkpoint];
}

static struct session *best_prefix(struct sessions *s, const struct sessions_ask *ask, int *length)
{
    struct session *best = NULL;
    *length = LEAST_PREFIX - 1;
    for (int i = 0; i < s->grant.max_sessions; i++) {
        struct session *x = &s->slots[i];
        int n = x->used && !x->active ? common(s, x, ask) : 0;
        if (n > *length) {
            *length = n;
            best = x;
        }
    }
    return best;
}

static struct session *new_session(struct sessions *s, int pages)
{
    struct session *x = s->slots;
    while (x->used) /* there is room for one more */
        x++;
    *x = (struct session){ .used = true, .active = true, .id = ++s->next_id, .pages = pages };
    return x;
}

/* A new session that begins with the first `length` tokens of a kept one, which stays. */
static struct session *copy(struct sessions *s, struct session *from, int length, int pages)
{
    struct session *x = new_session(s, pages);
    from->last_used = ++s->clock;
    if (s->grant.can_truncate) {
        command(s, STEP_FORK, x->id, from->id, 0);
        command(s, STEP_TRUNCATE, x->id, 0, length);
    } else {
        int at = checkpoint_nearest(&from->checkpoints, length);
        command(s, STEP_CREATE, x->id, 0, 0);
        command(s, STEP_RESTORE, x->id, from->checkpoints.id[at], 0);
    }
    return x;
}

/* The kept session becomes the request's, taken back to its first `length` tokens. */
static struct session *adopt(struct sessions *s, struct session *x, int length, int pages)
{
    checkpoint_free_beyond(&x->checkpoints, length, s->commands);
    if (length < x->n && s->grant.can_truncate)
        command(s, STEP_TRUNCATE, x->id, 0, length);
    else if (length < x->n)
        command(s, STEP_RESTORE, x->id, x->checkpoints.id[x->checkpoints.n - 1], 0);
    free(x->tokens);
    x->tokens = NULL;
    x->active = true;
    x->pages = pages;
    return x;
}

struct session *sessions_take(struct sessions *s, const struct sessions_ask *ask, int *reused)
{
    int length, pages = pages_of(ask->positions);
    if (!may_command(s, TAKE_COMMANDS))
        return NULL;
    struct session *kept = best_prefix(s, ask, &length);
    if (kept && kept->n - length >= LEAST_COPY &&
        make_cheap_room(s, pages, 1, kept, worth(s, kept, kept->n - length))) {
        *reused = length;
        return copy(s, kept, length, pages);
    }
    if (kept && make_room(s, pages - kept->pages, 0, kept)) {
        *reused = length;
        return adopt(s, kept, length, pages);
    }
    if (!make_room(s, pages, 1, NULL))
        return NULL;
    *reused = 0;
    struct session *x = new_session(s, pages);
    command(s, STEP_CREATE, x->id, 0, 0);
    return x;
}

bool sessions_grow(struct sessions *s, struct session *x, int positions)
{
    int pages = pages_of(positions);
    if (pages <= x->pages)
        return true;
    if (!make_room(s, pages - x->pages, 0, NULL))
        return false;
    x->pages = pages;
    return true;
}

void sessions_leave(struct sessions *s, struct session *x, const int32_t *tokens, int n)
{
    if (!x)
        return;
    assert(x->used && x->active);
    x->active = false;
    x->tokens = n >= LEAST_PREFIX ? malloc((size_t)n * sizeof(*tokens)) : NULL;
    if (!x->tokens) {
        drop(s, x);
        return;
    }
    memcpy(x->tokens, tokens, (size_t)n * sizeof(*tokens));
    x->n = n;
    x->pages = pages_of(n);
    x->last_used = ++s->clock;
}

void sessions_checkpoint(struct sessions *s, struct session *x, int position, int n_prompt)
{
    struct checkpoints *c = &x->checkpoints;
    if (s->grant.can_truncate || !checkpoint_is_due(c, position, n_prompt) ||
        !may_command(s, CHECKPOINT_COMMANDS))
        return;
    /* The first one is worth a kept session; for more only free room is taken. */
    bool room = c->n == 0 ? make_cheap_room(s, 1, 1, NULL, INFINITY) : fits(s, 1, 1);
    if (c->n == CHECKPOINTS_MAX || (!room && c->n))
        checkpoint_free(c, checkpoint_least_useful(c), s->commands);
    else if (!room)
        return;
    checkpoint_add(c, x->id, ++s->next_id, position, s->commands);
}

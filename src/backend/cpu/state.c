/* Sequence state: KV pages with reference counts, convolution states, sessions and checkpoints
 * (a checkpoint is a session that nobody extends). */
#include "backend/cpu/internal.h"

#include "os/memory.h"

/* Positions of a session, with room to count in 32 bits. */
#define MAX_SESSION_TOKENS (1 << 30)

static int32_t pages_for(int32_t positions)
{
    return (positions + CPU_PAGE - 1) / CPU_PAGE;
}

static int class_for(struct cpu_ctx *c, int window)
{
    for (int i = 0; i < c->n_classes; i++)
        if (c->classes[i].window == window)
            return i;
    if (c->n_classes == CPU_MAX_CLASSES)
        return PROGRAM_NONE;
    c->classes[c->n_classes] = (struct cpu_class){ .window = window };
    return c->n_classes++;
}

/* Pages for all sessions: those of state_tokens positions, no more, since whoever grants them
 * counts them. A window needs no more than its own length for each session. */
static int class_open(struct cpu_ctx *c, struct cpu_class *k, struct error *e)
{
    uint64_t pages = (c->options.state_tokens + CPU_PAGE - 1) / CPU_PAGE;
    if (k->window) {
        uint64_t each = (uint64_t)pages_for(k->window + c->options.max_rows) + 2;
        uint64_t most = each * (uint64_t)c->options.max_sessions;
        pages = most < pages ? most : pages;
    }
    if (pages > INT32_MAX || k->page_bytes > SIZE_MAX / 2 / (size_t)pages)
        return fail(e, FAIL_LIMIT, "KV cache of %llu positions",
                    (unsigned long long)c->options.state_tokens);
    k->n_pages = k->n_free = (int)pages;
    k->free_list = arena_array(&c->arena, int, pages);
    k->references = arena_array(&c->arena, int, pages);
    k->dirty = arena_array(&c->arena, bool, pages);
    k->memory = memory_huge_alloc((size_t)pages * k->page_bytes);
    if (!k->free_list || !k->references || !k->dirty || !k->memory)
        return fail(e, FAIL_NOMEM, "%.1f MiB for the KV cache",
                    (double)pages * (double)k->page_bytes / 1048576.0);
    for (int i = 0; i < k->n_pages; i++)
        k->free_list[i] = k->n_pages - 1 - i;
    return 0;
}

int cpu_state_open(struct cpu_ctx *c, struct error *e)
{
    const struct program *p = c->program;
    c->state_class = arena_array(&c->arena, int, p->n_states + 1);
    c->state_offset = arena_array(&c->arena, size_t, p->n_states + 1);
    c->sessions = arena_array(&c->arena, struct cpu_session, c->options.max_sessions);
    if (!c->state_class || !c->state_offset || !c->sessions)
        return fail(e, FAIL_NOMEM, "%d sessions", c->options.max_sessions);
    c->n_sessions = c->options.max_sessions;
    for (int i = 0; i < p->n_states; i++) {
        const struct state *s = &p->states[i];
        c->state_class[i] = PROGRAM_NONE;
        if (s->kind == STATE_CONV) {
            c->state_offset[i] = c->recurrent_floats;
            c->recurrent_floats += (size_t)s->key_dim * (size_t)s->value_dim;
            continue;
        }
        int k = class_for(c, s->window);
        if (k == PROGRAM_NONE)
            return fail(e, FAIL_UNSUPPORTED, "more than %d different windows", CPU_MAX_CLASSES);
        c->state_class[i] = k;
        c->state_offset[i] = c->classes[k].page_bytes;
        c->classes[k].page_bytes +=
            (size_t)s->heads * kernels_page_bytes(s->key_dim, s->value_dim, c->options.exact);
    }
    uint64_t longest =
        c->options.session_tokens ? c->options.session_tokens : c->options.state_tokens;
    if (longest > MAX_SESSION_TOKENS)
        return fail(e, FAIL_LIMIT, "sessions of %llu positions, the most are %d",
                    (unsigned long long)longest, MAX_SESSION_TOKENS);
    c->table_pages = pages_for((int32_t)longest) + 2;
    int r = 0;
    for (int k = 0; k < c->n_classes && !r; k++) {
        if (!c->classes[k].page_bytes)
            c->classes[k].page_bytes = 64; /* a rank without heads still counts positions */
        r = class_open(c, &c->classes[k], e);
    }
    for (int i = 0; i < c->n_sessions && !r; i++) {
        for (int k = 0; k < c->n_classes; k++)
            if (!(c->sessions[i].tables[k] = arena_array(&c->arena, int, c->table_pages)))
                r = fail(e, FAIL_NOMEM, "%d sessions", c->n_sessions);
        c->sessions[i].recurrent = arena_array(&c->arena, float, c->recurrent_floats + 1);
        c->sessions[i].next = arena_array(&c->arena, float, c->recurrent_floats + 1);
        if (!c->sessions[i].recurrent || !c->sessions[i].next)
            r = fail(e, FAIL_NOMEM, "%d sessions", c->n_sessions);
    }
    return r;
}

void cpu_state_close(struct cpu_ctx *c)
{
    for (int k = 0; k < c->n_classes; k++)
        if (c->classes[k].memory)
            memory_huge_free(c->classes[k].memory,
                             (size_t)c->classes[k].n_pages * c->classes[k].page_bytes);
}

static void page_drop(struct cpu_class *k, int page)
{
    if (--k->references[page] == 0)
        k->free_list[k->n_free++] = page;
}

/* A zeroed page, or -1. */
static int page_take(struct cpu_class *k)
{
    if (k->n_free == 0)
        return -1;
    int page = k->free_list[--k->n_free];
    k->references[page] = 1;
    if (k->dirty[page])
        memset(k->memory + (size_t)page * k->page_bytes, 0, k->page_bytes);
    k->dirty[page] = true;
    return page;
}

struct cpu_session *cpu_session_find(struct cpu_ctx *c, uint32_t id, bool checkpoint)
{
    for (int i = 0; i < c->n_sessions; i++) {
        struct cpu_session *s = &c->sessions[i];
        if (s->used && s->id == id && s->is_checkpoint == checkpoint)
            return s;
    }
    return NULL;
}

static struct cpu_session *session_free_slot(struct cpu_ctx *c)
{
    for (int i = 0; i < c->n_sessions; i++)
        if (!c->sessions[i].used)
            return &c->sessions[i];
    return NULL;
}

static void session_clear(struct cpu_ctx *c, struct cpu_session *s)
{
    for (int k = 0; k < c->n_classes; k++) {
        for (int i = s->first_page[k]; i < s->end_page[k]; i++)
            page_drop(&c->classes[k], s->tables[k][i]);
        s->first_page[k] = s->end_page[k] = 0;
    }
    s->used = false;
}

/* to becomes a copy of from; pages are shared. to must be cleared. */
static void session_copy(struct cpu_ctx *c, struct cpu_session *to, const struct cpu_session *from)
{
    for (int k = 0; k < c->n_classes; k++) {
        to->first_page[k] = from->first_page[k];
        to->end_page[k] = from->end_page[k];
        for (int i = from->first_page[k]; i < from->end_page[k]; i++) {
            to->tables[k][i] = from->tables[k][i];
            c->classes[k].references[from->tables[k][i]]++;
        }
    }
    memcpy(to->recurrent, from->recurrent, c->recurrent_floats * sizeof(float));
    to->position = from->position;
    to->used = true;
}

static int session_new(struct cpu_ctx *c, uint32_t id, bool checkpoint,
                       const struct cpu_session *from, struct error *e)
{
    struct cpu_session *old = cpu_session_find(c, id, checkpoint);
    if (old && !checkpoint)
        return fail(e, FAIL_STATE, "session %u exists already", id);
    if (old && old != from)
        session_clear(c, old); /* a checkpoint is replaced */
    struct cpu_session *s = session_free_slot(c);
    if (!s)
        return fail(e, FAIL_LIMIT, "all %d sessions are in use", c->n_sessions);
    if (from) {
        session_copy(c, s, from);
    } else {
        memset(s->recurrent, 0, c->recurrent_floats * sizeof(float));
        s->position = 0;
        s->used = true;
    }
    s->id = id;
    s->is_checkpoint = checkpoint;
    return 0;
}

static struct cpu_session *need(struct cpu_ctx *c, uint32_t id, bool checkpoint, struct error *e)
{
    struct cpu_session *s = cpu_session_find(c, id, checkpoint);
    if (!s)
        fail(e, FAIL_NOT_FOUND, "no %s %u", checkpoint ? "checkpoint" : "session", id);
    return s;
}

int cpu_session_create(struct cpu_ctx *c, uint32_t session, struct error *e)
{
    return session_new(c, session, false, NULL, e);
}

int cpu_session_release(struct cpu_ctx *c, uint32_t session, struct error *e)
{
    struct cpu_session *s = cpu_session_find(c, session, false);
    struct cpu_session *checkpoint = cpu_session_find(c, session, true);
    if (!s && !checkpoint)
        return fail(e, FAIL_NOT_FOUND, "no session %u", session);
    session_clear(c, s ? s : checkpoint);
    return 0;
}

int cpu_session_fork(struct cpu_ctx *c, uint32_t session, uint32_t from, struct error *e)
{
    const struct cpu_session *source = need(c, from, false, e);
    return source ? session_new(c, session, false, source, e) : FAIL_NOT_FOUND;
}

int cpu_session_checkpoint(struct cpu_ctx *c, uint32_t session, uint32_t id, struct error *e)
{
    const struct cpu_session *source = need(c, session, false, e);
    return source ? session_new(c, id, true, source, e) : FAIL_NOT_FOUND;
}

int cpu_session_restore(struct cpu_ctx *c, uint32_t session, uint32_t id, struct error *e)
{
    struct cpu_session *s = need(c, session, false, e);
    const struct cpu_session *source = s ? need(c, id, true, e) : NULL;
    if (!source)
        return FAIL_NOT_FOUND;
    session_clear(c, s);
    session_copy(c, s, source);
    return 0;
}

int32_t cpu_session_earliest(struct cpu_ctx *c, uint32_t session)
{
    const struct cpu_session *s = cpu_session_find(c, session, false);
    if (!s)
        return 0;
    if (c->recurrent_floats)
        return s->position; /* a recurrent state has no past */
    int32_t earliest = 0;
    for (int k = 0; k < c->n_classes; k++) {
        if (!s->first_page[k])
            continue;
        int32_t need_from = s->first_page[k] * CPU_PAGE + c->classes[k].window - 1;
        if (need_from > earliest)
            earliest = need_from;
    }
    return earliest;
}

int cpu_session_truncate(struct cpu_ctx *c, uint32_t session, int32_t position, struct error *e)
{
    struct cpu_session *s = need(c, session, false, e);
    if (!s)
        return FAIL_NOT_FOUND;
    if (position < 0 || position > s->position)
        return fail(e, FAIL_RANGE, "session %u has %d positions, not %d", session, s->position,
                    position);
    if (position < cpu_session_earliest(c, session) && position != s->position &&
        !(position == 0 && !c->recurrent_floats))
        return fail(e, FAIL_STATE, "session %u can't go back from position %d to %d", session,
                    s->position, position);
    for (int k = 0; k < c->n_classes; k++) {
        int keep = pages_for(position);
        if (position == 0) {
            for (int i = s->first_page[k]; i < s->end_page[k]; i++)
                page_drop(&c->classes[k], s->tables[k][i]);
            s->first_page[k] = s->end_page[k] = 0;
        }
        while (s->end_page[k] > keep && s->end_page[k] > s->first_page[k])
            page_drop(&c->classes[k], s->tables[k][--s->end_page[k]]);
    }
    s->position = position;
    return 0;
}

/* Makes sure that positions [s->position, s->position + count) have pages of their own. Takes all
 * or nothing. */
int cpu_state_reserve(struct cpu_ctx *c, struct cpu_session *s, int32_t count, struct error *e)
{
    int32_t end = s->position + count;
    if (pages_for(end) > c->table_pages)
        return fail(e, FAIL_LIMIT, "position %d is beyond the %d positions of a session", end - 1,
                    c->table_pages * CPU_PAGE);
    for (int k = 0; k < c->n_classes; k++) {
        struct cpu_class *class = &c->classes[k];
        int first = s->position / CPU_PAGE;
        int want = pages_for(end) - s->end_page[k];
        bool shared = first < s->end_page[k] && class->references[s->tables[k][first]] > 1;
        if (want + (shared ? 1 : 0) > class->n_free)
            return fail(e, FAIL_LIMIT, "the KV cache is full (%d pages of %d positions)",
                        class->n_pages, CPU_PAGE);
    }
    for (int k = 0; k < c->n_classes; k++) {
        struct cpu_class *class = &c->classes[k];
        int first = s->position / CPU_PAGE;
        if (first < s->end_page[k] && class->references[s->tables[k][first]] > 1) {
            int copy = page_take(class);
            memcpy(class->memory + (size_t)copy * class->page_bytes,
                   class->memory + (size_t)s->tables[k][first] * class->page_bytes,
                   class->page_bytes);
            page_drop(class, s->tables[k][first]);
            s->tables[k][first] = copy;
        }
        while (s->end_page[k] < pages_for(end))
            s->tables[k][s->end_page[k]++] = page_take(class);
    }
    return 0;
}

/* The rows are in: advance, and let go of pages that no later position sees. One page more than
 * the window stays, so that a few tokens can be taken back. */
void cpu_state_commit(struct cpu_ctx *c, struct cpu_session *s, int32_t count)
{
    float *next = s->next;
    s->next = s->recurrent;
    s->recurrent = next;
    s->position += count;
    for (int k = 0; k < c->n_classes; k++) {
        struct cpu_class *class = &c->classes[k];
        if (!class->window)
            continue;
        int keep = (s->position - class->window) / CPU_PAGE - 1;
        while (s->first_page[k] < keep && s->first_page[k] < s->end_page[k])
            page_drop(class, s->tables[k][s->first_page[k]++]);
    }
}

/* The rows don't come: pages that were taken for them go back, so that none is left behind which a
 * fork would share and a later step write. */
void cpu_state_abandon(struct cpu_ctx *c, struct cpu_session *s)
{
    for (int k = 0; k < c->n_classes; k++)
        while (s->end_page[k] > pages_for(s->position) && s->end_page[k] > s->first_page[k])
            page_drop(&c->classes[k], s->tables[k][--s->end_page[k]]);
}

uint8_t *cpu_state_page(struct cpu_ctx *c, const struct cpu_session *s, int state, int page)
{
    int k = c->state_class[state];
    if (page < s->first_page[k] || page >= s->end_page[k])
        return NULL;
    return c->classes[k].memory + (size_t)s->tables[k][page] * c->classes[k].page_bytes +
           c->state_offset[state];
}

/* The states of a placement, what leads from one to another, and until when. */
#include "cluster/placement.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

#define BIT(state) (1u << PLACEMENT_##state)

/* The whole table: from each state, where it may go. */
static const unsigned next_states[PLACEMENT_STATE_COUNT] = {
    [PLACEMENT_LOADING] = BIT(CONNECTING) | BIT(ENDED),
    [PLACEMENT_CONNECTING] = BIT(OPENING) | BIT(ENDED),
    [PLACEMENT_OPENING] = BIT(SERVING) | BIT(ENDED),
    [PLACEMENT_SERVING] = BIT(DRAINING) | BIT(ENDED),
    [PLACEMENT_DRAINING] = BIT(ENDED),
    [PLACEMENT_ENDED] = 0,
};

static void emit(struct placement_effects *out, const struct placement *p,
                 enum placement_effect_kind kind, int rank)
{
    assert(out->n < PLACEMENT_MAX_EFFECTS);
    out->items[out->n++] = (struct placement_effect){ kind, p->epoch, rank };
}

static void enter(struct placement *p, enum placement_state state, uint64_t now)
{
    assert((next_states[p->state] >> state) & 1u);
    p->state = state;
    p->since_ns = now;
}

/* Has, or may just be getting, an executor. */
static bool is_open(const struct placement *p)
{
    return p->state == PLACEMENT_OPENING || p->state == PLACEMENT_SERVING ||
           p->state == PLACEMENT_DRAINING;
}

static void end(struct placement *p, const char *why, uint64_t now, struct placement_effects *out)
{
    if (why != p->why) {
        snprintf(p->why, sizeof p->why, "%s", why);
    }
    bool open = is_open(p);
    enter(p, PLACEMENT_ENDED, now);
    if (open) {
        emit(out, p, PLACEMENT_BREAK, 0);
    }
    for (int r = 0; r < p->n_ranks; r++) {
        if (!p->ranks[r].gone) {
            emit(out, p, PLACEMENT_UNLOAD, r);
        }
    }
    emit(out, p, PLACEMENT_GONE, 0);
}

/* Ends it for what a rank did: its label, what, and the text that came with it. */
static void end_for(struct placement *p, int rank, const char *what, const char *text, uint64_t now,
                    struct placement_effects *out)
{
    snprintf(p->why, sizeof p->why, "%s%s%.400s", p->ranks[rank].label, what, text);
    utf8_repair(p->why);
    end(p, p->why, now, out);
}

void placement_start(struct placement *p, uint32_t epoch, const struct placement_ranks *ranks,
                     const struct placement_limits *limits, uint64_t now,
                     struct placement_effects *out)
{
    assert(ranks->n_ranks > 0 && ranks->n_ranks <= PLAN_MAX_RANKS);
    *p = (struct placement){ .state = PLACEMENT_LOADING,
                             .epoch = epoch,
                             .n_ranks = ranks->n_ranks,
                             .since_ns = now,
                             .limits = *limits };
    for (int r = 0; r < ranks->n_ranks; r++) {
        snprintf(p->ranks[r].label, sizeof p->ranks[r].label, "%s", ranks->labels[r]);
        p->ranks[r].moved_ns = now;
        emit(out, p, PLACEMENT_ORDER, r);
    }
}

/* --- what ranks and channels say --- */

static bool all_ranks(const struct placement *p, bool serving)
{
    for (int r = 0; r < p->n_ranks; r++) {
        const struct placement_rank *rank = &p->ranks[r];
        if (serving ? !rank->serving || !rank->wired : !rank->loaded) {
            return false;
        }
    }
    return true;
}

static void advance(struct placement *p, uint64_t now, struct placement_effects *out)
{
    if (p->state == PLACEMENT_LOADING && all_ranks(p, false)) {
        enter(p, PLACEMENT_CONNECTING, now);
        for (int r = 0; r < p->n_ranks; r++) {
            emit(out, p, PLACEMENT_CONNECT, r);
        }
        for (int r = 0; r < p->n_ranks; r++) {
            emit(out, p, PLACEMENT_WIRE, r);
        }
    }
    if (p->state == PLACEMENT_CONNECTING && all_ranks(p, true)) {
        enter(p, PLACEMENT_OPENING, now);
        emit(out, p, PLACEMENT_OPEN, 0);
    }
}

/* What is seen of a device that goes, before its own end is: the first word of it is kept for a
 * while, in which the device itself may be named instead. */
static void blame(struct placement *p, const char *label, const char *text, uint64_t now)
{
    if (p->blame_ns == 0) {
        p->blame_ns = now + p->limits.blame_ns;
        snprintf(p->why, sizeof p->why, "%s%s%.400s", label, label[0] != '\0' ? ": " : "", text);
        utf8_repair(p->why);
    }
}

static void rank_failed(struct placement *p, const struct placement_event *event, const char *text,
                        uint64_t now, struct placement_effects *out)
{
    /* A rank whose neighbour went is rarely the cause. */
    if (is_open(p) && event->code == FAIL_CLOSED) {
        blame(p, p->ranks[event->rank].label, text, now);
        return;
    }
    end_for(p, event->rank, ": ", text, now, out);
}

static void rank_moved(struct placement *p, const struct placement_event *event, uint64_t now)
{
    struct placement_rank *rank = &p->ranks[event->rank];
    if (p->state == PLACEMENT_LOADING) {
        if (event->done >= rank->done + p->limits.load_bytes) {
            rank->done = event->done;
            rank->moved_ns = now;
        }
    } else if (!event->busy || event->progress != rank->progress) {
        rank->progress = event->progress;
        rank->moved_ns = now;
    }
}

static void rank_event(struct placement *p, const struct placement_event *event, const char *text,
                       uint64_t now, struct placement_effects *out)
{
    struct placement_rank *rank = &p->ranks[event->rank];
    switch (event->kind) {
    case PLACEMENT_RANK_SERVES: /* the news that it was loaded may have been passed over */
        rank->serving = rank->loaded = true;
        advance(p, now, out);
        break;
    case PLACEMENT_RANK_LOADED:
        rank->loaded = true;
        advance(p, now, out);
        break;
    case PLACEMENT_WIRED:
        rank->wired = true;
        advance(p, now, out);
        break;
    case PLACEMENT_RANK_MOVED:
        rank_moved(p, event, now);
        break;
    case PLACEMENT_RANK_FAILED:
        rank_failed(p, event, text, now, out);
        break;
    case PLACEMENT_NOT_WIRED:
        end_for(p, event->rank, ": channel: ", text, now, out);
        break;
    default:
        rank->gone = true;
        end_for(p, event->rank, " was lost: ", text, now, out);
        break;
    }
}

/* --- time --- */

static void tick(struct placement *p, uint64_t now, struct placement_effects *out)
{
    const struct placement_limits *l = &p->limits;
    char text[96];
    if (p->blame_ns != 0 && now >= p->blame_ns) {
        end(p, p->why, now, out);
        return;
    }
    if (p->state == PLACEMENT_CONNECTING || p->state == PLACEMENT_OPENING) {
        if (now - p->since_ns > l->connect_ns) {
            end(p, "the devices did not connect to each other in time", now, out);
        }
        return;
    }
    if (p->state == PLACEMENT_DRAINING && now - p->since_ns > l->drain_ns) {
        end(p, "it was replaced, and its last requests took too long", now, out);
        return;
    }
    bool loading = p->state == PLACEMENT_LOADING;
    for (int r = 0; r < p->n_ranks; r++) {
        uint64_t most = loading ? l->load_ns : l->hang_ns;
        if (!(loading && p->ranks[r].loaded) && now - p->ranks[r].moved_ns > most) {
            snprintf(text, sizeof text, "no progress for %.0f s", (double)most / 1e9);
            end_for(p, r, loading ? " does not go on loading: " : " hangs: ", text, now, out);
            return;
        }
    }
}

uint64_t placement_deadline(const struct placement *p)
{
    const struct placement_limits *l = &p->limits;
    uint64_t first = p->blame_ns != 0 ? p->blame_ns : UINT64_MAX;
    switch (p->state) {
    case PLACEMENT_LOADING:
        for (int r = 0; r < p->n_ranks; r++) {
            uint64_t at = p->ranks[r].moved_ns + l->load_ns + 1;
            first = !p->ranks[r].loaded && at < first ? at : first;
        }
        return first;
    case PLACEMENT_CONNECTING:
    case PLACEMENT_OPENING:
        return p->since_ns + l->connect_ns + 1;
    case PLACEMENT_DRAINING:
        return first < p->since_ns + l->drain_ns + 1 ? first : p->since_ns + l->drain_ns + 1;
    default: /* serving lasts as long as heartbeats say that it should */
        return first;
    }
}

/* --- all of it --- */

static bool about_a_rank(enum placement_event_kind kind)
{
    return kind <= PLACEMENT_NOT_WIRED;
}

void placement_step(struct placement *p, const struct placement_event *event, uint64_t now,
                    struct placement_effects *out)
{
    const char *text = event->text ? event->text : "no reason given";
    if (event->epoch != p->epoch || p->state == PLACEMENT_ENDED ||
        (about_a_rank(event->kind) && (event->rank < 0 || event->rank >= p->n_ranks))) {
        return;
    }
    if (about_a_rank(event->kind)) {
        rank_event(p, event, text, now, out);
    } else if (event->kind == PLACEMENT_TICK) {
        tick(p, now, out);
    } else if (event->kind == PLACEMENT_OPENED && p->state == PLACEMENT_OPENING) {
        enter(p, PLACEMENT_SERVING, now);
        for (int r = 0; r < p->n_ranks; r++) {
            p->ranks[r].moved_ns = now;
        }
        emit(out, p, PLACEMENT_SERVE, 0);
    } else if (event->kind == PLACEMENT_REPLACED && p->state == PLACEMENT_SERVING) {
        enter(p, PLACEMENT_DRAINING, now);
    } else if (event->kind == PLACEMENT_DRAINED && p->state == PLACEMENT_DRAINING) {
        end(p, "it was replaced", now, out);
    } else if (event->kind == PLACEMENT_BROKEN) {
        blame(p, "", text, now);
    } else if (event->kind == PLACEMENT_NOT_OPENED || event->kind == PLACEMENT_END) {
        end(p, text, now, out);
    }
}

bool placement_lost_device(const struct placement *p)
{
    for (int r = 0; r < p->n_ranks; r++) {
        if (p->ranks[r].gone) {
            return true;
        }
    }
    return false;
}

const char *placement_check(const struct placement *p)
{
    bool past_loading = p->state != PLACEMENT_LOADING && p->state != PLACEMENT_ENDED;
    if (past_loading && !all_ranks(p, false)) {
        return "it went on before every rank was loaded";
    }
    if (is_open(p) && !all_ranks(p, true)) {
        return "it opened before every rank served and was connected";
    }
    if (p->state == PLACEMENT_ENDED && p->why[0] == '\0') {
        return "it ended without a reason";
    }
    return NULL;
}

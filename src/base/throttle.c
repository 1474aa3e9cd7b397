/* Counting what is not said: see throttle.h. */
#include "base/throttle.h"

#include <string.h>

#include "base/utf8.h"

static void copy(char ret[static THROTTLE_TEXT], const char *text, size_t size)
{
    size_t n = utf8_cut(bytes_of(text, size), THROTTLE_TEXT - 1);
    memcpy(ret, text, n);
    ret[n] = '\0';
}

/* Bytes of an address without its port: "1.2.3.4:5", "[::1]:5". A bare IPv6 address stays. */
static size_t without_port(const char *source)
{
    size_t n = strlen(source), end = n;
    while (end > 0 && source[end - 1] >= '0' && source[end - 1] <= '9')
        end--;
    if (end == n || end < 2 || source[end - 1] != ':')
        return n;
    bool bare = memchr(source, ':', end - 1) != NULL;
    return source[end - 2] == ']' || !bare ? end - 1 : n;
}

static bool is_over(const struct throttle_slot *s, uint64_t now_ns)
{
    return now_ns - s->begin_ns >= THROTTLE_WINDOW_NS;
}

static bool is_pair(const struct throttle_slot *s, const char *kind, const char *source)
{
    return s->used && strcmp(s->kind, kind) == 0 && strcmp(s->source, source) == 0;
}

/* The pair's slot, or a new one; NULL when all others have something to tell. What is counted is
 * never dropped: throttle_ended gives it out first. */
static struct throttle_slot *find(struct throttle *t, const char *kind, const char *source,
                                  uint64_t now_ns)
{
    struct throttle_slot *room = NULL;
    for (int i = 0; i < THROTTLE_SLOTS; i++) {
        struct throttle_slot *s = &t->slots[i];
        if (is_pair(s, kind, source))
            return s;
        if (!room && (!s->used || (is_over(s, now_ns) && s->left_out == 0)))
            room = s;
    }
    if (room) {
        *room = (struct throttle_slot){ .used = true, .begin_ns = now_ns };
        copy(room->kind, kind, strlen(kind));
        copy(room->source, source, strlen(source));
    }
    return room;
}

/* One more of it: begins a new window when nothing of the last one is left to tell. */
static void touch(struct throttle_slot *s, int level, uint64_t now_ns)
{
    if (is_over(s, now_ns) && s->left_out == 0) {
        s->begin_ns = now_ns;
        s->said = 0;
    }
    if (s->said == 0)
        s->level = level;
}

bool throttle_take(struct throttle *t, const char *kind, const char *source, int level,
                   uint64_t now_ns)
{
    char what[THROTTLE_TEXT], who[THROTTLE_TEXT];
    copy(what, kind, strlen(kind));
    copy(who, source, without_port(source));
    struct throttle_slot *all = find(t, what, "", now_ns);
    if (!all)
        return false; /* more kinds than the table has room for: none of ours */
    touch(all, level, now_ns);
    struct throttle_slot *one = *who ? find(t, what, who, now_ns) : all;
    uint64_t limit = *who ? THROTTLE_EACH : THROTTLE_KIND;
    if (!one)
        one = all; /* a flood of sources: counted together */
    touch(one, level, now_ns);
    bool say = one->said < limit && all->said < THROTTLE_KIND;
    one->said += say;
    all->said += say && one != all;
    /* Who never got a line has none that could be told apart later. */
    if (!say)
        (one->said > 0 ? one : all)->left_out++;
    if (!say && one->said == 0)
        one->used = false;
    return say;
}

bool throttle_ended(struct throttle *t, uint64_t now_ns, bool all, struct throttle_slot *ret)
{
    for (int i = 0; i < THROTTLE_SLOTS; i++) {
        struct throttle_slot *s = &t->slots[i];
        if (s->used && s->left_out > 0 && (all || is_over(s, now_ns))) {
            *ret = *s;
            s->used = false;
            return true;
        }
    }
    return false;
}

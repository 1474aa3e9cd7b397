/* Stop strings by one Knuth-Morris-Pratt automaton a stop: see stops.h. */
#include "chat/stops.h"

#include <stdlib.h>

struct stop {
    struct bytes text; /* owned by the same allocation */
    int *fallback;     /* (size) longest proper prefix of text[0..i] that is its suffix */
    int matched;       /* bytes of text that the stream's end matches */
};

struct stops {
    struct stop stop[STOPS_MAX];
    int count;
    bool stopped;
    struct buffer held; /* the stream's end that may be part of a stop */
};

static int stop_init(struct stop *s, struct bytes text, struct error *e)
{
    int n = (int)text.size;
    uint8_t *copy = malloc(text.size);
    s->fallback = malloc(text.size * sizeof(*s->fallback));
    s->text = bytes_of(copy, copy ? text.size : 0);
    if (!copy || !s->fallback)
        return fail(e, FAIL_NOMEM, "stop text");
    memcpy(copy, text.data, text.size);
    s->fallback[0] = 0;
    for (int i = 1, k = 0; i < n; i++) {
        while (k > 0 && copy[i] != copy[k])
            k = s->fallback[k - 1];
        k += copy[i] == copy[k];
        s->fallback[i] = k;
    }
    return 0;
}

int stops_open(struct stops **ret, const struct bytes *texts, int n, struct error *e)
{
    if (n < 0 || n > STOPS_MAX)
        return fail(e, FAIL_LIMIT, "%d stop texts; %d are the most", n, STOPS_MAX);
    struct stops *s = calloc(1, sizeof(*s));
    if (!s)
        return fail(e, FAIL_NOMEM, "stop texts");
    buffer_init(&s->held, STOP_MAX_BYTES * 2);
    int r = 0;
    for (int i = 0; i < n && r == 0; i++) {
        if (texts[i].size == 0)
            r = fail(e, FAIL_ARG, "stop text %d is empty", i);
        else if (texts[i].size > STOP_MAX_BYTES)
            r = fail(e, FAIL_LIMIT, "stop text %d has %zu bytes, %d are the most", i, texts[i].size,
                     STOP_MAX_BYTES);
        else
            r = stop_init(&s->stop[s->count++], texts[i], e);
    }
    if (r) {
        stops_close(s);
        return r;
    }
    *ret = s;
    return 0;
}

void stops_close(struct stops *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->count; i++) {
        free((void *)s->stop[i].text.data);
        free(s->stop[i].fallback);
    }
    buffer_done(&s->held);
    free(s);
}

/* One byte through one automaton; true when the stop is complete. */
static bool advance(struct stop *s, uint8_t byte)
{
    int k = s->matched;
    while (k > 0 && s->text.data[k] != byte)
        k = s->fallback[k - 1];
    s->matched = k + (s->text.data[k] == byte);
    return (size_t)s->matched == s->text.size;
}

/* Appends the first n held bytes to out and forgets them. */
static int release(struct stops *s, size_t n, struct buffer *out, struct error *e)
{
    if (n && buffer_append(out, bytes_of(s->held.data, n)))
        return fail(e, FAIL_LIMIT, "more than %zu bytes of text", out->limit);
    size_t rest = s->held.size - n;
    if (rest)
        memmove(s->held.data, s->held.data + n, rest);
    s->held.size = rest;
    return 0;
}

/* Takes one byte. Returns the index of a stop that is complete, or -1; *keep is then how many
 * bytes at the end may still become a stop. */
static int step(struct stops *s, uint8_t byte, size_t *keep)
{
    int found = -1;
    *keep = 0;
    for (int i = 0; i < s->count; i++) {
        bool complete = advance(&s->stop[i], byte);
        size_t matched = (size_t)s->stop[i].matched;
        *keep = matched > *keep ? matched : *keep;
        /* All that end here: the longest began first. */
        if (complete && (found < 0 || s->stop[i].text.size > s->stop[found].text.size))
            found = i;
    }
    return found;
}

int stops_push(struct stops *s, struct bytes text, struct buffer *out, bool *stopped, int *which,
               struct error *e)
{
    *stopped = s->stopped;
    for (size_t i = 0; i < text.size && !s->stopped; i++) {
        size_t keep;
        int found = step(s, text.data[i], &keep);
        if (buffer_append(&s->held, bytes_of(text.data + i, 1)))
            return fail(e, FAIL_NOMEM, "text held back");
        if (found >= 0) {
            size_t size = s->stop[found].text.size;
            s->stopped = *stopped = true;
            if (which)
                *which = found;
            int r = release(s, s->held.size - size, out, e);
            buffer_clear(&s->held);
            return r;
        }
        if (s->held.size > keep && (keep == 0 || s->held.size >= s->held.limit / 2)) {
            int r = release(s, s->held.size - keep, out, e);
            if (r)
                return r;
        }
    }
    if (s->stopped || s->held.size == 0)
        return 0;
    size_t keep = 0;
    for (int i = 0; i < s->count; i++)
        keep = (size_t)s->stop[i].matched > keep ? (size_t)s->stop[i].matched : keep;
    return release(s, s->held.size - keep, out, e);
}

int stops_finish(struct stops *s, struct buffer *out, struct error *e)
{
    return s->stopped ? 0 : release(s, s->held.size, out, e);
}

/* Which of the messages that outsiders cause are said, and how many were not. Pure: the time is an
 * argument.
 *
 * A message has a kind (what happens) and a source (who causes it). In a window of time the first
 * THROTTLE_EACH of a kind from one source are said, and THROTTLE_KIND of a kind from everybody; the
 * others are counted, and told in one line when their window ends. The table is bounded: a flood
 * from invented sources costs no memory and few lines. */
#ifndef SHOAL_BASE_THROTTLE_H
#define SHOAL_BASE_THROTTLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define THROTTLE_SLOTS 128 /* (kind, source) pairs that are told apart at a time */
#define THROTTLE_TEXT 64   /* of a kind and of a source, NUL included; longer ones are cut */
#define THROTTLE_EACH 3    /* lines of a kind from one source within a window */
#define THROTTLE_KIND 12   /* lines of a kind within a window */
#define THROTTLE_WINDOW_NS 30000000000ull

/* What one pair did in its window. */
struct throttle_slot {
    bool used;
    char kind[THROTTLE_TEXT];
    char source[THROTTLE_TEXT]; /* "": all sources of this kind that have no slot of their own */
    uint64_t begin_ns;
    uint64_t said, left_out;
    int level; /* the caller's, of the first message */
};

/* Zero-initialise. owner: whoever holds the caller's lock. */
struct throttle {
    struct throttle_slot slots[THROTTLE_SLOTS];
};

/* Whether this message is said. kind: few and ours ("data connection refused"); source: an address
 * or a name, "" for none. A port at the end of an address counts for nothing, since each
 * connection has another one. Allocates nothing. */
bool throttle_take(struct throttle *t, const char *kind, const char *source, int level,
                   uint64_t now_ns);

/* Hands out one pair whose window has ended and that left messages out, and forgets it; with `all`
 * set one whose window goes on too. False: there is none. */
bool throttle_ended(struct throttle *t, uint64_t now_ns, bool all, struct throttle_slot *ret);

#endif

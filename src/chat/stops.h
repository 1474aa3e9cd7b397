/* Stop strings over streamed text: what may be shown, and when to stop. */
#ifndef SHOAL_CHAT_STOPS_H
#define SHOAL_CHAT_STOPS_H

#include "base/buffer.h"
#include "base/error.h"

#include <stdbool.h>

/* Limits of one request: OpenAI's is 4 stops; clients of other servers send more. */
#define STOPS_MAX 64
#define STOP_MAX_BYTES 4096

struct stops; /* one stream; not safe across threads */

/* Copies n texts of valid UTF-8. FAIL_ARG for an empty one, FAIL_LIMIT, FAIL_NOMEM. n may be 0. */
int stops_open(struct stops **ret, const struct bytes *texts, int n, struct error *e);
void stops_close(struct stops *s);

/* Takes more text (valid UTF-8, whole characters) and appends to out what can be no part of a stop
 * any more; what may become one is held back. *stopped becomes true when a stop was found: out
 * then ends before it, *which (may be NULL) is its index, and later text is dropped. Of several
 * stops the first that is complete wins, as if text came byte by byte, so that the answer does not
 * depend on how it was cut; of those that end at the same byte the one that began first. Errors:
 * out's limit, FAIL_NOMEM. Time is linear in text times the number of stops. */
int stops_push(struct stops *s, struct bytes text, struct buffer *out, bool *stopped, int *which,
               struct error *e);

/* The stream ended without a stop: appends what was held back. */
int stops_finish(struct stops *s, struct buffer *out, struct error *e);

#endif

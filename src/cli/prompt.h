/* Messages that a person types; for this folder only.
 *
 * A message is what was typed up to Enter, or several lines: pasted ones, lines that end in a
 * backslash, or what stands between two """. */
#ifndef SHOAL_CLI_PROMPT_H
#define SHOAL_CLI_PROMPT_H

#include "base/buffer.h"
#include "base/error.h"

#include <stdbool.h>

struct prompt;

/* Earlier messages come from the user's history file; one that can't be read is told of on stderr
 * and then left alone. Only FAIL_NOMEM. Closed by prompt_close (NULL is fine). */
int prompt_open(struct prompt **ret, struct error *e);
void prompt_close(struct prompt *p);

/* The next message into ret (cleared first), line ends inside. FAIL_CLOSED: no more will come.
 * FAIL_CANCELLED: the person gave it up. FAIL_LIMIT: longer than ret may be. FAIL_ARG: no text. */
int prompt_read(struct prompt *p, struct buffer *ret, struct error *e);

/* Puts a message into the history. A file that can't be written is told of once. */
void prompt_remember(struct prompt *p, const char *message);

/* The rules of several lines, for tests. Adds a line to a message, `first` or a further one, and
 * tells whether another one belongs to it. *ret_more untouched on FAIL_LIMIT, FAIL_NOMEM. */
int prompt_add_line(struct buffer *message, struct bytes line, bool first, bool *ret_more);

/* What a whole message says: without its """ and the line ends beside them. In place. */
char *prompt_unquote(char *message);

#endif

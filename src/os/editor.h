/* Lines that a person types at a terminal, edited as in a shell: arrows, Ctrl-A/E/K/U/W, search by
 * Ctrl-R, earlier texts by arrow up; ~/.editrc is obeyed. By libedit (editor.c); a build without
 * it opens none (editor_none.c). */
#ifndef SHOAL_OS_EDITOR_H
#define SHOAL_OS_EDITOR_H

#include "base/buffer.h"
#include "base/error.h"

#include <wchar.h>

/* How many earlier texts an editor offers. */
#define EDITOR_MAX_EARLIER 1000

struct editor; /* one thread at a time */

/* FAIL_UNSUPPORTED where nobody sits at a terminal that can be edited on, or in a build without
 * libedit; FAIL_NOMEM. *ret is untouched then, else ended by editor_close (NULL is fine). */
int editor_open(struct editor **ret, struct error *e);
void editor_close(struct editor *ed);

/* What stands before the text, and before what follows on a part of it that filled the screen and
 * can't be edited any more. */
struct editor_prompts {
    const wchar_t *first, *further;
};

/* One text in UTF-8 into line (cleared first), without the key that ended it; it has line ends
 * inside where several lines were pasted or recalled. prompts: borrowed for the call.
 *
 * FAIL_CANCELLED: given up by Ctrl-C. FAIL_CLOSED: Ctrl-D on an empty line, or the terminal is
 * gone. FAIL_LIMIT: longer than line may be. */
int editor_read(struct editor *ed, const struct editor_prompts *prompts, struct buffer *line,
                struct error *e);

/* Puts a text behind the earlier ones; the same again in a row counts once. */
void editor_remember(struct editor *ed, const char *text);

#endif

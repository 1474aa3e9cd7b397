/* An answer's words broken at a terminal's margin as they come; for this folder only. Pure.
 *
 * Nothing is held back: a word that turns out too long for its line is taken back (by ECMA-48's
 * CUB and EL) and put on the next one. Code blocks (between lines of three backticks) and words
 * wider than the terminal stay as they are: the terminal breaks them. */
#ifndef SHOAL_CLI_WRAP_H
#define SHOAL_CLI_WRAP_H

#include <stdbool.h>

#include "base/buffer.h"

#define WRAP_WORD 256 /* bytes; a longer one counts as wider than the terminal */

/* Zero-initialise for each answer. */
struct wrap {
    size_t column;        /* on this line */
    char word[WRAP_WORD]; /* that is being written, as far as it stands on this line */
    size_t n, width;      /* its bytes and columns */
    bool too_long;        /* it goes on over lines */
    char line[3];         /* how the line begins, for the three backticks */
    size_t n_line;
    bool code;
};

/* Appends what to send to a terminal of so many columns for a piece of text (whole UTF-8, fit to be
 * shown). FAIL_LIMIT, FAIL_NOMEM. */
int wrap_add(struct wrap *w, struct bytes text, size_t columns, struct buffer *to);

#endif

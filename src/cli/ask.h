/* A question to the person at the terminal; for this folder only. */
#ifndef SHOAL_CLI_ASK_H
#define SHOAL_CLI_ASK_H

#include <stdbool.h>

/* Asks on standard error, "QUESTION [y/N] ", and reads a line: true for "y" or "yes" of any case.
 * Where nobody sits at standard input nothing is asked: false, and *ret_asked is false. */
bool ask_yes(const char *question, bool *ret_asked);

#endif

/* What a person has said in chats, kept in a file: one JSON string a line, the newest last, so that
 * chats in several terminals add to it side by side; for this folder only. */
#ifndef SHOAL_CLI_HISTORY_H
#define SHOAL_CLI_HISTORY_H

#include "base/error.h"

/* Bytes of the file's end that are offered again. It is cut to them when it has twice as many. */
#define HISTORY_KEEP ((size_t)256 << 10)
/* Longer texts are pasted ones: nobody looks for them by arrow up. */
#define HISTORY_MAX_TEXT ((size_t)16 << 10)

/* Calls fn with each kept text, the oldest first (borrowed for the call). No file is no error;
 * lines that aren't a JSON string are passed over. FAIL_AUTH, FAIL_IO, FAIL_NOMEM. */
int history_load(const char *path, void (*fn)(void *arg, const char *text), void *arg,
                 struct error *e);

/* Adds a text at the end; makes the file (mode 0600) and its folder (0700). A text that is too
 * long or no UTF-8 is left out. Errors as above. */
int history_add(const char *path, const char *text, struct error *e);

#endif

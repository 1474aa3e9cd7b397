/* Everything that a command prints; for this folder only, and the only place there that writes to
 * standard output or standard error (`make lint` checks it).
 *
 * Texts from outside are made fit to be shown (base/display.h) wherever they stand: in each %s, in
 * JSON, in a model's answer at a terminal. What can't be written is remembered and told at the end
 * of the command, by print_end. One thread. */
#ifndef SHOAL_CLI_PRINT_H
#define SHOAL_CLI_PRINT_H

#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>

#include "base/attributes.h"
#include "base/bytes.h"
#include "base/error.h"

enum print_to {
    PRINT_OUT, /* results: standard output */
    PRINT_ERR, /* what is told beside them: standard error */
    PRINT_TO_COUNT
};

enum print_style { PRINT_PLAIN, PRINT_BOLD, PRINT_FAINT, PRINT_GOOD, PRINT_BAD, PRINT_STYLE_COUNT };

/* As printf (base/display.h: which conversions). The format is ours, its arguments may be
 * anybody's. */
void print_out(const char *format, ...) PRINTF_LIKE(1, 2);
void print_err(const char *format, ...) PRINTF_LIKE(1, 2);
void print_to(enum print_to to, const char *format, ...) PRINTF_LIKE(2, 3);
void print_args(enum print_to to, const char *format, va_list args);

/* The same in a style, where a terminal has one and NO_COLOR is not set (no-color.org). */
void print_styled(enum print_to to, enum print_style style, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* "shoal COMMAND: what is wrong" to standard error. */
void print_failure(const char *command, const struct error *e);

/* JSON on lines of its own: two spaces a level. Takes the reference. FAIL_NOMEM, FAIL_IO. */
int print_json(json_t *json, struct error *e);
/* A text as a JSON string; bytes that are no UTF-8 become '?'. NULL without memory. */
json_t *print_json_string(struct bytes text);
/* JSON that is text already, and a line's end. */
void print_json_text(struct bytes json);

/* A text that may have lines, as it is where a file or a pipe takes it; at a terminal without what
 * that would obey. */
void print_text(struct bytes text);

/* A text that was made fit to be shown, with what moves the cursor between. */
void print_shown(struct bytes text);

/* Whether standard output is a terminal on which the cursor can be moved. */
bool print_moves_cursor(void);

/* Sends on what was printed. FAIL_IO when standard output took it not, now or before. */
int print_flush(struct error *e);

/* The command's end: its exit code, or EXIT_FAILED, told on standard error, when it would be
 * EXIT_OK but its output was not taken (a full disk). */
int print_end(const char *command, int status);

#endif

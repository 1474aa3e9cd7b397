/* Text from outside made fit for a terminal and a log. Pure.
 *
 * Names of devices, models and files, messages of servers, answers of models may hold anything:
 * escape sequences that move the cursor or write into the clipboard, C1 codes that begin the same
 * in one character, bidirectional controls that make a text read as another one, line ends that
 * forge lines, bytes that are no UTF-8. All that is printed passes one of these functions. */
#ifndef SHOAL_BASE_DISPLAY_H
#define SHOAL_BASE_DISPLAY_H

#include <stdarg.h>

#include "base/buffer.h"

enum display_kind {
    DISPLAY_LINE, /* a name or a message: whatever may not be shown becomes '?', line ends too */
    DISPLAY_TEXT, /* several lines: line ends and tabs stay, the rest of it is left out */
    DISPLAY_COUNT
};

/* Whether a character may be shown as it is: none of C0, DEL, C1, the bidirectional controls, line
 * and paragraph separators, invisible format characters that stand in no text. */
bool display_is_safe(uint32_t c);

/* Columns of a character on a terminal: 0 (combining), 1 or 2 (East Asian wide, emoji). */
int display_columns(uint32_t c);

/* Columns of a text that is fit to be shown. */
size_t display_width(struct bytes text);

/* Appends a text, made fit. Bytes that are no UTF-8 become '?'. FAIL_LIMIT, FAIL_NOMEM. */
int display_append(struct buffer *b, struct bytes text, enum display_kind kind);

/* The same as DISPLAY_LINE into ret, NUL-terminated, cut at the end of a character. Returns ret. */
char *display_copy(char *ret, size_t size, struct bytes text);

/* As printf, but each %s is shown as DISPLAY_LINE and its width counts columns; a precision counts
 * bytes and halves no character. The format itself is trusted. Conversions: d i u x X o c s f e g
 * and %%, with flags, width, precision ('*' too) and the lengths h l ll z j t. */
int display_printf(struct buffer *b, const char *format, ...) PRINTF_LIKE(2, 3);
int display_vprintf(struct buffer *b, const char *format, va_list args);

/* Appends JSON that means the same and is safe to show: such characters within its strings become
 * \uXXXX. json: valid JSON in UTF-8. */
int display_json(struct buffer *b, struct bytes json);

#endif

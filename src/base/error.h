/* Errors that travel up by return code, with one text that says what was wrong and where. */
#ifndef SHOAL_BASE_ERROR_H
#define SHOAL_BASE_ERROR_H

#include "base/attributes.h"

/* Codes are negative so that a function may return a count or a code. */
#define ERROR_CODES(X)                                                                             \
    X(NOMEM, -1, "out of memory")                                                                  \
    X(IO, -2, "input/output error")                                                                \
    X(FORMAT, -3, "malformed data")                                                                \
    X(RANGE, -4, "out of range")                                                                   \
    X(UNSUPPORTED, -5, "not supported")                                                            \
    X(NOT_FOUND, -6, "not found")                                                                  \
    X(TIMEOUT, -7, "timed out")                                                                    \
    X(CLOSED, -8, "connection closed")                                                             \
    X(AUTH, -9, "not authorised")                                                                  \
    X(CANCELLED, -10, "cancelled")                                                                 \
    X(BUSY, -11, "busy")                                                                           \
    X(ARG, -12, "bad argument")                                                                    \
    X(LIMIT, -13, "limit exceeded")                                                                \
    X(STATE, -14, "wrong state")

enum error_code {
#define ROW(name, value, text) FAIL_##name = value,
    ERROR_CODES(ROW)
#undef ROW
};

/* Always UTF-8, whatever was put in. Texts longer than this are cut at the end; the cause comes
 * first in time, context is put before it. */
#define ERROR_TEXT 512

/* Caller's memory, usually on the stack; zero-initialise it. Borrowed by every call. */
struct error {
    int code; /* 0 or a FAIL_ code */
    char text[ERROR_TEXT];
};

/* Records a failure at its cause and returns code, so that `return fail(...)` reads well.
 * e may be NULL. */
int fail(struct error *e, int code, const char *format, ...) PRINTF_LIKE(3, 4);

/* Puts "context: " before the recorded text and returns the recorded code. e may be NULL only
 * when the code is not needed: then it returns FAIL_STATE. */
int wrap(struct error *e, const char *format, ...) PRINTF_LIKE(2, 3);

/* Static text of a code, never NULL. */
const char *error_code_text(int code);

#endif

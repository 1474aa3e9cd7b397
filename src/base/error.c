/* Error texts: see error.h. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

int fail(struct error *e, int code, const char *format, ...)
{
    if (!e)
        return code;
    va_list args;
    va_start(args, format);
    vsnprintf(e->text, sizeof(e->text), format, args);
    va_end(args);
    utf8_repair(e->text);
    e->code = code;
    return code;
}

int wrap(struct error *e, const char *format, ...)
{
    if (!e)
        return FAIL_STATE;
    char context[ERROR_TEXT];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(context, sizeof(context) - 3, format, args);
    va_end(args);
    size_t used = n < 0 ? 0 : (size_t)n;
    if (used > sizeof(context) - 4)
        used = sizeof(context) - 4;
    size_t room = sizeof(e->text) - 1 - used - 2;
    size_t old = strlen(e->text);
    if (old > room)
        old = room;
    memmove(e->text + used + 2, e->text, old);
    memcpy(e->text, context, used);
    memcpy(e->text + used, ": ", 2);
    e->text[used + 2 + old] = '\0';
    utf8_repair(e->text);
    return e->code ? e->code : FAIL_STATE;
}

const char *error_code_text(int code)
{
    switch (code) {
    case 0:
        return "no error";
#define ROW(name, value, text)                                                                     \
    case value:                                                                                    \
        return text;
        ERROR_CODES(ROW)
#undef ROW
    default:
        return "unknown error";
    }
}

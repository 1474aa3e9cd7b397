/* Failures with their place in the template, and the budget of a rendering. */
#include "jinja/internal.h"

#include <stdio.h>

int jinja_fail_at(const struct jinja *j, uint32_t at, int code, struct error *e, const char *format,
                  va_list args)
{
    char text[ERROR_TEXT - 64];
    vsnprintf(text, sizeof(text), format, args);
    int line = 1;
    size_t column = 1;
    for (size_t i = 0; i < at && i < j->source.size; i++) {
        uint8_t c = j->source.data[i];
        if (c == '\n') {
            line++;
            column = 1;
        } else if ((c & 0xc0) != 0x80) {
            column++;
        }
    }
    return fail(e, code, "line %d, column %zu: %s", line, column, text);
}

int run_fail(struct run *r, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    code = jinja_fail_at(r->j, r->at, code, r->e, format, args);
    va_end(args);
    return code;
}

int run_nomem(struct run *r)
{
    return run_fail(r, FAIL_LIMIT, "rendering needs more than %zu bytes of memory",
                    r->j->limits.memory);
}

int run_account(struct run *r)
{
    if (r->steps - r->asked >= ASK_EVERY) {
        r->asked = r->steps;
        if (r->context && r->context->stop && r->context->stop(r->context->stop_arg))
            return run_fail(r, FAIL_LIMIT, "rendering takes too long");
    }
    if (r->steps <= r->j->limits.steps)
        return 0;
    return run_fail(r, FAIL_LIMIT, "rendering takes more than %llu steps",
                    (unsigned long long)r->j->limits.steps);
}

/* Every run_enter is followed by a run_leave, failed or not. */
int run_enter(struct run *r)
{
    if (r->depth++ < r->j->limits.depth)
        return 0;
    return run_fail(r, FAIL_LIMIT, "evaluation nested more than %d deep", r->j->limits.depth);
}

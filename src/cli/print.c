/* See print.h. */
#include "cli/print.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/display.h"
#include "base/utf8.h"
#include "cli/exit_codes.h"
#include "os/env.h"
#include "os/terminal.h"

static FILE *stream_of(enum print_to to)
{
    return to == PRINT_OUT ? stdout : stderr;
}

/* Failures stay with the stream until print_flush asks. */
static void put(enum print_to to, struct bytes text)
{
    fwrite(text.data, 1, text.size, stream_of(to));
}

void print_args(enum print_to to, const char *format, va_list args)
{
    struct buffer b;
    buffer_init(&b, SIZE_MAX);
    if (display_vprintf(&b, format, args) == 0)
        put(to, buffer_bytes(&b));
    buffer_done(&b);
}

void print_to(enum print_to to, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_args(to, format, args);
    va_end(args);
}

void print_out(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_args(PRINT_OUT, format, args);
    va_end(args);
}

void print_err(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_args(PRINT_ERR, format, args);
    va_end(args);
}

/* A terminal that obeys escape sequences. */
static bool is_clever(enum print_to to)
{
    bool terminal = to == PRINT_OUT ? terminal_on_output() : terminal_on_errors();
    return terminal && strcmp(env_get("TERM", "dumb"), "dumb") != 0;
}

static bool has_styles(enum print_to to)
{
    return is_clever(to) && !env_get("NO_COLOR", NULL);
}

void print_styled(enum print_to to, enum print_style style, const char *format, ...)
{
    /* ECMA-48, SGR. */
    static const char *const codes[PRINT_STYLE_COUNT] = { "", "\033[1m", "\033[2m", "\033[32m",
                                                          "\033[31m" };
    bool styled = style != PRINT_PLAIN && has_styles(to);
    if (styled)
        put(to, bytes_text(codes[style]));
    va_list args;
    va_start(args, format);
    print_args(to, format, args);
    va_end(args);
    if (styled)
        put(to, bytes_text("\033[0m"));
}

void print_failure(const char *command, const struct error *e)
{
    print_styled(PRINT_ERR, PRINT_BAD, "shoal %s:", command);
    print_err(" %s\n", e->text);
}

void print_json_text(struct bytes json)
{
    struct buffer b;
    buffer_init(&b, SIZE_MAX);
    if (display_json(&b, json) == 0)
        put(PRINT_OUT, buffer_bytes(&b));
    put(PRINT_OUT, bytes_text("\n"));
    buffer_done(&b);
}

int print_json(json_t *json, struct error *e)
{
    char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    json_decref(json);
    if (!text)
        return fail(e, FAIL_NOMEM, "the JSON text");
    print_json_text(bytes_text(text));
    free(text);
    return print_flush(e);
}

json_t *print_json_string(struct bytes text)
{
    json_t *whole = json_stringn(text.size ? (const char *)text.data : "", text.size);
    char *copy = whole ? NULL : malloc(text.size);
    size_t n = 0;
    for (size_t i = 0; copy && i < text.size;) {
        uint32_t c;
        int size = utf8_read(bytes_of(text.data + i, text.size - i), &c);
        if (size > 0)
            memcpy(copy + n, text.data + i, (size_t)size);
        else
            copy[n] = '?';
        n += size > 0 ? (size_t)size : 1;
        i += size > 0 ? (size_t)size : 1;
    }
    whole = copy ? json_stringn(copy, n) : whole;
    free(copy);
    return whole;
}

void print_text(struct bytes text)
{
    struct buffer b;
    if (!terminal_on_output()) {
        put(PRINT_OUT, text);
        return;
    }
    buffer_init(&b, SIZE_MAX);
    if (display_append(&b, text, DISPLAY_TEXT) == 0)
        put(PRINT_OUT, buffer_bytes(&b));
    buffer_done(&b);
}

void print_shown(struct bytes text)
{
    put(PRINT_OUT, text);
}

bool print_moves_cursor(void)
{
    return is_clever(PRINT_OUT);
}

int print_flush(struct error *e)
{
    errno = 0;
    bool failed = fflush(stdout) != 0;
    if (failed || ferror(stdout))
        return fail(e, FAIL_IO, "standard output can't be written%s%s", errno ? ": " : "",
                    errno ? strerror(errno) : "");
    return 0;
}

int print_end(const char *command, int status)
{
    struct error e = { 0 };
    if (print_flush(&e) == 0 || status != EXIT_OK)
        return status;
    print_failure(command, &e);
    return EXIT_FAILED;
}

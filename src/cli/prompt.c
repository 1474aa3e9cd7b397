/* See prompt.h. */
#include "cli/prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/folders.h"
#include "cli/history.h"
#include "cli/print.h"
#include "os/editor.h"

#define QUOTE "\"\"\""
#define QUOTE_BYTES (sizeof QUOTE - 1)

struct prompt {
    struct editor *editor;     /* NULL: plain lines */
    char history[FOLDER_TEXT]; /* "": kept nowhere */
};

/* --- several lines --- */

/* The text's length without the white space at its end. */
static size_t trimmed(const char *text, size_t n)
{
    while (n && strchr(" \t\r\n", text[n - 1]))
        n--;
    return n;
}

/* Bytes up to the closing quotes, or 0 when they are missing. text begins with quotes. */
static size_t find_close(const char *text, size_t n)
{
    n = trimmed(text, n);
    bool closed = n >= 2 * QUOTE_BYTES && !memcmp(text + n - QUOTE_BYTES, QUOTE, QUOTE_BYTES);
    return closed ? n - QUOTE_BYTES : 0;
}

int prompt_add_line(struct buffer *message, struct bytes line, bool first, bool *ret_more)
{
    int r = first ? 0 : buffer_u8(message, '\n');
    if (!r)
        r = buffer_append(message, line);
    if (r)
        return r;
    char *text = (char *)message->data;
    if (message->size >= QUOTE_BYTES && !memcmp(text, QUOTE, QUOTE_BYTES)) {
        *ret_more = !find_close(text, message->size);
    } else {
        *ret_more = message->size && text[message->size - 1] == '\\';
        if (*ret_more)
            text[--message->size] = '\0';
    }
    return 0;
}

char *prompt_unquote(char *message)
{
    size_t n = strlen(message);
    if (strncmp(message, QUOTE, QUOTE_BYTES) != 0) {
        message[trimmed(message, n)] = '\0';
        return message;
    }
    size_t close = find_close(message, n);
    char *text = message + QUOTE_BYTES;
    message[close ? close : n] = '\0';
    text += *text == '\n';
    text[trimmed(text, strlen(text))] = '\0';
    return text;
}

/* --- lines --- */

/* A line without an editor; without its end. */
static int read_plain(const char *prompt, struct buffer *line, struct error *e)
{
    buffer_clear(line);
    print_err("%s", prompt);
    int c, r = 0;
    while ((c = getchar()) != EOF && c != '\n')
        if (!r)
            r = buffer_u8(line, (uint8_t)c);
    if (r)
        return fail(e, r, "a line of more than %zu bytes", line->limit);
    if (line->size && memchr(line->data, 0, line->size))
        return fail(e, FAIL_ARG, "a line with a NUL byte is no text");
    return c != EOF || line->size ? 0 : fail(e, FAIL_CLOSED, "the input has ended");
}

static int read_line(struct prompt *p, bool first, struct buffer *line, struct error *e)
{
    if (!p->editor)
        return read_plain(first ? "> " : "... ", line, e);
    const struct editor_prompts prompts = { first ? L"> " : L"... ", L"... " };
    return editor_read(p->editor, &prompts, line, e);
}

int prompt_read(struct prompt *p, struct buffer *ret, struct error *e)
{
    struct buffer line;
    bool first = true, more = true;
    int r = 0;
    buffer_init(&line, ret->limit);
    buffer_clear(ret);
    while (more && !r) {
        r = read_line(p, first, &line, e);
        if (!r && prompt_add_line(ret, buffer_bytes(&line), first, &more))
            r = fail(e, FAIL_LIMIT, "a message of more than %zu bytes", ret->limit);
        first = false;
    }
    buffer_done(&line);
    return r;
}

/* --- history --- */

static void leave_history(struct prompt *p, const struct error *e)
{
    print_err("shoal run: no history of what you type is kept: %s\n", e->text);
    p->history[0] = '\0';
}

static void take_earlier(void *arg, const char *text)
{
    editor_remember(arg, text);
}

int prompt_open(struct prompt **ret, struct error *e)
{
    struct prompt *p = calloc(1, sizeof *p);
    if (!p)
        return fail(e, FAIL_NOMEM, "a prompt");
    if (!editor_open(&p->editor, NULL)) {
        struct error why = { 0 };
        int r = folders_find_history(p->history, &why);
        if (!r)
            r = history_load(p->history, take_earlier, p->editor, &why);
        if (r)
            leave_history(p, &why);
    }
    *ret = p;
    return 0;
}

void prompt_close(struct prompt *p)
{
    if (p)
        editor_close(p->editor);
    free(p);
}

void prompt_remember(struct prompt *p, const char *message)
{
    struct error why = { 0 };
    if (!p->editor)
        return;
    editor_remember(p->editor, message);
    if (p->history[0] && history_add(p->history, message, &why))
        leave_history(p, &why);
}

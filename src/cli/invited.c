/* See invited.h. */
#include "cli/invited.h"

#include <string.h>

#include "base/buffer.h"
#include "cli/ask.h"
#include "os/file.h"
#include "os/terminal.h"
#include "secure/identity.h"

static int read_line(struct buffer *b)
{
    int code = 0;
    char c = '\0';
    while (code == 0 && terminal_read_byte(&c) == 1 && (c != '\n' || b->size == 0))
        code = buffer_u8(b, (uint8_t)c);
    return code;
}

int invited_take(char ret[static INVITATION_TEXT], char *text, const char *file, struct error *e)
{
    struct buffer b;
    int code = 0;
    if (text && file)
        return fail(e, FAIL_ARG, "--invite and --invite-file are two ways to say one thing");
    buffer_init(&b, INVITATION_TEXT - 1);
    if (text) {
        code = buffer_text(&b, text);
        memset(text, 'x', strlen(text));
    } else if (file && strcmp(file, "-") == 0) {
        code = read_line(&b); /* one line: a question may follow */
    } else if (file) {
        code = file_read_typed(file, &b, e);
    }
    if (code == FAIL_LIMIT)
        fail(e, FAIL_ARG, "an invitation has at most %d bytes", INVITATION_TEXT - 1);
    if (!code && b.size && memchr(b.data, 0, b.size))
        code = fail(e, FAIL_ARG, "an invitation has no NUL bytes");
    const char *first = buffer_cstr(&b) + strspn(buffer_cstr(&b), " \t\r\n");
    size_t n = strcspn(first, " \t\r\n");
    if (!code && (file || text) && n == 0)
        code = fail(e, FAIL_ARG, "the invitation is empty");
    if (!code) {
        memcpy(ret, first, n);
        ret[n] = '\0';
    }
    buffer_done(&b);
    return code;
}

int invited_agree(const char *home, bool replace, struct error *e)
{
    bool asked = false;
    if (!cluster_key_is_own(home) || replace)
        return 0;
    if (ask_yes("this device heads a cluster of its own: joining another one ends that, also for "
                "devices that joined it. Join?",
                &asked))
        return 0;
    return fail(e, FAIL_STATE,
                asked ? "not joined: this device keeps its own cluster"
                      : "this device heads a cluster of its own, which joining another one ends: "
                        "say so by --replace, or give another --home");
}

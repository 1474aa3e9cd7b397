/* A build without libedit: see editor.h. */
#include "os/editor.h"

int editor_open(struct editor **ret, struct error *e)
{
    (void)ret;
    return fail(e, FAIL_UNSUPPORTED, "this build edits no lines: libedit was missing");
}

void editor_close(struct editor *ed)
{
    (void)ed;
}

int editor_read(struct editor *ed, const struct editor_prompts *prompts, struct buffer *line,
                struct error *e)
{
    (void)ed;
    (void)prompts;
    (void)line;
    return fail(e, FAIL_UNSUPPORTED, "this build edits no lines: libedit was missing");
}

void editor_remember(struct editor *ed, const char *text)
{
    (void)ed;
    (void)text;
}

/* See progress.h. */
#include "cli/progress.h"
#include "cli/print.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/size_text.h"
#include "os/terminal.h"

#define LINE_TEXT 160
#define LINE_COLUMNS 79 /* a line that wraps can't be written over */
#define NAME_COLUMNS 28

static void print_left(char *ret, size_t size, double seconds)
{
    if (seconds < 0 || seconds > 1e7) {
        ret[0] = '\0';
        return;
    }
    int64_t s = (int64_t)(seconds + 0.5);
    if (s < 60) {
        snprintf(ret, size, ", %" PRId64 " s left", s);
    } else if (s < 3600) {
        snprintf(ret, size, ", %" PRId64 " min %02" PRId64 " s left", s / 60, s % 60);
    } else {
        snprintf(ret, size, ", %" PRId64 " h %02" PRId64 " min left", s / 3600, s / 60 % 60);
    }
}

/* "NAME  45 %  1.9 GB of 4.1 GB  35.1 MB/s, 1 min 02 s left". A long name loses its middle. */
static void print_line(char ret[static LINE_TEXT], const struct download_progress *p)
{
    char name[NAME_COLUMNS + 4], have[32], whole[48] = "", share[16] = "", rest[64] = "";
    size_t n = strlen(p->name), keep = (NAME_COLUMNS - 3) / 2;
    snprintf(name, sizeof name, "%s", p->name);
    if (n > NAME_COLUMNS) {
        snprintf(name, sizeof name, "%.*s...%s", (int)keep, p->name, p->name + n - keep);
    }
    size_text(p->bytes, have);
    if (p->size > 0) {
        char text[SIZE_TEXT];
        size_text(p->size, text);
        snprintf(whole, sizeof whole, " of %s", text);
        snprintf(share, sizeof share, "%3.0f %%  ", 100.0 * (double)p->bytes / (double)p->size);
    }
    if (p->state != NULL) {
        snprintf(rest, sizeof rest, "  %s", p->state);
    } else if (p->bytes == 0 && p->size < 0) {
        snprintf(rest, sizeof rest, "  connecting");
    } else if (p->bytes_per_s > 0) {
        char left[48];
        print_left(left, sizeof left, p->left_s);
        snprintf(rest, sizeof rest, "  %.1f MB/s%s", p->bytes_per_s / 1e6, left);
    }
    snprintf(ret, LINE_TEXT, "%s  %s%s%s%s", name, share, have, whole, rest);
}

void progress_show(struct progress *s, const struct download_progress *p)
{
    char line[LINE_TEXT];
    print_line(line, p);
    if (terminal_on_errors()) {
        print_err("\r%-*.*s", LINE_COLUMNS, LINE_COLUMNS, line);
        s->dirty = true;
        return;
    }
    uint64_t now = clock_now_ns();
    if (now >= s->next_ns) {
        s->next_ns = now + PROGRESS_PLAIN_NS;
        print_err("%s\n", line);
    }
}

void progress_end(struct progress *s)
{
    if (s->dirty) {
        print_err("\r%*s\r", LINE_COLUMNS, "");
    }
    s->dirty = false;
}

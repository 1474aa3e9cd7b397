/* shoal pull: a model file from here, from a web server or from the hub into the models folder. */
#include "cli/commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/folders.h"
#include "cli/options.h"
#include "os/clock.h"
#include "os/env.h"
#include "os/process.h"
#include "os/terminal.h"
#include "store/pull.h"
#include "store/source.h"

#define LINE_TEXT 160
#define LINE_COLUMNS 79 /* a line that wraps can't be written over */
#define NAME_COLUMNS 28
/* Between lines where there is no terminal: a log stays readable. */
#define PLAIN_LINE_NS (10 * CLOCK_NS_PER_S)

struct screen {
    bool terminal;
    bool dirty; /* an unfinished line stands there */
    uint64_t next_ns;
};

/* "1.2 GB", in the units that disks are sold in. */
static void print_bytes(char *ret, size_t size, double bytes)
{
    static const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
    int i = 0;
    while (bytes >= 1000 && i < 4) {
        bytes /= 1000;
        i++;
    }
    snprintf(ret, size, i == 0 ? "%.0f %s" : "%.1f %s", bytes, units[i]);
}

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
    print_bytes(have, sizeof have, (double)p->bytes);
    if (p->size > 0) {
        char text[32];
        print_bytes(text, sizeof text, (double)p->size);
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

static bool show(void *arg, const struct download_progress *p)
{
    struct screen *s = arg;
    char line[LINE_TEXT];
    print_line(line, p);
    if (s->terminal) {
        fprintf(stderr, "\r%-*.*s", LINE_COLUMNS, LINE_COLUMNS, line);
        fflush(stderr);
        s->dirty = true;
        return true;
    }
    uint64_t now = clock_now_ns();
    if (now >= s->next_ns) {
        s->next_ns = now + PLAIN_LINE_NS;
        fprintf(stderr, "%s\n", line);
    }
    return true;
}

/* So that the next text begins on a line of its own. */
static void end_line(struct screen *s)
{
    if (s->dirty) {
        fprintf(stderr, "\r%*s\r", LINE_COLUMNS, "");
    }
    s->dirty = false;
}

static void print_result(const struct pull_result *r)
{
    char bytes[32], parts[32] = "";
    print_bytes(bytes, sizeof bytes, (double)r->bytes);
    if (r->parts > 1) {
        snprintf(parts, sizeof parts, " in %d files", r->parts);
    }
    fprintf(stderr, "%s%s, %s%s%s\n", bytes, parts,
            r->present  ? "was there already"
            : r->linked ? "linked: the same bytes under a second name"
                        : "complete",
            r->sha256[0] ? ", sha256 " : "", r->sha256);
    if (!r->verified && !r->local) {
        fprintf(stderr, r->present
                            ? "only its size was compared: --sha256 HEX makes sure\n"
                            : "nobody named a sha256 to compare with: --sha256 HEX makes sure\n");
    }
    printf("%s\n", r->path);
}

int cmd_pull(int argc, char **argv)
{
    const char *spec = NULL, *models = NULL, *sha256 = NULL;
    const struct option_row rows[] = {
        OPTION_ARGUMENT("SPEC", &spec,
                        "a path, https://..., or hf:OWNER/REPO/FILE.gguf[@REVISION]"),
        OPTION_TEXT("models", &models, "DIR", "where to (~/.local/share/shoal/models)"),
        OPTION_TEXT("sha256", &sha256, "HEX", "that the file must have (what the hub says)"),
    };
    const struct option_set set = { "pull", rows, sizeof rows / sizeof rows[0] };
    int status = EXIT_OK;
    if (!options_start(&set, argc, argv, &status)) {
        return status;
    }
    struct error e = { 0 };
    struct folders f;
    struct pull_result r;
    struct screen screen = { .terminal = terminal_on_errors() };
    process_ignore_broken_pipes();
    int code = folders_find(NULL, models, &f, &e);
    if (code != 0) {
        fprintf(stderr, "shoal pull: %s by --models DIR\n", e.text);
        return EXIT_USAGE;
    }
    code = pull(&(struct pull_options){ .spec = spec,
                                        .folder = f.models,
                                        .sha256 = sha256,
                                        .hub = env_get("HF_ENDPOINT", SOURCE_HUB_ENDPOINT),
                                        .token = env_get("HF_TOKEN", NULL),
                                        .progress = show,
                                        .arg = &screen },
                &r, &e);
    end_line(&screen);
    if (code != 0) {
        fprintf(stderr, "shoal pull: %s\n", e.text);
        return code == ERR_ARG ? EXIT_USAGE : EXIT_FAILED;
    }
    print_result(&r);
    return EXIT_OK;
}

/* shoal manual: the manual page, made from the tables of commands and options. */
#include "cli/commands.h"

#include <string.h>

#include "base/buffer.h"
#include "cli/options.h"
#include "cli/print.h"

#define TEXT_MAX ((size_t)4096)

/* A text in roff: backslashes and hyphens as themselves, no line that begins as a request. Source:
 * man(7). */
static void put(const char *text)
{
    struct buffer b;
    buffer_init(&b, TEXT_MAX);
    if (text[0] == '.' || text[0] == '\'')
        buffer_text(&b, "\\&");
    for (; *text; text++)
        buffer_printf(&b, *text == '\\' ? "\\e" : *text == '-' ? "\\-" : "%c", *text);
    print_out("%s", buffer_cstr(&b));
    buffer_done(&b);
}

static void put_options(const struct option_set *set)
{
    for (size_t i = 0; i < set->n_rows; i++) {
        const struct option_row *r = &set->rows[i];
        bool argument = r->kind == OPTION_KIND_ARGUMENT;
        print_out(".TP\n%s", argument ? ".I " : ".BI \"");
        put(argument ? "" : "--");
        put(r->name);
        if (!argument)
            print_out("\"%s%s", r->value[0] ? " \" \" " : "", r->value);
        print_out("\n");
        put(r->help);
        print_out(r->kind == OPTION_KIND_LIST ? " (may be repeated)\n" : "\n");
    }
}

static void put_command(void *arg, const char *name, const char *help, const struct option_set *set)
{
    (void)arg;
    print_out(".SS shoal %s", name);
    for (size_t i = 0; i < set->n_rows; i++)
        if (set->rows[i].kind == OPTION_KIND_ARGUMENT)
            print_out(set->rows[i].required ? " %s" : " [%s]", set->rows[i].name);
    print_out("\n");
    put(help);
    print_out("\n");
    put_options(set);
}

int cmd_manual(int argc, char **argv)
{
    const struct option_set set = { "manual", NULL, 0 };
    int status = EXIT_OK;
    if (!options_start(&set, argc, argv, &status))
        return status;
    print_out(".TH SHOAL 1 \"\" \"shoal %s\" \"User commands\"\n.SH NAME\n"
              "shoal \\- many small machines as one, behind an OpenAI\\-compatible endpoint\n"
              ".SH SYNOPSIS\n.B shoal\n.I COMMAND\n[\\fIARGUMENT\\fR]...\n.SH COMMANDS\n",
              SHOAL_VERSION);
    commands_describe(put_command, NULL);
    print_out(".SH ENVIRONMENT\n"
              ".TP\n.B SHOAL_URL\nthe endpoint that commands ask when no \\-\\-url is given\n"
              ".TP\n.B NO_COLOR\nset to anything: no colours\n"
              ".TP\n.B HF_TOKEN, HF_ENDPOINT\nfor shoal pull, as the hub's own tools take them\n"
              ".TP\n.B XDG_DATA_HOME, XDG_STATE_HOME\nwhere keys and models, and the history of "
              "chats are kept\n"
              ".SH EXIT STATUS\n0: done; 1: it could not be done; 2: the command line was wrong; "
              "130: stopped by Ctrl\\-C\n");
    return EXIT_OK;
}

/* Command line options: a table of rows a command, parsed and explained from the same rows.
 *
 * A command looks like this (one file a command, cmd_NAME.c, and a row in commands.def):
 *
 *     int cmd_inspect(int argc, char **argv)
 *     {
 *         struct { const char *file; bool json; int64_t context; } o = { .context = 2048 };
 *         const struct option_row rows[] = {
 *             OPTION_ARGUMENT("FILE", &o.file, "GGUF file to describe"),
 *             OPTION_FLAG("json", &o.json, "print JSON"),
 *             OPTION_INT("context", &o.context, 1, 1 << 20, "N", "tokens of context"),
 *         };
 *         const struct option_set set = { "inspect", rows, sizeof rows / sizeof rows[0] };
 *         int status = 0;
 *         if (!options_start(&set, argc, argv, &status))
 *             return status;
 *         ...
 *         return EXIT_OK;
 *     }
 *
 * Accepted: --name VALUE, --name=VALUE, --flag; "--" ends the options; a lone "-" is an argument.
 * A negative number is a value, not an option. A row's target keeps its value (the default) when
 * the option is absent. Texts are borrowed from argv. */
#ifndef SHOAL_CLI_OPTIONS_H
#define SHOAL_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/exit_codes.h"

/* A value given more than once at most this often: no cluster of one home serves more models. */
#define OPTION_LIST_MAX 32

/* Values of a repeatable option, in the order given; texts borrowed from argv. */
struct option_list {
    const char *values[OPTION_LIST_MAX];
    int n;
};

enum option_kind {
    OPTION_KIND_FLAG,     /* bool */
    OPTION_KIND_INT,      /* int64_t within [min, max] */
    OPTION_KIND_REAL,     /* double, finite, within [min, max] */
    OPTION_KIND_TEXT,     /* const char * */
    OPTION_KIND_LIST,     /* struct option_list */
    OPTION_KIND_ARGUMENT, /* const char *, by position */
    OPTION_KIND_COUNT
};

/* One option or argument. Made by the macros below, which set the target's type right. */
struct option_row {
    const char *name; /* without dashes; for an argument its name in the usage line */
    enum option_kind kind;
    bool required;
    union {
        bool *flag;
        int64_t *integer;
        double *real;
        const char **text;
        struct option_list *list;
    } target;
    double min, max;   /* numbers only; exact for every int below 2^53 */
    const char *value; /* what stands for the value in the help, "N" */
    const char *help;  /* one line, no full stop */
};

/* Rows of a table, not code: the only way to fill the union by type. */
#define OPTION_FLAG(name, to, help)                                                                \
    {                                                                                              \
        name, OPTION_KIND_FLAG, false, { .flag = (to) }, 0, 0, "", help                            \
    }
#define OPTION_INT(name, to, min, max, value, help)                                                \
    {                                                                                              \
        name, OPTION_KIND_INT, false, { .integer = (to) }, (double)(min), (double)(max), value,    \
            help                                                                                   \
    }
#define OPTION_REAL(name, to, min, max, value, help)                                               \
    {                                                                                              \
        name, OPTION_KIND_REAL, false, { .real = (to) }, min, max, value, help                     \
    }
#define OPTION_TEXT(name, to, value, help)                                                         \
    {                                                                                              \
        name, OPTION_KIND_TEXT, false, { .text = (to) }, 0, 0, value, help                         \
    }
#define OPTION_LIST(name, to, value, help)                                                         \
    {                                                                                              \
        name, OPTION_KIND_LIST, false, { .list = (to) }, 0, 0, value, help                         \
    }
#define OPTION_ARGUMENT(name, to, help)                                                            \
    {                                                                                              \
        name, OPTION_KIND_ARGUMENT, true, { .text = (to) }, 0, 0, "", help                         \
    }
#define OPTION_OPTIONAL_ARGUMENT(name, to, help)                                                   \
    {                                                                                              \
        name, OPTION_KIND_ARGUMENT, false, { .text = (to) }, 0, 0, "", help                        \
    }

/* A command's options. rows is borrowed. */
struct option_set {
    const char *command; /* as typed after "shoal" */
    const struct option_row *rows;
    size_t n_rows;
};

/* Fills the rows' targets from argv[1..argc). Pure but for the targets.
 *
 * Returns 0, or 1 if --help or -h was met (parsing stops there). Errors: FAIL_ARG with a text that
 * names the option, what was wrong and, for an unknown option, the nearest one. Targets of options
 * before the error may have been set. */
int options_parse(const struct option_set *set, int argc, char **argv, struct error *e);

/* Usage line and one line an option, to standard output. */
void options_print_help(const struct option_set *set);

/* For tables of all commands' options (completions, the manual): a command that is run with argc
 * OPTIONS_DESCRIBE and a visitor in place of argv gives its options to it and ends. */
#define OPTIONS_DESCRIBE (-1)

struct options_visitor {
    void (*take)(void *arg, const struct option_set *set);
    void *arg;
};

/* What every command begins with: parses, prints help on --help (to stdout) or the error (to
 * stderr). Returns true if the command should go on; otherwise *ret_status is its exit code. */
bool options_start(const struct option_set *set, int argc, char **argv, int *ret_status);

/* Edit distance of two words (insert, delete, replace one letter), for "did you mean"; words
 * longer than 32 letters count as infinitely far (a large number). */
int options_distance(const char *a, const char *b);

#endif

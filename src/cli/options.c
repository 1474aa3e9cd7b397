/* Command line options: see options.h. */
#include "cli/options.h"
#include "cli/print.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Names in our tables are shorter; a longer word has no near neighbour. */
#define WORD_MAX 32
#define DISTANCE_FAR 1000
/* Two slips of the finger still find the option that was meant. */
#define DISTANCE_NEAR 2
/* Column at which the help's texts begin. */
#define HELP_COLUMN 26
#define HELP_WIDTH 80 /* columns that every terminal has */
#define HELP_TEXT 512 /* of one option */

int options_distance(const char *a, const char *b)
{
    size_t na = strlen(a), nb = strlen(b);
    if (na > WORD_MAX || nb > WORD_MAX)
        return DISTANCE_FAR;
    int row[WORD_MAX + 1];
    for (size_t j = 0; j <= nb; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[nb];
}

static const struct option_row *find_row(const struct option_set *set, const char *name, size_t n)
{
    for (size_t i = 0; i < set->n_rows; i++) {
        const struct option_row *r = &set->rows[i];
        if (r->kind != OPTION_KIND_ARGUMENT && strlen(r->name) == n && !memcmp(r->name, name, n))
            return r;
    }
    return NULL;
}

static int fail_unknown(const struct option_set *set, const char *word, struct error *e)
{
    const char *nearest = NULL;
    int best = DISTANCE_NEAR + 1;
    const char *name = word + strspn(word, "-");
    for (size_t i = 0; i < set->n_rows; i++) {
        if (set->rows[i].kind == OPTION_KIND_ARGUMENT)
            continue;
        int d = options_distance(name, set->rows[i].name);
        if (d < best) {
            best = d;
            nearest = set->rows[i].name;
        }
    }
    if (nearest)
        return fail(e, FAIL_ARG, "unknown option %s: did you mean --%s?", word, nearest);
    return fail(e, FAIL_ARG, "unknown option %s", word);
}

static int parse_number(const struct option_row *r, const char *text, struct error *e)
{
    char *end = NULL;
    errno = 0;
    if (r->kind == OPTION_KIND_INT) {
        long long v = strtoll(text, &end, 10);
        if (end == text || *end || errno)
            return fail(e, FAIL_ARG, "--%s: \"%s\" is not a whole number", r->name, text);
        if ((double)v < r->min || (double)v > r->max)
            return fail(e, FAIL_ARG, "--%s: %s is not between %.0f and %.0f", r->name, text, r->min,
                        r->max);
        *r->target.integer = v;
        return 0;
    }
    double v = strtod(text, &end);
    if (end == text || *end || !isfinite(v))
        return fail(e, FAIL_ARG, "--%s: \"%s\" is not a number", r->name, text);
    if (v < r->min || v > r->max)
        return fail(e, FAIL_ARG, "--%s: %s is not between %g and %g", r->name, text, r->min,
                    r->max);
    *r->target.real = v;
    return 0;
}

static int set_value(const struct option_row *r, const char *text, struct error *e)
{
    if (r->kind == OPTION_KIND_INT || r->kind == OPTION_KIND_REAL)
        return parse_number(r, text, e);
    if (r->kind == OPTION_KIND_TEXT) {
        *r->target.text = text;
        return 0;
    }
    struct option_list *list = r->target.list;
    if (list->n == OPTION_LIST_MAX)
        return fail(e, FAIL_ARG, "--%s is given more than %d times", r->name, OPTION_LIST_MAX);
    list->values[list->n++] = text;
    return 0;
}

/* Handles argv[*i], an option; advances *i over a separate value. */
static int parse_option(const struct option_set *set, int argc, char **argv, int *i,
                        struct error *e)
{
    const char *word = argv[*i];
    const char *equals = strchr(word, '=');
    size_t n = equals ? (size_t)(equals - word) : strlen(word);
    const struct option_row *r = n > 2 && word[1] == '-' ? find_row(set, word + 2, n - 2) : NULL;
    if (!r)
        return fail_unknown(set, word, e);
    if (r->kind == OPTION_KIND_FLAG) {
        if (equals)
            return fail(e, FAIL_ARG, "--%s takes no value", r->name);
        *r->target.flag = true;
        return 0;
    }
    if (equals)
        return set_value(r, equals + 1, e);
    if (*i + 1 == argc)
        return fail(e, FAIL_ARG, "--%s needs a value (%s)", r->name, r->value);
    *i += 1;
    return set_value(r, argv[*i], e);
}

static const struct option_row *argument_at(const struct option_set *set, int index)
{
    for (size_t i = 0; i < set->n_rows; i++)
        if (set->rows[i].kind == OPTION_KIND_ARGUMENT && index-- == 0)
            return &set->rows[i];
    return NULL;
}

int options_parse(const struct option_set *set, int argc, char **argv, struct error *e)
{
    int n_arguments = 0;
    bool options_end = false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (!options_end && !strcmp(word, "--")) {
            options_end = true;
            continue;
        }
        if (!options_end && (!strcmp(word, "--help") || !strcmp(word, "-h")))
            return 1;
        if (!options_end && word[0] == '-' && word[1]) {
            int r = parse_option(set, argc, argv, &i, e);
            if (r)
                return r;
            continue;
        }
        const struct option_row *row = argument_at(set, n_arguments++);
        if (!row)
            return fail(e, FAIL_ARG, "\"%s\" is one argument too many", word);
        *row->target.text = word;
    }
    const struct option_row *missing = argument_at(set, n_arguments);
    if (missing && missing->required)
        return fail(e, FAIL_ARG, "%s is missing: %s", missing->name, missing->help);
    return 0;
}

static void print_usage(const struct option_set *set, enum print_to to)
{
    print_to(to, "usage: shoal %s", set->command);
    bool has_options = false;
    for (size_t i = 0; i < set->n_rows; i++) {
        const struct option_row *r = &set->rows[i];
        if (r->kind == OPTION_KIND_ARGUMENT)
            print_to(to, r->required ? " %s" : " [%s]", r->name);
        else
            has_options = true;
    }
    print_to(to, has_options ? " [OPTION]...\n" : "\n");
}

/* Words from the help's column on, in as many lines as they take. */
static void print_words(const char *text, int column)
{
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (column > HELP_COLUMN && column + 1 + n > HELP_WIDTH) {
            print_out("\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        } else if (column > HELP_COLUMN) {
            print_out(" ");
            column++;
        }
        print_out("%.*s", n, text);
        column += n;
        text += n + (text[n] == ' ');
    }
    print_out("\n");
}

void options_print_help(const struct option_set *set)
{
    print_usage(set, PRINT_OUT);
    for (size_t i = 0; i < set->n_rows; i++) {
        const struct option_row *r = &set->rows[i];
        const char *dashes = r->kind == OPTION_KIND_ARGUMENT ? "" : "--";
        char help[HELP_TEXT];
        int n = 2 + (int)(strlen(dashes) + strlen(r->name) + strlen(r->value)) + (*r->value != 0);
        int gap = n < HELP_COLUMN ? HELP_COLUMN - n : 1;
        print_out("  ");
        print_styled(PRINT_OUT, PRINT_BOLD, "%s%s", dashes, r->name);
        print_out("%s%s%*s", *r->value ? " " : "", r->value, gap, "");
        snprintf(help, sizeof help, "%s%s", r->help,
                 r->kind == OPTION_KIND_LIST ? " (may be repeated)" : "");
        print_words(help, n + gap);
    }
}

bool options_start(const struct option_set *set, int argc, char **argv, int *ret_status)
{
    struct error e = { 0 };
    if (argc == OPTIONS_DESCRIBE) {
        const struct options_visitor *v = (const struct options_visitor *)(void *)argv;
        v->take(v->arg, set);
        *ret_status = EXIT_OK;
        return false;
    }
    int r = options_parse(set, argc, argv, &e);
    if (r == 0)
        return true;
    if (r > 0) {
        options_print_help(set);
        *ret_status = EXIT_OK;
        return false;
    }
    print_failure(set->command, &e);
    print_usage(set, PRINT_ERR);
    print_err("see: shoal help %s\n", set->command);
    *ret_status = EXIT_USAGE;
    return false;
}

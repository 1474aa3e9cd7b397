/* shoal completions: what a shell offers after "shoal", made from the tables of commands and
 * options. */
#include "cli/commands.h"

#include <string.h>

#include "base/buffer.h"
#include "cli/options.h"
#include "cli/print.h"

#define TEXT_MAX ((size_t)4096)

/* What a value is, by the word that stands for it in the help. */
enum value {
    VALUE_NONE,
    VALUE_OTHER,
    VALUE_FOLDER,
    VALUE_FILE,
    VALUE_MODEL, /* a file or a name */
    VALUE_NAME,  /* of a model of the models folder */
    VALUE_SHELL,
    VALUE_COUNT
};

#define SHELLS "bash zsh fish"

static enum value value_of(const struct option_row *r)
{
    static const struct {
        const char *word;
        enum value of_option, of_argument;
    } words[] = { { "DIR", VALUE_FOLDER, VALUE_FOLDER }, { "FILE", VALUE_FILE, VALUE_FILE },
                  { "OUT", VALUE_FILE, VALUE_FILE },     { "SPEC", VALUE_OTHER, VALUE_FILE },
                  { "MODEL", VALUE_MODEL, VALUE_MODEL }, { "NAME", VALUE_OTHER, VALUE_NAME },
                  { "SHELL", VALUE_OTHER, VALUE_SHELL } };
    bool argument = r->kind == OPTION_KIND_ARGUMENT;
    const char *word = argument ? r->name : r->value;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcmp(words[i].word, word) == 0)
            return argument ? words[i].of_argument : words[i].of_option;
    return word[0] ? VALUE_OTHER : VALUE_NONE;
}

/* A text in single quotes, with a backslash before each of the characters that are named. */
static void put_quoted(const char *text, const char *special)
{
    struct buffer b;
    buffer_init(&b, TEXT_MAX);
    for (; *text; text++)
        buffer_printf(&b, *text == '\'' ? "'\\''" : strchr(special, *text) ? "\\%c" : "%c", *text);
    print_out("%s", buffer_cstr(&b));
    buffer_done(&b);
}

static void put_name(void *arg, const char *name, const char *help, const struct option_set *set)
{
    (void)arg;
    (void)help;
    (void)set;
    print_out(" %s", name);
}

/* --- bash --- */

static const char *bash_reply(enum value value)
{
    static const char *const replies[VALUE_COUNT] = {
        [VALUE_OTHER] = "return",
        [VALUE_FOLDER] = "_shoal_files -d; return",
        [VALUE_FILE] = "_shoal_files -f; return",
        [VALUE_MODEL] = "_shoal_files -f; _shoal_names; return",
        [VALUE_NAME] = "_shoal_names; return",
        [VALUE_SHELL] = "COMPREPLY=($(compgen -W '" SHELLS "' -- \"$cur\")); return",
    };
    return replies[value];
}

static void put_bash(void *arg, const char *name, const char *help, const struct option_set *set)
{
    (void)arg;
    (void)help;
    enum value argument = VALUE_OTHER;
    print_out("    %s)\n        case $prev in\n", name);
    for (size_t i = 0; i < set->n_rows; i++) {
        const struct option_row *r = &set->rows[i];
        if (r->kind == OPTION_KIND_ARGUMENT)
            argument = argument == VALUE_OTHER ? value_of(r) : argument;
        else if (value_of(r) != VALUE_NONE)
            print_out("        --%s) %s ;;\n", r->name, bash_reply(value_of(r)));
    }
    print_out("        esac\n        if [[ $cur != -* ]]; then %s; fi\n        options='--help",
              strcmp(name, "help") == 0 ? "_shoal_commands; return" : bash_reply(argument));
    for (size_t i = 0; i < set->n_rows; i++)
        if (set->rows[i].kind != OPTION_KIND_ARGUMENT)
            print_out(" --%s", set->rows[i].name);
    print_out("' ;;\n");
}

static void print_bash(void)
{
    print_out(
        "# Completions of shoal for bash, made by: shoal completions bash\n"
        "_shoal_files() {\n    local IFS=$'\\n'\n    compopt -o filenames 2>/dev/null\n"
        "    COMPREPLY=($(compgen \"$1\" -- \"$cur\"))\n}\n"
        "_shoal_names() {\n    local IFS=$'\\n'\n"
        "    COMPREPLY+=($(compgen -W \"$(shoal list --names 2>/dev/null)\" -- \"$cur\"))\n}\n"
        "_shoal_commands() {\n    COMPREPLY=($(compgen -W '");
    commands_describe(put_name, NULL);
    print_out("' -- \"$cur\"))\n}\n"
              "_shoal() {\n    local cur=${COMP_WORDS[COMP_CWORD]} options\n"
              "    local prev=${COMP_WORDS[COMP_CWORD-1]}\n    COMPREPLY=()\n"
              "    if ((COMP_CWORD == 1)); then _shoal_commands; return; fi\n"
              "    case ${COMP_WORDS[1]} in\n");
    commands_describe(put_bash, NULL);
    print_out("    *) return ;;\n    esac\n"
              "    COMPREPLY=($(compgen -W \"$options\" -- \"$cur\"))\n}\n"
              "complete -F _shoal shoal\n");
}

/* --- zsh --- */

static const char *zsh_action(enum value value)
{
    static const char *const actions[VALUE_COUNT] = {
        [VALUE_OTHER] = " ",           [VALUE_FOLDER] = "_files -/",
        [VALUE_FILE] = "_files",       [VALUE_MODEL] = "_shoal_models",
        [VALUE_NAME] = "_shoal_names", [VALUE_SHELL] = "(" SHELLS ")"
    };
    return actions[value];
}

static void put_zsh_name(void *arg, const char *name, const char *help,
                         const struct option_set *set)
{
    (void)arg;
    (void)set;
    print_out("        '%s:", name);
    put_quoted(help, "\\:");
    print_out("'\n");
}

static void put_zsh(void *arg, const char *name, const char *help, const struct option_set *set)
{
    (void)arg;
    (void)help;
    print_out("    %s) _arguments '--help[print the options]'", name);
    for (size_t i = 0; i < set->n_rows; i++) {
        const struct option_row *r = &set->rows[i];
        bool argument = r->kind == OPTION_KIND_ARGUMENT, list = r->kind == OPTION_KIND_LIST;
        print_out(" \\\n        '");
        if (argument) {
            print_out("%s%s:%s", r->required ? "" : ":", "", r->name);
        } else {
            print_out("%s--%s[", list ? "*" : "", r->name);
            put_quoted(r->help, "\\[]:");
            print_out("]%s%s", r->value[0] ? ":" : "", r->value);
        }
        if (argument || r->value[0])
            print_out(":%s",
                      strcmp(name, "help") == 0 ? "_shoal_commands" : zsh_action(value_of(r)));
        print_out("'");
    }
    print_out(" ;;\n");
}

static void print_zsh(void)
{
    print_out("#compdef shoal\n# Completions of shoal for zsh, made by: shoal completions zsh\n"
              "_shoal_names() {\n    local -a names\n"
              "    names=(${(f)\"$(shoal list --names 2>/dev/null)\"})\n"
              "    compadd -a names\n}\n_shoal_models() {\n    _shoal_names\n    _files\n}\n"
              "_shoal_commands() {\n    local -a commands\n    commands=(\n");
    commands_describe(put_zsh_name, NULL);
    print_out("    )\n    _describe command commands\n}\n"
              "_shoal() {\n    if (( CURRENT == 2 )); then _shoal_commands; return; fi\n"
              "    local command=$words[2]\n    shift words\n    (( CURRENT-- ))\n"
              "    case $command in\n");
    commands_describe(put_zsh, NULL);
    print_out("    esac\n}\n_shoal \"$@\"\n");
}

/* --- fish --- */

static const char *fish_values(enum value value)
{
    static const char *const values[VALUE_COUNT] = {
        [VALUE_NONE] = "",
        [VALUE_OTHER] = " -x",
        [VALUE_FOLDER] = " -x -a '(__fish_complete_directories)'",
        [VALUE_FILE] = " -r -F",
        [VALUE_MODEL] = " -r -F -a '(shoal list --names 2>/dev/null)'",
    };
    return values[value];
}

/* The same of an argument; without a text there is nothing to offer. */
static const char *fish_arguments(enum value value)
{
    static const char *const arguments[VALUE_COUNT] = {
        [VALUE_FOLDER] = " -F",
        [VALUE_FILE] = " -F",
        [VALUE_MODEL] = " -F -a '(shoal list --names 2>/dev/null)'",
        [VALUE_NAME] = " -a '(shoal list --names 2>/dev/null)'",
        [VALUE_SHELL] = " -a '" SHELLS "'",
    };
    return arguments[value];
}

static void put_fish(void *arg, const char *name, const char *help, const struct option_set *set)
{
    (void)arg;
    print_out("complete -c shoal -n __fish_use_subcommand -a %s -d '", name);
    put_quoted(help, "\\");
    print_out("'\n");
    for (size_t i = 0; i < set->n_rows; i++) {
        const struct option_row *r = &set->rows[i];
        bool argument = r->kind == OPTION_KIND_ARGUMENT;
        const char *values = argument ? fish_arguments(value_of(r)) : fish_values(value_of(r));
        if (!values)
            continue;
        print_out("complete -c shoal -n '__fish_seen_subcommand_from %s'", name);
        if (!argument)
            print_out(" -l %s -d '", r->name);
        if (!argument)
            put_quoted(r->help, "\\");
        print_out("%s%s\n", argument ? "" : "'", values);
    }
}

static void print_fish(void)
{
    print_out("# Completions of shoal for fish, made by: shoal completions fish\n"
              "complete -c shoal -f\n");
    commands_describe(put_fish, NULL);
    print_out("complete -c shoal -n '__fish_seen_subcommand_from help' -a '");
    commands_describe(put_name, NULL);
    print_out("'\n");
}

int cmd_completions(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*print)(void);
    } shells[] = { { "bash", print_bash }, { "zsh", print_zsh }, { "fish", print_fish } };
    const char *shell = NULL;
    const struct option_row rows[] = {
        OPTION_ARGUMENT("SHELL", &shell, "bash, zsh or fish"),
    };
    const struct option_set set = { "completions", rows, ARRAY_LEN(rows) };
    int status = EXIT_OK;
    if (!options_start(&set, argc, argv, &status))
        return status;
    for (size_t i = 0; i < ARRAY_LEN(shells); i++) {
        if (strcmp(shells[i].name, shell) == 0) {
            shells[i].print();
            return EXIT_OK;
        }
    }
    print_err("shoal completions: there are some for bash, zsh and fish, not for \"%s\"\n", shell);
    return EXIT_USAGE;
}

/* The table of commands, help and version. */
#include "cli/commands.h"

#include <stdio.h>
#include <string.h>

#include "cli/options.h"
#include "cli/print.h"
#include "kernels/kernels.h"
#include "os/cpu.h"

/* Column at which the descriptions begin. */
#define HELP_COLUMN 13
#define SUGGEST_DISTANCE 3

struct command {
    const char *name;
    command_run *run;
    const char *help;
};

static command_run run_help, run_version;

static const struct command commands[] = {
#define COMMAND(name, help) { #name, cmd_##name, help },
#include "cli/commands.def"
#undef COMMAND
    { "version", run_version, "version, processor, kernels and compiler of this program" },
    { "help", run_help, "this list, or the options of a command" },
};
#define N_COMMANDS (sizeof commands / sizeof commands[0])

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (!strcmp(commands[i].name, name))
            return &commands[i];
    return NULL;
}

static void print_commands(enum print_to to)
{
    print_to(to, "usage: shoal COMMAND [ARGUMENT]...\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        print_to(to, "  ");
        print_styled(to, PRINT_BOLD, "%-*s", HELP_COLUMN, commands[i].name);
        print_to(to, "%s\n", commands[i].help);
    }
    print_to(to, "\noptions of a command: shoal help COMMAND\n");
}

static int fail_unknown(const char *name)
{
    const char *nearest = NULL;
    int best = (int)strlen(name) < SUGGEST_DISTANCE ? (int)strlen(name) : SUGGEST_DISTANCE;
    for (size_t i = 0; i < N_COMMANDS; i++) {
        int d = options_distance(name, commands[i].name);
        if (d < best) {
            best = d;
            nearest = commands[i].name;
        }
    }
    print_err("shoal: there is no command \"%s\"", name);
    if (nearest)
        print_err(": did you mean \"shoal %s\"?\n", nearest);
    else
        print_err("; all of them: shoal help\n");
    return EXIT_USAGE;
}

static int run_help(int argc, char **argv)
{
    const char *name = NULL;
    const struct option_row rows[] = {
        OPTION_OPTIONAL_ARGUMENT("COMMAND", &name, "whose options to print"),
    };
    const struct option_set set = { "help", rows, sizeof rows / sizeof rows[0] };
    int status = EXIT_OK;
    if (!options_start(&set, argc, argv, &status))
        return status;
    if (!name) {
        print_commands(PRINT_OUT);
        return EXIT_OK;
    }
    const struct command *c = find_command(name);
    if (!c)
        return fail_unknown(name);
    print_out("%s: %s\n", c->name, c->help);
    char help[] = "--help";
    char *arguments[] = { (char *)c->name, help, NULL };
    return c->run(2, arguments);
}

static int run_version(int argc, char **argv)
{
    const struct option_set set = { "version", NULL, 0 };
    int status = EXIT_OK;
    if (!options_start(&set, argc, argv, &status))
        return status;
    char cpu[128], features[256];
    cpu_name(cpu, sizeof cpu);
    cpu_features_format(cpu_features(), features, sizeof features);
    const struct kernels *k = kernels_choose(NULL, NULL);
    print_out(
        "shoal %s\nprocessor  %s, %d usable cores\nfeatures   %s\nkernels    %s\ncompiler   %s\n",
        SHOAL_VERSION, *cpu ? cpu : "unknown", cpu_cores(), features, k ? k->name : "none",
        SHOAL_COMPILER);
    return EXIT_OK;
}

/* On its way to one command's options. */
struct description {
    const struct command *command;
    void (*fn)(void *arg, const char *name, const char *help, const struct option_set *set);
    void *arg;
};

static void describe(void *arg, const struct option_set *set)
{
    struct description *d = arg;
    d->fn(d->arg, d->command->name, d->command->help, set);
}

void commands_describe(void (*fn)(void *arg, const char *name, const char *help,
                                  const struct option_set *set),
                       void *arg)
{
    for (size_t i = 0; i < N_COMMANDS; i++) {
        struct description d = { &commands[i], fn, arg };
        struct options_visitor visitor = { describe, &d };
        commands[i].run(OPTIONS_DESCRIBE, (char **)(void *)&visitor);
    }
}

int commands_main(int argc, char **argv)
{
    if (argc < 2) {
        print_commands(PRINT_ERR);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (!strcmp(name, "--help") || !strcmp(name, "-h"))
        name = "help";
    if (!strcmp(name, "--version"))
        name = "version";
    const struct command *c = find_command(name);
    if (!c)
        return fail_unknown(name);
    return print_end(name, c->run(argc - 1, argv + 1));
}

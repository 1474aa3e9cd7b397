/* The table of commands. */
#ifndef SHOAL_CLI_COMMANDS_H
#define SHOAL_CLI_COMMANDS_H

/* argv[0] is the command's name. Returns an enum exit_code. */
typedef int command_run(int argc, char **argv);

#define COMMAND(name, help) command_run cmd_##name;
#include "cli/commands.def"
#undef COMMAND

struct option_set;

/* Calls fn with each command, in the order of the list, and its options; set is borrowed for the
 * call. */
void commands_describe(void (*fn)(void *arg, const char *name, const char *help,
                                  const struct option_set *set),
                       void *arg);

/* Runs the command that argv[1] names; without one, with an unknown one or with help it prints
 * what there is. Returns the process's exit code (enum exit_code). */
int commands_main(int argc, char **argv);

#endif

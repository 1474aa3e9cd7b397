/* The table of commands. */
#ifndef SHOAL_CLI_COMMANDS_H
#define SHOAL_CLI_COMMANDS_H

/* argv[0] is the command's name. Returns an enum exit_code. */
typedef int command_run(int argc, char **argv);

#define COMMAND(name, help) command_run cmd_##name;
#include "cli/commands.def"
#undef COMMAND

/* Runs the command that argv[1] names; without one, with an unknown one or with help it prints
 * what there is. Returns the process's exit code (enum exit_code). */
int commands_main(int argc, char **argv);

#endif

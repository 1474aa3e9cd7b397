/* What a command tells the shell. */
#ifndef SHOAL_CLI_EXIT_CODES_H
#define SHOAL_CLI_EXIT_CODES_H

/* Exit codes of every command. */
enum exit_code {
    EXIT_OK = 0,
    EXIT_FAILED = 1, /* the command understood and could not do it; the reason is on stderr */
    EXIT_USAGE = 2,  /* the command line was wrong */
    EXIT_INTERRUPTED = 130, /* by Ctrl-C: 128 and the signal's number, as shells count */
};

#endif

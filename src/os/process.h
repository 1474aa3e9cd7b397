/* What a process asks of the system for itself. */
#ifndef SHOAL_OS_PROCESS_H
#define SHOAL_OS_PROCESS_H

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

/* Signals that ask a program to end, for the event loop. */
enum { PROCESS_INTERRUPT = SIGINT, PROCESS_TERMINATE = SIGTERM, PROCESS_HANG_UP = SIGHUP };

/* Whether whoever started us wants a signal to mean nothing (nohup). */
static inline bool process_ignores(int signal_number)
{
    struct sigaction now;
    return sigaction(signal_number, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

/* A peer that went away is an error of the write, not the end of the process. Once at start. */
static inline void process_ignore_broken_pipes(void)
{
    signal(SIGPIPE, SIG_IGN);
}

/* Gives the numbers 0 to 2 to an empty file that can't be written, where whoever started us closed
 * them: else the next file or socket that is opened would take what is printed. Once, first of
 * all. */
static inline void process_keep_standard_numbers(void)
{
    for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++)
        if (fcntl(i, F_GETFD) < 0)
            open("/dev/null", O_RDONLY);
}

#endif

/* What a process asks of the system for itself. */
#ifndef SHOAL_OS_PROCESS_H
#define SHOAL_OS_PROCESS_H

#include <signal.h>

/* Signals that ask a program to end, for the event loop. */
enum { PROCESS_INTERRUPT = SIGINT, PROCESS_TERMINATE = SIGTERM };

/* A peer that went away is an error of the write, not the end of the process. Once at start. */
static inline void process_ignore_broken_pipes(void)
{
    signal(SIGPIPE, SIG_IGN);
}

#endif

/* Whether a person sits at the other end. */
#ifndef SHOAL_OS_TERMINAL_H
#define SHOAL_OS_TERMINAL_H

#include <stdbool.h>
#include <unistd.h>

static inline bool terminal_on_input(void)
{
    return isatty(STDIN_FILENO);
}

static inline bool terminal_on_output(void)
{
    return isatty(STDOUT_FILENO);
}

static inline bool terminal_on_errors(void)
{
    return isatty(STDERR_FILENO);
}

#endif

/* Whether a person sits at the other end, and what of the terminal we know. */
#ifndef SHOAL_OS_TERMINAL_H
#define SHOAL_OS_TERMINAL_H

#include <errno.h>
#include <stdbool.h>
#include <sys/ioctl.h>
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

/* Columns and rows of the terminal on standard input; 80 and 24 where it doesn't say. */
static inline void terminal_size(int *ret_columns, int *ret_rows)
{
    struct winsize w = { 0 };
    bool known = ioctl(STDIN_FILENO, TIOCGWINSZ, &w) == 0;
    *ret_columns = known && w.ws_col ? w.ws_col : 80;
    *ret_rows = known && w.ws_row ? w.ws_row : 24;
}

/* Columns of the terminal on standard output; 80 where it doesn't say. */
static inline int terminal_output_columns(void)
{
    struct winsize w = { 0 };
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : 80;
}

/* One byte of standard input, past stdio. 1, 0 at its end, -1 when it fails. */
static inline int terminal_read_byte(char *ret)
{
    ssize_t n;
    do
        n = read(STDIN_FILENO, ret, 1);
    while (n < 0 && errno == EINTR);
    return (int)n;
}

#endif

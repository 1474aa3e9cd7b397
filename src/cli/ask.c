/* See ask.h. */
#include "cli/ask.h"

#include <stddef.h>
#include <strings.h>

#include "cli/print.h"
#include "os/terminal.h"

#define ANSWER_TEXT 16

bool ask_yes(const char *question, bool *ret_asked)
{
    char answer[ANSWER_TEXT] = "", c;
    size_t n = 0;
    *ret_asked = terminal_on_input();
    if (!*ret_asked)
        return false;
    print_err("%s [y/N] ", question);
    while (terminal_read_byte(&c) == 1 && c != '\n')
        if (n + 1 < sizeof answer)
            answer[n++] = c;
    answer[n] = '\0';
    return strcasecmp(answer, "y") == 0 || strcasecmp(answer, "yes") == 0;
}

/* What this machine calls itself. */
#ifndef SHOAL_OS_HOST_H
#define SHOAL_OS_HOST_H

#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#define HOST_NAME_TEXT 256 /* POSIX: at most 255 bytes, NUL not counted */

/* The host's name, cut at size; "device" where it has none. size > 0. */
static inline void host_name(char *out, size_t size)
{
    if (gethostname(out, size) != 0 || out[0] == '\0') {
        snprintf(out, size, "device");
    }
    out[size - 1] = '\0';
}

#endif

/* Log lines: see log.h. */
#include "os/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024 /* a screen's worth; below PIPE_BUF, so that a write is not torn */

static enum log_level chosen = LOG_INFO; /* set once at start */

void log_set_level(enum log_level level)
{
    chosen = level;
}

static int put_prefix(char line[static LINE_MAX_BYTES], enum log_level level, const char *module)
{
    static const char *const names[LOG_LEVEL_COUNT] = { "error", "warn ", "info ", "debug" };
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &parts);
    int n = snprintf(line, LINE_MAX_BYTES, "%02d:%02d:%02d.%03ld %s %s: ", parts.tm_hour,
                     parts.tm_min, parts.tm_sec, now.tv_nsec / 1000000, names[level], module);
    return n < 0 ? 0 : n < LINE_MAX_BYTES / 2 ? n : LINE_MAX_BYTES / 2;
}

void log_line(enum log_level level, const char *module, const char *format, ...)
{
    if (level > chosen) {
        return;
    }
    char line[LINE_MAX_BYTES];
    int n = put_prefix(line, level, module);
    va_list args;
    va_start(args, format);
    int more = vsnprintf(line + n, (size_t)(LINE_MAX_BYTES - n), format, args);
    va_end(args);
    n += more < 0 ? 0 : more;
    n = n < LINE_MAX_BYTES - 1 ? n : LINE_MAX_BYTES - 1;
    for (int i = 0; i < n; i++) {
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f) {
            line[i] = '?';
        }
    }
    line[n] = '\n';
    ssize_t written = write(STDERR_FILENO, line, (size_t)n + 1);
    (void)written; /* nowhere to report it */
}

/* Log lines: see log.h. */
#include "os/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/display.h"
#include "base/throttle.h"
#include "os/clock.h"

#define LINE_MAX_BYTES 1024 /* a screen's worth; below PIPE_BUF, so that a write is not torn */

static enum log_level chosen = LOG_INFO; /* set once at start */

/* What was said of late and how often it was not: of the process, as its standard error is. */
static struct {
    pthread_mutex_t lock;
    struct throttle table;
} limited = { .lock = PTHREAD_MUTEX_INITIALIZER };

void log_set_level(enum log_level level)
{
    chosen = level;
}

static size_t put_prefix(char line[static LINE_MAX_BYTES], enum log_level level, const char *module)
{
    static const char *const names[LOG_LEVEL_COUNT] = { "error", "warn ", "info ", "debug" };
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &parts);
    int n = snprintf(line, LINE_MAX_BYTES, "%02d:%02d:%02d.%03ld %s %s: ", parts.tm_hour,
                     parts.tm_min, parts.tm_sec, now.tv_nsec / 1000000, names[level], module);
    return n < 0 ? 0 : n < LINE_MAX_BYTES / 2 ? (size_t)n : LINE_MAX_BYTES / 2;
}

static void write_line(enum log_level level, const char *module, const char *format, va_list args)
{
    char line[LINE_MAX_BYTES], text[LINE_MAX_BYTES];
    size_t n = put_prefix(line, level, module);
    vsnprintf(text, sizeof text, format, args);
    display_copy(line + n, sizeof line - n, bytes_text(text));
    n = strlen(line);
    line[n] = '\n';
    ssize_t written = write(STDERR_FILENO, line, n + 1);
    (void)written; /* nowhere to report it */
}

void log_line(enum log_level level, const char *module, const char *format, ...)
{
    if (level > chosen) {
        return;
    }
    va_list args;
    va_start(args, format);
    write_line(level, module, format, args);
    va_end(args);
}

/* "5,312" */
static void format_count(char ret[static 32], unsigned long long n)
{
    char digits[32];
    int size = snprintf(digits, sizeof digits, "%llu", n), to = 0;
    for (int i = 0; i < size; i++) {
        if (i > 0 && (size - i) % 3 == 0) {
            ret[to++] = ',';
        }
        ret[to++] = digits[i];
    }
    ret[to] = '\0';
}

void log_flush(bool all)
{
    struct throttle_slot s;
    bool any = true;
    while (any) {
        uint64_t now = clock_now_ns();
        pthread_mutex_lock(&limited.lock);
        any = throttle_ended(&limited.table, now, all, &s);
        pthread_mutex_unlock(&limited.lock);
        if (any) {
            char count[32];
            format_count(count, s.left_out);
            log_line((enum log_level)s.level, "log", "%s%s%s: and %s more in %llu s", s.kind,
                     s.source[0] ? ", " : "", s.source, count,
                     (unsigned long long)((now - s.begin_ns) / CLOCK_NS_PER_S));
        }
    }
}

void log_limited(enum log_level level, const char *module, const char *kind, const char *source,
                 const char *format, ...)
{
    if (level > chosen) {
        return;
    }
    log_flush(false);
    pthread_mutex_lock(&limited.lock);
    bool say = throttle_take(&limited.table, kind, source, (int)level, clock_now_ns());
    pthread_mutex_unlock(&limited.lock);
    if (say) {
        va_list args;
        va_start(args, format);
        write_line(level, module, format, args);
        va_end(args);
    }
}

void log_libevent(int severity, const char *text)
{
    /* EVENT_LOG_DEBUG, _MSG, _WARN, _ERR: event2/event.h. What it says stands in for the
     * source: it names none. */
    static const enum log_level levels[] = { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
    bool known = severity >= 0 && severity < (int)ARRAY_LEN(levels);
    log_limited(known ? levels[severity] : LOG_WARN, "libevent", "libevent", text, "%s", text);
}

/* One line to stderr for each event worth a person's eye. */
#ifndef SHOAL_OS_LOG_H
#define SHOAL_OS_LOG_H

#include <stdbool.h>

#include "base/attributes.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_LEVEL_COUNT };

/* Lines above this level are dropped. Set once at start, before other threads; LOG_INFO until
 * then. */
void log_set_level(enum log_level level);

/* "TIME LEVEL module: text\n" in one write, so that lines of several threads don't mix; a text
 * longer than a line's limit is cut at the end of a character, and what may not be shown becomes
 * '?' (base/display.h), so that a peer's text can't forge lines or speak to the terminal. Any
 * thread. */
void log_line(enum log_level level, const char *module, const char *format, ...) PRINTF_LIKE(3, 4);

#define log_error(module, ...) log_line(LOG_ERROR, module, __VA_ARGS__)
#define log_warn(module, ...) log_line(LOG_WARN, module, __VA_ARGS__)
#define log_info(module, ...) log_line(LOG_INFO, module, __VA_ARGS__)
#define log_debug(module, ...) log_line(LOG_DEBUG, module, __VA_ARGS__)

/* A line that an outsider can cause as often as it likes: whatever a connection, a request or a
 * peer's message leads to. The first few of a kind from a source are written as they are, the
 * others counted and told in one line when half a minute is over ("data connection refused,
 * 10.0.0.7: and 5,312 more in 30 s"); base/throttle.h has the numbers.
 *
 * kind    what happens, in a few words of ours that name no source: "data connection refused"
 * source  who causes it: an address (its port counts for nothing) or a device's name; "" for none
 *
 * Any thread; the table is shared, under a lock that is held for no longer than a look-up. */
void log_limited(enum log_level level, const char *module, const char *kind, const char *source,
                 const char *format, ...) PRINTF_LIKE(5, 6);

/* Writes what was counted in windows that have ended; with `all` set, in those that go on too, for
 * the end of the program. Called about once a second by whoever runs the event loop: without it,
 * the next message writes them. Any thread. */
void log_flush(bool all);

/* For libevent's event_set_log_callback: its warnings become ours, counted as above. severity is
 * one of EVENT_LOG_*. */
void log_libevent(int severity, const char *text);

#endif

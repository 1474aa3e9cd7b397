/* One line to stderr for each event worth a person's eye. */
#ifndef SHOAL_OS_LOG_H
#define SHOAL_OS_LOG_H

#include "base/attributes.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_LEVEL_COUNT };

/* Lines above this level are dropped. Set once at start, before other threads; LOG_INFO until
 * then. */
void log_set_level(enum log_level level);

/* "TIME LEVEL module: text\n" in one write, so that lines of several threads don't mix; a text
 * longer than a line's limit is cut, control bytes become '?', so that a peer's text can't forge
 * lines. Any thread. */
void log_line(enum log_level level, const char *module, const char *format, ...) PRINTF_LIKE(3, 4);

#define log_error(module, ...) log_line(LOG_ERROR, module, __VA_ARGS__)
#define log_warn(module, ...) log_line(LOG_WARN, module, __VA_ARGS__)
#define log_info(module, ...) log_line(LOG_INFO, module, __VA_ARGS__)
#define log_debug(module, ...) log_line(LOG_DEBUG, module, __VA_ARGS__)

#endif

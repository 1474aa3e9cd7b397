/* The line that says how far a download or a load has come, on stderr; for this folder only. */
#ifndef SHOAL_CLI_PROGRESS_H
#define SHOAL_CLI_PROGRESS_H

#include "os/clock.h"
#include "store/download.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Between lines where there is no terminal: a log stays readable. */
#define PROGRESS_PLAIN_NS (10 * CLOCK_NS_PER_S)

/* Zero-initialise. */
struct progress {
    bool dirty;       /* an unfinished line stands there */
    uint64_t next_ns; /* when the next line may come, where there is no terminal */
};

/* Shows the line: in place at a terminal, else a new one every ten seconds. */
void progress_show(struct progress *s, const struct download_progress *p);

/* Takes an unfinished line away, so that the next text begins on a line of its own. */
void progress_end(struct progress *s);

#endif

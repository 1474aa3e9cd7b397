/* Mapped files that someone else cuts short: reading past the new end raises SIGBUS, which would
 * end the process without a word. A guarded range reads as zeros from there on instead, and its
 * owner can ask whether that happened. */
#ifndef SHOAL_OS_FAULT_H
#define SHOAL_OS_FAULT_H

#include <stdbool.h>
#include <stddef.h>

struct fault_guard;

/* Guards a read-only mapping, from a page's start, until fault_release. NULL when too many are
 * guarded already: the range is then as unsafe as any mapping. Any thread. */
struct fault_guard *fault_guard(const void *start, size_t size);

/* Before the range is unmapped. NULL is fine. */
void fault_release(struct fault_guard *g);

/* Whether bytes of the range were lost and read as zeros since. NULL: false. */
bool fault_happened(const struct fault_guard *g);

#endif

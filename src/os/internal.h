/* What the files of os share. */
#ifndef SHOAL_OS_INTERNAL_H
#define SHOAL_OS_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first size - 1 bytes of a small system file, NUL-terminated. False where it can't be read. */
bool read_small_file(const char *path, char *out, size_t size);

/* Limits of this process's control group and the groups above it, UINT64_MAX where there are none.
 * Both the unified hierarchy and version 1. */
uint64_t cgroup_memory_free(void); /* bytes */
uint64_t cgroup_milli_cores(void);

#endif

/* Control group limits, from the unified hierarchy (v2) or the old one (v1); elsewhere than on
 * Linux the files don't exist and there are no limits. Source: the kernel's
 * Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst. */
#include "os/internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 1024
#define FILE_BYTES 8192 /* memory.stat is the longest, about 2 KiB */

bool read_small_file(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    size_t used = 0;
    ssize_t n = 0;
    while (used < size - 1 && (n = read(fd, out + used, size - 1 - used)) > 0) {
        used += (size_t)n;
    }
    out[used] = '\0';
    close(fd);
    return n >= 0;
}

/* A file's number; UINT64_MAX for "max" and where there is none. */
static uint64_t read_number(const char *directory, const char *name)
{
    char path[PATH_BYTES + 64], text[64];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (!read_small_file(path, text, sizeof text) || text[0] < '0' || text[0] > '9') {
        return UINT64_MAX;
    }
    return strtoull(text, NULL, 10);
}

/* The number after `key ` at a line's start of DIRECTORY/memory.stat, or 0. */
static uint64_t memory_stat(const char *directory, const char *key)
{
    char path[PATH_BYTES + 64], text[FILE_BYTES];
    snprintf(path, sizeof path, "%s/memory.stat", directory);
    if (!read_small_file(path, text, sizeof text)) {
        return 0;
    }
    size_t n = strlen(key);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, n) == 0 && line[n] == ' ') {
            return strtoull(line + n, NULL, 10);
        }
    }
    return 0;
}

static uint64_t free_below(uint64_t limit, uint64_t used, uint64_t reclaimable)
{
    if (limit == UINT64_MAX || used == UINT64_MAX) {
        return UINT64_MAX;
    }
    used = used > reclaimable ? used - reclaimable : 0; /* page cache gives way */
    return limit > used ? limit - used : 0;
}

static uint64_t memory_free_in(const char *directory)
{
    uint64_t v2 =
        free_below(read_number(directory, "memory.max"), read_number(directory, "memory.current"),
                   memory_stat(directory, "inactive_file"));
    uint64_t v1 = free_below(read_number(directory, "memory.limit_in_bytes"),
                             read_number(directory, "memory.usage_in_bytes"),
                             memory_stat(directory, "total_inactive_file"));
    return v2 < v1 ? v2 : v1;
}

static uint64_t milli_cores_in(const char *directory)
{
    char path[PATH_BYTES + 64], text[64];
    uint64_t quota = UINT64_MAX, period = UINT64_MAX;
    snprintf(path, sizeof path, "%s/cpu.max", directory);
    if (read_small_file(path, text, sizeof text)) {
        char *rest = NULL;
        if (text[0] >= '0' && text[0] <= '9') {
            quota = strtoull(text, &rest, 10);
            period = strtoull(rest, NULL, 10);
        }
    } else {
        quota = read_number(directory, "cpu.cfs_quota_us"); /* -1: none */
        period = read_number(directory, "cpu.cfs_period_us");
    }
    if (quota == UINT64_MAX || period == UINT64_MAX || period == 0 || quota > UINT64_MAX / 1000) {
        return UINT64_MAX;
    }
    return quota * 1000 / period;
}

/* The least of fn over ROOT/path and its parents down to ROOT itself. */
static uint64_t least_upward(const char *root, const char *path, uint64_t (*fn)(const char *))
{
    char directory[PATH_BYTES];
    uint64_t least = fn(root);
    if (snprintf(directory, sizeof directory, "%s%s", root, path) >= (int)sizeof directory) {
        return least;
    }
    for (size_t n = strlen(directory); n > strlen(root); n--) {
        if (directory[n] == '/' || directory[n] == '\0') {
            directory[n] = '\0';
            uint64_t one = fn(directory);
            least = one < least ? one : least;
        }
    }
    return least;
}

/* /proc/self/cgroup: lines "0::/path" (v2) and "N:controller,...:/path" (v1). */
static uint64_t least_of(const char *controller, uint64_t (*fn)(const char *))
{
    char text[FILE_BYTES], root[PATH_BYTES];
    uint64_t least = UINT64_MAX;
    if (!read_small_file("/proc/self/cgroup", text, sizeof text)) {
        return least;
    }
    for (char *line = text, *end = NULL; line != NULL; line = end) {
        end = strchr(line, '\n');
        if (end != NULL) {
            *end++ = '\0';
        }
        char *names = strchr(line, ':');
        char *path = names != NULL ? strchr(names + 1, ':') : NULL;
        if (path == NULL) {
            continue;
        }
        *path++ = '\0';
        names++;
        bool unified = names[0] == '\0';
        if (!unified && strstr(names, controller) == NULL) {
            continue;
        }
        snprintf(root, sizeof root, "/sys/fs/cgroup%s%s", unified ? "" : "/",
                 unified ? "" : controller);
        uint64_t one = least_upward(root, path, fn);
        least = one < least ? one : least;
    }
    return least;
}

uint64_t cgroup_memory_free(void)
{
    return least_of("memory", memory_free_in);
}

uint64_t cgroup_milli_cores(void)
{
    return least_of("cpu", milli_cores_in);
}

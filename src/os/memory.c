/* Memory: see memory.h. */
#include "os/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "os/internal.h"

#define HUGE_PAGE ((size_t)2 << 20)

#if defined(MADV_HUGEPAGE)
#define ADVISE_PAGES(at, size, huge) madvise(at, size, (huge) ? MADV_HUGEPAGE : MADV_NOHUGEPAGE)
#else
#define ADVISE_PAGES(at, size, huge) ((void)(huge), 0)
#endif

#if defined(__GLIBC__)
#include <malloc.h>
#define TRIM() malloc_trim(0)
#define MAP_LARGE(size) mallopt(M_MMAP_THRESHOLD, size)
#else
#define TRIM() 0
#define MAP_LARGE(size) (size)
#endif
/* Tables of a vocabulary or a header are larger than this, what a request allocates is smaller. */
#define LARGE (256 * 1024)

/* The KiB after `key` in a file of "Key: N kB" lines, as bytes; UINT64_MAX where it isn't. */
static uint64_t read_kib(const char *path, const char *key)
{
    char text[8192];
    if (!read_small_file(path, text, sizeof text)) {
        return UINT64_MAX;
    }
    const char *at = strstr(text, key);
    return at == NULL ? UINT64_MAX : strtoull(at + strlen(key), NULL, 10) * 1024;
}

uint64_t memory_total(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}

uint64_t memory_usable(void)
{
    uint64_t free_bytes = read_kib("/proc/meminfo", "MemAvailable:");
    uint64_t total = memory_total(), group = cgroup_memory_free();
    if (free_bytes == UINT64_MAX) {
        free_bytes = total / 2; /* a system that doesn't tell: half is rarely wrong */
    }
    return group < free_bytes ? group : free_bytes;
}

uint64_t memory_resident(void)
{
    uint64_t bytes = read_kib("/proc/self/status", "VmRSS:");
    return bytes == UINT64_MAX ? 0 : bytes;
}

static void *map_pages(size_t size, bool huge)
{
    if (size == 0 || size > SIZE_MAX - 2 * HUGE_PAGE) {
        return NULL;
    }
    size = size_round_up(size, HUGE_PAGE);
    size_t whole = size + HUGE_PAGE;
    uint8_t *p = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return NULL;
    }
    size_t skip = (HUGE_PAGE - ((uintptr_t)p & (HUGE_PAGE - 1))) & (HUGE_PAGE - 1);
    if (skip > 0) {
        munmap(p, skip);
    }
    if (whole - skip > size) {
        munmap(p + skip + size, whole - skip - size);
    }
    int advised = ADVISE_PAGES(p + skip, size, huge);
    (void)advised; /* other pages do as well, only slower or faster */
    return p + skip;
}

void *memory_huge_alloc(size_t size)
{
    return map_pages(size, true);
}

void *memory_ordinary_alloc(size_t size)
{
    return map_pages(size, false);
}

void memory_huge_free(void *memory, size_t size)
{
    if (memory != NULL) {
        munmap(memory, size_round_up(size, HUGE_PAGE));
    }
}

void memory_return_large(void)
{
    int set = MAP_LARGE(LARGE);
    (void)set; /* else more is kept than is needed */
}

void memory_trim(void)
{
    int trimmed = TRIM();
    (void)trimmed; /* nothing to give back is as good */
}

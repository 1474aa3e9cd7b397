/* Memory of the machine and of this process. */
#ifndef SHOAL_OS_MEMORY_H
#define SHOAL_OS_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of physical memory. */
uint64_t memory_total(void);

/* Bytes that can be taken now without pushing others out: what the system calls available, and no
 * more than the control group leaves. */
uint64_t memory_usable(void);

/* Bytes of physical memory this process holds, 0 where the system doesn't tell. */
uint64_t memory_resident(void);

/* Zeroed memory aligned to 2 MiB, backed by huge pages where the system has them (weights and KV:
 * fewer TLB misses). NULL when there is none. Freed by memory_huge_free with the same size. */
void *memory_huge_alloc(size_t size);

/* The same in the system's ordinary pages, whatever it prefers: for measurements, and for what is
 * touched only in part. NULL when there is none. Freed by memory_huge_free with the same size. */
void *memory_ordinary_alloc(size_t size);

/* NULL is fine. */
void memory_huge_free(void *memory, size_t size);

/* Has the allocator give large blocks back as soon as they are freed, whatever was freed before:
 * glibc's own threshold rises to 32 MiB with the first large table that is freed, and a device then
 * keeps 10 MiB for each model that it looked at. Once, at the start. */
void memory_return_large(void);

/* Gives freed heap memory back to the system where the allocator keeps it: after something large
 * ended. Any thread. */
void memory_trim(void);

#endif

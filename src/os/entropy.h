/* Numbers that nobody outside can know: seeds of hash tables. For keys and tickets use `secure`. */
#ifndef SHOAL_OS_ENTROPY_H
#define SHOAL_OS_ENTROPY_H

#include <stdint.h>

/* From the system's generator; from clock and address where that gives nothing. */
uint64_t entropy_u64(void);

#endif

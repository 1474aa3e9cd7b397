/* For tables that ask for weights ahead whatever the number of tokens, as Intel's processors want
 * it: their hardware prefetchers stop at the end of a 4 KiB page, and a page is not long.
 *
 * Measured on Sapphire Rapids (Golden Cove), one thread, GB/s with one, two, four and eight tokens;
 * it reads 16. Q4_0: without 10.3, 9.1, 6.5, 6.0; 2 KiB ahead 13.1, 12.1, 10.6, 10.3; 4 KiB
 * ahead 13.5, 12.8, 11.0, 10.7; 8 and 16 KiB are like 4. Every second line, the second-level cache
 * as the goal, or non-temporal: slower or the same. */
#ifndef SHOAL_KERNELS_PREFETCH_H
#define SHOAL_KERNELS_PREFETCH_H

#define PREFETCH_TOKENS 1
#define PREFETCH_FLOAT_TOKENS 1
#define PREFETCH_BYTES 4096

#define KERNELS_NAME ISA_NAME "-prefetch"

#endif

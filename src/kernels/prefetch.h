/* For tables that ask for weights ahead whatever the number of tokens, as Intel's processors, Zen 1
 * and Zen 5 want it: their hardware prefetchers stop at the end of a 4 KiB page, and a page is not
 * long.
 *
 * Measured on Sapphire Rapids (Golden Cove), one thread, GB/s of Q4_0 with one, two, four and eight
 * tokens, where it reads 16.5: without 10.3, 9.1, 6.5, 6.0; 2 KiB ahead 13.1, 12.1, 10.6, 10.3; 4
 * KiB ahead 13.7, 13.3, 13.0, 11.4; 8 and 16 KiB are like 4; every second line, or past the caches:
 * slower. Only into the second-level cache: F16 decodes 7 % faster, Q4_0 alike, the K types 2 %
 * slower.
 *
 * On Zen 5, one thread, decode of the 1.2 B llama as a share of the read limit, without, 2, 4 and 8
 * KiB ahead: Q4_0 65, 80, 86, 88 %; Q4_K_M 44, 78, 85, 91 %; Q8_0 92, 94, 87, 89 %. F16 without 86
 * %; 8 KiB ahead 90 %, but into the second-level cache only 75 %, so Zen 5 has a table of its own.
 */
#ifndef SHOAL_KERNELS_PREFETCH_H
#define SHOAL_KERNELS_PREFETCH_H

#define PREFETCH_TOKENS 1
#define PREFETCH_FLOAT_TOKENS 1
#define PREFETCH_BYTES 8192

#if !defined(KERNELS_NAME)
#define PREFETCH_FLOAT_SECOND true /* float weights into the second-level cache only */
#define KERNELS_NAME ISA_NAME "-prefetch"
#endif

#endif

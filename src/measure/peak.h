/* What this machine's arithmetic can do at best, by instruction set. */
#ifndef SHOAL_MEASURE_PEAK_H
#define SHOAL_MEASURE_PEAK_H

#include <stddef.h>
#include <stdint.h>

struct peak {
    const char *name; /* of the instruction set */
    /* Each does `rounds` times PEAK_MACS multiply-adds from registers and the first-level cache,
     * and returns something that depends on all of them. */
    int32_t (*int8)(int rounds);
    float (*f32)(int rounds);
    /* Reads n bytes (a multiple of 1 KiB) once, in order. */
    int32_t (*read)(const uint8_t *data, size_t n);
};

#define PEAK_MACS 65536
/* Most rounds of one call: a lane grows by 512 in each at most, and 16 lanes are added. */
#define PEAK_MAX_ROUNDS (1 << 17)

extern const struct peak peak_scalar, peak_avx2, peak_avx512, peak_neon, peak_dotprod;

#endif

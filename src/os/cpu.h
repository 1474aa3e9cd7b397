/* What the processor can do and how much of it is ours. */
#ifndef SHOAL_OS_CPU_H
#define SHOAL_OS_CPU_H

#include <stddef.h>

/* Features that the processor has and the operating system keeps the registers of. */
enum cpu_feature {
    CPU_AVX2 = 1 << 0,
    CPU_FMA = 1 << 1,
    CPU_F16C = 1 << 2,
    CPU_AVX512F = 1 << 3,
    CPU_AVX512BW = 1 << 4,
    CPU_AVX512VL = 1 << 5,
    CPU_AVX512DQ = 1 << 6,
    CPU_AVX512VNNI = 1 << 7,
    CPU_AVXVNNI = 1 << 8,
    CPU_NEON = 1 << 9,
    CPU_DOTPROD = 1 << 10,
    CPU_I8MM = 1 << 11,
    CPU_AES = 1 << 12,   /* instructions for AES rounds (and carry-less products on x86) */
    CPU_INTEL = 1 << 13, /* made by Intel: no instructions, but habits */
    CPU_ZEN5 = 1 << 14,  /* AMD's Zen 5 or a later one: likewise */
    CPU_ZEN1 = 1 << 15,  /* AMD's Zen or Zen+: likewise */
};

/* The set of enum cpu_feature. Constant for the life of the process; any thread. */
unsigned cpu_features(void);

/* Space-separated names of the set, for people; cut at size. */
void cpu_features_format(unsigned features, char *out, size_t size);

/* Cores this process may keep busy: its affinity mask, and no more than the whole cores of its
 * cgroup quota; at least 1. */
int cpu_cores(void);

/* The processor's name as the system tells it, "" where it doesn't; cut at size. */
void cpu_name(char *out, size_t size);

/* Keeps the calling thread on usable core number `index` (modulo their count). Does nothing where
 * the system has no such call. */
void cpu_pin(int index);

#endif

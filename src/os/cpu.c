/* Cores and names: see cpu.h. The features come from cpu_x86.c, cpu_arm.c or cpu_other.c. */
#include "os/cpu.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "os/internal.h"

#if defined(__linux__)
#include <sched.h>

static int affinity_cores(cpu_set_t *set)
{
    CPU_ZERO(set);
    if (sched_getaffinity(0, sizeof *set, set) != 0) {
        return 0; /* more processors than the set has room for */
    }
    return CPU_COUNT(set);
}

static int allowed_cores(void)
{
    cpu_set_t set;
    int n = affinity_cores(&set);
    return n > 0 ? n : (int)sysconf(_SC_NPROCESSORS_ONLN);
}

void cpu_pin(int index)
{
    cpu_set_t set, one;
    int n = affinity_cores(&set);
    if (n == 0 || index < 0) {
        return;
    }
    index %= n;
    for (int core = 0; core < CPU_SETSIZE; core++) {
        if (CPU_ISSET(core, &set) && index-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(core, &one);
            sched_setaffinity(0, sizeof one, &one);
            return;
        }
    }
}
#else
static int allowed_cores(void)
{
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

void cpu_pin(int index)
{
    (void)index;
}
#endif

int cpu_cores(void)
{
    int cores = allowed_cores();
    uint64_t quota = cgroup_milli_cores() / 1000;
    cores = quota < (uint64_t)cores ? (int)quota : cores;
    return cores > 0 ? cores : 1;
}

void cpu_name(char *out, size_t size)
{
    char text[4096];
    snprintf(out, size, "%s", "");
    const char *at = NULL;
    if (read_small_file("/proc/cpuinfo", text, sizeof text)) {
        at = strstr(text, "model name");
        at = at != NULL ? strchr(at, ':') : NULL;
    }
    if (at == NULL && read_small_file("/proc/device-tree/model", text, sizeof text)) {
        snprintf(out, size, "%s", text);
    } else if (at != NULL) {
        at += 1 + strspn(at + 1, " \t");
        snprintf(out, size, "%.*s", (int)strcspn(at, "\n"), at);
    }
}

void cpu_features_format(unsigned features, char *out, size_t size)
{
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {
        { CPU_AVX2, "avx2" },         { CPU_FMA, "fma" },
        { CPU_F16C, "f16c" },         { CPU_AVX512F, "avx512f" },
        { CPU_AVX512BW, "avx512bw" }, { CPU_AVX512VL, "avx512vl" },
        { CPU_AVX512DQ, "avx512dq" }, { CPU_AVX512VNNI, "avx512vnni" },
        { CPU_AVXVNNI, "avxvnni" },   { CPU_NEON, "neon" },
        { CPU_DOTPROD, "dotprod" },   { CPU_I8MM, "i8mm" },
        { CPU_AES, "aes" },           { CPU_INTEL, "intel" },
        { CPU_ZEN5, "zen5" },         { CPU_ZEN1, "zen1" },
    };
    size_t used = 0;
    snprintf(out, size, "%s", "");
    for (size_t i = 0; i < sizeof names / sizeof names[0] && used < size; i++) {
        if (features & names[i].bit) {
            int n = snprintf(out + used, size - used, "%s%s", used ? " " : "", names[i].name);
            used += n > 0 ? (size_t)n : 0;
        }
    }
}

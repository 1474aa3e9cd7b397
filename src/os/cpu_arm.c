/* Features of 64-bit ARM processors: always NEON; the rest by what the kernel tells. Source: the
 * kernel's Documentation/arm64/elf_hwcaps.rst; Apple's sysctl names. */
#include "os/cpu.h"

#if defined(__linux__)
#include <sys/auxv.h>

#define HAS_AES (1ul << 3)
#define HAS_ASIMDDP (1ul << 20)
#define HAS2_I8MM (1ul << 13)

unsigned cpu_features(void)
{
    unsigned long one = getauxval(AT_HWCAP), two = getauxval(AT_HWCAP2);
    return CPU_NEON | (one & HAS_ASIMDDP ? CPU_DOTPROD : 0u) | (two & HAS2_I8MM ? CPU_I8MM : 0u) |
           (one & HAS_AES ? CPU_AES : 0u);
}
#else
#include <sys/sysctl.h>

static unsigned flag(const char *name, unsigned bit)
{
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, 0, 0) == 0 && value != 0 ? bit : 0u;
}

unsigned cpu_features(void)
{
    return CPU_NEON | flag("hw.optional.arm.FEAT_DotProd", CPU_DOTPROD) |
           flag("hw.optional.arm.FEAT_I8MM", CPU_I8MM) | flag("hw.optional.arm.FEAT_AES", CPU_AES);
}
#endif

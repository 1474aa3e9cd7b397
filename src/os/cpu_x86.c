/* Features of x86 processors. Source: Intel's Software Developer's Manual, CPUID leaves 0, 1 and 7,
 * XGETBV, and AMD's for its families: a feature counts only if the system saves the registers it
 * uses. */
#include "os/cpu.h"

#include <cpuid.h>
#include <stdbool.h>
#include <stdint.h>

#define XCR0_AVX 0x06u    /* SSE and AVX state */
#define XCR0_AVX512 0xe6u /* and opmask, upper halves, upper registers */

static uint64_t xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

#define FAMILY_ZEN1 23u /* models below MODEL_ZEN2 */
#define MODEL_ZEN2 0x30u
#define FAMILY_ZEN5 26u

/* What the maker's habits are. version: EAX of leaf 1. */
static unsigned maker(unsigned version)
{
    unsigned a, b, c, d, family = (version >> 8 & 15u) + (version >> 20 & 255u);
    unsigned model = (version >> 4 & 15u) | (version >> 16 & 15u) << 4;
    if (!__get_cpuid(0, &a, &b, &c, &d))
        return 0;
    if (b == signature_INTEL_ebx && c == signature_INTEL_ecx && d == signature_INTEL_edx)
        return CPU_INTEL;
    bool amd = b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
    if (amd && family == FAMILY_ZEN1 && model < MODEL_ZEN2)
        return CPU_ZEN1;
    return amd && family >= FAMILY_ZEN5 ? CPU_ZEN5 : 0u;
}

unsigned cpu_features(void)
{
    unsigned a, b, c, d, a7 = 0, b7 = 0, c7 = 0, d7 = 0, a71 = 0, other;
    if (!__get_cpuid(1, &a, &b, &c, &d)) {
        return 0;
    }
    unsigned set = maker(a) | ((c & bit_AES) && (c & bit_PCLMUL) ? CPU_AES : 0u);
    if (!(c & bit_OSXSAVE) || !(c & bit_AVX) || (xcr0() & XCR0_AVX) != XCR0_AVX) {
        return set;
    }
    if (__get_cpuid_count(7, 0, &a7, &b7, &c7, &d7) && a7 >= 1) {
        __get_cpuid_count(7, 1, &a71, &other, &other, &other);
    }
    set |= c & bit_FMA ? CPU_FMA : 0u;
    set |= c & bit_F16C ? CPU_F16C : 0u;
    set |= b7 & bit_AVX2 ? CPU_AVX2 : 0u;
    set |= a71 & (1u << 4) ? CPU_AVXVNNI : 0u;
    if ((xcr0() & XCR0_AVX512) == XCR0_AVX512 && (b7 & bit_AVX512F)) {
        set |= CPU_AVX512F;
        set |= b7 & bit_AVX512BW ? CPU_AVX512BW : 0u;
        set |= b7 & bit_AVX512VL ? CPU_AVX512VL : 0u;
        set |= b7 & bit_AVX512DQ ? CPU_AVX512DQ : 0u;
        set |= c7 & (1u << 11) ? CPU_AVX512VNNI : 0u;
    }
    return set;
}

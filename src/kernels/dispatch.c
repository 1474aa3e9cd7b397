/* Which tables this machine can run. */
#include "kernels/tables.h"

#include "base/attributes.h"
#include "os/cpu.h"

#include <stdio.h>
#include <string.h>

#define FEATURES_AVX2 (CPU_AVX2 | CPU_FMA | CPU_F16C)
#define FEATURES_AVX512                                                                            \
    (FEATURES_AVX2 | CPU_AVX512F | CPU_AVX512BW | CPU_AVX512VL | CPU_AVX512DQ | CPU_AVX512VNNI)

struct candidate {
    const struct kernels *table;
    unsigned features; /* all of them are needed */
    unsigned wanted;   /* and these, where nobody names the table */
};

/* Worst first. On Zen 4 decode of few tokens is slower with prefetches, on Golden Cove, Zen 1 and
 * Zen 5 without (docs/decisions.md). */
static const struct candidate candidates[] = {
    { &kernels_scalar, 0, 0 },
#if defined(__x86_64__)
    { &kernels_avx2, FEATURES_AVX2, 0 },
    { &kernels_avx2_prefetch, FEATURES_AVX2, CPU_INTEL },
    { &kernels_avx2_zen1, FEATURES_AVX2, CPU_ZEN1 },
    { &kernels_avx512, FEATURES_AVX512, 0 },
    { &kernels_avx512_prefetch, FEATURES_AVX512, CPU_INTEL },
    { &kernels_avx512_zen5, FEATURES_AVX512, CPU_ZEN5 },
#elif defined(__aarch64__)
    { &kernels_neon, CPU_NEON, 0 },
    { &kernels_dotprod, CPU_NEON | CPU_DOTPROD, 0 },
#endif
};

static bool has(unsigned wanted)
{
    return (cpu_features() & wanted) == wanted;
}

const struct kernels *const *kernels_all(int *n)
{
    /* Filled anew on each call with the same values, so threads can't disagree. */
    static const struct kernels *all[ARRAY_LEN(candidates)];
    *n = 0;
    for (size_t i = 0; i < ARRAY_LEN(candidates); i++)
        if (has(candidates[i].features))
            all[(*n)++] = candidates[i].table;
    return all;
}

static void fail_unknown(const char *isa, struct error *e)
{
    char names[128] = "";
    int n, at = 0;
    const struct kernels *const *all = kernels_all(&n);
    for (int i = 0; i < n && at < (int)sizeof names; i++)
        at += snprintf(names + at, sizeof names - (size_t)at, "%s%s", i ? ", " : "", all[i]->name);
    fail(e, FAIL_NOT_FOUND, "no instruction set is named \"%s\"; this machine has %s", isa, names);
}

const struct kernels *kernels_choose(const char *isa, struct error *e)
{
    const struct kernels *best = NULL;
    for (size_t i = 0; i < ARRAY_LEN(candidates); i++) {
        const struct candidate *c = &candidates[i];
        bool named = isa && strcmp(isa, c->table->name) == 0;
        bool runs = has(c->features);
        if (named && !runs) {
            fail(e, FAIL_UNSUPPORTED, "this processor lacks instructions that \"%s\" needs", isa);
            return NULL;
        }
        if (runs && (isa ? named : has(c->wanted)))
            best = c->table;
    }
    if (!best)
        fail_unknown(isa, e);
    return best;
}

/* Which tables this machine can run. */
#include "kernels/tables.h"

#include "base/attributes.h"
#include "os/cpu.h"

#include <stdio.h>
#include <string.h>

struct candidate {
    const struct kernels *table;
    unsigned features; /* all of them are needed */
};

/* Worst first. */
static const struct candidate candidates[] = {
    { &kernels_scalar, 0 },
#if defined(__x86_64__)
    { &kernels_avx2, CPU_AVX2 | CPU_FMA | CPU_F16C },
    { &kernels_avx512, CPU_AVX2 | CPU_FMA | CPU_F16C | CPU_AVX512F | CPU_AVX512BW | CPU_AVX512VL |
                           CPU_AVX512DQ | CPU_AVX512VNNI },
#elif defined(__aarch64__)
    { &kernels_neon, CPU_NEON },
    { &kernels_dotprod, CPU_NEON | CPU_DOTPROD },
#endif
};

const struct kernels *const *kernels_all(int *n)
{
    /* Filled anew on each call with the same values, so threads can't disagree. */
    static const struct kernels *all[ARRAY_LEN(candidates)];
    unsigned features = cpu_features();
    *n = 0;
    for (size_t i = 0; i < ARRAY_LEN(candidates); i++)
        if ((features & candidates[i].features) == candidates[i].features)
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
    fail(e, ERR_NOT_FOUND, "no instruction set is named \"%s\"; this machine has %s", isa, names);
}

const struct kernels *kernels_choose(const char *isa, struct error *e)
{
    unsigned features = cpu_features();
    const struct kernels *best = NULL;
    for (size_t i = 0; i < ARRAY_LEN(candidates); i++) {
        const struct candidate *c = &candidates[i];
        bool named = isa && strcmp(isa, c->table->name) == 0;
        bool runs = (features & c->features) == c->features;
        if (named && !runs) {
            fail(e, ERR_UNSUPPORTED, "this processor lacks instructions that \"%s\" needs", isa);
            return NULL;
        }
        if (runs && (!isa || named))
            best = c->table;
    }
    if (!best)
        fail_unknown(isa, e);
    return best;
}

/* The tables of this build; a machine may run only some of them (dispatch.c). */
#ifndef SHOAL_KERNELS_TABLES_H
#define SHOAL_KERNELS_TABLES_H

#include "kernels/kernels.h"

extern const struct kernels kernels_scalar;
extern const struct kernels kernels_avx2, kernels_avx2_prefetch, kernels_avx2_zen1;
extern const struct kernels kernels_avx512, kernels_avx512_prefetch, kernels_avx512_zen5;
extern const struct kernels kernels_neon;
extern const struct kernels kernels_dotprod;

#endif

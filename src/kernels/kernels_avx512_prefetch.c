/* The table kernels_avx512_prefetch. */
#include "kernels/isa_avx512.h"
#include "kernels/prefetch.h"

#define KERNELS_TABLE kernels_avx512_prefetch
#include "kernels/kernels.inc"

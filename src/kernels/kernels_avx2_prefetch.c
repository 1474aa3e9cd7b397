/* The table kernels_avx2_prefetch. */
#include "kernels/isa_avx2.h"
#include "kernels/prefetch.h"

#define KERNELS_TABLE kernels_avx2_prefetch
#include "kernels/kernels.inc"

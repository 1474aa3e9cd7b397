/* The table kernels_avx2_zen1. */
#include "kernels/isa_avx2.h"

#define PREFETCH_FLOAT_SECOND false
#define KERNELS_NAME ISA_NAME "-zen1"
#define ISA_WIDE_TOKENS 16
#include "kernels/prefetch.h"

#define KERNELS_TABLE kernels_avx2_zen1
#include "kernels/kernels.inc"

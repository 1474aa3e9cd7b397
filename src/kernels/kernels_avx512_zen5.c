/* The table kernels_avx512_zen5. */
#include "kernels/isa_avx512.h"

#define PREFETCH_FLOAT_SECOND false
#define KERNELS_NAME ISA_NAME "-zen5"
#include "kernels/prefetch.h"

#define KERNELS_TABLE kernels_avx512_zen5
#include "kernels/kernels.inc"

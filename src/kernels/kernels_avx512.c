/* The table kernels_avx512. */
#include "kernels/isa_avx512.h"

#define KERNELS_TABLE kernels_avx512
#include "kernels/kernels.inc"

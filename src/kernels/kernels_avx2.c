/* The table kernels_avx2. */
#include "kernels/isa_avx2.h"

#define KERNELS_TABLE kernels_avx2
#include "kernels/kernels.inc"

/* The table kernels_neon. */
#include "kernels/isa_neon.h"

#define KERNELS_TABLE kernels_neon
#include "kernels/kernels.inc"

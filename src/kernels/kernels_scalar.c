/* The table kernels_scalar. */
#include "kernels/isa_scalar.h"

#define KERNELS_TABLE kernels_scalar
#include "kernels/kernels.inc"

/* The table kernels_dotprod. */
#include "kernels/isa_dotprod.h"

#define KERNELS_TABLE kernels_dotprod
#include "kernels/kernels.inc"

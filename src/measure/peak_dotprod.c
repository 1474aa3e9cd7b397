/* The limits of dotprod. */
#include "kernels/isa_dotprod.h"

#define PEAK_TABLE peak_dotprod
#include "measure/peak.inc"

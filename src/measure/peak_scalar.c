/* The limits of scalar. */
#include "kernels/isa_scalar.h"

#define PEAK_TABLE peak_scalar
#include "measure/peak.inc"

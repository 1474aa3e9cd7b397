/* The limits of neon. */
#include "kernels/isa_neon.h"

#define PEAK_TABLE peak_neon
#include "measure/peak.inc"

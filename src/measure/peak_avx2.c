/* The limits of avx2. */
#include "kernels/isa_avx2.h"

#define PEAK_TABLE peak_avx2
#include "measure/peak.inc"

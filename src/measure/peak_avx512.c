/* The limits of avx512. */
#include "kernels/isa_avx512.h"

#define PEAK_TABLE peak_avx512
#include "measure/peak.inc"

/* What all fuzz targets share. A target defines fuzz_one; bounds.c calls it for each input, under
 * libFuzzer and for the corpus alike, and ends the process when one costs more than the target's
 * row in bounds.def allows. */
#ifndef SHOAL_FUZZ_FUZZ_H
#define SHOAL_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Takes any input; aborts on a broken promise. What one call leaves behind must not change what
 * the next one does. */
void fuzz_one(const uint8_t *data, size_t size);

/* libFuzzer's entry, which the corpus runner calls too. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif

/* For `shoal inspect --program`. */
#ifndef SHOAL_CLI_INSPECT_PROGRAM_H
#define SHOAL_CLI_INSPECT_PROGRAM_H

#include "base/error.h"

struct gguf;

/* Prints the model's program to stdout, validated: the whole one, or with a SPEC each rank's part.
 * Errors are those of model_build, split_parse and rank_program. */
int inspect_program(const struct gguf *g, const char *split, struct error *e);

#endif

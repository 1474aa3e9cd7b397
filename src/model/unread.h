/* What a file holds and the program does not read. */
#ifndef SHOAL_MODEL_UNREAD_H
#define SHOAL_MODEL_UNREAD_H

#include "base/map.h"
#include "gguf/gguf.h"

/* FAIL_UNSUPPORTED, by name, for the first tensor that is not in `read` and not one of the few that
 * no logit depends on: with it the file is another model than the program. */
int refuse_unread_tensors(const struct gguf *g, const struct map *read, const char *family,
                          struct error *e);

/* Why a tensor may stay unread; NULL when it may not. Static. */
const char *harmless_tensor(struct bytes name);

#endif

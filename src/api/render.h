/* A conversation in a model's own words. */
#ifndef SHOAL_API_RENDER_H
#define SHOAL_API_RENDER_H

#include "api/api.h"

/* The provider's render by default: the model's chat template. FAIL_UNSUPPORTED without one. */
int render_conversation(void *arg, const struct api_model *model, const json_t *conversation,
                        struct buffer *out, struct error *e);

#endif

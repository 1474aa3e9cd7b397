/* A conversation in a model's own words. */
#include "api/render.h"

int render_conversation(void *arg, const struct api_model *model, const json_t *conversation,
                        struct buffer *out, struct error *e)
{
    return fail(e, ERR_UNSUPPORTED, "the model %s has no chat template", model->id);
}

/* Requests: see request.h. */
#include "chat/request.h"

#include <stdlib.h>

void chat_request_done(struct chat_request *r)
{
    for (int i = 0; i < r->n_prompts; i++) {
        free(r->prompts[i].ids);
    }
    free(r->prompts);
    free((struct sampler_bias *)(uintptr_t)r->sampling.bias);
    if (r->sampling.constraint != NULL) {
        r->sampling.constraint->ops->close(r->sampling.constraint);
    }
    json_decref(r->conversation);
    json_decref(r->root);
    *r = (struct chat_request){ 0 };
}

int chat_request_answers(const struct chat_request *r)
{
    return (r->conversation != NULL ? 1 : r->n_prompts) * (r->n > 0 ? r->n : 1);
}

/* A conversation in a model's own words. */
#ifndef SHOAL_API_RENDER_H
#define SHOAL_API_RENDER_H

#include "api/internal.h"
#include "base/spans.h"

/* Appends what the model's chat template makes of a conversation ({"messages": [...], ...}); user
 * gets the ranges that the conversation's texts take up. FAIL_UNSUPPORTED: the model's template is
 * missing or can't be used; others as chat_render. Any thread. */
int render_conversation(const struct prompt_model *model, const json_t *conversation,
                        uint64_t deadline_ns, struct buffer *out, struct spans *user,
                        struct error *e);

#endif

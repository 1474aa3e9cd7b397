/* A conversation in a model's own words. */
#include "api/render.h"

#include "engine/chat.h"
#include "os/clock.h"
#include "token/vocab.h"

/* A real template takes milliseconds for a conversation of a megabyte. */
#define RENDER_NS 2000000000u

static struct bytes token_text(const struct vocab *v, int32_t id)
{
    return id >= 0 ? vocab_token_text(v, id) : bytes_of(NULL, 0);
}

int render_conversation(const struct api_model *model, const json_t *conversation,
                        struct buffer *out, struct spans *user, struct error *e)
{
    struct jinja_clock now = chat_clock(clock_wall_s());
    struct chat_context context = { .now = &now, .deadline_ns = clock_now_ns() + RENDER_NS };
    if (model->chat_template == NULL) {
        return fail(e, FAIL_UNSUPPORTED, "the model %s has no chat template", model->id);
    }
    if (model->vocab != NULL) {
        context.tokens.bos = token_text(model->vocab, vocab_bos(model->vocab));
        context.tokens.eos = token_text(model->vocab, vocab_eos(model->vocab));
    }
    return chat_render(model->chat_template, conversation, &context, out, user, e);
}

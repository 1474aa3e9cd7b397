/* A conversation in a model's own words. */
#include "api/render.h"

#include "engine/chat.h"
#include "os/clock.h"
#include "token/vocab.h"

static struct bytes token_text(const struct vocab *v, int32_t id)
{
    return id >= 0 ? vocab_token_text(v, id) : bytes_of(NULL, 0);
}

int render_conversation(void *arg, const struct api_model *model, const json_t *conversation,
                        struct buffer *out, struct error *e)
{
    struct chat_tokens tokens = { 0 };
    struct jinja_clock now = chat_clock(clock_wall_s());
    if (model->chat_template == NULL) {
        return fail(e, FAIL_UNSUPPORTED, "the model %s has no chat template", model->id);
    }
    if (model->vocab != NULL) {
        tokens.bos = token_text(model->vocab, vocab_bos(model->vocab));
        tokens.eos = token_text(model->vocab, vocab_eos(model->vocab));
    }
    return chat_render_text(bytes_text(model->chat_template), conversation, &tokens, &now, out, e);
}

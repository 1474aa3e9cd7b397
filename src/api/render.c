/* A conversation in a model's own words. */
#include "api/render.h"

#include "chat/model.h"
#include "chat/template.h"
#include "os/clock.h"
#include "token/vocab.h"

static struct bytes token_text(const struct vocab *v, int32_t id)
{
    return id >= 0 ? vocab_token_text(v, id) : bytes_of(NULL, 0);
}

int render_conversation(const struct prompt_model *model, const json_t *conversation,
                        uint64_t deadline_ns, struct buffer *out, struct spans *user,
                        struct error *e)
{
    struct jinja_clock now = chat_clock(clock_wall_s());
    struct chat_context context = { .now = &now, .deadline_ns = deadline_ns };
    const struct chat_template *template = chat_model_template(model->text);
    const struct vocab *v = chat_model_vocab(model->text);
    if (template == NULL) {
        return fail(e, FAIL_UNSUPPORTED, "the model %s has no chat template", model->id);
    }
    context.tokens.bos = token_text(v, vocab_bos(v));
    context.tokens.eos = token_text(v, vocab_eos(v));
    return chat_render(template, conversation, &context, out, user, e);
}

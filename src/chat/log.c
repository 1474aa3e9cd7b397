/* Tokens with log probabilities on their way from the head's thread to the event loop: packed into
 * a buffer that is reused, so that decoding allocates nothing. */
#include "chat/event.h"

#include "base/cursor.h"

int chat_log_pack(struct buffer *to, const struct generate_token *tokens, int n)
{
    for (int i = 0; i < n; i++) {
        const struct generate_token *t = &tokens[i];
        buffer_u32(to, (uint32_t)t->id);
        buffer_f32(to, t->logprob);
        buffer_u64(to, t->offset);
        buffer_u64(to, t->characters);
        buffer_u32(to, (uint32_t)t->bytes.size);
        buffer_append(to, t->bytes);
        buffer_u32(to, (uint32_t)t->n_top);
        for (int k = 0; k < t->n_top; k++) {
            buffer_u32(to, (uint32_t)t->top[k].id);
            buffer_f32(to, t->top[k].logprob);
        }
    }
    return to->failed ? FAIL_LIMIT : 0;
}

void chat_log_each(struct bytes packed, void (*each)(void *arg, const struct generate_token *token),
                   void *arg)
{
    struct cursor in;
    cursor_init(&in, packed, NULL);
    while (cursor_left(&in) > 0 && !in.failed) {
        struct sampler_logprob top[SAMPLER_MAX_TOP];
        struct generate_token t = { .top = top };
        t.id = (int32_t)cursor_u32(&in, "id");
        t.logprob = cursor_f32(&in, "logprob");
        t.offset = cursor_u64(&in, "offset");
        t.characters = cursor_u64(&in, "characters");
        t.bytes = cursor_bytes(&in, cursor_u32(&in, "size"), "bytes");
        t.n_top = (int)cursor_u32(&in, "count");
        for (int k = 0; k < t.n_top && k < SAMPLER_MAX_TOP; k++) {
            top[k].id = (int32_t)cursor_u32(&in, "id");
            top[k].logprob = cursor_f32(&in, "logprob");
        }
        if (!in.failed) {
            each(arg, &t);
        }
    }
}

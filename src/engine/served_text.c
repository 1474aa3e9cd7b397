/* Vocabulary, ends of generation and chat template of a served model. */
#include "engine/served_text.h"

#include <stdlib.h>

#include "engine/chat.h"
#include "engine/vocab_load.h"
#include "gguf/gguf.h"
#include "os/clock.h"
#include "token/vocab.h"

#include <string.h>

struct served_text {
    struct vocab *vocab;
    uint8_t *eog; /* (n_vocab) */
    struct chat_template *chat;
};

/* Tokens that end a generation, as GGUF names them: also for files without a vocabulary. */
static const char *const eog_keys[] = {
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
};

static int read_eog(struct served_text *t, const struct gguf *g, int n_vocab, struct error *e)
{
    int code = 0;
    for (size_t i = 0; i < ARRAY_LEN(eog_keys) && code == 0; i++) {
        int64_t id = -1;
        code = gguf_get_int(g, eog_keys[i], -1, &id, e);
        if (code == 0 && id >= 0 && id < n_vocab) {
            t->eog[id] = 1;
        }
    }
    for (int32_t id = 0; t->vocab != NULL && id < n_vocab && id < vocab_size(t->vocab); id++) {
        t->eog[id] |= vocab_is_eog(t->vocab, id);
    }
    return code;
}

int served_text_open(struct served_text **ret, const struct gguf *g, int n_vocab, struct error *e)
{
    struct served_text *t = calloc(1, sizeof *t);
    if (t == NULL || (t->eog = calloc((size_t)n_vocab + 1, 1)) == NULL) {
        free(t);
        return fail(e, FAIL_NOMEM, "memory for a vocabulary");
    }
    struct error local = { 0 };
    int code = vocab_load(&t->vocab, g, clock_now_ns(), &local);
    if (code != 0 && code != FAIL_NOT_FOUND) {
        fail(e, code, "%s", local.text);
    } else {
        code = read_eog(t, g, n_vocab, e);
        code = code ? code : chat_template_open(&t->chat, g, e);
    }
    if (code != 0) {
        served_text_close(t);
        return code;
    }
    *ret = t;
    return 0;
}

void served_text_close(struct served_text *t)
{
    if (t != NULL) {
        vocab_close(t->vocab);
        free(t->eog);
        chat_template_close(t->chat);
        free(t);
    }
}

const uint8_t *served_text_eog(const struct served_text *t)
{
    return t->eog;
}

const struct vocab *served_text_vocab(const struct served_text *t)
{
    return t->vocab;
}

const struct chat_template *served_text_template(const struct served_text *t)
{
    return t->chat;
}

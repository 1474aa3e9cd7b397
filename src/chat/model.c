/* Vocabulary, ends of generation and chat template of a served model. */
#include "chat/model.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "chat/template.h"
#include "chat/vocab_load.h"
#include "gguf/gguf.h"
#include "token/vocab.h"

struct chat_model {
    atomic_int owners;
    struct vocab *vocab;
    uint8_t *eog; /* (rows) */
    int rows;     /* of the logits */
    struct chat_template *chat;
};

/* Tokens that end a generation, as GGUF names them: also for files without a vocabulary. */
static const char *const eog_keys[] = {
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
};

static int read_eog(struct chat_model *t, const struct gguf *g, int n_vocab, struct error *e)
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

int chat_model_open(struct chat_model **ret, const struct gguf *g, int n_vocab, struct error *e)
{
    struct chat_model *t = calloc(1, sizeof *t);
    if (t == NULL || (t->eog = calloc((size_t)n_vocab + 1, 1)) == NULL) {
        free(t);
        return fail(e, FAIL_NOMEM, "memory for a vocabulary");
    }
    t->owners = 1;
    t->rows = n_vocab;
    struct error local = { 0 };
    int code = vocab_load(&t->vocab, g, &local);
    if (code != 0 && code != FAIL_NOT_FOUND) {
        fail(e, code, "%s", local.text);
    } else {
        code = read_eog(t, g, n_vocab, e);
        code = code ? code : chat_template_open(&t->chat, g, e);
    }
    if (code != 0) {
        chat_model_release(t);
        return code;
    }
    *ret = t;
    return 0;
}

int chat_model_of(struct chat_model **ret, struct vocab *vocab, struct chat_template *template,
                  struct error *e)
{
    struct chat_model *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a model's text");
    }
    t->owners = 1;
    t->vocab = vocab;
    t->rows = vocab != NULL ? vocab_size(vocab) : 0;
    t->chat = template;
    *ret = t;
    return 0;
}

struct chat_model *chat_model_acquire(struct chat_model *t)
{
    atomic_fetch_add_explicit(&t->owners, 1, memory_order_relaxed);
    return t;
}

void chat_model_release(struct chat_model *t)
{
    /* What the other owners did with it happens before it goes. */
    if (t == NULL || atomic_fetch_sub_explicit(&t->owners, 1, memory_order_acq_rel) != 1) {
        return;
    }
    vocab_close(t->vocab);
    free(t->eog);
    chat_template_close(t->chat);
    free(t);
}

const uint8_t *chat_model_eog(const struct chat_model *t)
{
    return t->eog;
}

int chat_model_extra(const struct chat_model *t)
{
    return t->vocab != NULL && vocab_size(t->vocab) > t->rows ? vocab_size(t->vocab) - t->rows : 0;
}

const struct vocab *chat_model_vocab(const struct chat_model *t)
{
    return t->vocab;
}

const struct chat_template *chat_model_template(const struct chat_model *t)
{
    return t->chat;
}

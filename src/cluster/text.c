/* Vocabulary, ends of generation and chat template of a served model. */
#include "cluster/text.h"

#include <stdlib.h>

#include "cluster/source.h"
#include "gguf/gguf.h"

#include <string.h>

struct served_text {
    uint8_t *eog; /* (vocab) */
    char *template_text;
};

/* Tokens that end a generation, as GGUF names them. */
static const char *const eog_keys[] = {
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
};

static int read_eog(struct served_text *t, const struct gguf *g, int vocab, struct error *e)
{
    int code = 0;
    for (size_t i = 0; i < ARRAY_LEN(eog_keys) && code == 0; i++) {
        int64_t id = -1;
        code = gguf_get_int(g, eog_keys[i], -1, &id, e);
        if (code == 0 && id >= 0 && id < vocab) {
            t->eog[id] = 1;
        }
    }
    return code;
}

static int read_template(struct served_text *t, const struct gguf *g, struct error *e)
{
    struct bytes text = { 0 };
    int code = gguf_get_text(g, "tokenizer.chat_template", "", &text, e);
    if (code == 0 && text.size > 0) {
        t->template_text = malloc(text.size + 1);
        if (t->template_text == NULL) {
            return fail(e, ERR_NOMEM, "memory for a chat template");
        }
        memcpy(t->template_text, text.data, text.size);
        t->template_text[text.size] = '\0';
    }
    return code;
}

int served_text_open(struct served_text **ret, const struct source *source, struct error *e)
{
    int vocab = source_program(source)->vocab;
    struct served_text *t = calloc(1, sizeof *t);
    if (t == NULL || (t->eog = calloc((size_t)vocab + 1, 1)) == NULL) {
        free(t);
        return fail(e, ERR_NOMEM, "memory for a vocabulary");
    }
    int code = read_eog(t, source_gguf(source), vocab, e);
    code = code ? code : read_template(t, source_gguf(source), e);
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
        free(t->eog);
        free(t->template_text);
        free(t);
    }
}

const uint8_t *served_text_eog(const struct served_text *t)
{
    return t->eog;
}

const char *served_text_template(const struct served_text *t)
{
    return t->template_text;
}

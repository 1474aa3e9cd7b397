/* Text to ids and back: see vocab.h. */
#include "token/internal.h"
#include "token/pretokenize.h"
#include "base/utf8.h"

static int on_part(void *arg, int32_t token, struct bytes fragment, struct error *e)
{
    struct encoder *c = arg;
    if (token >= 0) {
        c->after_special = true;
        return token_list_add(c->out, token, e);
    }
    int r = c->v->kind == VOCAB_BPE   ? bpe_encode(c, fragment, e)
            : c->v->kind == VOCAB_SPM ? spm_encode(c, fragment, e)
                                      : wpm_encode(c, fragment, e);
    c->after_special = false;
    return r;
}

static int add_role(struct encoder *c, enum vocab_role role, const char *name, struct error *e)
{
    int32_t id = c->v->role[role];
    if (id < 0)
        return fail(e, FAIL_NOT_FOUND, "the vocabulary has no %s token", name);
    return token_list_add(c->out, id, e);
}

int vocab_encode(const struct vocab *v, struct bytes text, const struct vocab_encode_options *o,
                 struct token_list *out, struct error *e)
{
    struct encoder c = { .v = v, .out = out, .after_special = true };
    int r = 0;
    if (text.size > VOCAB_MAX_TEXT)
        return fail(e, FAIL_LIMIT, "a text of %zu bytes; %zu are the most", text.size,
                    VOCAB_MAX_TEXT);
    /* A byte becomes at most three (a space mark, U+FFFD), or two of a byte-level spelling of
     * each of those three; one space mark may stand before. */
    buffer_init(&c.text, text.size * 6 + 16);
    if (o->add_bos || (o->add_special && vocab_adds_bos(v)))
        r = add_role(&c, VOCAB_BOS, "BOS", e);
    if (r == 0)
        r = partition(v, text, o, on_part, &c, e);
    bool end = o->add_special && !o->open_end;
    if (r == 0 && end && v->add_sep && v->role[VOCAB_SEP] >= 0)
        r = add_role(&c, VOCAB_SEP, "separator", e);
    if (r == 0 && (o->add_eos || (end && vocab_adds_eos(v))))
        r = add_role(&c, VOCAB_EOS, "EOS", e);
    pretokenizer_state_close(c.pre);
    buffer_done(&c.text);
    return r;
}

int vocab_decode(const struct vocab *v, const int32_t *ids, size_t n, bool skip_special,
                 struct buffer *out, struct error *e)
{
    /* What encoding put before the first word goes again. */
    bool strip = v->add_space_prefix || v->kind == VOCAB_WPM;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= v->n)
            return fail(e, FAIL_RANGE, "token %d of a vocabulary of %d", ids[i], v->n);
        bool control = vocab_is_control(v, ids[i]);
        struct bytes piece = v->piece[ids[i]];
        if (control && skip_special)
            continue;
        if (!control && strip) {
            strip = false;
            if (piece.size && piece.data[0] == ' ' && v->type[ids[i]] != VOCAB_TOKEN_USER_DEFINED)
                piece = bytes_of(piece.data + 1, piece.size - 1);
        }
        if (piece.size && buffer_append(out, piece))
            return fail(e, FAIL_LIMIT, "more than %zu bytes of text", out->limit);
    }
    return 0;
}

void detokenizer_init(struct detokenizer *d, const struct vocab *v, bool skip_special)
{
    *d = (struct detokenizer){ .vocab = v, .skip_special = skip_special };
}

static int emit(struct buffer *out, struct bytes text, struct error *e)
{
    if (buffer_append(out, text))
        return fail(e, FAIL_LIMIT, "more than %zu bytes of text", out->limit);
    return 0;
}

int detokenizer_push(struct detokenizer *d, int32_t id, struct buffer *out, struct error *e)
{
    const struct vocab *v = d->vocab;
    if (id < 0 || id >= v->n)
        return fail(e, FAIL_RANGE, "token %d of a vocabulary of %d", id, v->n);
    if (d->skip_special && vocab_is_control(v, id))
        return 0;
    struct bytes piece = v->piece[id];
    for (size_t i = 0; i < piece.size; i++) {
        d->pending[d->n_pending++] = piece.data[i];
        /* Says what has become clear: one character, a broken one and what follows it, nothing. */
        while (d->n_pending) {
            uint32_t c;
            int n = utf8_read(bytes_of(d->pending, (size_t)d->n_pending), &c);
            if (n < 0)
                break;
            int used = n > 0 ? n : d->n_pending > 1 ? d->n_pending - 1 : 1;
            int r = n > 0 ? emit(out, bytes_of(d->pending, (size_t)n), e)
                          : emit(out, bytes_text("\xef\xbf\xbd"), e);
            if (r)
                return r;
            d->n_pending -= used;
            memmove(d->pending, d->pending + used, (size_t)d->n_pending);
        }
    }
    return 0;
}

int detokenizer_finish(struct detokenizer *d, struct buffer *out, struct error *e)
{
    int pending = d->n_pending;
    d->n_pending = 0;
    return pending ? emit(out, bytes_text("\xef\xbf\xbd"), e) : 0;
}

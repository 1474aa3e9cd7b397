/* SentencePiece with scores: the best-scored merge first, the bytes of what is no token. Source:
 * Kudo and Richardson 2018, arXiv:1808.06226; the merge order is llama.cpp's. */
#include "token/internal.h"
#include "token/merge.h"
#include "base/utf8.h"

/* Greater scores first, as an unsigned key in ascending order; -0 counts as 0. */
static uint32_t score_key(float score)
{
    uint32_t bits;
    score += 0.0f;
    memcpy(&bits, &score, sizeof(bits));
    return bits >> 31 ? bits : ~bits & 0x7fffffffu;
}

static bool pair(const void *arg, const uint8_t *text, const struct symbol *a,
                 const struct symbol *b, uint32_t *key, int32_t *result)
{
    const struct vocab *v = arg;
    size_t size = (size_t)a->size + b->size;
    if (size > v->longest)
        return false;
    int32_t id = map_get(&v->ids, bytes_of(text + a->start, size), -1);
    if (id < 0)
        return false;
    *key = score_key(v->score[id]);
    *result = id;
    return true;
}

static int emit(struct encoder *c, const struct merger *m, struct error *e)
{
    const struct vocab *v = c->v;
    int r = 0;
    for (int32_t i = m->count ? 0 : -1; i >= 0 && r == 0; i = m->symbols[i].next) {
        const struct symbol *s = &m->symbols[i];
        if (s->id >= 0) {
            r = token_list_add(c->out, s->id, e);
            continue;
        }
        for (uint32_t k = 0; k < s->size && r == 0; k++) {
            int32_t id = v->byte_token[m->text[s->start + k]];
            if (id < 0)
                id = v->role[VOCAB_UNK];
            if (id >= 0)
                r = token_list_add(c->out, id, e);
        }
    }
    return r;
}

int spm_encode(struct encoder *c, struct bytes fragment, struct error *e)
{
    const struct vocab *v = c->v;
    struct merger m;
    struct buffer *text = &c->text;
    buffer_clear(text);
    if (v->add_space_prefix && c->after_special)
        buffer_text(text, SPACE_MARK);
    if (text_mark_spaces(fragment, text) || text->failed)
        return fail(e, FAIL_NOMEM, "a text of %zu bytes", fragment.size);
    merger_init(&m, pair, v);
    merger_start(&m, text->data);
    int r = 0;
    for (size_t i = 0; i < text->size && r == 0;) {
        size_t n = (size_t)utf8_length(text->data[i]);
        n = n < text->size - i ? n : text->size - i;
        r = merger_add(&m, map_get(&v->ids, bytes_of(text->data + i, n), -1), n, e);
        i += n;
    }
    if (r == 0)
        r = merger_run(&m, e);
    if (r == 0)
        r = emit(c, &m, e);
    merger_done(&m);
    return r;
}

/* Tokenizer tables from bytes: a small description of a vocabulary, then a text that it encodes
 * and decodes. Structure-aware: any bytes give a description that gets past the counts.
 *
 * Input: kind, pre-tokenizer, flags, tokens (0..255), merges (0..255); for each token its type,
 * score and length (0..15) with that many bytes; for each merge two indices of tokens; the rest is
 * the text. */
#include "fuzz/fuzz.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/cursor.h"
#include "token/vocab.h"

#define MAX_TEXT 4096

struct description {
    struct bytes text[256];
    int32_t type[256];
    float score[256];
    struct buffer merge[256];
};

static struct bytes token_at(void *arg, int32_t i)
{
    return ((struct description *)arg)->text[i];
}

static struct bytes merge_at(void *arg, int32_t i)
{
    return buffer_bytes(&((struct description *)arg)->merge[i]);
}

static float score_at(void *arg, int32_t i)
{
    return ((struct description *)arg)->score[i];
}

static int32_t type_at(void *arg, int32_t i)
{
    return ((struct description *)arg)->type[i];
}

static void read_source(struct cursor *c, struct description *d, struct vocab_source *s)
{
    static const char *const models[] = { "gpt2", "llama", "bert", "gemma4", "none" };
    static const char *const pres[] = { "smollm", "llama-bpe",      "qwen35", "falcon",
                                        "gpt-4o", "deepseek-llm",   "viking", "default",
                                        "",       "deepseek-coder", "tekken", "nobody",
                                        "qwen2" };
    s->model = bytes_text(models[cursor_u8(c, "kind") % 5]);
    s->pre = bytes_text(pres[cursor_u8(c, "pre") % 13]);
    uint8_t flags = cursor_u8(c, "flags");
    s->name = bytes_text(flags & 1 ? "Phi-3" : "modern-bert");
    s->add_bos = flags >> 1 & 1 ? VOCAB_YES : VOCAB_DEFAULT;
    s->add_eos = flags >> 2 & 1 ? VOCAB_YES : VOCAB_DEFAULT;
    s->add_space_prefix = flags >> 3 & 1 ? VOCAB_NO : VOCAB_DEFAULT;
    s->n_tokens = cursor_u8(c, "tokens");
    s->n_merges = s->n_tokens ? cursor_u8(c, "merges") : 0;
    for (int i = 0; i < VOCAB_ROLE_COUNT; i++) {
        s->role_given[i] = flags & 0x10;
        s->role[i] = (int64_t)i - 1;
    }
    for (int i = 0; i < s->n_tokens; i++) {
        uint8_t head = cursor_u8(c, "type");
        size_t size = head & 15;
        d->type[i] = head >> 4;
        d->score[i] = (float)(int8_t)cursor_u8(c, "score");
        d->text[i] = cursor_bytes(c, size < cursor_left(c) ? size : cursor_left(c), "text");
    }
    for (int i = 0; i < s->n_merges; i++) {
        struct bytes left = d->text[cursor_u8(c, "left") % s->n_tokens];
        struct bytes right = d->text[cursor_u8(c, "right") % s->n_tokens];
        buffer_init(&d->merge[i], 64);
        buffer_append(&d->merge[i], left);
        buffer_text(&d->merge[i], " ");
        buffer_append(&d->merge[i], right);
    }
}

/* user: most of the first third and all of the last one are a user's. */
static void encode_and_decode(const struct vocab *v, struct bytes text, bool special, bool user)
{
    struct error e = { 0 };
    struct token_list ids;
    struct buffer out;
    struct detokenizer d;
    struct span thirds[2] = { { 1, text.size / 3 }, { text.size / 3 * 2, text.size } };
    struct spans spans = { .items = thirds, .count = thirds[0].end > 1 ? 2 : 0 };
    struct vocab_encode_options o = { .add_special = special,
                                      .parse_special = special,
                                      .user = user ? &spans : NULL };
    token_list_init(&ids, 8 * MAX_TEXT);
    buffer_init(&out, 1 << 20);
    detokenizer_init(&d, v, !special);
    int r = vocab_encode(v, text, &o, &ids, &e);
    assert(r == 0 || (r < 0 && e.text[0]));
    r = vocab_decode(v, ids.ids, ids.count, special, &out, &e);
    assert(r == 0);
    for (size_t i = 0; i < ids.count; i++) {
        r = detokenizer_push(&d, ids.ids[i], &out, &e);
        assert(r == 0 && d.n_pending < 4);
    }
    r = detokenizer_finish(&d, &out, &e);
    assert(r == 0);
    buffer_done(&out);
    token_list_done(&ids);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    static struct description d;
    struct cursor c;
    struct error e = { 0 };
    struct vocab_source s = { .token_text = token_at,
                              .merge_text = merge_at,
                              .score = score_at,
                              .type = type_at,
                              .arg = &d };
    struct vocab *v = NULL;
    cursor_init(&c, bytes_of(data, size), &e);
    read_source(&c, &d, &s);
    if (vocab_open(&v, &s, &e) == 0) {
        uint64_t left = cursor_left(&c);
        struct bytes text = cursor_bytes(&c, left < MAX_TEXT ? left : MAX_TEXT, "text");
        encode_and_decode(v, text, false, false);
        encode_and_decode(v, text, true, false);
        encode_and_decode(v, text, true, true);
    }
    vocab_close(v);
    for (int i = 0; i < s.n_merges; i++)
        buffer_done(&d.merge[i]);
}

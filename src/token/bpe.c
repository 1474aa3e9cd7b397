/* Byte-pair encoding: ranked merges inside words. Source: Sennrich et al. 2016, arXiv:1508.07909;
 * the byte-level spelling is GPT-2's (Radford et al. 2019). */
#include "token/internal.h"
#include "token/merge.h"
#include "token/pretokenize.h"
#include "token/unicode.h"
#include "base/utf8.h"

#include "base/random.h"

/* GPT-2 spells the bytes that are not printable Latin-1 as the characters from U+0100 on. */
static bool byte_is_printable(int b)
{
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
}

uint32_t byte_level_char(uint8_t byte)
{
    if (byte_is_printable(byte))
        return byte;
    uint32_t c = 0x100;
    for (int b = 0; b < byte; b++)
        c += !byte_is_printable(b);
    return c;
}

int byte_level_byte(uint32_t c)
{
    if (c < 0x100)
        return byte_is_printable((int)c) ? (int)c : -1;
    uint32_t left = c - 0x100;
    for (int b = 0; b < 256 && c < 0x200; b++)
        if (!byte_is_printable(b) && left-- == 0)
            return b;
    return -1;
}

static struct merge_slot *merge_slot(const struct vocab *v, uint64_t pair)
{
    size_t i = random_mix(pair ^ v->seed) & v->merge_mask;
    while (v->merges[i].rank >= 0 && v->merges[i].pair != pair)
        i = (i + 1) & v->merge_mask;
    return &v->merges[i];
}

/* Texts that only merges mention are rare: their map starts small and is made anew when full. */
static int extra_put(struct vocab *v, struct bytes text)
{
    if (v->extra_count == v->extra_capacity) {
        int32_t capacity = v->extra_capacity ? v->extra_capacity * 4 : 256;
        struct bytes *grown = arena_array(&v->arena, struct bytes, capacity);
        if (!grown || map_init(&v->extra_ids, &v->arena, (size_t)capacity, v->seed, NULL))
            return FAIL_NOMEM;
        for (int32_t i = 0; i < v->extra_count; i++) {
            grown[i] = v->extra[i];
            map_put(&v->extra_ids, grown[i], v->n + i);
        }
        v->extra = grown;
        v->extra_capacity = capacity;
    }
    v->extra[v->extra_count] = text;
    return map_put(&v->extra_ids, text, v->n + v->extra_count++);
}

static int32_t symbol_find(const struct vocab *v, struct bytes text)
{
    int32_t id = map_get(&v->ids, text, -1);
    return id < 0 && v->extra_count ? map_get(&v->extra_ids, text, -1) : id;
}

/* The symbol of a text, made when there is none; -1 when memory ends. */
static int32_t intern(struct vocab *v, struct bytes text)
{
    int32_t id = symbol_find(v, text);
    if (id >= 0)
        return id;
    char *copy = arena_text(&v->arena, text);
    if (!copy || extra_put(v, bytes_of(copy, text.size)))
        return -1;
    return v->n + v->extra_count - 1;
}

/* "LEFT RIGHT": the space is the first one after the first byte, so that a symbol may be one. */
static int add_merge(struct vocab *v, struct bytes text, int32_t rank)
{
    const uint8_t *space = text.size > 1 ? memchr(text.data + 1, ' ', text.size - 1) : NULL;
    if (!space || text.size > VOCAB_MAX_TOKEN_TEXT)
        return 0; /* as llama.cpp: it merges nothing */
    size_t at = (size_t)(space - text.data);
    uint8_t joined[VOCAB_MAX_TOKEN_TEXT];
    memcpy(joined, text.data, at);
    memcpy(joined + at, space + 1, text.size - at - 1);
    int32_t left = intern(v, bytes_of(text.data, at));
    int32_t right = intern(v, bytes_of(space + 1, text.size - at - 1));
    int32_t result = intern(v, bytes_of(joined, text.size - 1));
    if (left < 0 || right < 0 || result < 0)
        return -1;
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    struct merge_slot *slot = merge_slot(v, pair);
    if (slot->rank < 0)
        *slot = (struct merge_slot){ .pair = pair, .rank = rank, .result = result };
    return 0;
}

/* A plain token of several characters, which only merges can reach; -1: none. */
static int32_t find_merged(const struct vocab *v)
{
    for (int32_t i = 0; i < v->n; i++)
        if (v->type[i] == VOCAB_TOKEN_NORMAL && v->text[i].size &&
            (size_t)utf8_length(v->text[i].data[0]) < v->text[i].size)
            return i;
    return -1;
}

int bpe_open(struct vocab *v, const struct vocab_source *source, struct error *e)
{
    int32_t merged = source->n_merges ? -1 : find_merged(v);
    if (merged >= 0)
        return fail(
            e, FAIL_FORMAT,
            "a byte-pair vocabulary without merges (tokenizer.ggml.merges): nothing leads to "
            "token %d ('%.*s')",
            merged, BYTES_ARG(v->text[merged]));
    size_t slots = 16;
    while (slots < (size_t)source->n_merges * 2)
        slots *= 2;
    v->seed = source->seed;
    v->merge_mask = slots - 1;
    v->merges = arena_array(&v->arena, struct merge_slot, slots);
    if (!v->merges)
        return fail(e, FAIL_NOMEM, "%d merges", source->n_merges);
    for (size_t i = 0; i < slots; i++)
        v->merges[i].rank = -1;
    for (int32_t i = 0; i < source->n_merges; i++)
        if (add_merge(v, source->merge_text(source->arg, i), i))
            return fail(e, FAIL_NOMEM, "merge %d of %d", i, source->n_merges);
    for (int b = 0; b < 256; b++) {
        struct byte_spelling *spelt = &v->byte_spelling[b];
        spelt->size = (uint8_t)utf8_write(byte_level_char((uint8_t)b), spelt->text);
        v->byte_symbol[b] = symbol_find(v, bytes_of(spelt->text, spelt->size));
    }
    return 0;
}

static bool pair(const void *arg, const uint8_t *text, const struct symbol *a,
                 const struct symbol *b, uint32_t *key, int32_t *result)
{
    const struct vocab *v = arg;
    if (a->id < 0 || b->id < 0)
        return false;
    const struct merge_slot *slot =
        merge_slot(v, (uint64_t)(uint32_t)a->id << 32 | (uint32_t)b->id);
    if (slot->rank < 0)
        return false;
    *key = (uint32_t)slot->rank;
    *result = slot->result;
    return true;
}

static int32_t find_token(const struct vocab *v, struct bytes text)
{
    if (text.size > v->longest)
        return -1;
    return map_get(&v->ids, text, -1);
}

/* A symbol that is no token: its characters, or its bytes where the vocabulary has tokens for
 * them; what neither spells is left out, as llama.cpp does. */
static int emit_spelt(struct encoder *c, struct bytes text, struct error *e)
{
    int r = 0;
    for (size_t i = 0; i < text.size && r == 0;) {
        size_t n = c->v->byte_level ? (size_t)utf8_length(text.data[i]) : 1;
        n = n < text.size - i ? n : text.size - i;
        int32_t id = c->v->byte_level ? find_token(c->v, bytes_of(text.data + i, n))
                                      : c->v->byte_token[text.data[i]];
        if (id >= 0)
            r = token_list_add(c->out, id, e);
        i += n;
    }
    return r;
}

static int emit_symbols(struct encoder *c, const struct merger *m, struct error *e)
{
    int r = 0;
    for (int32_t i = m->count ? 0 : -1; i >= 0 && r == 0; i = m->symbols[i].next) {
        const struct symbol *s = &m->symbols[i];
        if (s->id >= 0 && s->id < c->v->n)
            r = token_list_add(c->out, s->id, e);
        else
            r = emit_spelt(c, bytes_of(m->text + s->start, s->size), e);
    }
    return r;
}

static bool only_newlines(struct bytes word)
{
    for (size_t i = 0; i < word.size; i++)
        if (word.data[i] != '\n')
            return false;
    return true;
}

/* Spells a word as the tokens are spelt and adds its characters as symbols. */
static int add_symbols(struct encoder *c, struct bytes word, struct bytes *spelt, struct error *e)
{
    const struct vocab *v = c->v;
    struct merger *m = c->merger;
    *spelt = word;
    if (v->byte_level) {
        buffer_clear(&c->text);
        for (size_t i = 0; i < word.size; i++) {
            const struct byte_spelling *b = &v->byte_spelling[word.data[i]];
            buffer_append(&c->text, bytes_of(b->text, b->size));
        }
        if (c->text.failed)
            return fail(e, FAIL_NOMEM, "a word of %zu bytes", word.size);
        *spelt = buffer_bytes(&c->text);
    }
    merger_start(m, spelt->data);
    bool whole = v->whole_words || (v->newline_words && only_newlines(word));
    int32_t id = whole ? find_token(v, *spelt) : -1;
    if (id >= 0)
        return merger_add(m, id, spelt->size, e);
    int r = 0;
    for (size_t i = 0, j = 0; i < spelt->size && r == 0; j++) {
        size_t n = (size_t)utf8_length(spelt->data[i]);
        n = n < spelt->size - i ? n : spelt->size - i;
        id = v->byte_level ? v->byte_symbol[word.data[j]]
                           : symbol_find(v, bytes_of(spelt->data + i, n));
        r = merger_add(m, id, n, e);
        i += n;
    }
    return r;
}

static int on_word(void *arg, struct bytes word, struct error *e)
{
    struct encoder *c = arg;
    struct bytes spelt;
    int r = add_symbols(c, word, &spelt, e);
    if (r == 0)
        r = merger_run(c->merger, e);
    return r ? r : emit_symbols(c, c->merger, e);
}

int bpe_encode(struct encoder *c, struct bytes fragment, struct error *e)
{
    struct merger merger;
    struct buffer clean, composed, marked;
    /* Composing makes nothing longer but a character that is excluded from it: three times. */
    buffer_init(&clean, fragment.size * 3 + 1);
    buffer_init(&composed, fragment.size * 9 + 1);
    buffer_init(&marked, fragment.size * 9 + 1);
    merger_init(&merger, pair, c->v);
    c->merger = &merger;
    int r = 0;
    if (text_repair(fragment, &clean))
        r = fail(e, FAIL_NOMEM, "a text of %zu bytes", fragment.size);
    struct bytes text = buffer_bytes(&clean);
    if (r == 0 && c->v->compose) {
        r = unicode_compose(text, &composed, e);
        text = buffer_bytes(&composed);
    }
    if (r == 0 && !c->v->byte_level) {
        if (text_mark_spaces(text, &marked))
            r = fail(e, FAIL_NOMEM, "a text of %zu bytes", fragment.size);
        text = buffer_bytes(&marked);
    }
    if (r == 0 && !c->pre)
        r = pretokenizer_state_open(&c->pre, c->v->pretokenizer, e);
    if (r == 0)
        r = pretokenizer_run(c->pre, text, on_word, c, e);
    merger_done(&merger);
    buffer_done(&marked);
    buffer_done(&composed);
    buffer_done(&clean);
    c->merger = NULL;
    return r;
}

/* Opening a vocabulary and asking about its tokens: see vocab.h. */
#include "token/vocab.h"

#include "token/internal.h"
#include "token/pretokenize.h"
#include "token/unicode.h"
#include "base/hex.h"
#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The value of "<0xHH>", or -1. */
static int byte_of_text(struct bytes text)
{
    uint8_t byte;
    if (text.size != 6 || memcmp(text.data, "<0x", 3) || text.data[5] != '>')
        return -1;
    return hex_parse(&byte, 1, bytes_of(text.data + 3, 2)) ? byte : -1;
}

static bool is_verbatim(uint8_t type)
{
    return type == VOCAB_TOKEN_CONTROL || type == VOCAB_TOKEN_UNKNOWN ||
           type == VOCAB_TOKEN_USER_DEFINED;
}

/* Writes what a token stands for over `out`, which has room for its text; returns the bytes. */
static size_t piece_write(const struct vocab *v, struct bytes text, uint8_t type, uint8_t *out)
{
    size_t n = 0;
    int byte = byte_of_text(text);
    if (type == VOCAB_TOKEN_BYTE && byte >= 0) {
        out[0] = (uint8_t)byte;
        return 1;
    }
    for (size_t i = 0; i < text.size;) {
        uint32_t c;
        int size = utf8_read(bytes_of(text.data + i, text.size - i), &c);
        int spelt = v->byte_level && size > 0 ? byte_level_byte(c) : -1;
        if (size <= 0)
            size = 1;
        if (is_verbatim(type)) {
            memcpy(out + n, text.data + i, (size_t)size);
            n += (size_t)size;
        } else if (spelt >= 0) {
            out[n++] = (uint8_t)spelt;
        } else if (!v->byte_level && size == SPACE_MARK_SIZE && c == 0x2581) {
            out[n++] = ' ';
        } else {
            memcpy(out + n, text.data + i, (size_t)size);
            n += (size_t)size;
        }
        i += (size_t)size;
    }
    return n;
}

static int make_pieces(struct vocab *v, struct error *e)
{
    size_t total = 0;
    for (int32_t i = 0; i < v->n; i++)
        total += v->text[i].size;
    uint8_t *out = arena_alloc(&v->arena, total);
    if (!out)
        return fail(e, FAIL_NOMEM, "%d tokens of %zu bytes", v->n, total);
    for (int32_t i = 0; i < v->n; i++) {
        v->piece[i] = bytes_of(out, piece_write(v, v->text[i], v->type[i], out));
        out += v->piece[i].size;
    }
    return 0;
}

static int copy_tokens(struct vocab *v, const struct vocab_source *s, struct error *e)
{
    size_t total = 0;
    for (int32_t i = 0; i < v->n; i++) {
        struct bytes text = s->token_text(s->arg, i);
        if (text.size > VOCAB_MAX_TOKEN_TEXT)
            return fail(e, FAIL_LIMIT, "token %d has %zu bytes, %d is the most", i, text.size,
                        VOCAB_MAX_TOKEN_TEXT);
        total += text.size;
    }
    uint8_t *copy = arena_alloc(&v->arena, total);
    if (!copy || map_init(&v->ids, &v->arena, (size_t)v->n, s->seed, e))
        return fail(e, FAIL_NOMEM, "%d tokens of %zu bytes", v->n, total);
    for (int32_t i = 0; i < v->n; i++) {
        struct bytes text = s->token_text(s->arg, i);
        int32_t type = s->type ? s->type(s->arg, i) : VOCAB_TOKEN_NORMAL;
        float score = s->score ? s->score(s->arg, i) : 0;
        if (isnan(score))
            return fail(e, FAIL_FORMAT, "the score of token %d is not a number", i);
        if (text.size)
            memcpy(copy, text.data, text.size);
        v->text[i] = bytes_of(copy, text.size);
        copy += text.size;
        v->score[i] = score;
        v->type[i] = type >= 0 && type < VOCAB_TOKEN_TYPE_COUNT ? (uint8_t)type : 0;
        v->guarded[i] = type == VOCAB_TOKEN_CONTROL || type == VOCAB_TOKEN_UNKNOWN;
        v->longest = text.size > v->longest ? text.size : v->longest;
        if (text.size)
            map_put(&v->ids, v->text[i], i);
    }
    return 0;
}

static bool flag(enum vocab_flag f, bool missing)
{
    return f == VOCAB_DEFAULT ? missing : f == VOCAB_YES;
}

/* The token of a role about which the file is silent: one that is spelt as all vocabularies of its
 * kind spell it, and is no plain piece. An id alone says nothing: token 11 of a BPE vocabulary is a
 * comma, token 1 of Gemma's its EOS. BPE has no spelling that all share. */
static int32_t missing_role(const struct vocab *v, int role)
{
    static const char *const spelling[][VOCAB_MASK + 1] = {
        [VOCAB_SPM] = { [VOCAB_BOS] = "<s>", [VOCAB_EOS] = "</s>", [VOCAB_UNK] = "<unk>" },
        [VOCAB_WPM] = { [VOCAB_BOS] = "[CLS]",
                        [VOCAB_UNK] = "[UNK]",
                        [VOCAB_SEP] = "[SEP]",
                        [VOCAB_PAD] = "[PAD]",
                        [VOCAB_MASK] = "[MASK]" },
    };
    if (v->kind == VOCAB_BPE || role > VOCAB_MASK || !spelling[v->kind][role])
        return -1;
    int32_t id = map_get(&v->ids, bytes_text(spelling[v->kind][role]), -1);
    bool plain = id >= 0 && v->typed && v->kind == VOCAB_SPM &&
                 v->type[id] != VOCAB_TOKEN_CONTROL && v->type[id] != VOCAB_TOKEN_UNKNOWN;
    return plain ? -1 : id;
}

static void assign_roles(struct vocab *v, const struct vocab_source *s)
{
    for (int i = 0; i < VOCAB_ROLE_COUNT; i++) {
        bool inside = s->role[i] >= 0 && s->role[i] < v->n;
        v->role[i] = !s->role_given[i] ? missing_role(v, i) : inside ? (int32_t)s->role[i] : -1;
    }
}

static int open_kind(struct vocab *v, const struct vocab_source *s, struct error *e)
{
    int flags = 0;
    bool marked = bytes_equal_text(s->model, "gemma4");
    if (v->kind == VOCAB_BPE) {
        struct bytes pre = marked ? bytes_text("gemma4") : s->pre;
        if (pre.size == 0)
            pre = bytes_text("default");
        int r = pretokenizer_open(&v->pretokenizer, pre, &flags, e);
        if (r)
            return r;
        v->byte_level = !(flags & PRE_SPACE_MARKS);
        v->whole_words = flags & PRE_WHOLE_WORDS;
        v->newline_words = flags & PRE_NEWLINE_WORDS;
    }
    if (v->kind == VOCAB_WPM && !unicode_available())
        return fail(e, FAIL_UNSUPPORTED, "BERT vocabularies need a build with utf8proc");
    v->compose = flags & PRE_COMPOSE;
    if (v->compose && !unicode_available())
        return fail(e, FAIL_UNSUPPORTED, "this vocabulary needs a build with utf8proc");
    assign_roles(v, s);
    bool bos = v->kind != VOCAB_BPE || flags & PRE_ADD_BOS;
    v->add_bos = flag(s->add_bos, bos) || (v->newline_words && v->role[VOCAB_BOS] >= 0);
    v->add_eos = flag(s->add_eos, false);
    v->add_sep = flag(s->add_sep, v->kind == VOCAB_WPM || flags & PRE_ADD_SEP);
    v->add_space_prefix = v->kind == VOCAB_SPM && flag(s->add_space_prefix, true);
    v->lowercase = flag(s->lowercase, true);
    v->strip_accents = flag(s->strip_accents, v->lowercase);
    return v->kind == VOCAB_BPE ? bpe_open(v, s, e) : 0;
}

/* Tokens by byte, the tree of special tokens, and WordPiece's tree of all. */
static int index_tokens(struct vocab *v, struct error *e)
{
    for (int b = 0; b < 256; b++) {
        char text[8];
        uint8_t raw = (uint8_t)b;
        snprintf(text, sizeof(text), "<0x%02X>", (unsigned)raw);
        v->byte_token[b] = map_get(&v->ids, bytes_text(text), -1);
        if (v->byte_token[b] < 0)
            v->byte_token[b] = map_get(&v->ids, bytes_of(&raw, 1), -1);
    }
    int r = 0;
    for (int32_t i = 0; i < v->n && r == 0; i++) {
        if (v->kind == VOCAB_WPM)
            r = trie_add(&v->words, v->text[i], i, e);
        if (r || !is_verbatim(v->type[i]))
            continue;
        if (v->text[i].size > VOCAB_MAX_SPECIAL_TEXT)
            return fail(e, FAIL_LIMIT, "special token %d has %zu bytes, %d is the most", i,
                        v->text[i].size, VOCAB_MAX_SPECIAL_TEXT);
        v->any_user_defined = v->any_user_defined || v->type[i] == VOCAB_TOKEN_USER_DEFINED;
        r = trie_add(&v->special, v->text[i], i, e);
    }
    trie_finish(&v->special);
    return r;
}

static int kind_of(struct bytes model, enum vocab_kind *ret, struct error *e)
{
    static const struct {
        const char *model;
        enum vocab_kind kind;
    } kinds[] = { { "gpt2", VOCAB_BPE },
                  { "gemma4", VOCAB_BPE },
                  { "llama", VOCAB_SPM },
                  { "bert", VOCAB_WPM } };
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (bytes_equal_text(model, kinds[i].model)) {
            *ret = kinds[i].kind;
            return 0;
        }
    }
    return fail(e, FAIL_UNSUPPORTED, "tokenizer model '%.*s' is not known", BYTES_ARG(model));
}

static int fill(struct vocab *v, const struct vocab_source *s, struct error *e)
{
    int r = kind_of(s->model, &v->kind, e);
    if (r)
        return r;
    if (s->n_tokens < 1 || s->n_tokens > VOCAB_MAX_TOKENS)
        return fail(e, FAIL_LIMIT, "%d tokens; 1 to %d are possible", s->n_tokens,
                    VOCAB_MAX_TOKENS);
    if (s->n_merges < 0 || s->n_merges > VOCAB_MAX_MERGES)
        return fail(e, FAIL_LIMIT, "%d merges; %d are the most", s->n_merges, VOCAB_MAX_MERGES);
    v->n = s->n_tokens;
    v->text = arena_array(&v->arena, struct bytes, v->n);
    v->piece = arena_array(&v->arena, struct bytes, v->n);
    v->score = arena_array(&v->arena, float, v->n);
    v->type = arena_array(&v->arena, uint8_t, v->n);
    v->strip = arena_array(&v->arena, uint8_t, v->n);
    v->eog = arena_array(&v->arena, uint8_t, v->n);
    v->guarded = arena_array(&v->arena, uint8_t, v->n);
    v->shown = arena_array(&v->arena, uint8_t, v->n);
    v->typed = s->type != NULL;
    if (!v->text || !v->piece || !v->score || !v->type || !v->strip || !v->eog || !v->guarded ||
        !v->shown)
        return fail(e, FAIL_NOMEM, "%d tokens", v->n);
    if ((r = copy_tokens(v, s, e)) || (r = open_kind(v, s, e)))
        return r;
    special_assign(v, s->name);
    for (int32_t i = 0; i < s->n_ends; i++) {
        int64_t id = s->end(s->arg, i);
        if (id >= 0 && id < v->n)
            v->eog[id] = 1;
    }
    if ((r = index_tokens(v, e)))
        return r;
    return make_pieces(v, e);
}

int vocab_open(struct vocab **ret, const struct vocab_source *source, struct error *e)
{
    struct vocab *v = calloc(1, sizeof(*v));
    if (!v)
        return fail(e, FAIL_NOMEM, "vocabulary");
    arena_init(&v->arena, 0);
    int r = fill(v, source, e);
    if (r) {
        vocab_close(v);
        return r;
    }
    *ret = v;
    return 0;
}

void vocab_close(struct vocab *v)
{
    if (!v)
        return;
    pretokenizer_close(v->pretokenizer);
    trie_done(&v->special);
    trie_done(&v->words);
    arena_done(&v->arena);
    free(v);
}

int32_t vocab_size(const struct vocab *v)
{
    return v->n;
}

static bool inside(const struct vocab *v, int32_t id)
{
    return id >= 0 && id < v->n;
}

struct bytes vocab_token_text(const struct vocab *v, int32_t id)
{
    return inside(v, id) ? v->text[id] : (struct bytes){ 0 };
}

struct bytes vocab_piece(const struct vocab *v, int32_t id)
{
    return inside(v, id) ? v->piece[id] : (struct bytes){ 0 };
}

int32_t vocab_find(const struct vocab *v, struct bytes text)
{
    return text.size <= v->longest ? map_get(&v->ids, text, -1) : -1;
}

bool vocab_is_control(const struct vocab *v, int32_t id)
{
    return inside(v, id) && !v->shown[id] &&
           (v->type[id] == VOCAB_TOKEN_CONTROL || v->type[id] == VOCAB_TOKEN_UNKNOWN);
}

bool vocab_is_eog(const struct vocab *v, int32_t id)
{
    return inside(v, id) && v->eog[id];
}

int32_t vocab_role(const struct vocab *v, enum vocab_role role)
{
    return v->role[role];
}

int32_t vocab_bos(const struct vocab *v)
{
    return v->role[VOCAB_BOS];
}

int32_t vocab_eos(const struct vocab *v)
{
    return v->role[VOCAB_EOS];
}

bool vocab_adds_bos(const struct vocab *v)
{
    return v->add_bos && v->role[VOCAB_BOS] >= 0;
}

bool vocab_adds_eos(const struct vocab *v)
{
    return v->add_eos && v->role[VOCAB_EOS] >= 0;
}

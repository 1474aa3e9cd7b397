/* From GGUF metadata to a vocabulary: see vocab_load.h. Keys: the GGUF specification and
 * llama.cpp. */
#include "chat/vocab_load.h"

#include "gguf/gguf.h"
#include "token/pretokenize.h"
#include "token/vocab.h"

#define KEY "tokenizer.ggml."

struct loader {
    const struct gguf_value *tokens, *merges, *scores, *types, *ends;
};

static struct bytes token_text(void *arg, int32_t id)
{
    const struct loader *l = arg;
    return gguf_array_text(l->tokens, (uint64_t)id);
}

static struct bytes merge_text(void *arg, int32_t i)
{
    const struct loader *l = arg;
    return gguf_array_text(l->merges, (uint64_t)i);
}

static float score(void *arg, int32_t id)
{
    const struct loader *l = arg;
    if (gguf_type_is_int(l->scores->element))
        return (float)gguf_array_int(l->scores, (uint64_t)id);
    return (float)gguf_array_float(l->scores, (uint64_t)id);
}

static int32_t type(void *arg, int32_t id)
{
    const struct loader *l = arg;
    return (int32_t)gguf_array_int(l->types, (uint64_t)id);
}

static int64_t end_at(void *arg, int32_t i)
{
    const struct loader *l = arg;
    return gguf_array_int(l->ends, (uint64_t)i);
}

enum element_kind { ELEMENT_TEXT, ELEMENT_INT, ELEMENT_NUMBER };

/* An array with elements of a kind and at least `least` of them; *ret stays NULL when absent. */
static int find_array(const struct gguf *g, const char *key, enum element_kind kind, uint64_t least,
                      const struct gguf_value **ret, struct error *e)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v)
        return 0;
    bool number = gguf_type_is_int(v->element) || v->element == GGUF_F32 || v->element == GGUF_F64;
    bool right = kind == ELEMENT_TEXT  ? v->element == GGUF_TEXT
                 : kind == ELEMENT_INT ? gguf_type_is_int(v->element)
                                       : number;
    if (v->type != GGUF_ARRAY || !right)
        return gguf_refuse(g, key, e, FAIL_FORMAT, "%s is not an array of %s", key,
                           kind == ELEMENT_TEXT ? "texts" : "numbers");
    if (v->count < least)
        return gguf_refuse(g, key, e, FAIL_FORMAT,
                           "%s has %llu elements, the vocabulary %llu tokens", key,
                           (unsigned long long)v->count, (unsigned long long)least);
    *ret = v;
    return 0;
}

static int read_arrays(const struct gguf *g, struct loader *l, struct vocab_source *s,
                       struct error *e)
{
    int r = find_array(g, KEY "tokens", ELEMENT_TEXT, 1, &l->tokens, e);
    if (r)
        return r;
    if (!l->tokens)
        return gguf_refuse(g, KEY "tokens", e, FAIL_NOT_FOUND,
                           "the file has no vocabulary (" KEY "tokens)");
    uint64_t n = l->tokens->count;
    if ((r = find_array(g, KEY "scores", ELEMENT_NUMBER, n, &l->scores, e)) ||
        (r = find_array(g, KEY "token_type", ELEMENT_INT, n, &l->types, e)) ||
        (r = find_array(g, KEY "merges", ELEMENT_TEXT, 0, &l->merges, e)) ||
        (r = find_array(g, KEY "eos_token_ids", ELEMENT_INT, 0, &l->ends, e)))
        return r;
    if (l->ends && l->ends->count > n)
        return gguf_refuse(g, KEY "eos_token_ids", e, FAIL_LIMIT,
                           KEY "eos_token_ids has %llu elements, the vocabulary %llu tokens",
                           (unsigned long long)l->ends->count, (unsigned long long)n);
    if (n > VOCAB_MAX_TOKENS || (l->merges && l->merges->count > VOCAB_MAX_MERGES))
        return gguf_refuse(g, n > VOCAB_MAX_TOKENS ? KEY "tokens" : KEY "merges", e, FAIL_LIMIT,
                           "a vocabulary of %llu tokens and %llu merges", (unsigned long long)n,
                           l->merges ? (unsigned long long)l->merges->count : 0ull);
    s->n_tokens = (int32_t)n;
    s->n_merges = l->merges ? (int32_t)l->merges->count : 0;
    s->n_ends = l->ends ? (int32_t)l->ends->count : 0;
    s->end = end_at;
    s->token_text = token_text;
    s->merge_text = merge_text;
    s->score = l->scores ? score : NULL;
    s->type = l->types ? type : NULL;
    s->arg = l;
    return 0;
}

struct role_key {
    const char *key;
    enum vocab_role role;
};

/* The first key that names a token counts; later ones of a role are older names. A key with -1,
 * 0xffffffff or another id that is no token says that there is none. */
static const struct role_key role_keys[] = {
    { KEY "bos_token_id", VOCAB_BOS },         { KEY "cls_token_id", VOCAB_BOS },
    { KEY "eos_token_id", VOCAB_EOS },         { KEY "unknown_token_id", VOCAB_UNK },
    { KEY "seperator_token_id", VOCAB_SEP }, /* the specification's spelling */
    { KEY "separator_token_id", VOCAB_SEP },   { KEY "padding_token_id", VOCAB_PAD },
    { KEY "mask_token_id", VOCAB_MASK },       { KEY "eot_token_id", VOCAB_EOT },
    { KEY "eom_token_id", VOCAB_EOM },         { KEY "fim_pre_token_id", VOCAB_FIM_PRE },
    { KEY "prefix_token_id", VOCAB_FIM_PRE },  { KEY "fim_suf_token_id", VOCAB_FIM_SUF },
    { KEY "suffix_token_id", VOCAB_FIM_SUF },  { KEY "fim_mid_token_id", VOCAB_FIM_MID },
    { KEY "middle_token_id", VOCAB_FIM_MID },  { KEY "fim_pad_token_id", VOCAB_FIM_PAD },
    { KEY "fim_rep_token_id", VOCAB_FIM_REP }, { KEY "fim_sep_token_id", VOCAB_FIM_SEP },
};

/* As gguf_get_int, and -1 for what some writer took as "none" in 64 bits. */
static int get_id(const struct gguf *g, const char *key, int64_t *ret, struct error *e)
{
    const struct gguf_value *v = gguf_find(g, key);
    *ret = -1;
    return v && v->type == GGUF_U64 && v->u > INT64_MAX ? 0 : gguf_get_int(g, key, -1, ret, e);
}

static int read_roles(const struct gguf *g, struct vocab_source *s, struct error *e)
{
    for (size_t i = 0; i < sizeof(role_keys) / sizeof(role_keys[0]); i++) {
        enum vocab_role role = role_keys[i].role;
        bool named = s->role_given[role] && s->role[role] >= 0 && s->role[role] < s->n_tokens;
        int64_t id;
        if (!gguf_find(g, role_keys[i].key) || named)
            continue;
        int r = get_id(g, role_keys[i].key, &id, e);
        if (r)
            return r;
        s->role_given[role] = true;
        s->role[role] = id;
    }
    return 0;
}

static int read_flag(const struct gguf *g, const char *key, enum vocab_flag *ret, struct error *e)
{
    bool value = false;
    if (!gguf_find(g, key))
        return 0;
    int r = gguf_get_bool(g, key, false, &value, e);
    if (r == 0)
        *ret = value ? VOCAB_YES : VOCAB_NO;
    return r;
}

int vocab_load(struct vocab **ret, const struct gguf *g, struct error *e)
{
    struct loader l = { 0 };
    struct vocab_source s = { .seed = gguf_seed(g) };
    int r;
    if ((r = gguf_get_text(g, KEY "model", "", &s.model, e)) ||
        (r = gguf_get_text(g, KEY "pre", "", &s.pre, e)) ||
        (r = gguf_get_text(g, "general.name", "", &s.name, e)) || (r = read_arrays(g, &l, &s, e)) ||
        (r = read_roles(g, &s, e)) || (r = read_flag(g, KEY "add_bos_token", &s.add_bos, e)) ||
        (r = read_flag(g, KEY "add_eos_token", &s.add_eos, e)) ||
        (r = read_flag(g, KEY "add_sep_token", &s.add_sep, e)) ||
        (r = read_flag(g, KEY "add_space_prefix", &s.add_space_prefix, e)) ||
        (r = read_flag(g, KEY "normalizer.lowercase", &s.lowercase, e)) ||
        (r = read_flag(g, KEY "normalizer.strip_accents", &s.strip_accents, e)))
        return r;
    struct error inner = { 0 };
    if ((r = vocab_open(ret, &s, &inner)) == 0 || r == FAIL_NOMEM)
        return r ? fail(e, r, "%s", inner.text) : 0;
    const char *kind = s.pre.size && !pretokenizer_known(s.pre) ? KEY "pre" : KEY "model";
    return gguf_refuse(g, r == FAIL_UNSUPPORTED ? kind : KEY "tokens", e, r, "%s", inner.text);
}

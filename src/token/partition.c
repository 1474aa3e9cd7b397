/* Cuts special tokens out of a text before anything else is encoded.
 *
 * The rule is llama.cpp's: the longest token first, anywhere in the text, then the next shorter
 * one in what is left. Where no tokens overlap that is the longest match at each place. Where
 * they do, the places form a cluster, which is solved by itself: time is the cluster's bytes times
 * the distinct lengths of tokens in it.
 *
 * Where a user's text stands inside a template's, no control token may begin, end or lie: of the
 * bytes of one none may be a user's. User-defined tokens are words like others. */
#include "token/internal.h"

#include <stdlib.h>

#include "base/array.h"

/* What may be cut out. */
struct rules {
    const struct vocab *v;
    bool parse_special;
    const struct spans *user; /* or NULL */
};

/* One byte of a cluster. */
struct place {
    int32_t candidate; /* node of the token that may start here, 0: none */
    int32_t chosen;    /* node of the token that starts here, 0: none */
    uint16_t own;      /* bytes from here that are no user's, as far as a token reaches */
    bool taken;
};

struct cluster {
    struct place *at; /* (size) */
    size_t size, capacity;
    size_t next; /* of the user's ranges: the first that ends behind the cluster's start */
};

/* own: bytes from the token's first on that are no user's. */
static bool allowed(const struct rules *r, int32_t node, size_t own)
{
    const struct trie_node *n = &r->v->special.nodes[node];
    bool word = r->v->type[n->token] == VOCAB_TOKEN_USER_DEFINED;
    if (n->depth > own)
        return word && !r->v->guarded[n->token];
    return word || r->parse_special;
}

static int32_t first_allowed(const struct rules *r, int32_t node, size_t own)
{
    while (node && !allowed(r, node, own))
        node = r->v->special.nodes[node].shorter;
    return node;
}

/* Bytes from `at` on that are no user's. *next: the first range that ends behind `at`; places are
 * asked for in ascending order. */
static size_t own_bytes(const struct spans *user, size_t at, size_t *next)
{
    while (user && *next < user->count && user->items[*next].end <= at)
        ++*next;
    if (!user || *next == user->count)
        return VOCAB_MAX_SPECIAL_TEXT;
    size_t start = user->items[*next].start, own = start > at ? start - at : 0;
    return own < VOCAB_MAX_SPECIAL_TEXT ? own : VOCAB_MAX_SPECIAL_TEXT;
}

static int cluster_grow(struct cluster *k, size_t size, struct error *e)
{
    struct place *grown = array_grow(k->at, &k->capacity, size, sizeof(*grown), SIZE_MAX);
    if (!grown)
        return fail(e, FAIL_NOMEM, "special tokens over %zu bytes", size);
    k->at = grown;
    return 0;
}

/* Gathers the candidates of the cluster that starts at the text's byte `base`. */
static int cluster_find(struct cluster *k, const struct rules *rules, struct bytes text,
                        size_t base, struct error *e)
{
    const struct trie *special = &rules->v->special;
    own_bytes(rules->user, base, &k->next);
    size_t end = 1, next = k->next;
    for (size_t i = 0; i < end; i++) {
        size_t at = base + i, own = own_bytes(rules->user, at, &next);
        int32_t node = trie_longest(special, bytes_of(text.data + at, text.size - at));
        node = first_allowed(rules, node, own);
        size_t reach = node ? i + special->nodes[node].depth : 0;
        end = reach > end ? reach : end;
        int r = cluster_grow(k, end, e);
        if (r)
            return r;
        k->at[i].candidate = node;
        k->at[i].chosen = 0;
        k->at[i].taken = 0;
        k->at[i].own = (uint16_t)own;
    }
    k->size = end;
    return 0;
}

/* One length: takes the candidates of this length that are still free, and lets the others try
 * their next shorter token. What is taken already is no shorter, so a candidate is free when both
 * its ends are. Returns the greatest length that is left. */
static int cluster_pass(struct cluster *k, const struct rules *rules, int length)
{
    const struct vocab *v = rules->v;
    int next = 0;
    for (size_t i = 0; i < k->size; i++) {
        int32_t node = k->at[i].candidate;
        if (node && k->at[i].taken)
            node = 0;
        if (node && v->special.nodes[node].depth == length) {
            if (!k->at[i + (size_t)length - 1].taken) {
                k->at[i].chosen = node;
                for (size_t taken = i; taken < i + (size_t)length; taken++)
                    k->at[taken].taken = true;
                node = 0;
            } else {
                node = first_allowed(rules, v->special.nodes[node].shorter, k->at[i].own);
            }
        }
        k->at[i].candidate = node;
        if (node && v->special.nodes[node].depth > next)
            next = v->special.nodes[node].depth;
    }
    return next;
}

static void cluster_solve(struct cluster *k, const struct rules *rules)
{
    const struct vocab *v = rules->v;
    int length = 0;
    for (size_t i = 0; i < k->size; i++)
        if (k->at[i].candidate && v->special.nodes[k->at[i].candidate].depth > length)
            length = v->special.nodes[k->at[i].candidate].depth;
    while (length)
        length = cluster_pass(k, rules, length);
}

static bool is_space(uint8_t b)
{
    return b == ' ' || (b >= '\t' && b <= '\r');
}

/* Where the walk over the text stands. */
struct walk {
    const struct vocab *v;
    struct bytes text;
    partition_fn *on_part;
    void *arg;
    size_t done; /* bytes handed out */
};

/* Hands out the text up to `at` and the token there. */
static int cut(struct walk *w, size_t at, int32_t node, struct error *e)
{
    int32_t token = w->v->special.nodes[node].token;
    size_t end = at;
    if (w->v->strip[token] & STRIP_LEFT)
        while (end > w->done && is_space(w->text.data[end - 1]))
            end--;
    int r = 0;
    if (end > w->done)
        r = w->on_part(w->arg, -1, bytes_of(w->text.data + w->done, end - w->done), e);
    if (r == 0)
        r = w->on_part(w->arg, token, (struct bytes){ 0 }, e);
    w->done = at + w->v->special.nodes[node].depth;
    return r;
}

/* After a token that takes the spaces behind it: skips them up to `limit`. */
static void strip_right(struct walk *w, int32_t node, size_t limit)
{
    if (w->v->strip[w->v->special.nodes[node].token] & STRIP_RIGHT)
        while (w->done < limit && is_space(w->text.data[w->done]))
            w->done++;
}

static int cut_cluster(struct walk *w, const struct cluster *k, size_t base, struct error *e)
{
    int32_t last = 0;
    for (size_t i = 0; i < k->size; i++) {
        int32_t node = k->at[i].chosen;
        if (!node)
            continue;
        if (last)
            strip_right(w, last, base + i);
        int r = cut(w, base + i, node, e);
        if (r)
            return r;
        last = node;
    }
    if (last)
        strip_right(w, last, w->text.size);
    return 0;
}

int partition(const struct vocab *v, struct bytes text, const struct vocab_encode_options *o,
              partition_fn *on_part, void *arg, struct error *e)
{
    const struct rules rules = { .v = v, .parse_special = o->parse_special, .user = o->user };
    struct walk w = { .v = v, .text = text, .on_part = on_part, .arg = arg };
    struct cluster k = { 0 };
    int r = 0;
    bool any = v->special.count > 0 && (o->parse_special || v->any_user_defined);
    for (size_t i = 0; any && i < text.size && r == 0;) {
        if (!v->special.root[text.data[i]]) {
            i++;
            continue;
        }
        r = cluster_find(&k, &rules, text, i, e);
        if (r)
            break;
        cluster_solve(&k, &rules);
        r = cut_cluster(&w, &k, i, e);
        i = w.done > i + k.size ? w.done : i + k.size;
    }
    if (r == 0 && w.done < text.size)
        r = on_part(arg, -1, bytes_of(text.data + w.done, text.size - w.done), e);
    free(k.at);
    return r;
}

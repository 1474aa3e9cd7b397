/* A prefix tree over bytes: see internal.h. */
#include "token/internal.h"

#include <stdlib.h>

#include "base/array.h"

#define MAX_NODES ((size_t)INT32_MAX / 4)

static int32_t node_new(struct trie *t, uint8_t byte, int depth)
{
    struct trie_node *grown =
        array_grow(t->nodes, &t->capacity, (size_t)t->count + 1, sizeof(*grown), MAX_NODES);
    if (!grown)
        return -1;
    t->nodes = grown;
    if (t->count == 0) {
        t->nodes[t->count++] = (struct trie_node){ .token = -1 };
        return node_new(t, byte, depth);
    }
    t->nodes[t->count] = (struct trie_node){ .token = -1, .byte = byte, .depth = (uint16_t)depth };
    return t->count++;
}

static int32_t child_of(const struct trie *t, int32_t node, uint8_t byte)
{
    if (node == 0)
        return t->root[byte];
    int32_t c = t->nodes[node].child;
    while (c && t->nodes[c].byte != byte)
        c = t->nodes[c].next;
    return c;
}

int trie_add(struct trie *t, struct bytes text, int32_t token, struct error *e)
{
    int32_t node = 0;
    if (text.size > UINT16_MAX)
        return fail(e, FAIL_LIMIT, "a token of %zu bytes", text.size);
    for (size_t i = 0; i < text.size; i++) {
        int32_t c = child_of(t, node, text.data[i]);
        if (!c) {
            c = node_new(t, text.data[i], (int)i + 1);
            if (c < 0)
                return fail(e, FAIL_NOMEM, "tree of %d token characters", t->count);
            if (node == 0) {
                t->root[text.data[i]] = c;
            } else {
                t->nodes[c].next = t->nodes[node].child;
                t->nodes[node].child = c;
            }
        }
        node = c;
    }
    if (node)
        t->nodes[node].token = token;
    return 0;
}

void trie_finish(struct trie *t)
{
    /* Children come after their parents, so one pass in order of birth is enough. */
    for (int32_t i = 1; i < t->count; i++) {
        int32_t nearest = t->nodes[i].token >= 0 ? i : t->nodes[i].shorter;
        for (int32_t c = t->nodes[i].child; c; c = t->nodes[c].next)
            t->nodes[c].shorter = nearest;
    }
}

int32_t trie_longest(const struct trie *t, struct bytes text)
{
    int32_t best = 0, node = 0;
    for (size_t i = 0; i < text.size; i++) {
        node = child_of(t, node, text.data[i]);
        if (!node)
            break;
        if (t->nodes[node].token >= 0)
            best = node;
    }
    return best;
}

void trie_done(struct trie *t)
{
    free(t->nodes);
    *t = (struct trie){ 0 };
}
